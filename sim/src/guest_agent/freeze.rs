//! `guest-fsfreeze-freeze`, `-freeze-list`, `-thaw` and `-status`.
//!
//! ```text
//!   freeze: hook -- fails --> error, nothing frozen, no hook for the thaw
//!             \--> each file system, last mounted first -- one refuses --> all thawed, thaw hook, error
//!                     \--> how many; none at all: not frozen after all, and no hook for the thaw
//!   thaw:   each file system, whoever froze it --> not frozen --> hook -- fails --> error, though all is thawed
//! ```
//! A file system that is frozen already is passed over and not counted. A mount point that is not there, or is written
//! otherwise, is passed over too. Windows lets its writers go ten seconds after the freeze; the agent notices at the
//! thaw.

use std::time::Duration;

use crate::{
    Release,
    guest::FileSystem,
    machine::agent::{Hook, System},
    qemu::{Context, QmpError, Timer},
};

/// How long VSS holds writers.
const VSS_HOLDS: Duration = Duration::from_secs(10);

/// What the agent believes of the freeze.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Freezer {
    frozen: bool,
    /// It has frozen once: in some releases that shows in later errors.
    pub(super) has_frozen: bool,
    windows: bool,
    /// How often it has frozen, to know the freeze that a timer is for.
    freezes: u64,
    /// VSS has let the writers go since the freeze.
    let_go: bool,
}

/// What a freeze is of.
pub(super) struct Freeze<'a> {
    pub(super) release: Release,
    pub(super) hook: Option<Hook>,
    /// These mount points alone.
    pub(super) wanted: Option<Vec<&'a str>>,
}

impl Freeze<'_> {
    fn wants(&self, known: &FileSystem) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&known.mountpoint.as_str()))
    }
}

impl Freezer {
    pub(super) fn new(windows: bool) -> Self {
        Self { windows, ..Self::default() }
    }

    pub(super) fn system(&self) -> System {
        if self.windows { System::Windows } else { System::Linux }
    }

    pub(super) fn frozen(&self) -> bool {
        self.frozen
    }

    pub(super) fn status(&self) -> &'static str {
        if self.frozen { "frozen" } else { "thawed" }
    }

    /// A new process: it finds its state file, or does not.
    pub(super) fn restart(&mut self, with_state_file: bool) {
        self.frozen &= with_state_file;
        self.has_frozen = self.frozen;
    }

    /// Whether VSS lets go: that freeze still stands.
    pub(super) fn let_writers_go(&mut self, freeze: u64) -> bool {
        let stands = self.frozen && self.freezes == freeze;
        self.let_go |= stands;
        stands
    }

    /// Freezes; returns how many file systems it has frozen.
    pub(super) fn freeze(
        &mut self,
        freeze: &Freeze<'_>,
        file_systems: &mut [FileSystem],
        cx: &mut Context<'_>,
    ) -> Result<u64, QmpError> {
        run(freeze.release, freeze.hook.map(|hook| hook.freeze.status))?;
        (self.frozen, self.has_frozen, self.let_go) = (true, true, false);
        let mut count = 0;
        let mut refused = None;
        for known in file_systems.iter_mut().rev().filter(|known| freeze.wants(known)) {
            match &known.refuses {
                Some(why) => {
                    refused = Some(format!("failed to freeze {}: {why}", known.mountpoint));
                    break;
                }
                None if known.frozen => {}
                None => {
                    known.frozen = true;
                    count += 1;
                }
            }
        }
        if let Some(error) = refused {
            // That the thaw's hook may fail as well is told to nobody.
            let _ = self.thaw(freeze.release, freeze.hook, file_systems);
            return Err(QmpError::generic(error));
        }
        if count == 0 {
            self.frozen = false;
        } else if self.windows {
            self.freezes += 1;
            cx.schedule(VSS_HOLDS, Timer::WritersLetGo { freeze: self.freezes });
        }
        Ok(count)
    }

    /// Thaws; returns how many file systems it has thawed.
    pub(super) fn thaw(
        &mut self,
        release: Release,
        hook: Option<Hook>,
        file_systems: &mut [FileSystem],
    ) -> Result<u64, QmpError> {
        let mut count = 0;
        for known in file_systems.iter_mut().filter(|known| known.frozen) {
            known.frozen = false;
            count += 1;
        }
        self.frozen = false;
        if std::mem::take(&mut self.let_go) {
            return Err(QmpError::generic("couldn't hold writes: fsfreeze is limited up to 10 seconds"));
        }
        run(release, hook.map(|hook| hook.thaw.status))?;
        Ok(count)
    }
}

/// Runs a script that ends with this status.
fn run(release: Release, status: Option<u8>) -> Result<(), QmpError> {
    match status {
        None | Some(0) => Ok(()),
        Some(status) => Err(release.hook_failed(status)),
    }
}
