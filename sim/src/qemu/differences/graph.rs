//! The differences in the block graph: who may use a node beside whom, exports, bitmaps, reopening, throttling.

use crate::{
    Release,
    qemu::{
        QmpError,
        block::permissions::{Use, User},
    },
};

/// Two users of a node that do not get along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conflict<'a> {
    /// The node.
    pub(crate) node: &'a str,
    /// The user that does something.
    pub(crate) doer: Use<'a>,
    /// The user that does not bear it.
    pub(crate) other: Use<'a>,
    /// Whether it is the doer who was there before the other.
    pub(crate) doer_was_first: bool,
}

fn shown(user: Use<'_>, node: &str) -> String {
    let role = user.role;
    let name = match user.user {
        User::Node(name) => format!("node '{name}'"),
        User::Device(device) => format!("block device '{}'", device.qdev()),
        User::Job { kind, id } => format!("{kind} job '{id}'"),
        User::Unnamed => "an unnamed block device".into(),
    };
    format!("{name} (uses node '{node}' as '{role}' child)")
}

/// Why nothing is copied to a target of another size than its source.
pub(crate) const UNFIT_TARGET: &str = "Source and target image have different sizes";

/// Texts.
impl Release {
    /// Two users of one node that do not get along.
    pub(crate) fn conflict(self, conflict: Conflict<'_>) -> QmpError {
        let Conflict { node, doer, other, doer_was_first } = conflict;
        let what = doer.does.without(other.bears);
        QmpError::generic(match self {
            Release::V5_2 => {
                let (present, verb) = if doer_was_first { (doer, "uses") } else { (other, "does not allow") };
                let name = match present.user {
                    User::Node(name) => name.to_owned(),
                    User::Device(device) => device.qdev(),
                    User::Job { kind, id } => format!("{kind} job '{id}'"),
                    User::Unnamed => "a block device".into(),
                };
                format!("Conflicts with use by {name} as '{}', which {verb} '{what}' on {node}", present.role)
            }
            _ => format!(
                "Permission conflict on node '{node}': permissions '{what}' are both required by {} and unshared \
                 by {}.",
                shown(doer, node),
                shown(other, node)
            ),
        })
    }

    /// A job cannot put its filter in.
    pub(crate) fn cannot_put_filter_in(self, refused: QmpError) -> QmpError {
        match self {
            Release::V5_2 => refused,
            _ => QmpError::generic(format!("Could not create node: {}", refused.desc)),
        }
    }

    /// The filter of a backup is in, and does not get along with the other users of the source.
    pub(crate) fn cannot_limit_filter(self, refused: QmpError) -> QmpError {
        QmpError::generic(format!("Cannot set permissions for backup-top filter: {}", refused.desc))
    }

