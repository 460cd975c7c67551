//! Why a `<domainsnapshot>` is refused.

use camino::Utf8PathBuf;

use crate::{error::Code, xml};

/// A definition that is refused, and where in the document that shows. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct BadDefinition {
    /// Where; the root's place if something is missing from it.
    pub at: xml::Position,
    /// Why.
    pub why: Why,
}

/// Why a definition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is no XML, or too large.
    #[error(transparent)]
    Xml(xml::Why),
    /// Another document.
    #[error("the root element is `<{0}>`; a snapshot is described by `<domainsnapshot>`")]
    Root(String),
    /// What can be said once is said again.
    #[error(
        "a second `<{part}>` in `<{whole}>`, which has one at the most: which of them is meant is not known"
    )]
    Twice {
        /// What is said.
        part: String,
        /// Where.
        whole: String,
    },
    /// A record without a name.
    #[error("the snapshot has no `<name>`; a record that is handed in must have one")]
    NoName,
    /// A record that does not say when it was taken.
    #[error("no `<creationTime>` in seconds since 1970: an existing snapshot must say when it was taken")]
    NoCreationTime,
    /// A record that does not say what the machine did.
    #[error("no `<state>`: an existing snapshot must say what the machine did when it was taken")]
    NoState,
    /// Not one of [`super::State`].
    #[error(
        "`{0}` is no state of a snapshot; there are nostate, running, blocked, paused, shutdown, shutoff, crashed, pmsuspended and disk-snapshot"
    )]
    UnknownState(String),
    /// Not one of [`super::Location`].
    #[error("`{0}` is no place for the memory; there are no, internal and external")]
    UnknownMemory(String),
    /// The memory cannot be left to the caller.
    #[error("the memory cannot be `manual`: nobody but QEMU can save it; use internal, external or no")]
    ManualMemory,
    /// A file for memory that goes into none.
    #[error(
        "the memory's file `{0}` is for an external snapshot only; set snapshot='external' or leave the file out"
    )]
    MemoryFileUnused(String),
    /// External memory without a file.
    #[error("external memory needs a file: <memory snapshot='external' file='...'/>")]
    NoMemoryFile,
    /// Memory of a machine that is off, or of a snapshot of disks alone.
    #[error(
        "there is no memory to save: the machine is off or only its disks are taken; set <memory snapshot='no'/>"
    )]
    MemoryWithoutMachine,
    /// A path that depends on where somebody stands.
    #[error("the memory's file `{0}` must be an absolute path")]
    RelativeMemoryFile(Utf8PathBuf),
    /// A disk without a name.
    #[error("a `<disk>` has no name: name='vda'")]
    NoDiskName,
    /// Not one of [`super::Location`].
    #[error("`{0}` is no place for a disk's snapshot; there are no, internal, external and manual")]
    UnknownLocation(String),
    /// libvirt knows it, but not for an overlay.
    #[error("an overlay cannot be of type `{0}`; use file, block or network")]
    SourceTypeUnsupported(String),
    /// Not one of [`super::SourceType`].
    #[error("`{0}` is no type of a disk")]
    UnknownSourceType(String),
    /// Not a format of images.
    #[error("`{0}` is no format of an image")]
    UnknownFormat(String),
    /// A path that depends on where somebody stands.
    #[error("the overlay's path `{0}` must be absolute")]
    RelativePath(Utf8PathBuf),
    /// A record that does not say whether it is current.
    #[error("no `<active>` with 0 or 1: the record must say whether it is the current snapshot")]
    NoActive,
}

impl Why {
    /// libvirt's name of this error.
    pub fn code(&self) -> Code {
        match self {
            Why::NoCreationTime | Why::NoDiskName | Why::NoActive => Code::InternalError,
            Why::UnknownState(_) | Why::UnknownFormat(_) => Code::ConfigUnsupported,
            _ => Code::XmlError,
        }
    }
}

impl From<xml::Unreadable> for BadDefinition {
    fn from(error: xml::Unreadable) -> Self {
        Self { at: error.at, why: Why::Xml(error.why) }
    }
}
