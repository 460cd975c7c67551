//! What a caller asks for.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{
    domain_snapshot::DomainSnapshot,
    error::{Refusal, RevertRefusal},
    name::SnapshotName,
    save_image::Format,
};

/// How long an operation may take if the caller does not say.
pub const WITHIN: Duration = Duration::from_secs(60);

/// One operation on snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take one.
    Create(Box<Create>),
    /// Put the machine back to one.
    Revert(Revert),
    /// Remove one.
    Delete(Delete),
}

impl Request {
    /// How long it may take until it succeeds or is given up; undoing comes on top.
    pub fn within(&self) -> Duration {
        match self {
            Request::Create(create) => create.within,
            Request::Revert(revert) => revert.within,
            Request::Delete(delete) => delete.within,
        }
    }
}

/// Takes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// What is wished, as `<domainsnapshot>` says it. What it leaves open is the machine's default ([`crate::align`]).
    pub wish: DomainSnapshot,
    /// How.
    pub flags: CreateFlags,
    /// The disk whose image takes the memory of an internal one; none means the first. libvirt has no word for it.
    pub vmstate: Option<String>,
    /// How the memory is laid out in a file of its own. libvirt has it in its configuration (`snapshot_image_format`).
    pub memory_format: Format,
    /// How long it may take.
    pub within: Duration,
}

/// One of libvirt's flags of `virDomainSnapshotCreateXML`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CreateFlag {
    /// Hand in the record of one that exists; no disk is touched.
    Redefine,
    /// The record becomes the current one. Only with `Redefine`.
    Current,
    /// Do the work and keep no record.
    NoMetadata,
    /// Stop the machine when it is taken.
    Halt,
    /// Of disks alone, without memory.
    DiskOnly,
    /// The overlays' files are there already.
    ReuseExternal,
    /// Bring the guest's file systems to rest first. Only with `DiskOnly`.
    Quiesce,
    /// All disks or none; it always is so.
    Atomic,
    /// Save the memory while the guest runs.
    Live,
    /// Hold the document against libvirt's schema.
    Validate,
}

/// A set of [`CreateFlag`]s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateFlags(BTreeSet<CreateFlag>);

impl CreateFlag {
    /// Every flag, in the order of libvirt's bits.
    pub const ALL: [CreateFlag; 10] = [
        CreateFlag::Redefine,
        CreateFlag::Current,
        CreateFlag::NoMetadata,
        CreateFlag::Halt,
        CreateFlag::DiskOnly,
        CreateFlag::ReuseExternal,
        CreateFlag::Quiesce,
        CreateFlag::Atomic,
        CreateFlag::Live,
        CreateFlag::Validate,
    ];

    /// As virsh's option is called: `"reuse-external"`.
    pub fn name(self) -> &'static str {
        match self {
            CreateFlag::Redefine => "redefine",
            CreateFlag::Current => "current",
            CreateFlag::NoMetadata => "no-metadata",
            CreateFlag::Halt => "halt",
            CreateFlag::DiskOnly => "disk-only",
            CreateFlag::ReuseExternal => "reuse-external",
            CreateFlag::Quiesce => "quiesce",
            CreateFlag::Atomic => "atomic",
            CreateFlag::Live => "live",
            CreateFlag::Validate => "validate",
        }
    }
}

impl fmt::Display for CreateFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromIterator<CreateFlag> for CreateFlags {
    fn from_iter<T: IntoIterator<Item = CreateFlag>>(flags: T) -> Self {
        Self(flags.into_iter().collect())
    }
}

impl CreateFlags {
    /// The flags, in the order of libvirt's bits.
    pub fn iter(&self) -> impl Iterator<Item = CreateFlag> {
        self.0.iter().copied()
    }

    /// Whether it is among them.
    pub fn has(&self, flag: CreateFlag) -> bool {
        self.0.contains(&flag)
    }

    /// Whether these go together, in libvirt's order of checks.
    ///
    /// # Errors
    /// [`Refusal::FlagsExclude`], [`Refusal::FlagNeeds`].
    pub fn check(&self) -> Result<(), Refusal> {
        use CreateFlag::{Current, DiskOnly, Halt, Live, NoMetadata, Quiesce, Redefine};
        let exclude = |one, other| match self.has(one) && self.has(other) {
            true => Err(Refusal::FlagsExclude(one, other)),
            false => Ok(()),
        };
        let needs = |flag, needed| match self.has(flag) && !self.has(needed) {
            true => Err(Refusal::FlagNeeds { flag, needed }),
            false => Ok(()),
        };
        needs(Current, Redefine)?;
        exclude(Redefine, NoMetadata)?;
        exclude(Redefine, Halt)?;
        needs(Quiesce, DiskOnly)?;
        exclude(Live, Redefine)
    }
}

