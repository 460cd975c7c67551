//! `freezeframe serve` as other programs meet it: a socket client, and the driver over a real socket. Each test starts
//! the command and ends it. QEMU's own Python client is in `python_client.rs`; what many machines and unruly clients cost
//! is in `serve_bounds.rs` and `serve_surroundings.rs`.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real programs on real sockets")]

mod served;

use std::{fs, io::Read as _, os::unix::net::UnixListener, process::Command, time::Duration};

use freezeframe_driver::{
    Machine, Patience,
    domain::{Domain, DomainDisk},
    domain_snapshot::DomainSnapshot,
    env::{Endpoint, tokio::TokioEnv},
    request::{Create, CreateFlag, Request},
};
use rstest::rstest;
use serde_json::Value;
use served::Server;
use tempfile::TempDir;
use tokio::{runtime, task::LocalSet};

#[rstest]
fn a_client_that_breaks_the_rules_hears_what_real_qemu_was_recorded_to_say(
    #[values("5.2", "7.2", "10.0", "11.1")] release: &str,
) {
    let server = Server::start(
        "external/one-disk",
        &["--release", release, "--qmp", "unix:{dir}/qmp", "--speed", "max"],
    );
    let mut client = server.connect("qmp");
    client.negotiate();
    let recording = format!("{}/../sim/data/recordings/{release}/json.jsonl", env!("CARGO_MANIFEST_DIR"));
    for case in fs::read_to_string(recording).unwrap().lines() {
        let case: Value = serde_json::from_str(case).unwrap();
        // Bytes are stored as the characters of the same number.
        let bytes: Vec<_> = case["send"].as_str().unwrap().chars().map(|byte| byte as u8).collect();
        client.send(&bytes);
        for reply in case["replies"].as_array().unwrap() {
            let (said, recorded) = (client.line(), reply.as_str().unwrap());
            // What a command returns depends on the machine: the recorded one had none.
            if recorded.starts_with("{\"error\"") {
                assert_eq!(said, recorded, "after {}", case["send"]);
            }
        }
    }
}

#[rstest]
fn an_agents_client_that_breaks_the_rules_hears_what_a_real_agent_was_recorded_to_say(
    #[values("5.2", "7.2", "10.0", "11.1")] release: &str,
) {
    let server = Server::machine(
        "vm.toml",
        "[machine]\ndisks = [{ target = \"a\" }, { target = \"b\" }]\n",
        &["--release", release, "--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/agent", "--speed", "max"],
    );
    let mut client = server.connect("agent");
    let recording = format!("{}/../sim/data/recordings/{release}/agent.jsonl", env!("CARGO_MANIFEST_DIR"));
    let recording = fs::read_to_string(recording).unwrap();
    let cases = recording.lines().map(|case| serde_json::from_str::<Value>(case).unwrap());
    // The first agent of the recording is one without anything special; others follow.
    let first = cases.enumerate().take_while(|(place, case)| *place == 0 || case.get("agent").is_none());
    for (_, case) in first {
        let bytes: Vec<_> = case["send"].as_str().unwrap().chars().map(|byte| byte as u8).collect();
        client.send(&bytes);
        for recorded in case["says"].as_str().unwrap().split_inclusive('\n') {
            assert_eq!(client.agent_line(), recorded, "after {}", case["send"]);
        }
    }
}

#[test]
fn half_a_request_to_the_agent_is_completed_by_the_next_client() {
    let server = Server::machine(
        "vm.toml",
        "[machine]\nagent = \"linux\"\n",
        &["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/agent"],
    );
    let mut first = server.connect("agent");
    first.send(b"{\"execute\":\"guest-pi");
    std::thread::sleep(Duration::from_millis(100));
    let mut second = server.connect("agent");
    second.send(b"ng\"}");
    assert!(second.silence(), "one client at a time");
    drop(first);
    assert_eq!(second.agent_line(), "{\"return\": {}}\n");
    second.send(b"{\"execute\":\"guest-ping\"}\n".as_slice());
    assert_eq!(second.agent_line(), "{\"return\": {}}\n");
}

#[test]
fn an_absent_agent_takes_what_is_sent_and_says_nothing() {
    let server = Server::machine(
        "vm.toml",
        "[machine]\nagent = \"absent\"\n",
        &["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/agent"],
    );
    let mut client = server.connect("agent");
    client.send(b"\xff{\"execute\":\"guest-ping\"}\n");
    assert!(client.silence());
}

