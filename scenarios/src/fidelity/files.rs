//! What lay in the recorder's folder before QEMU was started, as far as the recording tells.
//!
//! - Images that a client opened and nobody had made: the targets of copies, empty.
//! - What the disks held: as much as a mirror had to copy, or could not, or else the most that a backup copied which
//!   skipped what was empty. Where nothing tells, but something was copied, two megabytes on the first.
//! - How large the disks were: as the first query says, or else 16 MiB.
//! - What the guest was booted into, if it panicked or let its watchdog run out.
//!
//! QEMU's arguments tell none of this, so the report names it as [assumed].

use std::collections::BTreeSet;

use camino::Utf8Path;
use freezeframe_sim::{
    Machine,
    host::{Host, Image, Qcow2},
    machine::{Chardev, Frontend, Program},
};
use serde_json::Value;

use super::{
    recording::{Recording, Speaker},
    replay::{FOLDER, in_folder},
};

/// What the first disk held, in bytes, if the recording does not tell.
const HELD: u64 = 2 << 20;

/// Puts the files there, beside those of the machine itself.
pub fn put_beforehand(recording: &Recording, machine: &Machine, host: &mut Host) {
    let targets = opened(recording);
    let (disks, most) = match held(recording) {
        Some(held) => (machine.disks.len(), held),
        None => (usize::from(!targets.is_empty()), HELD),
    };
    for path in targets {
        // What the machine has is not made anew.
        let _ = host.create_new(path.as_str().into(), Image::qcow2(Machine::DISK_SIZE));
    }
    for disk in machine.disks.iter().take(disks) {
        if let Some(image) = host.image_mut(&disk.path).filter(|image| image.blocks().is_empty()) {
            let held = most.min(disk.size);
            (0..held / Qcow2::CLUSTER).for_each(|block| image.write(block, 1));
        }
    }
}

/// What of the host is taken from the recorded answers, or from nothing: the arguments do not tell.
pub fn assumed(recording: &Recording, machine: &Machine) -> Vec<String> {
    let mut assumed = Vec::new();
    match held(recording) {
        Some(held) => assumed.push(format!("every disk held {held} bytes, as a job of it says")),
        None if !opened(recording).is_empty() => {
            assumed.push(format!("the first disk held {HELD} bytes, though nothing says so"));
        }
        None => {}
    }
    let other = machine.disks.iter().filter(|disk| disk.size != Machine::DISK_SIZE);
    assumed.extend(
        other.map(|disk| format!("{} had {} bytes, as its first query says", disk.target, disk.size)),
    );
    match machine.program {
        Some(Program::Panics) => assumed.push("the guest panicked once a second, as it did".to_owned()),
        Some(Program::StarvesItsWatchdog) => {
            assumed.push("the guest let its watchdog run out once a second, as it did".to_owned());
        }
        None => {}
    }
    let is_monitor = |chardev: &&Chardev| matches!(chardev.frontend, Some(Frontend::Monitor(_)));
    let connected = machine.chardevs.iter().filter(|chardev| chardev.connected && !is_monitor(chardev));
    assumed.extend(
        connected.map(|chardev| format!("a program was at {}, as query-chardev says", chardev.label)),
    );
    assumed
}

/// The virtual size of a disk's image as the first answer that shows the image has it, while nobody has changed it.
pub fn size(recording: &Recording, file: &Utf8Path) -> Option<u64> {
    let unchanged = recording.lines.iter().take_while(|line| !line.text.contains("\"block_resize\""));
    let said = unchanged.filter(|line| line.speaker == Speaker::Server).map(|line| &line.text);
    said.flat_map(|line| line.split(r#""virtual-size": "#).skip(1)).find_map(|image| {
        let (size, rest) = image.split_once(r#", "filename": ""#)?;
        let (name, rest) = rest.split_once('"')?;
        let (_, format) = rest.split_once(r#""format": ""#)?;
        let shown = in_folder(name, FOLDER) == file.as_str() && !format.starts_with("file\"");
        size.parse().ok().filter(|_| shown)
    })
}

/// What the guest was booted into, if that shows.
pub fn program(recording: &Recording) -> Option<Program> {
    let told = |event: &str| recording.said().any(|line| line.contains(event));
    if told(r#""event": "GUEST_PANICKED""#) {
        Some(Program::Panics)
    } else {
        told(r#""event": "WATCHDOG""#).then_some(Program::StarvesItsWatchdog)
    }
}

/// The files that `blockdev-add` opened with success, and no command had made.
fn opened(recording: &Recording) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    let mut opened = BTreeSet::new();
    for line in recording.lines.iter().filter(|line| line.speaker == Speaker::Client) {
        let Ok(command) = serde_json::from_str::<Value>(&line.text) else { continue };
        let arguments = &command["arguments"];
        match command["execute"].as_str() {
            Some("blockdev-create") => filenames(&arguments["options"], &mut made),
            Some("blockdev-add") if succeeded(recording, &command["id"]) => filenames(arguments, &mut opened),
            _ => {}
        }
        let overlays = std::iter::once(arguments)
            .chain(arguments["actions"].as_array().into_iter().flatten().map(|action| &action["data"]));
        made.extend(overlays.filter_map(|overlay| overlay["snapshot-file"].as_str()).map(resolved));
    }
    opened.difference(&made).cloned().collect()
}

/// The files that options name, in whatever depth.
fn filenames(options: &Value, found: &mut BTreeSet<String>) {
    for (name, value) in options.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(file) if name == "filename" => found.extend([resolved(file)]),
            _ => filenames(value, found),
        }
    }
}

