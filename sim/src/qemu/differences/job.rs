//! The differences of jobs: when they start, rest and end, what they refuse, what they put into the graph.

use crate::{
    Release,
    qemu::{QmpError, block::job_filter::JobDriver},
};

/// What drains all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// The guest is about to be stopped.
    Stop,
    /// It was stopped, or had been.
    Stopped,
    /// It runs again.
    Cont,
    /// A transaction, an internal snapshot, a machine state that is saved or loaded.
    Transaction,
    /// An overlay is put on top.
    Overlay,
    /// An overlay is made and put on top.
    OverlayMade,
    /// A node that a job uses is to get an overlay.
    BelowOverlay,
    /// A node that was there before becomes the child of a new one.
    Attached,
    /// Likewise, and a job uses it.
    AttachedBelowJob,
    /// A node is taken out, or one that could not be opened.
    NodeGone,
    /// A node gets an export.
    Exported,
    /// A node loses an export.
    ExportGone,
    /// Likewise, and a job uses it.
    ExportOfJobGone,
    /// QEMU is about to end.
    Quit,
    /// The machine is reset, whose firmware had set up the disks.
    Reset,
    /// The machine is reset before its firmware has come to that.
    ResetAgain,
    /// The guest's firmware sets up the disks.
    Firmware,
}

/// How often jobs that sleep rest while a backup begins and ends beside them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    /// Before anything is looked at.
    pub(crate) at_once: usize,
    /// Before it is created.
    pub(crate) before: usize,
    /// Once over its creation.
    pub(crate) over_its_creation: bool,
    /// Before it runs.
    pub(crate) before_it_runs: usize,
    /// Before it has ended.
    pub(crate) before_its_end: usize,
    /// Behind its end.
    pub(crate) behind_it: usize,
}

impl Beside {
    /// Never.
    pub(crate) const NONE: Self = Self {
        at_once: 0,
        before: 0,
        over_its_creation: false,
        before_it_runs: 0,
        before_its_end: 0,
        behind_it: 0,
    };
}

/// Texts.
impl Release {
    /// An action of a transaction that cannot be in a group.
    pub(crate) fn not_in_a_group(self, action: &str) -> QmpError {
        let property = if self >= Release::V10_0 { "transaction" } else { "Transaction" };
        QmpError::generic(format!(
            "Action '{action}' does not support {property} property completion-mode = grouped"
        ))
    }

    /// `block-stream` down to a file that no layer has.
    pub(crate) fn no_base_of_that_file(self, file: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Base '{file}' not found"),
            _ => format!("Can't find '{file}' in the backing chain"),
        })
    }
}

/// Order.
impl Release {
    /// The filter of a mirror, and of an active commit, stays above the node that took the disk's place until the job that
    /// has concluded is dismissed.
    pub(crate) fn filters_of_mirrors_stay_until_dismissed(self) -> bool {
        self == Release::V5_2
    }

    /// While another job is at work, a `blockdev-create` that is refused may fail before or after the reply to the
    /// command: in about a tenth of the runs of 10.0 and 11.1, in none of 60 of 5.2 and 7.2.
    pub(crate) fn failing_create_races_its_reply(self) -> bool {
        self >= Release::V10_0
    }

    /// A `blockdev-create` that cannot open its file fails before the reply to the command.
    pub(crate) fn create_fails_on_open_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// A `blockdev-create` that is refused before any I/O fails before the reply to the command.
    pub(crate) fn create_fails_on_checks_before_the_reply(self) -> bool {
        self == Release::V7_2
    }

    /// A block job that sleeps pauses, or is cancelled, before the reply to the command.
    pub(crate) fn sleeping_jobs_act_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// How often a block job rests for a moment when all nodes are drained: usually, and at most. Probed with a backup
    /// and a mirror; the most with a guest whose firmware had set up its disks.
    pub(crate) fn rests(self, drain: Drain) -> (usize, usize) {
        let most = |of_7_2, of_10_0, of_11_1| match self {
            Release::V5_2 => 0,
            Release::V7_2 => of_7_2,
            Release::V10_0 => of_10_0,
            Release::V11_1 => of_11_1,
        };
        let (usual, most) = match drain {
            Drain::Stop => (0, most(0, 1, 3)),
            Drain::Cont => (0, most(0, 0, 2)),
            Drain::Stopped | Drain::Transaction => (1, 1),
            Drain::Overlay => (1, most(1, 3, 3)),
            Drain::OverlayMade => (1, most(1, 19, 19)),
            Drain::BelowOverlay => (1, 1),
            Drain::Attached => (most(0, 3, 3), most(0, 3, 3)),
            Drain::AttachedBelowJob => (2, 2),
            Drain::NodeGone => (most(0, 1, 1), most(0, 1, 1)),
            Drain::Exported | Drain::ExportGone => (most(0, 1, 1), most(0, 1, 1)),
            Drain::ExportOfJobGone => (most(2, 3, 3), most(2, 3, 3)),
            Drain::Quit => (0, most(0, 2, 4)),
            Drain::Reset => (most(1, 2, 4), most(1, 2, 4)),
            Drain::ResetAgain => (most(1, 1, 1), most(1, 1, 1)),
            // The oldest release lets jobs rest that do not sleep.
            Drain::Firmware if self == Release::V5_2 => return (0, 1),
            Drain::Firmware => (most(1, 1, 3), most(1, 1, 3)),
        };
        if self == Release::V5_2 { (0, 0) } else { (usual, most) }
    }

