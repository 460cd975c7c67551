//! Where a machine's state goes to and comes from: the `uri` or the `channels` of a migration.
//!
//! Files, descriptors, and of programs the few that software pipes a state through: `cat >FILE`, `cat FILE` and those
//! that end at once (`true`, `exit 1`). Nobody listens on sockets of the simulated host. Source: the four releases,
//! asked.

use camino::Utf8PathBuf;
use serde_json::Value;

use crate::{
    Release,
    host::{Host, Image, MachineState},
    qemu::{QmpError, arguments::Arguments, not_simulated},
};

/// The other end of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Channel {
    /// `file:`, from that byte on.
    File(Utf8PathBuf, u64),
    /// `exec:`, with the command as the shell gets it.
    Command(String),
    /// `fd:`, with the name that `getfd` gave it.
    Descriptor(String),
    /// A socket on which nobody listens, and what connecting says.
    Deaf(String),
}

/// What becomes of bytes that are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sink {
    /// They are kept in a file, from that byte on.
    File(Utf8PathBuf, u64),
    /// A program keeps them in a file.
    PipedFile(Utf8PathBuf),
    /// They are taken and forgotten.
    Nowhere,
    /// Nobody takes them.
    Broken,
}

/// The bytes that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Those of a file, from that byte on.
    File(Utf8PathBuf, u64),
    /// None: the other end has closed at once.
    Nothing,
}

/// Reads `uri` and `channels` of a command.
///
/// # Errors
/// As the release refuses them.
pub(crate) fn channel(arguments: Arguments<'_>, release: Release) -> Result<Channel, QmpError> {
    let channels = arguments.list("channels");
    match (arguments.optional_text("uri"), channels) {
        (Some(uri), []) => of_uri(uri, release),
        (None, [main]) => of_address(main),
        (None, [_, _, ..]) => {
            Err(QmpError::generic("Channel list must have only one entry, for type 'main'"))
        }
        _ => Err(QmpError::generic("need either 'uri' or 'channels' argument")),
    }
}

fn of_uri(uri: &str, release: Release) -> Result<Channel, QmpError> {
    let unknown = || release.unknown_protocol(uri);
    let (protocol, rest) = uri.split_once(':').ok_or_else(unknown)?;
    Ok(match protocol {
        "exec" => Channel::Command(rest.to_owned()),
        "fd" => Channel::Descriptor(rest.to_owned()),
        "tcp" if !rest.contains(':') => {
            return Err(QmpError::generic(format!("error parsing address '{rest}'")));
        }
        "tcp" => Channel::Deaf(format!("Failed to connect to '{rest}': Connection refused")),
        "unix" => Channel::Deaf(format!("Failed to connect to '{rest}': No such file or directory")),
        "file" if release.protocols_are_checked_first() => match rest.split_once(",offset=") {
            None => Channel::File(rest.into(), 0),
            Some((path, offset)) => match offset.parse() {
                Ok(offset) => Channel::File(path.into(), offset),
                Err(_) => {
                    let text = format!("file URI has bad offset {offset}: Invalid argument");
                    return Err(QmpError::generic(text));
                }
            },
        },
        "vsock" | "rdma" => return Err(not_simulated(&format!("migration over `{protocol}:`"))),
        _ => return Err(unknown()),
    })
}

fn of_address(main: &Value) -> Result<Channel, QmpError> {
    let Some(address) = main["addr"].as_object().map(Arguments) else {
        return Err(not_simulated("a channel without address"));
    };
    Ok(match address.text("transport") {
        "file" => Channel::File(address.text("filename").into(), address.size("offset")),
        "exec" => match address.texts("args").as_slice() {
            [_, "-c", command] => Channel::Command((*command).to_owned()),
            other => Channel::Command(other.join(" ")),
        },
        "socket" if address.text("type") == "fd" => Channel::Descriptor(address.text("str").to_owned()),
        "socket" if address.text("type") == "unix" => Channel::Deaf(format!(
            "Failed to connect to '{}': No such file or directory",
            address.text("path")
        )),
        "socket" if address.text("type") == "inet" => {
            let (host, port) = (address.text("host"), address.text("port"));
            Channel::Deaf(format!("Failed to connect to '{host}:{port}': Connection refused"))
        }
        other => return Err(not_simulated(&format!("a channel over `{other}`"))),
    })
}

/// A descriptor that must be a pipe or a socket is a plain file.
pub(crate) fn no_plain_file() -> QmpError {
    QmpError::generic("fd: migration to a file is not supported. Use file: instead.")
}

/// Programs that end without reading or saying anything.
fn ends_at_once(command: &str) -> bool {
    matches!(command, "" | "true" | "false" | "/bin/true" | "/bin/false") || command.starts_with("exit")
}

/// Where a command of the shell puts what it is given.
///
/// # Errors
/// "not simulated" for all but a few.
pub(crate) fn sink_of(command: &str, host: &Host) -> Result<Sink, QmpError> {
    let command = command.trim();
    if ends_at_once(command) {
        return Ok(Sink::Broken);
    }
    let first = command.split(';').next().unwrap_or_default().trim();
    match first.strip_prefix("cat").map(str::trim_start).and_then(|rest| rest.strip_prefix('>')) {
        Some(path) => Ok(match path.trim() {
            "/dev/null" => Sink::Nowhere,
            "/dev/full" => Sink::Broken,
            path if host.can_create(path.into()) => Sink::PipedFile(path.into()),
            _ => Sink::Broken,
        }),
        None => Err(not_simulated(&format!("the command `{command}`"))),
    }
}

/// What a command of the shell gives out.
///
/// # Errors
/// "not simulated" for all but a few.
pub(crate) fn source_of(command: &str, host: &Host) -> Result<Source, QmpError> {
    let command = command.trim();
    if ends_at_once(command) {
        return Ok(Source::Nothing);
    }
    match command.strip_prefix("cat ") {
        Some(path) => {
            let path = Utf8PathBuf::from(path.trim_start_matches(['<', ' ']).trim());
            Ok(if host.exists(&path) { Source::File(path, 0) } else { Source::Nothing })
        }
        None => Err(not_simulated(&format!("the command `{command}`"))),
    }
}

impl Sink {
    /// Makes the file that the bytes go to, so that it is there before they are. Nothing may be done about a failure:
    /// [`Sink::write`] fails then.
    pub(crate) fn open(&self, host: &mut Host) {
        if let Sink::File(path, at) = self {
            let _ = host.create(path, Image::raw(*at));
        } else if let Sink::PipedFile(path) = self {
            let _ = host.create(path, Image::raw(0));
        }
    }

    /// Writes a machine's state.
    ///
    /// # Errors
    /// As `query-migrate` gives it as the reason of a failure.
    pub(crate) fn write(&self, mut state: MachineState, host: &mut Host) -> Result<(), String> {
        const BROKEN_PIPE: &str = "Unable to write to command: Broken pipe";
        let (path, error) = match self {
            Sink::Nowhere => return Ok(()),
            Sink::Broken => return Err(BROKEN_PIPE.into()),
            Sink::File(path, at) => {
                state.at = *at;
                (path, "Unable to write to file: No space left on device")
            }
            Sink::PipedFile(path) => (path, BROKEN_PIPE),
        };
        if host.is_full(path) {
            return Err(error.into());
        }
        host.create(path, Image::MachineState(state)).map_err(|_| error.into())
    }
}
