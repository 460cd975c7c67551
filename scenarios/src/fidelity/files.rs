//! What lay in the recorder's folder before QEMU was started, as far as the recording tells.
//!
//! - Images that a client opened and nobody had made: the targets of copies, empty.
//! - What the disks held: as much as a mirror had to copy, or could not, or else the most that a backup copied which
//!   skipped what was empty. Where nothing tells, but something was copied, two megabytes on the first.

use std::collections::BTreeSet;

use freezeframe_sim::{
    Machine,
    host::{Host, Image, Qcow2},
};
use serde_json::Value;

use super::{
    recording::{Recording, Speaker},
    replay::FOLDER,
};

/// What the first disk held, in bytes, if the recording does not tell.
const HELD: u64 = 2 << 20;

/// Puts the files there, beside those of the machine itself.
pub fn put_beforehand(recording: &Recording, machine: &Machine, host: &mut Host) {
    let targets = opened(recording);
    let (disks, held) = match held(recording) {
        Some(held) => (machine.disks.len(), held),
        None => (usize::from(!targets.is_empty()), HELD),
    };
    for path in targets {
        // What the machine has is not made anew.
        let _ = host.create_new(path.as_str().into(), Image::qcow2(Machine::DISK_SIZE));
    }
    for disk in machine.disks.iter().take(disks) {
        if let Some(image) = host.image_mut(&disk.path).filter(|image| image.blocks().is_empty()) {
            (0..held / Qcow2::CLUSTER).for_each(|block| image.write(block, 1));
        }
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
    fn a_mirror_tells_what_the_disk_held() {
        let event = r#"{"event": "BLOCK_JOB_COMPLETED", "data": {"type": "mirror", "len": 16777216, "offset": 14680064, "error": "e"}}"#;
        assert_eq!(held(&recording(&[(Speaker::Server, event)])), Some(2 << 20));
    }
}
