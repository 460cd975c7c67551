//! A program of the real host with all that it has started in its process group: asked to end, killed, and looked for.
#![allow(
    clippy::disallowed_methods,
    reason = "the system's list of processes, which the rest of the driver is kept from"
)]

use std::fs;

use ::tokio::process::Child;
use rustix::process::{Pid, Signal, kill_process_group};

/// A program that runs. Nobody waits any more for one that is dropped, hears what it says, or could kill it later: one that acts is asked
/// to end, and goes on until it has, with the locks that it was given; another one is killed.
pub(super) struct Group {
    pub(super) leader: Child,
    pub(super) acts: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(if self.acts { Signal::TERM } else { Signal::KILL });
    }
}

impl Group {
    /// The number of the group; none once the program was waited for: it may be somebody else's then.
    fn number(&self) -> Option<Pid> {
        self.leader.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Sends a signal to all of the group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.number() {
            // It fails only for a group that is not there.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Whether anybody of the group lives: whoever has started others may be dead before them. Where the system does not tell, somebody may.
    pub(super) fn lives(&self) -> bool {
        let Some(group) = self.number().map(Pid::as_raw_nonzero) else { return false };
        let lives = |process: &str| {
            let told = fs::read_to_string(format!("/proc/{process}/stat")).ok();
            told.as_deref().and_then(living_in) == Some(group.get())
        };
        // Mostly it is the first, and nobody else has to be looked at.
        lives(&group.to_string())
            || fs::read_dir("/proc").map_or(true, |processes| {
                let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
                let mut names = processes.flatten().filter_map(name);
                names.any(|name| name.starts_with(|first: char| first.is_ascii_digit()) && lives(&name))
            })
    }
}

/// The process group of a process that lives, as `/proc/PID/stat` tells it: `PID (NAME) STATE PARENT GROUP ...`, where the name may hold
/// anything. One that is dead and was not waited for stays there as a zombie, for ever where nobody does.
fn living_in(stat: &str) -> Option<i32> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut words = behind_name.split(' ');
    let is_dead = ["Z", "X"].contains(&words.next()?);
    let group = words.nth(1)?.parse().ok()?;
    (!is_dead).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_process_is_read_behind_its_name() {
        assert_eq!(living_in("12 (sh) S 1 12 12 0 -1\n"), Some(12));
        assert_eq!(living_in("13 (a) Z 1 99) R 1 12 12 0 -1\n"), Some(12), "the name is `a) Z 1 99`");
    }

    #[test]
    fn a_zombie_does_not_live() {
        assert_eq!(living_in("12 (sh) Z 1 12 12 0 -1\n"), None);
    }
}
