//! Which of a guest's file systems a freeze must reach, and whether it has reached them.
//!
//! An agent on Linux goes through its mounts, freezes what it can, and returns how many it has frozen. What cannot be frozen it
//! passes over without a word, and what somebody else has frozen too: so the count is held against what is mounted, which is
//! asked while all else is made ready. One that is mounted twice is frozen once; one that is mounted read-only is frozen and
//! counted like any other. Windows freezes all of its volumes or fails, and counts what it never tells of: there is nothing to compare.
//!
//! Source: `build_fs_mount_list` and `qmp_guest_fsfreeze_do_freeze_list` in QEMU's `qga`, Linux's `ioctl_fsfreeze`; the agents
//! of four releases, asked.

use std::collections::BTreeMap;

use super::{AgentError, FileSystem, rest::systems};
use crate::words;

/// The types that Linux can freeze.
const FREEZABLE: [&str; 11] =
    ["bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "gfs2", "jfs", "nilfs2", "reiserfs", "xfs"];

/// What an agent says of a command that it does not know, or may not carry out.
const NOT_FOUND: &str = "CommandNotFound";

/// How much is told of the places where they are mounted, in characters.
const SHOWN: usize = 1000;

/// What a freeze must reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Freezable {
    /// Where each is mounted, in the guest's words: one place each.
    mounted: Vec<String>,
    /// Why that is not known.
    unasked: Option<String>,
    /// Whether the agent knows the question, and had no answer: another time it would have told of what is missing.
    unanswered: bool,
}

impl Freezable {
    /// Of these file systems.
    pub(super) fn of(file_systems: &[FileSystem]) -> Self {
        let freezable = file_systems.iter().filter(|known| FREEZABLE.contains(&&*known.kind));
        let mut by_device: BTreeMap<&str, &str> = BTreeMap::new();
        for known in freezable {
            by_device.entry(&known.name).or_insert(&known.mountpoint);
        }
        let mut mounted: Vec<_> = by_device.into_values().map(words::plain).collect();
        mounted.sort_unstable();
        Self { mounted, ..Self::default() }
    }

    /// Nobody knows: old agents and careful administrators have no such command.
    pub(super) fn unknown(why: &AgentError) -> Self {
        let unknown = matches!(why, AgentError::Failed { error, .. } if error.class == NOT_FOUND);
        Self { mounted: Vec::new(), unasked: Some(why.to_string()), unanswered: !unknown }
    }

    /// Whether nobody can say if these are all, though the agent could have been asked.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Whether a freeze of so many has reached each of them, and so found none that somebody else had frozen.
    pub(super) fn is_all(&self, frozen: u64) -> bool {
        frozen > 0 && self.mounted.len() as u64 == frozen
    }

    /// Why a freeze of so many may have left some out; none if it has reached all, as far as the agent can tell.
    pub(super) fn doubt(&self, frozen: u64) -> Option<String> {
        let unanswered = || self.unanswered.then(|| format!("{}{}", systems(frozen), self.remark()));
        self.beside(frozen).map(|(_, short)| short).or_else(unanswered)
    }

    /// How many were to be frozen beside these, and all in words; none if none were.
    pub(super) fn beside(&self, frozen: u64) -> Option<(u64, String)> {
        let all = self.mounted.len() as u64;
        let missing = all.checked_sub(frozen).filter(|missing| *missing > 0)?;
        let (found, were) = match frozen {
            0 => ("none".to_owned(), "was"),
            1 => ("only 1".to_owned(), "was"),
            more => (format!("only {more}"), "were"),
        };
        let of = format!("{} ({})", systems(all), words::cut(self.mounted.join(", "), SHOWN));
        Some((missing, format!("{found} of {of} {were} frozen")))
    }

    /// What is to be said of a guest of which nobody knows what it has mounted; nothing of any other.
    pub(super) fn remark(&self) -> String {
        let remark = |why| format!("; whether these are all could not be asked: {why}");
        self.unasked.as_ref().map(remark).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(file_systems: &[(&str, &str, &str)]) -> Freezable {
        let known = |(name, mountpoint, kind): &(&str, &str, &str)| FileSystem {
            name: (*name).to_owned(),
            mountpoint: (*mountpoint).to_owned(),
            kind: (*kind).to_owned(),
        };
        Freezable::of(&file_systems.iter().map(known).collect::<Vec<_>>())
    }

    #[test]
    fn what_was_not_frozen_is_told_with_all_the_places() {
        let two = mounted(&[("vdb1", "/data", "xfs"), ("vda2", "/", "ext4")]);
        let said = "only 1 of 2 file systems (/, /data) was frozen".to_owned();
        assert_eq!(two.beside(1), Some((1, said)));
        assert_eq!(two.beside(2), None);
        assert_eq!(two.doubt(0), Some("none of 2 file systems (/, /data) was frozen".to_owned()));
        assert_eq!((two.is_all(1), two.is_all(2), two.is_all(3)), (false, true, false));
        let hostile = mounted(&[("a", "/\n/x", "ext4"), ("b", "/b", "ext4")]).beside(1);
        assert_eq!(hostile.map(|found| found.1.contains('\n')), Some(false));
        let long = mounted(&[("a", &"/x".repeat(1 << 19), "ext4"), ("b", "/b", "ext4")]).beside(1);
        assert!(long.is_some_and(|found| found.1.len() < 1100), "all of it may be written down");
        assert_eq!(two.beside(3), None, "one was mounted since it was asked");
    }

    #[test]
    fn what_cannot_be_frozen_is_not_waited_for() {
        let server = mounted(&[
            ("vda2", "/", "ext4"),
            ("vda1", "/boot/efi", "vfat"),
            ("loop0", "/snap/core/1", "squashfs"),
            ("sr0", "/media/cd", "iso9660"),
        ]);
        assert_eq!(server.beside(1), None);
    }

    #[test]
    fn what_is_mounted_twice_is_frozen_once() {
        let subvolumes =
            mounted(&[("vda2", "/home", "btrfs"), ("vda2", "/", "btrfs"), ("vdb", "/srv", "ext4")]);
        assert_eq!(subvolumes.beside(2), None);
        assert!(subvolumes.beside(1).is_some());
    }

    #[test]
    fn windows_is_not_held_against_what_it_never_counts() {
        assert_eq!(
            mounted(&[(r"\\?\Volume{1}\", r"C:\", "NTFS"), (r"\\?\Volume{2}\", "", "NTFS")]).beside(1),
            None
        );
    }
}
