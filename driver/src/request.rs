//! What a caller asks for.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{domain_snapshot::DomainSnapshot, error::Refusal, name::SnapshotName, save_image::Format};

/// How long an operation may take if the caller does not say.
pub const WITHIN: Duration = Duration::from_secs(60);

/// One operation on snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take one.
    Create(Box<Create>),
    /// Put the machine back to an internal one.
    Revert(Revert),
    /// Remove an internal one.
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

/// Puts machine and disks back to an internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// Which.
    pub name: SnapshotName,
    /// How long it may take.
    pub within: Duration,
}

/// Removes an internal snapshot from every disk that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Which.
    pub name: SnapshotName,
    /// How long it may take.
    pub within: Duration,
}
