//! Differences in the tree of objects, and in what is said of the machine.

use crate::Release;

impl Release {
    /// Whether files of sets that clients remove stay there until the guest runs.
    pub(crate) fn files_stay_while_the_guest_rests(self) -> bool {
        self <= Release::V7_2
    }

    /// Whether `qom-set` may give a disk another drive.
    pub(crate) fn disks_change_their_drive(self) -> bool {
        self >= Release::V7_2
    }

    /// Whether queries tell of memory that is shared, or reserved.
    pub(crate) fn memory_may_be_shared(self) -> bool {
        self >= Release::V7_2
    }

    /// Whether the human monitor shows how much disks have read and written in a table.
    pub(crate) fn block_statistics_are_tables(self) -> bool {
        self >= Release::V11_1
    }

    /// What the human monitor says where there is no such drive to commit.
    pub(crate) fn no_drive_to_commit(self, drive: &str) -> String {
        let error = if self >= Release::V11_1 { "Error: " } else { "" };
        format!("{error}Device '{drive}' not found\r\n")
    }

    /// Whether monitors are among the objects that can be made.
    pub(crate) fn monitors_are_objects(self) -> bool {
        self >= Release::V11_1
    }
}
