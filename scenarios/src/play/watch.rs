//! Who looks on while a scenario is played: the sweep and the search through all orders do, nobody else needs to.

use freezeframe_driver::{error::OperationError, report::Verdict};

use crate::transcript::Entry;

/// Looks on while a scenario is played. It is told of everything in order, and must not hold the world across a call.
pub trait Watch {
    /// Something was said or done.
    fn happened(&self, entry: &Entry);

    /// A step begins, counted from 0; for the first time, or once more.
    fn begins(&self, step: usize);

    /// What a driver has left that was killed was put right before the step that is going on, and this was told of it.
    fn recovered(&self, told: &Told);

    /// A step has ended, and this was told of it.
    fn ended(&self, step: usize, told: &Told) -> Next;

    /// What was left of a step at which the driver was killed was put right by a new one, and this was told of it.
    fn put_right(&self, step: usize, told: &Told) -> Next;
}

/// What comes behind a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next one.
    GoOn,
    /// The same once more, and nothing goes wrong any more.
    Again,
    /// A new driver puts right what the one before has left, and nothing goes wrong any more.
    Recover,
}

/// What was told of a step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How things stand, by what was told.
    pub stands: Stands,
    /// All the words.
    pub text: String,
    /// That the guest may stand frozen by it.
    pub frozen: bool,
    /// Of a snapshot that was taken, whether the guest had come to rest for it.
    pub quiesced: Option<Verdict>,
}

/// How things stand after a step, by what was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It was done.
    Done,
    /// It was not begun.
    Untouched,
    /// It failed, and everything is as it was before.
    AsBefore,
    /// QEMU is gone, and nothing is left behind.
    Gone,
    /// It failed, and what is left is named.
    Left,
    /// It was done, and what was not done behind it is named.
    Unfinished,
    /// Nobody knows whether it was done; what was kept is named.
    Unknown,
    /// A part of it was done, which is named, and the rest was not.
    Partly,
    /// The driver was killed at it: nobody tells anything.
    Killed,
    /// It says nothing of that: no operation of the driver's on snapshots of the machine, or one that failed without a word.
    Unsaid,
}

impl From<&OperationError> for Stands {
    fn from(error: &OperationError) -> Self {
        match error {
            OperationError::Refused(_)
            | OperationError::Unreachable(_)
            | OperationError::Unobserved(_)
            | OperationError::Held(_)
            | OperationError::Journal(_)
            | OperationError::Pending(_) => Stands::Untouched,
            OperationError::RolledBack { .. } => Stands::AsBefore,
            OperationError::MachineGone { .. } => Stands::Gone,
            OperationError::NotRolledBack { .. } => Stands::Left,
            OperationError::Unfinished { .. } => Stands::Unfinished,
            OperationError::Unknown { .. } => Stands::Unknown,
            OperationError::Partly { .. } => Stands::Partly,
        }
    }
}
