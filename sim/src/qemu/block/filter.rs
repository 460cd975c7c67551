//! Filters, which pass requests on to the node below them, and the null drivers, which have none below them.
//!
//! Neither slows down, copies, allocates or loses anything here: they are opened, used, and shown by queries.

use super::{Driver, Graph, job_filter::JobFilter};
use crate::qemu::{QmpError, arguments::Arguments};

/// What a filter does with requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// `throttle`: holds its users to the limits of a group.
    Throttle {
        /// The group.
        group: String,
    },
    /// `copy-on-read`: writes what was read from further below.
    CopyOnRead,
    /// `preallocate`: makes the file longer ahead of time.
    Preallocate,
    /// Put in by a block job while it works.
    OfJob(JobFilter),
}

/// `null-co` and `null-aio`: take all that is written and keep nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Null {
    /// Whether it is `null-aio`.
    pub asynchronous: bool,
    /// Bytes, if they were stated.
    pub size: Option<u64>,
    /// Whether reads find zeroes, if that was stated.
    pub read_zeroes: Option<bool>,
}

impl Filter {
    /// The filter that options ask for; none for another driver.
    ///
    /// # Errors
    /// A throttle group that is not there.
    pub(crate) fn of(graph: &Graph, options: Arguments<'_>) -> Result<Option<Self>, QmpError> {
        Ok(match options.text("driver") {
            "throttle" => {
                let group = options.text("throttle-group");
                if !graph.has_throttle_group(group) {
                    return Err(QmpError::generic(format!("Throttle group '{group}' does not exist")));
                }
                Some(Filter::Throttle { group: group.into() })
            }
            "copy-on-read" => Some(Filter::CopyOnRead),
            "preallocate" => Some(Filter::Preallocate),
            _ => None,
        })
    }

    /// The driver's name.
    pub fn driver(&self) -> &'static str {
        match self {
            Filter::Throttle { .. } => "throttle",
            Filter::CopyOnRead => "copy-on-read",
            Filter::Preallocate => "preallocate",
            Filter::OfJob(filter) => filter.driver.name(),
        }
    }
}

impl Null {
    /// The size in bytes that is taken if none is stated: 1 GiB.
    const SIZE: u64 = 1 << 30;

    /// The node that options ask for.
    pub(crate) fn of(options: Arguments<'_>) -> Driver {
        Driver::Null(Null {
            asynchronous: options.text("driver") == "null-aio",
            size: options.0.get("size").and_then(serde_json::Value::as_u64),
            read_zeroes: options.0.get("read-zeroes").and_then(serde_json::Value::as_bool),
        })
    }

    /// The driver's name.
    pub fn driver(&self) -> &'static str {
        if self.asynchronous { "null-aio" } else { "null-co" }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size.unwrap_or(Self::SIZE)
    }

    /// The name that stands for it; none if only a description does.
    pub(crate) fn filename(&self) -> Option<String> {
        let plain = self.size.is_none() && self.read_zeroes.is_none();
        plain.then(|| format!("{}://", self.driver()))
    }
}