#[test]
fn a_machine_of_qemus_arguments_is_served_with_an_agent_if_one_is_wanted() {
    let arguments = "qemu-system-x86_64 -nodefaults -display none -machine q35 -m 64\n\
                     -blockdev driver=file,node-name=f0,filename=/images/disk0\n\
                     -blockdev driver=qcow2,node-name=disk0,file=f0\n\
                     -device virtio-blk-pci,id=vd0,drive=disk0\n";
    let server = Server::machine(
        "vm",
        arguments,
        &["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/agent", "--seed", "7"],
    );
    let mut client = server.connect("qmp");
    client.negotiate();
    client.send(b"{\"execute\":\"query-block\"}");
    let blocks = client.line();
    assert!(blocks.contains("/machine/peripheral/vd0/virtio-backend"), "{blocks}");
    let mut agent = server.connect("agent");
    agent.send(b"{\"execute\":\"guest-fsfreeze-freeze\"}\n");
    assert_eq!(agent.agent_line(), "{\"return\": 1}\n");
}

#[test]
fn a_fault_that_never_struck_is_told_at_the_end() {
    let mut server = Server::start("internal/save-reply-lost", &["--qmp", "unix:{dir}/qmp"]);
    let mut client = server.connect("qmp");
    client.negotiate();
    client.send(b"{\"execute\":\"quit\"}\n");
    assert_eq!(server.process.wait().unwrap().code(), Some(1));
    let complaints = server.complaints();
    assert!(complaints.contains("the fault at command `snapshot-save` struck 0 times of 1"), "{complaints}");
}

#[test]
fn a_fault_at_the_agent_strikes_whoever_asks_there() {
    let server = Server::start(
        "quiesce/freeze-reply-lost",
        &["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/agent"],
    );
    let mut client = server.connect("agent");
    client.send(b"{\"execute\":\"guest-fsfreeze-freeze\"}\n");
    assert!(client.silence());
    // It has frozen all the same, and only the first reply is lost.
    client.send(b"{\"execute\":\"guest-fsfreeze-status\"}\n");
    assert_eq!(client.agent_line(), "{\"return\": \"frozen\"}\n");
}