fn resolved(file: &str) -> String {
    file.replace("$DIR", FOLDER)
}

fn succeeded(recording: &Recording, id: &Value) -> bool {
    let mut answers = recording.said().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    answers.any(|answer| answer.get("return").is_some() && answer["id"] == *id)
}

/// What a mirror was to copy where it skipped what was empty, or what it could not copy; or what a backup copied.
fn held(recording: &Recording) -> Option<u64> {
    let events = recording.said().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let jobs: Vec<Value> = events.map(|mut event| event["data"].take()).collect();
    let of_kind = |kind: &'static str| jobs.iter().filter(move |data| data["type"] == kind);
    let skipping = |data: &Value| data["len"].as_u64().filter(|len| (1..Machine::DISK_SIZE).contains(len));
    let mut mirrors = of_kind("mirror").filter_map(|data| match data.get("error") {
        Some(_) => Some(data["len"].as_u64()? - data["offset"].as_u64()?),
        None => skipping(data),
    });
    mirrors.next().or_else(|| of_kind("backup").filter_map(skipping).max())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freezeframe_sim::Release;

    use super::*;
    use crate::fidelity::recording::Line;

    fn recording(lines: &[(Speaker, &str)]) -> Recording {
        let line =
            |&(speaker, text): &(Speaker, &str)| Line { at: Duration::ZERO, speaker, text: text.into() };
        let lines = lines.iter().map(line).collect();
        Recording { release: Release::V10_0, name: "a".into(), arguments: String::new(), lines }
    }

    #[test]
    fn an_image_that_nobody_made_was_there() {
        let add = r#"{"execute": "blockdev-add", "id": 1, "arguments": {"driver": "qcow2", "file": {"driver": "file", "filename": "$DIR/t0"}}}"#;
        let answered = |answer| recording(&[(Speaker::Client, add), (Speaker::Server, answer)]);
        let opened_if = |answer| opened(&answered(answer)).into_iter().collect::<Vec<_>>();
        assert_eq!(opened_if(r#"{"return": {}, "id": 1}"#), ["/recorded/t0"]);
        assert!(opened_if(r#"{"id": 1, "error": {}}"#).is_empty());
    }

    #[test]
    fn the_first_query_tells_how_large_a_disk_was_and_its_file_does_not() {
        let image = |size, format| {
            format!(
                r#"{{"image": {{"virtual-size": {size}, "filename": "$DIR/disk0", "format": "{format}"}}}}"#
            )
        };
        let shown = [image(196_616, "file"), image(8 << 20, "raw"), image(9 << 20, "raw")];
        let lines: Vec<_> = shown.iter().map(|image| (Speaker::Server, image.as_str())).collect();
        assert_eq!(size(&recording(&lines), "/recorded/disk0".into()), Some(8 << 20));
        assert_eq!(size(&recording(&lines), "/recorded/disk1".into()), None);
    }

    #[test]
    fn what_the_arguments_do_not_tell_is_assumed_aloud() {
        let event =
            r#"{"event": "BLOCK_JOB_READY", "data": {"type": "mirror", "len": 65536, "offset": 65536}}"#;
        let told = recording(&[(Speaker::Server, event)]);
        let machine = Machine::new().disk("vda");
        assert_eq!(assumed(&told, &machine), ["every disk held 65536 bytes, as a job of it says"]);
        assert!(assumed(&recording(&[]), &machine).is_empty());
    }

    #[test]
    fn a_mirror_tells_what_the_disk_held() {
        let event = r#"{"event": "BLOCK_JOB_COMPLETED", "data": {"type": "mirror", "len": 16777216, "offset": 14680064, "error": "e"}}"#;
        assert_eq!(held(&recording(&[(Speaker::Server, event)])), Some(2 << 20));
    }
}
