//! What of a line of QEMU's a fault may wait for. The rest of it is passed over: replies are long.

use serde::Deserialize;
use serde_json::Value;

/// What of a line of QEMU's is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The event that it tells of.
    pub(crate) event: Option<String>,
    /// What has become of a job, if that is what the event tells.
    pub(crate) status: Option<String>,
    /// Whose reply it is, as it was given.
    pub(crate) id: Value,
}

impl Message {
    /// Reads a line; none for what is no message.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            event: Option<String>,
            #[serde(default)]
            data: Data,
            #[serde(default)]
            id: Value,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Data {
            status: Value,
        }
        let Line { event, data, id } = serde_json::from_slice(line).ok()?;
        let is_job = event.as_deref() == Some("JOB_STATUS_CHANGE");
        let status = data.status.as_str().filter(|_| is_job).map(str::to_owned);
        Some(Self { event, status, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_status_is_told_apart_from_what_else_is_called_so() {
        let job = Message::read(br#"{"data": {"status": "ready", "id": "j"}, "event": "JOB_STATUS_CHANGE"}"#)
            .unwrap();
        assert_eq!((job.event.as_deref(), job.status.as_deref()), (Some("JOB_STATUS_CHANGE"), Some("ready")));
        let other = Message::read(br#"{"event": "MIGRATION", "data": {"status": "setup"}}"#).unwrap();
        assert_eq!((other.event.as_deref(), other.status), (Some("MIGRATION"), None));
        let reply = Message::read(br#"{"return": {"event": "STOP", "status": 1}, "id": 7}"#).unwrap();
        assert_eq!((reply.event, reply.id), (None, Value::from(7)));
        assert_eq!(Message::read(b"[1]"), None);
    }
}
