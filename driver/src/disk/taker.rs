//! Whoever takes snapshots of disks, as its user sees it: the same questions to a storage and to QEMU.

use super::{Ask, DiskError, Taken, export::Readable};
use crate::{agent::Guard, name::SnapshotName, plan::Plan, request::Quiesce, storage::Snapshot};

/// Takes snapshots of the disks that it was made for: [`Disks`](super::Disks) by the storage below them,
/// [`QemuDisks`](super::QemuDisks) by QEMU.
#[allow(async_fn_in_trait, reason = "one thread: no caller wants a Send bound")]
pub trait Taker {
    /// The snapshots that there are of all of them, and of nothing else.
    ///
    /// # Errors
    /// [`DiskError`].
    async fn list(&self) -> Result<Vec<Snapshot>, DiskError>;

    /// Plans it and does nothing.
    ///
    /// # Errors
    /// [`DiskError`].
    async fn plan(&self, ask: &Ask) -> Result<Plan, DiskError>;

    /// Plans it and carries it out.
    ///
    /// # Errors
    /// [`DiskError`]; it says how things stand now.
    async fn perform(&self, ask: &Ask) -> Result<(), DiskError>;

    /// Takes a snapshot of them at one point in time.
    ///
    /// # Errors
    /// [`DiskError`]; it says how things stand now.
    async fn snapshot(&self, name: &SnapshotName, quiesce: Quiesce) -> Result<Taken, DiskError>;

    /// What a backup can read of a snapshot.
    ///
    /// # Errors
    /// [`DiskError`]: there is none of that name, it is of others, or it is shown to nobody.
    async fn readable(&self, name: &SnapshotName) -> Result<Vec<Readable>, DiskError>;

    /// Who lets the guest go should this driver die while a snapshot has it frozen; and whether one has.
    fn guard(&self) -> Guard;
}