    /// How often jobs that sleep rest beside a backup.
    pub(crate) fn rests_beside_a_backup(self) -> Beside {
        let from_7_2 = Beside { at_once: 1, ..Beside::NONE };
        let from_10_0 = Beside { before: 4, before_it_runs: 1, before_its_end: 3, behind_it: 1, ..from_7_2 };
        match self {
            Release::V5_2 => Beside::NONE,
            Release::V7_2 => from_7_2,
            Release::V10_0 => from_10_0,
            Release::V11_1 => Beside { over_its_creation: true, ..from_10_0 },
        }
    }

    /// How often a job without a speed rests at most before a further backup is created, where it does: 58 of 60 runs of 5.2
    /// show it, 5 to 10 of the others.
    pub(crate) fn rests_before_another_begins(self) -> usize {
        if self >= Release::V10_0 { 2 } else { 1 }
    }

    /// A job ends in the middle of another's beginning or end. Seen with 10.0 and 11.1 alone.
    pub(crate) fn jobs_end_within_others(self) -> bool {
        self >= Release::V10_0
    }

    /// A job ends between the start of another and the reply to it. Seen with 7.2 alone.
    pub(crate) fn jobs_end_before_anothers_reply(self) -> bool {
        self == Release::V7_2
    }

    /// `block-stream` looks for its node before it looks at what else it is given.
    pub(crate) fn stream_looks_for_its_node_first(self) -> bool {
        self == Release::V5_2
    }

    /// A commit of the active layer that has nothing to copy may be ready before the reply to its command: in 10 to 45
    /// runs of 100, and in none of 20 of 5.2.
    pub(crate) fn commits_race_their_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// The other jobs of a group stop before the first of them concludes.
    pub(crate) fn cancelled_groups_stop_at_once(self) -> bool {
        self >= Release::V10_0
    }

    /// The jobs of a transaction are started in the order of its actions, else the last first.
    pub(crate) fn transactions_start_jobs_in_order(self) -> bool {
        self <= Release::V7_2
    }

    /// Whether all actions can be grouped is checked before any is begun.
    pub(crate) fn groups_are_checked_first(self) -> bool {
        self >= Release::V10_0
    }

    /// Jobs rest while `quit` cancels them.
    pub(crate) fn jobs_rest_before_the_end(self) -> bool {
        self >= Release::V7_2
    }

    /// `quit` lets a job that is in step with its source complete, but leaves its target to nobody.
    pub(crate) fn quit_completes_what_is_ready(self) -> bool {
        self == Release::V5_2
    }

    /// A block job that is given a higher speed wakes up and copies at once.
    pub(crate) fn a_higher_speed_wakes_a_job(self) -> bool {
        self <= Release::V7_2
    }

    /// A mirror of a whole disk counts only what was written, not what is empty, as its length.
    pub(crate) fn a_mirror_skips_what_is_empty(self) -> bool {
        self >= Release::V11_1
    }
}

/// Shape of replies.
impl Release {
    /// `query-block-jobs` has `actively-synced` for a mirror.
    pub(crate) fn mirrors_tell_whether_in_step(self) -> bool {
        self >= Release::V10_0
    }

    /// The driver of the filter that a backup puts in.
    pub(crate) fn filter_of_backups(self) -> JobDriver {
        match self {
            Release::V5_2 => JobDriver::BackupTop,
            _ => JobDriver::CopyBeforeWrite,
        }
    }

    /// A stream puts a filter in.
    pub(crate) fn streams_have_filters(self) -> bool {
        self != Release::V5_2
    }

    /// What a stream has copied outlives the process once the job has concluded, without a flush.
    pub(crate) fn streams_flush_what_they_copied(self) -> bool {
        self >= Release::V10_0
    }

    /// Bytes that a backup with a speed copies in one go.
    pub(crate) fn backup_chunk(self) -> u64 {
        match self {
            Release::V5_2 => 64 << 10,
            _ => 1 << 20,
        }
    }

    /// A backup has many requests under way at once.
    pub(crate) fn backups_copy_in_parallel(self) -> bool {
        self >= Release::V7_2
    }
}
