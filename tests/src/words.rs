//! Orders in words: each line of QEMU's as one word, so that what came when can be compared and written down.

use freezeframe::fidelity::recording::{Recording, Speaker};
use serde_json::Value;

/// The word for a line of QEMU's: the id of a reply, with `!` for an error; an event's name, or what it tells.
pub fn word(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data = |name: &str| text(&message["data"][name]);
    let bang = |yes: bool| if yes { "!" } else { "" };
    match text(&message["event"]).as_str() {
        "" => format!("{}{}", text(&message["id"]), bang(message.get("error").is_some())),
        "JOB_STATUS_CHANGE" => format!("{}:{}", data("id"), data("status")),
        "MIGRATION" => format!("migration:{}", data("status")),
        "MIGRATION_PASS" => "PASS".to_owned(),
        "BLOCK_IO_ERROR" => format!("BLOCK_IO_ERROR:{}", data("action")),
        "RESET" if message["data"]["guest"] == true => "RESET:guest".to_owned(),
        "DEVICE_DELETED" if data("device").is_empty() => "DEVICE_DELETED:path".to_owned(),
        "DEVICE_DELETED" => format!("DEVICE_DELETED:{}", data("device")),
        event => match event.strip_prefix("BLOCK_JOB_") {
            Some(what) => {
                let job = Some(data("device")).filter(|job| !job.is_empty()).unwrap_or_else(|| data("id"));
                format!("{job}:{what}{}", bang(message["data"].get("error").is_some()))
            }
            None => event.to_owned(),
        },
    }
}

/// The words for a line behind those before: the firmware resets the machine as often as it likes.
pub fn push(words: &mut Vec<String>, message: &Value) {
    let word = word(message);
    if word != "RESET:guest" || words.last() != Some(&word) {
        words.push(word);
    }
}

/// Behind which of its lines, counted from 0, a recording's client went on only when everything was answered: each begins
/// what was said in one go.
pub fn goes(recording: &Recording) -> Vec<usize> {
    let (mut said, mut answered, mut goes) = (0, 0, Vec::new());
    for line in &recording.lines {
        match line.speaker {
            Speaker::Client => {
                if answered >= said {
                    goes.push(said);
                }
                said += 1;
            }
            // The greeting comes before anything is said.
            Speaker::Server if said > 0 && !line.text.contains("\"event\": ") => answered += 1,
            Speaker::Server | Speaker::Host => {}
        }
    }
    goes
}

/// What came behind each line of a recording's client, before the next.
pub fn turns(recording: &Recording) -> Vec<Vec<&str>> {
    let mut turns: Vec<Vec<&str>> = Vec::new();
    for line in &recording.lines {
        match (line.speaker, turns.last_mut()) {
            (Speaker::Client, _) => turns.push(Vec::new()),
            (Speaker::Server, Some(turn)) => turn.push(&line.text),
            (Speaker::Host, _) | (Speaker::Server, None) => {}
        }
    }
    turns
}

/// Lines as they came over the wire, in words; what is no JSON of ours has none.
pub fn order<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut words = Vec::new();
    for message in lines.filter_map(|line| serde_json::from_str(line).ok()) {
        push(&mut words, &message);
    }
    words.join(" ")
}