    /// A mirror that is to copy pieces of a size that is no power of two.
    pub(crate) fn granularity_no_power_of_two(self) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "Parameter 'granularity' expects power of 2",
            _ => "Parameter 'granularity' expects a power of 2",
        })
    }

    /// What the last event of a job says for a target of another size: `query-jobs` tells more in the oldest release.
    pub(crate) fn unfit_target_told(self) -> &'static str {
        match self {
            Release::V5_2 => "Invalid argument",
            _ => UNFIT_TARGET,
        }
    }

    /// A persistent bitmap to be removed from an image that cannot be written; told as with any other change before.
    pub(crate) fn no_write_access_to_remove(self, node: &str, bitmap: &str) -> Option<QmpError> {
        let text = || format!("Cannot remove persistent bitmap '{bitmap}': no write access to node '{node}'");
        (self >= Release::V11_1).then(|| QmpError::generic(text()))
    }

    /// A persistent bitmap to be added to an image that cannot be written: it would never be stored, and is taken before.
    pub(crate) fn no_write_access_to_add(self, node: &str) -> Option<QmpError> {
        let text = || format!("Cannot add a persistent bitmap to read-only or inactive node '{node}'");
        (self >= Release::V11_1).then(|| QmpError::generic(text()))
    }

    /// Two bitmaps to be merged, of nodes of different sizes in bytes.
    pub(crate) fn bitmaps_of_different_sizes(self, target: u64, source: u64) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "Bitmaps are incompatible and can't be merged".into(),
            _ => format!(
                "Bitmaps are of different sizes (destination size is {target}, source size is {source}) and can't be \
                 merged"
            ),
        })
    }

    /// A node that would be its own backing file after it was reopened.
    pub(crate) fn reopen_cycle(self, below: &str, node: &str) -> QmpError {
        let what = match self {
            Release::V5_2 => "file",
            _ => "child",
        };
        QmpError::generic(format!("Making '{below}' a backing {what} of '{node}' would create a cycle"))
    }

    /// A node to be reopened that is not named.
    pub(crate) fn no_name_to_reopen(self) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "Node name not specified",
            _ => "node-name not specified",
        })
    }

    /// A node to be reopened that is not there.
    pub(crate) fn no_node_to_reopen(self, name: &str) -> QmpError {
        match self {
            Release::V5_2 => QmpError::generic(format!("Cannot find node named '{name}'")),
            _ => self.node_not_found(name),
        }
    }

    /// A throttle group that something is in cannot be deleted.
    pub(crate) fn throttle_group_in_use(self, id: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V11_1 => format!("Cannot delete throttle group '{id}' with active references"),
            _ => format!("object '{id}' is in use, can not be deleted"),
        })
    }

    /// A node that may not be resized, and why.
    pub(crate) fn cannot_resize(self, device: Option<&str>, busy: QmpError) -> QmpError {
        if self >= Release::V10_0 {
            return busy;
        }
        QmpError::generic(format!("Device '{}' is in use", device.unwrap_or("(null)")))
    }
}

/// Order.
impl Release {
    /// Each user of a node is held against the new one in both ways before the next; later all in one way come first.
    pub(crate) fn users_are_checked_one_by_one(self) -> bool {
        self == Release::V5_2
    }

    /// An export that is deleted is gone before the reply to the command.
    pub(crate) fn exports_go_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// `nbd-server-stop` and `quit` end the newest export first, not the oldest.
    pub(crate) fn newest_export_goes_first(self) -> bool {
        self >= Release::V10_0
    }

    /// A node that is written is not reopened for reading only; told before other users are looked at.
    pub(crate) fn reopen_looks_for_writers_first(self) -> bool {
        self == Release::V5_2
    }

    /// Of several nodes that are reopened the last is held against its users first.
    pub(crate) fn last_node_to_reopen_is_checked_first(self) -> bool {
        self == Release::V7_2
    }

    /// The human monitor's snapshots are of nodes too that nothing uses: of those alone that a client has added later than
    /// the last one that is used. A defect: the search goes on from there and not from the first.
    pub(crate) fn unused_nodes_are_looked_for_behind_the_last_used(self) -> bool {
        self == Release::V10_0
    }

    /// What a reopen has said of the backing node has to be said at the next one too.
    pub(crate) fn reopen_forgets_no_backing(self) -> bool {
        self == Release::V5_2
    }

    /// Of a node's children the backing file, which came last, is held against its users first, with all below it; not each
    /// node once all above it are done.
    pub(crate) fn each_child_is_checked_with_all_below_it(self) -> bool {
        self == Release::V5_2
    }

    /// A backup looks at who else uses its source before it looks at its target, and does both before it has a job.
    pub(crate) fn backups_check_their_source_first(self) -> bool {
        self == Release::V5_2
    }

    /// The filter of a mirror lets others do to the source what they like, whatever its own users bear.
    pub(crate) fn mirrors_bear_whatever_is_done(self) -> bool {
        self == Release::V5_2
    }

    /// A reopened node stays on the node that it stands on.
    pub(crate) fn reopen_keeps_the_file(self) -> bool {
        self == Release::V5_2
    }

