//! What a monitor says, as lines: greeting, replies, events.
//!
//! The envelopes are written out in the order that QEMU's table gives them; only what varies goes through
//! [`qdict`].

use serde_json::Value;

use crate::{
    host::Host,
    qemu::{Event, QmpError},
    qobject::{QDict, QObject, qdict as dict},
    release::Release,
    wire::qdict,
};

/// What a command returns.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To be written as QEMU writes it.
    Value(QObject),
    /// As QEMU wrote it.
    Stored(&'static str),
    /// What the client gave, to be given back.
    Given(Value),
}

/// The value of `query-version`.
pub fn version(release: Release) -> QDict {
    let (major, minor, micro) = release.version();
    let [major, minor, micro] = [major, minor, micro].map(u64::from);
    dict! { "qemu": dict! { "major": major, "minor": minor, "micro": micro }, "package": release.package() }
}

/// The first thing that a client hears. All four releases offer `oob` on a socket.
pub fn greeting(out: &mut Vec<u8>, release: Release) {
    out.extend_from_slice(b"{\"QMP\": {\"version\": ");
    qdict::write_dict(out, &version(release));
    out.extend_from_slice(b", \"capabilities\": [\"oob\"]}}\r\n");
}

/// A command's reply.
pub fn reply(out: &mut Vec<u8>, id: Option<&Value>, answer: &Result<Answer, QmpError>, release: Release) {
    reply_line(out, id, answer, release);
    out.extend_from_slice(b"\r\n");
}

/// A command's reply without the end of its line.
pub fn reply_line(
    out: &mut Vec<u8>,
    id: Option<&Value>,
    answer: &Result<Answer, QmpError>,
    release: Release,
) {
    match answer {
        Ok(answer) => {
            out.extend_from_slice(b"{\"return\": ");
            match answer {
                Answer::Value(value) => qdict::write_qobject(out, value),
                Answer::Stored(text) => out.extend_from_slice(text.as_bytes()),
                Answer::Given(value) => qdict::write(out, value, release),
            }
            if let Some(id) = id {
                out.extend_from_slice(b", \"id\": ");
                qdict::write(out, id, release);
            }
            out.push(b'}');
        }
        Err(error) => {
            out.push(b'{');
            if let Some(id) = id {
                out.extend_from_slice(b"\"id\": ");
                qdict::write(out, id, release);
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(b"\"error\": {\"class\": ");
            qdict::write_text(out, error.class);
            out.extend_from_slice(b", \"desc\": ");
            qdict::write_text(out, &error.desc);
            out.extend_from_slice(b"}}");
        }
    }
}

/// An event, with the time at which it was queued.
pub fn event(out: &mut Vec<u8>, event: &Event) {
    let at = Host::EPOCH + event.at;
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"timestamp\": {\"seconds\": ");
    out.extend_from_slice(number.format(at.as_secs()).as_bytes());
    out.extend_from_slice(b", \"microseconds\": ");
    out.extend_from_slice(number.format(at.subsec_micros()).as_bytes());
    out.extend_from_slice(b"}, \"event\": ");
    qdict::write_text(out, event.name);
    if let Some(data) = &event.data {
        out.extend_from_slice(b", \"data\": ");
        qdict::write_dict(out, data);
    }
    out.extend_from_slice(b"}\r\n");
}