/// Puts machine and disks back to a snapshot. What the guest has done since is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// Which.
    pub name: SnapshotName,
    /// How.
    pub flags: RevertFlags,
    /// The caller has put back the storage of all disks whose part of the snapshot it took itself. libvirt has no word for it.
    pub storage_is_back: bool,
    /// How long it may take.
    pub within: Duration,
}

/// One of libvirt's flags of `virDomainRevertToSnapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevertFlag {
    /// The guest runs afterwards, whatever it did when the snapshot was taken.
    Running,
    /// It is paused afterwards.
    Paused,
    /// The running machine may be ended for it, although a client of its screen or a device of today would be lost.
    Force,
    /// The variables of the firmware are made anew from their template.
    ResetNvram,
}

/// A set of [`RevertFlag`]s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevertFlags(BTreeSet<RevertFlag>);

impl RevertFlag {
    /// As virsh's option is called: `"reset-nvram"`.
    pub fn name(self) -> &'static str {
        match self {
            RevertFlag::Running => "running",
            RevertFlag::Paused => "paused",
            RevertFlag::Force => "force",
            RevertFlag::ResetNvram => "reset-nvram",
        }
    }
}

impl fmt::Display for RevertFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromIterator<RevertFlag> for RevertFlags {
    fn from_iter<T: IntoIterator<Item = RevertFlag>>(flags: T) -> Self {
        Self(flags.into_iter().collect())
    }
}

impl RevertFlags {
    /// The flags, in the order of libvirt's bits.
    pub fn iter(&self) -> impl Iterator<Item = RevertFlag> {
        self.0.iter().copied()
    }

    /// Whether it is among them.
    pub fn has(&self, flag: RevertFlag) -> bool {
        self.0.contains(&flag)
    }

    /// Whether these go together.
    ///
    /// # Errors
    /// [`RevertRefusal::FlagsExclude`].
    pub fn check(&self) -> Result<(), Refusal> {
        match self.has(RevertFlag::Running) && self.has(RevertFlag::Paused) {
            true => Err(RevertRefusal::FlagsExclude(RevertFlag::Running, RevertFlag::Paused).into()),
            false => Ok(()),
        }
    }
}

/// Removes a snapshot: its part of the images, its file of memory and its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Which.
    pub name: SnapshotName,
    /// What else, or what not.
    pub flags: DeleteFlags,
    /// How long it may take.
    pub within: Duration,
}

/// One of libvirt's flags of `virDomainSnapshotDelete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeleteFlag {
    /// Those that descend from it too.
    Children,
    /// The record alone; no disk is touched.
    MetadataOnly,
    /// Those that descend from it, and not itself.
    ChildrenOnly,
}

/// A set of [`DeleteFlag`]s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteFlags(BTreeSet<DeleteFlag>);

impl DeleteFlag {
    /// As virsh's option is called: `"children-only"`.
    pub fn name(self) -> &'static str {
        match self {
            DeleteFlag::Children => "children",
            DeleteFlag::MetadataOnly => "metadata",
            DeleteFlag::ChildrenOnly => "children-only",
        }
    }
}

impl fmt::Display for DeleteFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromIterator<DeleteFlag> for DeleteFlags {
    fn from_iter<T: IntoIterator<Item = DeleteFlag>>(flags: T) -> Self {
        Self(flags.into_iter().collect())
    }
}

impl DeleteFlags {
    /// The flags, in the order of libvirt's bits.
    pub fn iter(&self) -> impl Iterator<Item = DeleteFlag> {
        self.0.iter().copied()
    }

    /// Whether it is among them.
    pub fn has(&self, flag: DeleteFlag) -> bool {
        self.0.contains(&flag)
    }

    /// Whether these go together.
    ///
    /// # Errors
    /// [`Refusal::ChildrenTwice`].
    pub fn check(&self) -> Result<(), Refusal> {
        match self.has(DeleteFlag::Children) && self.has(DeleteFlag::ChildrenOnly) {
            true => Err(Refusal::ChildrenTwice),
            false => Ok(()),
        }
    }
}
