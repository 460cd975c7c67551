//! What a caller asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use camino::Utf8PathBuf;

use crate::{
    disk,
    domain::DomainDisk,
    domain_snapshot::DomainSnapshot,
    error::{DeleteRefusal, Refusal, RevertRefusal},
    name::SnapshotName,
    save_image::Format,
    xml::Element,
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

    /// The same of a guest of which somebody has left word that it is frozen for the caller: see [`Create::frozen_by`].
    #[must_use]
    pub fn frozen_by(mut self, by: Option<FrozenBy>) -> Self {
        if let Request::Create(create) = &mut self {
            create.frozen_by = by;
        }
        self
    }

    /// The snapshot's name; empty of one that nobody has named.
    pub fn name(&self) -> &str {
        match self {
            Request::Create(create) => create.wish.name.as_deref().unwrap_or_default(),
            Request::Revert(revert) => revert.name.as_str(),
            Request::Delete(delete) => delete.name.as_str(),
        }
    }

    /// The same, within a time of its own.
    #[must_use]
    pub fn within_time(mut self, within: Duration) -> Self {
        match &mut self {
            Request::Create(create) => create.within = within,
            Request::Revert(revert) => revert.within = within,
            Request::Delete(delete) => delete.within = within,
        }
        self
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
    /// Whether the memory of a guest that runs is written in the background, where QEMU can: it is of the beginning then, and
    /// the guest does not stand still at the end. libvirt has no word for it, and never does.
    ///
    /// The guest waits for the file at its first write to each page meanwhile, and with it, now and then, the monitor: on a slow
    /// file both may be held up for long (7.2 at 1 kB/s: more than 20 s without an answer).
    pub in_background: bool,
    /// What is asked of the guest's file systems beyond libvirt's flag [`CreateFlag::Quiesce`], which is
    /// [`Quiesce::Required`]: see [`Create::quiesce`].
    pub quiesce: Quiesce,
    /// Who has left word that the guest is frozen for the caller: if it stands frozen, it is neither frozen nor thawed here, and is
    /// at rest by that. Without one who says so a guest that stands frozen is somebody else's.
    pub frozen_by: Option<FrozenBy>,
    /// What becomes of the guest's own hooks when its agent has refused to freeze, as they may have run before: with this a
    /// thaw is sent, which runs them again for the end of a freeze, though nothing is frozen. Not without it: should somebody
    /// else have frozen file systems past the agent, it would let those go.
    pub thaw_hooks: bool,
    /// Whether disks may have their parts inside their images without the machine's memory, some of them alone: a snapshot of
    /// these disks. libvirt has no word for it, and refuses it of a machine that runs.
    pub inside: bool,
    /// Whether it is one of the disks that are named, and not of the machine: what QEMU has beside those that are described is then
    /// nobody's affair.
    pub of_named_disks: bool,
    /// Who takes the disks whose place is `manual`, where the caller does not.
    pub by_storage: ByStorage,
    /// How long it may take.
    pub within: Duration,
}

/// Word that somebody has left of a freeze for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenBy {
    /// Who.
    pub by: String,
    /// Why the guest may be at rest in part only, as far as was seen when it was frozen: see [`crate::agent::rest::Rest::in_part`].
    pub in_part: Option<String>,
}

/// Who takes the disks of a snapshot whose place is `manual`, in the moment in which QEMU takes the others: the storage that is
/// stated here for a disk, else that of its description's `<diskSnapshot>`, else the hook. Of what none of them takes the caller
/// takes care, while the guest stands still. libvirt has no word for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ByStorage {
    /// For a disk, its `<diskSnapshot>`. The disk's place is `manual` then, without a word.
    pub stated: BTreeMap<String, Element>,
    /// A program that takes all that are left: `docs/storage-exec.md` says what it is told.
    pub hook: Option<Utf8PathBuf>,
}