    /// A backup or a stream with nothing to copy has ended before the reply to the command.
    pub(crate) fn empty_jobs_end_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// A node that was streamed into may be written from then on, even if it could only be read before.
    pub(crate) fn streamed_nodes_stay_writable(self) -> bool {
        self >= Release::V10_0
    }

    /// So may the base of an active commit that has failed, or was cancelled before it was ready or by force.
    pub(crate) fn bases_of_failed_commits_stay_writable(self) -> bool {
        self <= Release::V7_2
    }

    /// A block job has a backend of its own on the node that it works on.
    pub(crate) fn jobs_hold_backends(self) -> bool {
        self == Release::V5_2
    }

    /// A node that is named twice by one reopen, whatever becomes of that, is drained once more than it is let go. A defect.
    pub(crate) fn reopen_leaves_drained_what_is_named_twice(self) -> bool {
        self == Release::V10_0
    }

    /// A bitmap that cannot be changed can be removed, if its image can be written.
    pub(crate) fn read_only_bitmaps_can_be_removed(self) -> bool {
        self >= Release::V11_1
    }

    /// A node that passes on what is done to it does not notice that what is below it was resized by itself.
    pub(crate) fn resizes_below_go_unnoticed(self) -> bool {
        self == Release::V10_0
    }

    /// A `drive-backup` that cannot make or open its target leaves its disk drained for ever.
    pub(crate) fn failed_drive_backups_leave_the_disk_drained(self) -> bool {
        self == Release::V5_2
    }

    /// The filter of a stream that has concluded has lost the node below it until the job is dismissed: QEMU ends by a
    /// signal when it is asked for its nodes.
    pub(crate) fn filters_left_behind_are_torn_off(self) -> bool {
        self == Release::V7_2
    }

    /// An object is made of whatever was said: what it needs and knows is looked at one by one.
    pub(crate) fn objects_are_made_of_anything(self) -> bool {
        self == Release::V5_2
    }

    /// An object's id is an identifier.
    pub(crate) fn objects_need_identifiers(self) -> bool {
        self >= Release::V7_2
    }
}

/// Mirrors.
impl Release {
    /// `replaces` names no node.
    pub(crate) fn no_node_to_replace(self, name: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Node name '{name}' not found"),
            _ => format!("Failed to find node with node-name='{name}'"),
        })
    }
}

/// Shape of replies.
impl Release {
    /// A bitmap has `status`, and is shown with its device too.
    pub(crate) fn bitmaps_have_status(self) -> bool {
        self == Release::V5_2
    }

    /// Jobs keep the bitmap of what they have still to copy in their filter, else in their source.
    pub(crate) fn jobs_keep_bitmaps_in_their_filters(self) -> bool {
        self >= Release::V10_0
    }

    /// The filter of a backup keeps what was overwritten, and what may be read.
    pub(crate) fn filters_of_backups_keep_bitmaps(self) -> bool {
        self >= Release::V7_2
    }

    /// `query-blockstats` tells that devices count requests that fail or are invalid, those of `-drive` always.
    pub(crate) fn devices_account_what_fails(self) -> bool {
        self >= Release::V7_2
    }

    /// `query-blockstats` counts appends to zones.
    pub(crate) fn accounts_have_zone_append(self) -> bool {
        self >= Release::V10_0
    }

    /// By how much an I/O thread polls longer or shorter each time.
    pub(crate) fn iothread_polling_factor(self) -> u64 {
        if self >= Release::V11_1 { 2 } else { 0 }
    }

    /// `query-iothreads` has `aio-max-batch`.
    pub(crate) fn iothreads_have_batches(self) -> bool {
        self >= Release::V7_2
    }

    /// `query-iothreads` has `poll-weight`.
    pub(crate) fn iothreads_have_poll_weight(self) -> bool {
        self >= Release::V11_1
    }
}
