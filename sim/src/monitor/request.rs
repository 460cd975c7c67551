//! The envelope of a message: what is to be executed, with what, and under which id.
//!
//! Members are looked at in the order of QEMU's own table, so the same message always fails for the same
//! reason, whatever order it was written in.

use serde_json::{Map, Value};

use crate::{
    qemu::QmpError,
    wire::{Incoming, qdict},
};

/// A command as it was asked for. Whether there is such a command is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// `query-status`
    pub name: String,
    /// Its arguments; empty if none were given.
    pub arguments: Map<String, Value>,
    /// Whether it was sent with `exec-oob`.
    pub out_of_band: bool,
}

/// One message, for better or worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// To be echoed; any JSON value.
    pub id: Option<Value>,
    /// The command, or why there is none.
    pub command: Result<Command, QmpError>,
}

impl Request {
    /// Reads a message. `oob` says whether the client has agreed on that capability.
    pub fn read(incoming: Incoming, oob: bool) -> Self {
        match incoming {
            Incoming::Message(Value::Object(mut members)) => {
                let id = members.shift_remove("id");
                Self { id, command: read_command(members, oob) }
            }
            Incoming::Message(_) => refused("QMP input must be a JSON object".into()),
            Incoming::Error(error) => refused(error),
        }
    }

    /// Whether it may overtake what was sent before it.
    pub fn is_out_of_band(&self) -> bool {
        self.command.as_ref().is_ok_and(|command| command.out_of_band)
    }
}

fn refused(desc: String) -> Request {
    Request { id: None, command: Err(QmpError::generic(desc)) }
}

fn read_command(mut members: Map<String, Value>, oob: bool) -> Result<Command, QmpError> {
    let mut verb: Option<&str> = None;
    for (name, value) in qdict::in_order(&members) {
        match name.as_str() {
            "exec-oob" if !oob => return Err(unexpected(name)),
            "execute" | "exec-oob" => {
                if !value.is_string() {
                    let desc = format!("QMP input member '{name}' must be a string");
                    return Err(QmpError::generic(desc));
                }
                if let Some(other) = verb {
                    let desc = format!("QMP input member '{name}' clashes with '{other}'");
                    return Err(QmpError::generic(desc));
                }
                verb = Some(name);
            }
            "arguments" => {
                if !value.is_object() {
                    return Err(QmpError::generic("QMP input member 'arguments' must be an object"));
                }
            }
            _ => return Err(unexpected(name)),
        }
    }
    let Some(verb) = verb else {
        return Err(QmpError::generic("QMP input lacks member 'execute'"));
    };
    let out_of_band = verb == "exec-oob";
    let name = members[verb].as_str().unwrap_or_default().to_owned();
    let arguments = match members.swap_remove("arguments") {
        Some(Value::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    Ok(Command { name, arguments, out_of_band })
}

fn unexpected(name: &str) -> QmpError {
    QmpError::generic(format!("QMP input member '{name}' is unexpected"))
}
