//! Whether a record that is handed in may stand in the tree; in libvirt's order of checks.

use std::collections::BTreeSet;

use super::SnapshotTree;
use crate::{
    domain_snapshot::{DomainSnapshot, State},
    domain_xml::{BadDomain, DomainXml},
    error::Code,
};

/// Why a record is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRedefinition {
    /// What it says of the machine is unreadable.
    #[error("the machine in snapshot `{name}` is unreadable: {why}")]
    Domain {
        /// The snapshot.
        name: String,
        /// Why, and where in the document.
        why: BadDomain,
    },
    /// It is its own parent.
    #[error("snapshot `{0}` cannot be its own parent")]
    OwnParent(String),
    /// Its parent is not there.
    #[error(
        "snapshot `{name}` says that its parent is `{parent}`, which does not exist; hand in the parent first"
    )]
    NoParent {
        /// The snapshot.
        name: String,
        /// What it says.
        parent: String,
    },
    /// Its parent descends from it.
    #[error("snapshot `{name}` cannot descend from `{parent}`, which descends from it")]
    Circle {
        /// The snapshot.
        name: String,
        /// What it says.
        parent: String,
    },
    /// It is asked to be of disks alone, and is not.
    #[error("snapshot `{0}` is to be of disks alone, but its state is not disk-snapshot")]
    NotDiskOnly(String),
    /// It is another machine's.
    #[error("snapshot `{name}` is of a machine with another UUID; this one's is {uuid}")]
    OtherMachine {
        /// The snapshot.
        name: String,
        /// The machine's UUID.
        uuid: String,
    },
    /// The one that it replaces was of a running machine, and it is not, or the other way round.
    #[error(
        "snapshot `{0}` cannot change between one of a running machine and one of a machine that was off"
    )]
    OnlineOffline(String),
    /// The one that it replaces was of disks alone, and it is not, or the other way round.
    #[error("snapshot `{0}` cannot change between one of disks alone and one of the whole machine")]
    DiskOnlyFull(String),
    /// The machine is built otherwise than in the one that it replaces.
    #[error("the machine of snapshot `{name}` is not the one that it had: {difference}")]
    MachineChanged {
        /// The snapshot.
        name: String,
        /// Where they differ.
        difference: String,
    },
    /// It tells of a disk that its machine does not have.
    #[error("snapshot `{name}` tells of disk `{disk}`, which its machine does not have")]
    NoSuchDisk {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
    },
    /// It tells of one disk twice.
    #[error("snapshot `{name}` tells of disk `{disk}` twice")]
    DiskTwice {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
    },
}

impl BadRedefinition {
    /// libvirt's name of this error.
    pub fn code(&self) -> Code {
        match self {
            BadRedefinition::Domain { why, .. } => why.why.code(),
            BadRedefinition::MachineChanged { .. }
            | BadRedefinition::NoSuchDisk { .. }
            | BadRedefinition::DiskTwice { .. } => Code::ConfigUnsupported,
            _ => Code::InvalidArg,
        }
    }
}

impl SnapshotTree {
    /// Puts a record that is handed in into its place; without a `<domain>` it keeps that of the one it replaces. The current
    /// snapshot stays the same.
    ///
    /// # Errors
    /// [`BadRedefinition`], the first that libvirt would find.
    pub fn redefine(
        &mut self,
        mut record: DomainSnapshot,
        uuid: Option<&str>,
        disk_only: bool,
    ) -> Result<(), BadRedefinition> {
        let name = record.name.clone().unwrap_or_default();
        let machine = match record.domain.clone().map(DomainXml::of).transpose() {
            Ok(machine) => machine,
            Err(why) => return Err(BadRedefinition::Domain { name, why }),
        };
        let theirs = machine.as_ref().and_then(DomainXml::uuid);
        self.check_parent(&name, record.parent.as_deref())?;
        if disk_only && record.state != Some(State::DiskSnapshot) {
            return Err(BadRedefinition::NotDiskOnly(name));
        }
        if let (Some(theirs), Some(ours)) = (theirs, uuid)
            && theirs != ours
        {
            return Err(BadRedefinition::OtherMachine { name, uuid: ours.into() });
        }
        if let Some(known) = self.get(&name) {
            if is_online(known) != is_online(&record) {
                return Err(BadRedefinition::OnlineOffline(name));
            }
            if (known.state == Some(State::DiskSnapshot)) != (record.state == Some(State::DiskSnapshot)) {
                return Err(BadRedefinition::DiskOnlyFull(name));
            }
            let before = known.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
            if let (Some(before), Some(machine)) = (before, &machine)
                && let Some(difference) = before.differs_from(machine)
            {
                return Err(BadRedefinition::MachineChanged { name, difference });
            }
            if record.domain.is_none() {
                record.domain.clone_from(&known.domain);
                record.storage.clone_from(&known.storage);
                record.quiesced.clone_from(&known.quiesced);
            }
        }
        if let Some(machine) = &machine {
            check_disks(&name, &record, machine)?;
        }
        self.insert(record);
        Ok(())
    }

    fn check_parent(&self, name: &str, parent: Option<&str>) -> Result<(), BadRedefinition> {
        let Some(parent) = parent else { return Ok(()) };
        if parent == name {
            return Err(BadRedefinition::OwnParent(name.into()));
        }
        if self.get(parent).is_none() {
            return Err(BadRedefinition::NoParent { name: name.into(), parent: parent.into() });
        }
        let mut at = Some(parent);
        while let Some(ancestor) = at {
            if ancestor == name {
                return Err(BadRedefinition::Circle { name: name.into(), parent: parent.into() });
            }
            at = self.get(ancestor).and_then(|snapshot| snapshot.parent.as_deref());
        }
        Ok(())
    }
}

/// Whether the disks that a record tells of are its machine's, each once.
fn check_disks(name: &str, record: &DomainSnapshot, machine: &DomainXml) -> Result<(), BadRedefinition> {
    let mut targets = BTreeSet::new();
    for disk in &record.disks {
        let (name, disk) = (name.to_owned(), disk.name.clone());
        let Some(known) = machine.disk(&disk) else {
            return Err(BadRedefinition::NoSuchDisk { name, disk });
        };
        if !targets.insert(known.target) {
            return Err(BadRedefinition::DiskTwice { name, disk });
        }
    }
    Ok(())
}

fn is_online(snapshot: &DomainSnapshot) -> bool {
    matches!(snapshot.state, Some(State::Running | State::Paused))
}
