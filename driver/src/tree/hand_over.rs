//! The records of a machine's snapshots go where the machine has gone.
//!
//! ```text
//! records here + records there -> checked -> [written there] -> [removed here, what descends first]
//! ```
//!
//! What libvirt leaves to its caller when a machine with snapshots is to migrate: hand each record in on the destination,
//! parents first, then remove the records alone on the source. A hand-over that was broken off is done again: what is there
//! already, as it is here, is passed over.
//!
//! It moves no image: the machine's have gone with it, or both hosts have them. A machine with a `<transient/>` disk has not moved:
//! what its guest has written there is in an overlay, which nobody has.
//!
//! Source: libvirt's `qemuMigrationSrcIsAllowed`.

use super::{BadRedefinition, SnapshotTree};
use crate::{
    domain_snapshot::DomainSnapshot,
    domain_xml::{Disk, DomainXml},
    error::Code,
};

/// Why records are not handed over. Nothing was changed, here or there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHandOver {
    /// What the guest has written to a disk is in an overlay that goes with the machine.
    #[error(
        "a machine with a <transient/> disk does not migrate: what was written to `{0}` would stay behind, in an overlay that goes \
         with the machine"
    )]
    TransientDisk(String),
    /// A deletion has not ended, and is to be ended where it was begun.
    #[error(
        "a deletion of a snapshot above `{0}` was begun and has not ended: end it before its record goes"
    )]
    DeletionUnfinished(String),
    /// There is another snapshot of that name there.
    #[error("the destination has another snapshot `{0}`: it is not written over")]
    Other(String),
    /// A record may not stand there.
    #[error(transparent)]
    Redefinition(#[from] BadRedefinition),
}

impl BadHandOver {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            BadHandOver::TransientDisk(_) | BadHandOver::DeletionUnfinished(_) => Code::OperationInvalid,
            BadHandOver::Other(_) => Code::OperationFailed,
            BadHandOver::Redefinition(bad) => bad.code(),
        }
    }
}

impl SnapshotTree {
    /// These records with those of `source` among them, and the current one of there.
    ///
    /// # Errors
    /// [`BadHandOver`].
    pub fn take_over(&self, source: &SnapshotTree, uuid: Option<&str>) -> Result<Self, BadHandOver> {
        let mut taken = self.clone();
        let mut is_new = false;
        for name in source.topological() {
            let record = source.get(name).expect("a tree knows what it lists");
            if record.disks.iter().chain(&record.revert_disks).any(|disk| disk.delete_in_progress) {
                return Err(BadHandOver::DeletionUnfinished(name.to_owned()));
            }
            match taken.get(name) {
                Some(known) if same(known, record) => {}
                Some(_) => return Err(BadHandOver::Other(name.to_owned())),
                None => {
                    is_new = true;
                    taken.redefine(record.clone(), uuid, false)?;
                }
            }
        }
        // Where all were there already, only their removal was broken off: then what is current here has lost its record.
        if (is_new || taken.current().is_none()) && source.current().is_some() {
            taken.set_current(source.current());
        }
        Ok(taken)
    }
}

/// Whether the machine can have moved at all.
///
/// # Errors
/// [`BadHandOver::TransientDisk`].
pub fn check_moves(domain: &DomainXml) -> Result<(), BadHandOver> {
    let transient = domain.disks().find(Disk::transient);
    transient.map_or(Ok(()), |disk| Err(BadHandOver::TransientDisk(disk.target.to_owned())))
}

/// Whether two records say the same, but for which is the current one.
fn same(one: &DomainSnapshot, other: &DomainSnapshot) -> bool {
    let without = |record: &DomainSnapshot| DomainSnapshot { active: None, ..record.clone() };
    without(one) == without(other)
}
