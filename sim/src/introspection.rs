//! What each release says of itself to management software: its machines, processors, options, types and their
//! properties, and all that no command ever changes.
//!
//! The answers are stored as the release's binary gave them (`data/introspection`, refreshed by
//! `ci/refresh-introspection.sh`) and read once in a process, when one is first needed: question by question, each
//! with what the release said to it, be it a refusal. They are those of a machine of type `q35` with its usual
//! processor and 64 MiB, under TCG, and of one device of each type, whose id is its type. What was not asked of the
//! real one is not simulated.

use std::{collections::BTreeMap, io::Read, sync::OnceLock};

use serde_json::{Map, Value};

use crate::{
    qemu::{QmpError, not_simulated},
    release::Release,
};

/// What the release says: a value, or a refusal.
type Said = Result<&'static str, QmpError>;

/// The answers to one command: the arguments of each question, and what the release said.
type Answers = Vec<(Map<String, Value>, Said)>;

/// The stored answer to a command; nothing if answers to this command are not stored. Objects are
/// [asked](object_says) for one by one, and so is [the human monitor](human_monitor_says).
///
/// # Errors
/// QEMU's, for a type that the release does not have, or as it was stored; "not simulated" for a question that was not
/// asked.
pub(crate) fn answer(release: Release, command: &str, arguments: &Map<String, Value>) -> Option<Said> {
    if matches!(command, "qom-list" | "qom-get" | "human-monitor-command") {
        return None;
    }
    let known = answers(release).get(command)?;
    let found = known.iter().find(|(asked, _)| asked == arguments);
    Some(match (found, arguments.get("typename").and_then(Value::as_str)) {
        (Some((_, said)), _) => said.clone(),
        (None, Some(unknown)) if !has_type(release, unknown) => {
            Err(QmpError { class: "DeviceNotFound", desc: format!("Device '{unknown}' not found") })
        }
        (None, _) => Err(not_simulated(&format!("command `{command}` with these arguments"))),
    })
}

/// What the release says to a line of the human monitor, as JSON.
pub(crate) fn human_monitor_says(release: Release, line: &str) -> Option<&'static str> {
    let known = answers(release).get("human-monitor-command")?;
    let is = |asked: &Map<String, Value>| asked.get("command-line").and_then(Value::as_str) == Some(line);
    known.iter().find(|(asked, _)| is(asked)).and_then(|(_, said)| said.as_ref().ok().copied())
}

/// What the release says to `qom-list`, or to `qom-get` of a property, of an object that was asked.
pub(crate) fn object_says(release: Release, path: &str, property: Option<&str>) -> Option<Said> {
    let command = if property.is_some() { "qom-get" } else { "qom-list" };
    let is = |asked: &Map<String, Value>, name: &str, wanted: Option<&str>| {
        asked.get(name).and_then(Value::as_str) == wanted
    };
    let known = answers(release).get(command)?;
    let found =
        known.iter().find(|(asked, _)| is(asked, "path", Some(path)) && is(asked, "property", property));
    found.map(|(_, said)| said.clone())
}

/// Whether the release has a device model of that name.
pub(crate) fn is_device(release: Release, name: &str) -> bool {
    let of_devices =
        |asked: &Map<String, Value>| asked.get("implements").and_then(Value::as_str) == Some("device");
    types(release).iter().filter(|(asked, _)| of_devices(asked)).any(|(_, said)| lists(said, name))
}

/// Whether the release has no type of that name: neither one of which something can be made nor one above those.
pub(crate) fn is_no_type(release: Release, name: &str) -> bool {
    let is_above =
        |said: &Said| said.as_ref().is_ok_and(|value| value.contains(&format!("\"parent\": \"{name}\"")));
    !types(release).iter().any(|(_, said)| lists(said, name) || is_above(said))
}

fn has_type(release: Release, name: &str) -> bool {
    types(release).iter().any(|(_, said)| lists(said, name))
}

fn types(release: Release) -> &'static [(Map<String, Value>, Said)] {
    answers(release).get("qom-list-types").map_or(&[], Vec::as_slice)
}

/// Whether a list has something of that name.
pub(crate) fn lists(said: &Said, name: &str) -> bool {
    said.as_ref().is_ok_and(|value| value.contains(&format!("\"name\": \"{name}\"")))
}