impl ByStorage {
    /// Who takes a disk, if anybody but the caller.
    pub fn of(&self, disk: &DomainDisk) -> Option<Element> {
        let hook = || {
            let program = self.hook.as_ref()?;
            Some(Element::new(disk::ELEMENT).with("method", "exec").with("program", program.as_str()))
        };
        self.stated.get(&disk.target).cloned().or_else(|| disk.storage.clone()).or_else(hook)
    }
}

/// Whether the guest's file systems are to be at rest when the snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quiesce {
    /// They need not be.
    #[default]
    Off,
    /// They must be: a guest that does not come to rest is a snapshot that is not taken.
    Required,
    /// They are if the guest can be brought to rest; the report says whether it was.
    BestEffort,
    /// The caller has frozen them, and thaws them: they are neither frozen nor thawed here.
    AlreadyFrozen,
}

impl Quiesce {
    /// Whether the guest is, or may be, at rest by a freeze of the caller's, of which somebody may have left word.
    pub(crate) fn is_by_the_caller(self, frozen_by: Option<&FrozenBy>) -> bool {
        self == Quiesce::AlreadyFrozen || frozen_by.is_some()
    }
}

impl Create {
    /// One that asks for no more than libvirt knows, within [`WITHIN`].
    pub fn new(wish: DomainSnapshot, flags: impl IntoIterator<Item = CreateFlag>) -> Self {
        Self {
            wish,
            flags: flags.into_iter().collect(),
            vmstate: None,
            memory_format: Format::Raw,
            in_background: false,
            quiesce: Quiesce::Off,
            frozen_by: None,
            thaw_hooks: false,
            inside: false,
            of_named_disks: false,
            by_storage: ByStorage::default(),
            within: WITHIN,
        }
    }

    /// What is asked of the guest's file systems, by flag or otherwise.
    pub fn quiesce(&self) -> Quiesce {
        match self.quiesce {
            Quiesce::Off if self.flags.has(CreateFlag::Quiesce) => Quiesce::Required,
            said => said,
        }
    }
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
    /// For a disk of which the record does not say which storage holds it, its `<diskSnapshot>`. What the record says must not be
    /// another. libvirt has no word for it.
    pub stated: BTreeMap<String, Element>,
    /// How long it may take.
    pub within: Duration,
}

impl Revert {
    /// One that says nothing of storages.
    pub fn new(name: SnapshotName, flags: RevertFlags, within: Duration) -> Self {
        Self { name, flags, storage_is_back: false, stated: BTreeMap::new(), within }
    }
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
    /// What was written since the snapshot goes for good. As first proposed for libvirt, which has no such flag.
    Discard,
    /// The snapshots that descend from it go too. Only with `Discard`; proposed as that.
    DeleteChildren,
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
            RevertFlag::Discard => "discard",
            RevertFlag::DeleteChildren => "delete-children",
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
    /// [`RevertRefusal::FlagsExclude`], [`RevertRefusal::FlagNeeds`].
    pub fn check(&self) -> Result<(), Refusal> {
        use RevertFlag::{DeleteChildren, Discard, Paused, Running};
        if self.has(Running) && self.has(Paused) {
            return Err(RevertRefusal::FlagsExclude(Running, Paused).into());
        }
        match self.has(DeleteChildren) && !self.has(Discard) {
            true => Err(RevertRefusal::FlagNeeds { flag: DeleteChildren, needed: Discard }.into()),
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
    /// What storages below the disks hold of it stays there. libvirt has no word for it.
    pub storage_stays: bool,
    /// As [`Revert::stated`].
    pub stated: BTreeMap<String, Element>,
    /// How long it may take.
    pub within: Duration,
}

impl Delete {
    /// One that says nothing of storages.
    pub fn new(name: SnapshotName, flags: DeleteFlags, within: Duration) -> Self {
        Self { name, flags, storage_stays: false, stated: BTreeMap::new(), within }
    }
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
    /// [`DeleteRefusal::ChildrenTwice`].
    pub fn check(&self) -> Result<(), Refusal> {
        match self.has(DeleteFlag::Children) && self.has(DeleteFlag::ChildrenOnly) {
            true => Err(DeleteRefusal::ChildrenTwice.into()),
            false => Ok(()),
        }
    }
}