#[test]
fn an_image_that_is_a_link_is_the_file_that_it_leads_to() {
    let elsewhere = TempDir::new().unwrap();
    let image = elsewhere.path().join("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink(&image, folder.path().join("linked")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
    let server = Server::start(
        "external/one-disk",
        &["--qmp", "unix:{dir}/qmp", "--images", folder.path().to_str().unwrap()],
    );
    let mut client = server.connect("qmp");
    client.negotiate();
    let add = |name: &str| {
        format!(
            "{{\"execute\":\"blockdev-add\",\"arguments\":{{\"driver\":\"file\",\"node-name\":\"{name}\",\
             \"filename\":\"{}/{name}\"}}}}\n",
            folder.path().display()
        )
    };
    client.send(add("linked").as_bytes());
    assert_eq!(client.line(), "{\"return\": {}}");
    client.send(add("dangling").as_bytes());
    assert!(client.line().contains("No such file or directory"));
    assert!(fs::read(&image).unwrap().iter().all(|byte| *byte == 0), "nothing is written through a link");
}

#[test]
fn a_second_client_hears_nothing_until_the_first_has_left() {
    let server = Server::start("external/one-disk", &["--qmp", "unix:{dir}/qmp"]);
    let mut first = server.connect("qmp");
    first.negotiate();
    let mut second = server.connect("qmp");
    second.0.get_ref().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(second.0.read(&mut [0; 1]).is_err(), "silence");
    drop(first);
    second.0.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    second.negotiate();
}

#[test]
fn a_signal_ends_it_and_its_sockets_are_gone() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let arguments =
            ["--qmp", "unix:{dir}/qmp", "--qmp", "tcp:127.0.0.1:0", "--transcript", "{dir}/transcript"];
        let mut server = Server::start("external/one-disk", &arguments);
        assert!(server.said[1].starts_with("listening tcp:127.0.0.1:"), "{:?}", server.said);
        assert!(!server.said[1].ends_with(":0"));
        let mut client = server.connect("qmp");
        client.negotiate();
        assert_eq!(server.end(signal).code(), Some(code));
        assert!(client.line().ends_with(r#""data": {"guest": false, "reason": "host-signal"}}"#));
        assert_eq!(client.line(), "");
        assert!(!server.path("qmp").exists());
        let transcript = fs::read_to_string(server.path("transcript")).unwrap();
        assert!(transcript.contains("SHUTDOWN {\"guest\":false,\"reason\":\"host-signal\"}"), "{transcript}");
        assert!(transcript.trim_end().ends_with("closed by QEMU"), "{transcript}");
    }
}

#[test]
fn it_ends_well_when_its_machine_quits() {
    let mut server = Server::start("external/one-disk", &["--qmp", "unix:{dir}/qmp"]);
    let mut client = server.connect("qmp");
    client.negotiate();
    client.send(b"{\"execute\":\"quit\"}");
    let mut last = String::new();
    client.0.read_to_string(&mut last).unwrap();
    assert!(last.contains("SHUTDOWN") && last.contains("{\"return\": {}}"), "{last}");
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    assert!(!server.path("qmp").exists());
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_a_busy_one_is_not() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("qmp");
    let address = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::start("external/one-disk", &["--qmp", &address]);
    let second = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"))
        .args(["serve", &format!("{}/../scenarios/suite/external/one-disk.toml", env!("CARGO_MANIFEST_DIR"))])
        .args(["--qmp", &address])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    assert!(path.exists());
    drop(server);
}

#[test]
fn a_fault_strikes_a_client_with_numbers_for_ids_and_stands_in_the_transcript() {
    let server = Server::start(
        "internal/save-reply-lost",
        &["--qmp", "unix:{dir}/qmp", "--transcript", "{dir}/transcript", "--speed", "max"],
    );
    let mut client = server.connect("qmp");
    client.negotiate();
    client.send(
        b"{\"execute\":\"snapshot-save\",\"id\":1,\"arguments\":{\"job-id\":\"j\",\"tag\":\"t\",\
        \"vmstate\":\"vda\",\"devices\":[\"vda\",\"vdb\"]}}\n",
    );
    let said: Vec<_> =
        std::iter::repeat_with(|| client.line()).take_while(|line| !line.contains("concluded")).collect();
    assert!(said.iter().all(|line| !line.contains("return")), "{said:?}");
    client.send(b"{\"execute\":\"query-status\",\"id\":2}\n");
    assert!(client.line().contains("\"id\": 2"));
    let transcript = fs::read_to_string(server.path("transcript")).unwrap();
    assert!(transcript.contains("** lose-reply"), "{transcript}");
    assert!(transcript.contains("job j concluded"), "{transcript}");
}

#[test]
fn the_driver_takes_snapshots_over_a_real_socket() {
    let server = Server::start("external/two-disks", &["--qmp", "unix:{dir}/qmp", "--images", "{dir}"]);
    let endpoint = Endpoint::Unix(camino::Utf8PathBuf::from_path_buf(server.path("qmp")).unwrap());
    let disk = |target: &str| DomainDisk::new(target, &format!("{target}-device"));
    let domain = Domain::new("vm", vec![disk("vda"), disk("vdb")]);
    let create = |name: &str, flags: &[CreateFlag]| {
        let wish = DomainSnapshot { name: Some(name.into()), ..DomainSnapshot::default() };
        Request::Create(Box::new(Create::new(wish, flags.iter().copied())))
    };
    let taken = async {
        let machine = Machine::connect(TokioEnv::new(), endpoint, domain, None, Patience::default()).await?;
        machine.perform(&create("memory", &[])).await?;
        machine.perform(&create("disks", &[CreateFlag::DiskOnly])).await
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, taken).unwrap();
    let overlay = fs::read(server.path("vda.disks")).unwrap();
    assert_eq!(overlay[..4], *b"QFI\xfb", "a real file of the overlay's shape");
    let name = server.path("vda.qcow2");
    let name = name.to_str().unwrap().as_bytes();
    assert!(overlay.windows(name.len()).any(|part| part == name), "it names its backing file");
}

#[test]
fn an_image_that_was_there_before_is_not_written_to() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("vda.qcow2");
    fs::write(&image, "somebody's").unwrap();
    let server = Server::start(
        "external/one-disk",
        &["--qmp", "unix:{dir}/qmp", "--images", folder.path().to_str().unwrap()],
    );
    let mut client = server.connect("qmp");
    client.negotiate();
    client.send(b"{\"execute\":\"query-status\"}");
    client.line();
    assert_eq!(fs::read_to_string(&image).unwrap(), "somebody's");
}