fn answers(release: Release) -> &'static BTreeMap<String, Answers> {
    static ANSWERS: [OnceLock<BTreeMap<String, Answers>>; Release::ALL.len()] =
        [const { OnceLock::new() }; Release::ALL.len()];
    ANSWERS[release as usize].get_or_init(|| read(release))
}

fn read(release: Release) -> BTreeMap<String, Answers> {
    let compressed: &[u8] = match release {
        Release::V5_2 => include_bytes!("../data/introspection/5.2.jsonl.gz"),
        Release::V7_2 => include_bytes!("../data/introspection/7.2.jsonl.gz"),
        Release::V10_0 => include_bytes!("../data/introspection/10.0.jsonl.gz"),
        Release::V11_1 => include_bytes!("../data/introspection/11.1.jsonl.gz"),
    };
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(compressed).read_to_string(&mut text);
    read.expect("stored answers are gzip of UTF-8");
    // Kept for the life of the process, as the schema is.
    let text: &'static str = text.leak();
    let mut answers: BTreeMap<String, Answers> = BTreeMap::new();
    for line in text.lines() {
        let (question, said) = line.split_once('\t').expect("a stored line is a question and its answer");
        let mut question: Map<String, Value> =
            serde_json::from_str(question).expect("a stored question is JSON");
        let command = question["execute"].as_str().expect("a stored question is a command").to_owned();
        let arguments = match question.remove("arguments") {
            Some(Value::Object(arguments)) => arguments,
            _ => Map::new(),
        };
        answers.entry(command).or_default().push((arguments, parse(said)));
    }
    answers
}

/// `{"return": value}`, or `{"error": ...}`.
fn parse(said: &'static str) -> Said {
    let value = said.strip_prefix("{\"return\": ").and_then(|rest| rest.strip_suffix('}'));
    value.ok_or_else(|| {
        let said: Value = serde_json::from_str(said).expect("a stored answer is JSON");
        let member = |name: &str| said["error"][name].as_str().expect("a stored refusal is whole");
        let class = match member("class") {
            "DeviceNotFound" => "DeviceNotFound",
            "DeviceNotActive" => "DeviceNotActive",
            _ => "GenericError",
        };
        QmpError { class, desc: member("desc").to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn ask(release: Release, command: &str, arguments: Value) -> Option<Result<&'static str, QmpError>> {
        answer(release, command, arguments.as_object().unwrap())
    }

    #[rstest]
    fn every_release_tells_its_machines_and_properties(
        #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    ) {
        let machines = ask(release, "query-machines", json!({})).unwrap().unwrap();
        assert!(machines.contains("\"name\": \"pc-q35-5.2\""));
        let properties = ask(release, "device-list-properties", json!({"typename": "virtio-blk-pci"}));
        assert!(properties.unwrap().unwrap().contains("\"name\": \"werror\""));
        let kind = object_says(release, "/machine/unattached/device[0]", Some("type"));
        assert_eq!(kind, Some(Ok("\"qemu64-x86_64-cpu\"")));
        let balloon = ask(release, "query-balloon", json!({})).unwrap().unwrap_err();
        assert_eq!(balloon.class, "DeviceNotActive");
    }

    #[rstest]
    fn every_answer_is_json_of_a_command_that_the_release_has(
        #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    ) {
        for (command, answers) in answers(release) {
            assert!(crate::schema::Schema::of(release).command(command).is_some(), "{command}");
            for value in answers.iter().filter_map(|(_, said)| said.as_ref().ok()) {
                assert!(serde_json::from_str::<Value>(value).is_ok(), "{value}");
            }
        }
    }

    #[test]
    fn a_type_that_is_none_is_refused_and_one_that_was_not_asked_about_is_not_simulated() {
        let ask = |typename: &str| {
            let arguments = json!({ "typename": typename });
            ask(Release::V10_0, "device-list-properties", arguments).unwrap().unwrap_err()
        };
        assert_eq!(
            (ask("nosuch").class, ask("nosuch").desc.as_str()),
            ("DeviceNotFound", "Device 'nosuch' not found")
        );
        assert!(ask("e1000").desc.starts_with("not simulated: "));
    }

    #[test]
    fn device_models_are_known_by_name() {
        assert!(is_device(Release::V10_0, "e1000"));
        assert!(!is_device(Release::V10_0, "nosuch"));
        assert!(!is_device(Release::V10_0, "memory-backend-file"), "a type, but no device");
        assert!(is_no_type(Release::V5_2, "nosuch"));
        assert!(!is_no_type(Release::V5_2, "device"), "abstract, but a type");
    }
}
