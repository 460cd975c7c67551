//! Which request a line of the agent's answers. Its requests carry no ids: they are answered one after the other, but for the
//! 0xFF before a sync, of which it makes an error of its own.

use std::collections::VecDeque;

use serde_json::Value;

use crate::language::FaultKind;

/// Ends what was said before, in both directions.
const DELIMITER: u8 = 0xFF;

/// The request that a sync is.
const SYNC: &str = "guest-sync-delimited";

/// What the agent was asked on one connection and has not answered, oldest first, each with the fault that waits for its
/// reply.
#[derive(Debug, Default)]
pub(super) struct Asked(VecDeque<(String, Option<FaultKind>)>);

impl Asked {
    /// A request goes to the agent.
    pub(super) fn ask(&mut self, name: String, at_reply: Option<FaultKind>) {
        self.0.push_back((name, at_reply));
    }

    /// A line has come from the agent: the fault that waits for it.
    pub(super) fn answer(&mut self, line: &[u8]) -> Option<FaultKind> {
        if line.first() == Some(&DELIMITER) {
            // What was asked before it was never answered, or to somebody else.
            let sync = self.0.iter().position(|(name, _)| name == SYNC)?;
            return self.0.drain(..=sync).next_back()?.1;
        }
        let is_sync = self.0.front().is_some_and(|(name, _)| name == SYNC);
        if is_sync { None } else { self.0.pop_front()?.1 }
    }
}

/// The name of a request, behind the delimiter that it may begin with.
pub(crate) fn name_of(line: &[u8]) -> Option<String> {
    let json = line.iter().position(|byte| *byte != DELIMITER).map(|start| &line[start..])?;
    let message: Value = serde_json::from_slice(json).ok()?;
    Some(message["execute"].as_str()?.to_owned())
}

/// A line with each character up to U+00FF as one byte: an agent's texts are in its system's encoding.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_answers_the_oldest_request_and_a_delimited_one_the_oldest_sync() {
        let mut asked = Asked::default();
        asked.ask(SYNC.into(), None);
        asked.ask("guest-fsfreeze-freeze".into(), Some(FaultKind::LoseReply));
        assert_eq!(asked.answer(b"{\"error\": {}}"), None, "it is of the delimiter");
        assert_eq!(asked.answer(b"\xFF{\"return\": 1}"), None, "it is of the sync");
        assert_eq!(asked.answer(b"{\"return\": 2}"), Some(FaultKind::LoseReply));
        asked.ask("guest-fsfreeze-thaw".into(), Some(FaultKind::LoseReply));
        asked.ask(SYNC.into(), Some(FaultKind::Disconnect));
        assert_eq!(
            asked.answer(b"\xFF{\"return\": 2}"),
            Some(FaultKind::Disconnect),
            "the thaw was given up"
        );
        assert_eq!(asked.answer(b"{}"), None);
    }

    #[test]
    fn a_request_is_known_behind_its_delimiter() {
        let name = |line: &[u8]| name_of(line);
        assert_eq!(name(b"\xFF{\"execute\":\"guest-sync-delimited\"}").as_deref(), Some(SYNC));
        assert_eq!(name(b"{\"execute\":\"guest-ping\"}").as_deref(), Some("guest-ping"));
        assert_eq!(name(b"\xFF"), None);
    }
}
