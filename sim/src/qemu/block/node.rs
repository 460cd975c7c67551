//! A node of the block graph, and the block drivers that are simulated.

use camino::Utf8Path;

use super::{
    blkdebug,
    filter::{Filter, Null},
};
use crate::host::Host;

/// A node of the block graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its `node-name`.
    pub name: String,
    /// What it does with its children.
    pub driver: Driver,
    /// Whether it was opened, or reopened, for reading only.
    pub read_only: bool,
    /// Whether a client added it by its own name. Any other goes when nothing uses it any more.
    pub owned_by_monitor: bool,
    /// How it treats what passes through it.
    pub caching: Caching,
}

/// How a node treats what passes through it. Nothing is cached here: queries show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caching {
    /// It goes past the host's page cache.
    pub direct: bool,
    /// It ignores that data are to be flushed.
    pub no_flush: bool,
    /// What becomes of zeroes that are written.
    pub detect_zeroes: DetectZeroes,
    /// Whatever is given back to the host is so in whole clusters, as is right for the image that was below it when it was
    /// opened.
    pub whole_clusters: bool,
}

/// What becomes of zeroes that are written, by QAPI's `BlockdevDetectZeroesOptions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// They are written.
    #[default]
    Off,
    /// The node is told that they are zeroes.
    On,
    /// They are given back to the host.
    Unmap,
}

impl DetectZeroes {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            DetectZeroes::Off => "off",
            DetectZeroes::On => "on",
            DetectZeroes::Unmap => "unmap",
        }
    }
}

/// The block drivers that are simulated, with their children by node name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// Protocol: a file of the host, or a device.
    File {
        /// As it was given.
        filename: String,
        /// Whether it keeps others from opening the file.
        locking: bool,
        /// How long it takes the file for, in bytes: what somebody else does to it is not noticed. None while it is as
        /// long as the file.
        length: Option<u64>,
    },
    /// Filter: lets requests to what is below it fail.
    Blkdebug {
        /// The protocol node.
        image: String,
        /// When they fail.
        rules: blkdebug::Blkdebug,
    },
    /// Filter: passes requests on.
    Filter {
        /// What it does with them.
        filter: Filter,
        /// The node below it.
        file: String,
    },
    /// Protocol: holds nothing.
    Null(Null),
    /// Format: the file as it is.
    Raw {
        /// The protocol node.
        file: String,
    },
    /// Format: a qcow2 image.
    Qcow2 {
        /// The protocol node.
        file: String,
        /// The node that holds what this one does not; none if there is none, or if the header's was suppressed.
        backing: Option<String>,
    },
}

impl Driver {
    /// Whether it passes on what its users do as they do it.
    pub(crate) fn passes_on(&self) -> bool {
        matches!(self, Driver::Raw { .. } | Driver::Blkdebug { .. } | Driver::Filter { .. })
    }

    /// The child whose content a node shows where it has none of its own: that of a filter, or `backing`.
    pub(crate) fn filtered_or_backing(&self) -> Option<&str> {
        match self {
            Driver::Blkdebug { image: file, .. } | Driver::Filter { file, .. } => Some(file),
            other => other.backing(),
        }
    }

    /// Stands on another node where it stood on this one.
    pub(super) fn replace_child(&mut self, child: &str, by: &str) {
        let (file, backing) = match self {
            Driver::File { .. } | Driver::Null(_) => (None, None),
            Driver::Raw { file } | Driver::Blkdebug { image: file, .. } | Driver::Filter { file, .. } => {
                (Some(file), None)
            }
            Driver::Qcow2 { file, backing } => (Some(file), backing.as_mut()),
        };
        for name in file.into_iter().chain(backing).filter(|name| *name == child) {
            *name = by.into();
        }
    }

    /// The driver's name.
    pub fn name(&self) -> &'static str {
        match self {
            Driver::File { filename, .. } if Host::is_device(Utf8Path::new(filename)) => "host_device",
            Driver::File { .. } => "file",
            Driver::Blkdebug { .. } => "blkdebug",
            Driver::Filter { filter, .. } => filter.driver(),
            Driver::Null(null) => null.driver(),
            Driver::Raw { .. } => "raw",
            Driver::Qcow2 { .. } => "qcow2",
        }
    }

    /// The child that its own data is in: `file`, or `image` of `blkdebug`.
    pub fn file(&self) -> Option<&str> {
        match self {
            Driver::File { .. } | Driver::Null(_) => None,
            Driver::Blkdebug { image, .. } => Some(image),
            Driver::Filter { file, .. } | Driver::Raw { file } | Driver::Qcow2 { file, .. } => Some(file),
        }
    }

    /// What the child is to it that its own data is in.
    pub(crate) fn file_role(&self) -> &'static str {
        match self {
            Driver::Blkdebug { .. } => "image",
            other => other.job_filter().map_or("file", |(filter, _)| filter.driver.role()),
        }
    }

    /// All children.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.file().into_iter().chain(self.backing())
    }

    /// The `backing` child.
    pub fn backing(&self) -> Option<&str> {
        match self {
            Driver::Qcow2 { backing, .. } => backing.as_deref(),
            _ => None,
        }
    }
}
