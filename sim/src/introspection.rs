//! What each release says of itself to management software: its machines, processors, options, types and their
//! properties.
//!
//! The answers are stored as the release's binary gave them (`data/introspection`, refreshed by
//! `ci/refresh-introspection.sh`) and read once in a process, when one is first needed: question by question, each
//! with the value that the release returns. They are those of a machine of type `q35` with its usual processor, under
//! TCG. What was not asked of the real one is not simulated.

use std::{io::Read, sync::OnceLock};

use serde_json::{Map, Value};

use crate::{
    qemu::{QmpError, not_simulated},
    release::Release,
};

/// Commands whose answers are stored.
const COMMANDS: [&str; 16] = [
    "query-machines",
    "query-cpu-definitions",
    "query-command-line-options",
    "query-tpm-models",
    "query-tpm-types",
    "query-sev-capabilities",
    "query-sgx-capabilities",
    "query-gic-capabilities",
    "query-hotpluggable-cpus",
    "query-memory-devices",
    "query-balloon",
    "qom-list-types",
    "qom-list-properties",
    "device-list-properties",
    "qom-list",
    "qom-get",
];

/// One question, and what the release returned.
struct Answer {
    command: String,
    arguments: Map<String, Value>,
    value: &'static str,
}

/// The stored answer to a command; nothing if answers to this command, or about this object, are not stored.
///
/// # Errors
/// QEMU's, for a type that the release does not have; "not simulated" for a question that was not asked.
pub(crate) fn answer(
    release: Release,
    command: &str,
    arguments: &Map<String, Value>,
) -> Option<Result<&'static str, QmpError>> {
    if !COMMANDS.contains(&command) {
        return None;
    }
    let found =
        answers(release).iter().find(|answer| answer.command == command && answer.arguments == *arguments);
    if found.is_none() && matches!(command, "qom-list" | "qom-get") {
        return None;
    }
    Some(match (found, arguments.get("typename").and_then(Value::as_str)) {
        (Some(answer), _) => Ok(answer.value),
        (None, Some(unknown)) if !has_type(release, unknown) => {
            Err(QmpError { class: "DeviceNotFound", desc: format!("Device '{unknown}' not found") })
        }
        (None, _) => Err(not_simulated(&format!("command `{command}` with these arguments"))),
    })
}

/// Whether the release has a device model of that name.
pub(crate) fn is_device(release: Release, name: &str) -> bool {
    let listed = |answer: &&Answer| answer.command == "qom-list-types" && !answer.arguments.is_empty();
    answers(release).iter().filter(listed).any(|answer| lists(answer, name))
}

fn has_type(release: Release, name: &str) -> bool {
    answers(release).iter().any(|answer| answer.command == "qom-list-types" && lists(answer, name))
}

/// Whether a list of types has one of that name.
fn lists(answer: &Answer, name: &str) -> bool {
    answer.value.contains(&format!("\"name\": \"{name}\""))
}

fn answers(release: Release) -> &'static [Answer] {
    static ANSWERS: [OnceLock<Vec<Answer>>; Release::ALL.len()] =
        [const { OnceLock::new() }; Release::ALL.len()];
    ANSWERS[release as usize].get_or_init(|| read(release))
}

fn read(release: Release) -> Vec<Answer> {
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
    text.lines().map(parse).collect()
}

/// `{"execute": command, "arguments": {...}}`, a tab, and the value.
fn parse(line: &'static str) -> Answer {
    let (question, value) = line.split_once('\t').expect("a stored line is a question and its answer");
    let mut question: Map<String, Value> = serde_json::from_str(question).expect("a stored question is JSON");
    let command = question["execute"].as_str().expect("a stored question is a command").to_owned();
    let arguments = match question.remove("arguments") {
        Some(Value::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    Answer { command, arguments, value }
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
        let path = "/machine/unattached/device[0]";
        let kind = ask(release, "qom-get", json!({"property": "type", "path": path}));
        assert_eq!(kind, Some(Ok("\"qemu64-x86_64-cpu\"")));
    }

    #[rstest]
    fn every_answer_is_json_of_a_command_that_the_release_has(
        #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    ) {
        for answer in answers(release) {
            assert!(serde_json::from_str::<Value>(answer.value).is_ok(), "{}", answer.value);
            assert!(COMMANDS.contains(&answer.command.as_str()), "{}", answer.command);
            assert!(crate::schema::Schema::of(release).command(&answer.command).is_some());
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
    }
}
