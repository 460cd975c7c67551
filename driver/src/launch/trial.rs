//! Whether QEMU takes a machine's arguments: it is started with them beside the machine that may still run, and ended at once.
//!
//! | of the machine | on trial |
//! | --- | --- |
//! | images, of disks and firmware | `null-co`: nothing is opened, nobody's lock is taken |
//! | sockets, terminals, displays | none: `null` |
//! | memory | little: what the host has left beside the other machine is not what it will have |
//! | the monitor | standard input and output, which say `quit` |
//! | the guest | never runs: `-S` |
//!
//! So it tells what QEMU refuses of boards, processors, devices and their places; not what is wrong with an image or a socket.

use serde_json::{Map, Value, json};

/// What a QEMU on trial is told.
pub(super) const QUIT: &str = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";

/// The memory of a machine on trial, in KiB.
const MEMORY: u64 = 64 << 10;

/// What stands in the place of a flash is as large as one that every board takes.
const FLASH: u64 = 128 << 10;

/// A machine's arguments, as they are tried.
pub(super) fn of(words: &[String]) -> Vec<String> {
    let mut tried = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-S" | "-daemonize" => {}
            "-nodefaults" | "-no-user-config" | "-no-reboot" => tried.push(word.to_owned()),
            option => {
                let value = words.next().unwrap_or_default();
                tried
                    .extend(on_trial(option, value).into_iter().flat_map(|value| [option.to_owned(), value]));
            }
        }
    }
    tried.extend(["-S", "-qmp", "stdio"].map(str::to_owned));
    tried
}

/// What an option says then; none if it is left out.
fn on_trial(option: &str, value: &str) -> Option<String> {
    match option {
        "-mon" | "-incoming" | "-pidfile" | "-vnc" => None,
        "-chardev" => {
            let id = value.split(',').find_map(|said| said.strip_prefix("id="))?;
            (id != "charmonitor").then(|| format!("null,id={id}"))
        }
        "-m" => {
            let stated = value.strip_prefix("size=")?.strip_suffix('k')?.parse().unwrap_or(MEMORY);
            Some(format!("size={}k", MEMORY.min(stated)))
        }
        "-blockdev" => {
            let node: Map<String, Value> = serde_json::from_str(value).ok()?;
            Some(empty(&node).to_string())
        }
        _ => Some(value.to_owned()),
    }
}

/// A node of the same name without anything in it.
fn empty(node: &Map<String, Value>) -> Value {
    let name = &node["node-name"];
    match node.get("file") {
        Some(file) => json!({
            "driver": "raw",
            "file": file,
            "node-name": name,
            "read-only": node.get("read-only").cloned().unwrap_or(Value::Bool(false)),
        }),
        None if name.as_str().is_some_and(|name| name.starts_with("pflash")) => {
            json!({ "driver": "null-co", "node-name": name, "read-zeroes": true, "size": FLASH })
        }
        None => json!({ "driver": "null-co", "node-name": name, "read-zeroes": true }),
    }
}

/// The unix sockets that the machine listens at.
pub(super) fn sockets(words: &[String]) -> impl Iterator<Item = String> {
    let said = words.windows(2).filter(|pair| pair[0] == "-chardev").map(|pair| pair[1].replace(",,", "\0"));
    said.filter_map(|said| {
        let path = said.split(',').find_map(|said| said.strip_prefix("path="))?;
        Some(path.replace('\0', ","))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_machine_that_runs_is_touched() {
        let words = [
            "-nodefaults",
            "-m",
            "size=1048576k",
            "-chardev",
            "socket,id=charmonitor,path=/run/vm,server=on,wait=off",
            "-mon",
            "chardev=charmonitor,id=monitor,mode=control",
            "-blockdev",
            r#"{"driver":"file","filename":"/a","node-name":"vda-file"}"#,
            "-blockdev",
            r#"{"driver":"qcow2","node-name":"vda","file":"vda-file","read-only":false,"backing":null}"#,
            "-chardev",
            "socket,id=charagent,path=/run/a,,b,server=on,wait=off",
            "-device",
            "virtio-blk-pci,drive=vda,id=a",
            "-incoming",
            "defer",
            "-pidfile",
            "/run/vm.pid",
            "-daemonize",
        ]
        .map(str::to_owned);
        let tried = [
            "-nodefaults",
            "-m",
            "size=65536k",
            "-blockdev",
            r#"{"driver":"null-co","node-name":"vda-file","read-zeroes":true}"#,
            "-blockdev",
            r#"{"driver":"raw","file":"vda-file","node-name":"vda","read-only":false}"#,
            "-chardev",
            "null,id=charagent",
            "-device",
            "virtio-blk-pci,drive=vda,id=a",
            "-S",
            "-qmp",
            "stdio",
        ];
        assert_eq!(of(&words), tried);
        assert_eq!(sockets(&words).collect::<Vec<_>>(), ["/run/vm", "/run/a,b"]);
    }
}
