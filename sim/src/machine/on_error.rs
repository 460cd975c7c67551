//! What fails, and what is done about it.

/// An error of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    /// 28
    NoSpace,
    /// 5
    Io,
}

impl Errno {
    /// The error of that number; none for one that is not simulated.
    pub fn numbered(number: u64) -> Option<Self> {
        match number {
            5 => Some(Errno::Io),
            28 => Some(Errno::NoSpace),
            _ => None,
        }
    }

    /// The host's text for it.
    pub fn text(self) -> &'static str {
        match self {
            Errno::NoSpace => "No space left on device",
            Errno::Io => "Input/output error",
        }
    }

    /// QAPI's `BlockDeviceIoStatus` after it.
    pub(crate) fn io_status(self) -> &'static str {
        match self {
            Errno::NoSpace => "nospace",
            Errno::Io => "failed",
        }
    }
}

/// QAPI's `BlockdevOnError`, of a job or a disk's `werror`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The job fails; the guest is told.
    Report,
    /// It goes on.
    Ignore,
    /// `stop` if there was no space, else `report`. `auto` is the same.
    Enospc,
    /// The job rests, the guest is stopped; once resumed, what failed is tried again.
    Stop,
}

impl OnError {
    /// The policy of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "report" => Some(OnError::Report),
            "ignore" => Some(OnError::Ignore),
            "enospc" | "auto" => Some(OnError::Enospc),
            "stop" => Some(OnError::Stop),
            _ => None,
        }
    }

    /// What is done about an error: never [`OnError::Enospc`].
    pub fn action(self, errno: Errno) -> Self {
        match self {
            OnError::Enospc if errno == Errno::NoSpace => OnError::Stop,
            OnError::Enospc => OnError::Report,
            other => other,
        }
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            OnError::Report => "report",
            OnError::Ignore => "ignore",
            OnError::Enospc => "enospc",
            OnError::Stop => "stop",
        }
    }
}
