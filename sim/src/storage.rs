//! The host's storages below its files, and the tools that take their snapshots: `btrfs`, the coreutils on files that share
//! blocks, LVM's, `zfs`, `rbd`, and a program that speaks JSON.
//!
//! All of them work on one model: a volume is what lies at a path of the simulated host, and a snapshot holds what lay there.
//!
//! ```text
//!   btrfs    a folder below the mounted file system; its snapshots are folders
//!   reflink  a file; its snapshots are files
//!   lvm      /dev/<group>/<volume>; its snapshots are devices beside it
//!   zfs      /<pool>/<set>; its snapshots are not seen
//!   rbd      /rbd/<pool>/<image>; its snapshots are not seen
//!   a program: the paths that it is told
//! ```
//!
//! The tools are as pure as `qemu-img` here: arguments in; what they say, and a changed host, out. They know the commands that a
//! driver of snapshots runs, and end with "not simulated" and exit code 1 at everything else.
//!
//! Not here: room that is counted in bytes, but of LVM's groups (a storage is full, or is not), hard links (a second name is a second file), and the
//! progress that `rbd` shows.
//!
//! Source: recordings of btrfs-progs 6.2, coreutils 9.1, LVM 2.03.16, zfs-fuse 0.7 and Ceph 16.2; what could not be recorded for
//! want of a kernel says so where it stands.

mod btrfs;
mod exec;
mod files;
mod lvm;
mod rbd;
mod zfs;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};

pub use self::lvm::Kind;
use self::lvm::Logical;
use crate::{
    host::{Contents, Host},
    world::Ran,
};

/// The storages of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// Where a file system of btrfs is mounted.
    btrfs: Option<Utf8PathBuf>,
    /// The subvolumes in it, and whether each is read-only.
    subvolumes: BTreeMap<Utf8PathBuf, bool>,
    /// Where else something is mounted.
    mounts: BTreeSet<Utf8PathBuf>,
    /// Where file systems are mounted whose files can share blocks.
    shares: BTreeSet<Utf8PathBuf>,
    /// The logical volumes by `group/volume`.
    logical: BTreeMap<String, Logical>,
    /// The data sets of ZFS.
    sets: BTreeMap<String, Volume>,
    /// The images of Ceph.
    images: BTreeMap<String, Volume>,
    /// The groups of images of Ceph.
    groups: BTreeMap<String, Group>,
    /// Programs that speak JSON, and the snapshots that each keeps.
    programs: BTreeMap<Utf8PathBuf, Vec<(String, Held)>>,
    /// Those of them that do nothing of what they say.
    liars: BTreeSet<Utf8PathBuf>,
    /// What the volume groups have left together, in bytes; none: more than anybody wants.
    room: Option<u64>,
    full: bool,
    frozen: bool,
}

/// A volume whose snapshots are not seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    root: Utf8PathBuf,
    /// Oldest first.
    snapshots: Vec<(String, Contents)>,
}

impl Volume {
    fn new(root: String) -> Self {
        Self { root: root.into(), snapshots: Vec::new() }
    }

    fn has(&self, name: &str) -> bool {
        self.snapshots.iter().any(|(known, _)| known == name)
    }
}

/// What a program's snapshot holds: of each volume what lay there.
type Held = Vec<(Utf8PathBuf, Contents)>;

/// A group of Ceph's images.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    images: Vec<String>,
    snapshots: Vec<(String, Vec<Contents>)>,
}

impl Storage {
    /// A host whose files lie on a file system that can do nothing of this.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mounts a file system of btrfs here.
    #[must_use]
    pub fn with_btrfs(mut self, root: impl Into<Utf8PathBuf>) -> Self {
        let root = root.into();
        self.shares.insert(root.clone());
        self.btrfs = Some(root);
        self
    }

    /// Makes a subvolume of this folder of btrfs.
    #[must_use]
    pub fn with_subvolume(mut self, folder: impl Into<Utf8PathBuf>) -> Self {
        self.subvolumes.insert(folder.into(), false);
        self
    }

    /// Mounts something at this folder.
    #[must_use]
    pub fn with_mount(mut self, folder: impl Into<Utf8PathBuf>) -> Self {
        self.mounts.insert(folder.into());
        self
    }

    /// Lets the files below this folder share blocks.
    #[must_use]
    pub fn with_shared_blocks(mut self, root: impl Into<Utf8PathBuf>) -> Self {
        self.shares.insert(root.into());
        self
    }

    /// Makes a logical volume, by `group/volume`.
    #[must_use]
    pub fn with_logical_volume(mut self, name: &str, kind: Kind) -> Self {
        self.logical.insert(name.to_owned(), Logical::volume(kind));
        self
    }

    /// Makes a data set of ZFS.
    #[must_use]
    pub fn with_data_set(mut self, name: &str) -> Self {
        self.sets.insert(name.to_owned(), Volume::new(format!("/{name}")));
        self
    }

    /// Makes an image of Ceph, by `pool/image`.
    #[must_use]
    pub fn with_image(mut self, name: &str) -> Self {
        self.images.insert(name.to_owned(), Volume::new(format!("/rbd/{name}")));
        self
    }

    /// Makes a group of Ceph's images.
    #[must_use]
    pub fn with_group(mut self, name: &str, images: &[&str]) -> Self {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        self.groups.insert(name.to_owned(), Group { images, snapshots: Vec::new() });
        self
    }

    /// Puts a program here that speaks JSON and whose volumes are paths.
    #[must_use]
    pub fn with_program(mut self, path: impl Into<Utf8PathBuf>) -> Self {
        self.programs.insert(path.into(), Vec::new());
        self
    }

    /// Makes the folders in which volumes lie.
    pub(crate) fn mount(&self, host: &mut Host) {
        let devices = self
            .logical
            .keys()
            .filter_map(|name| Some(Utf8PathBuf::from(format!("/dev/{name}")).parent()?.to_owned()));
        let images = self.images.values().filter_map(|image| Some(image.root.parent()?.to_owned()));
        let sets = self.sets.values().map(|set| set.root.clone());
        let folders =
            self.btrfs.iter().chain(self.subvolumes.keys()).chain(&self.shares).chain(&self.mounts).cloned();
        for folder in folders.chain(devices).chain(images).chain(sets) {
            host.add_folder(&folder);
        }
    }

    /// Puts a program here that says that it has done all that it is asked for, and does nothing.
    #[must_use]
    pub fn with_lying_program(mut self, path: impl Into<Utf8PathBuf>) -> Self {
        let path = path.into();
        self.liars.insert(path.clone());
        self.with_program(path)
    }

    /// The number of the device on which a path lies: of the innermost subvolume, data set or mount around it.
    fn device(&self, path: &Utf8Path) -> usize {
        let sets = self.sets.values().map(|set| &set.root);
        let roots = self.btrfs.iter().chain(self.subvolumes.keys()).chain(sets).chain(&self.mounts);
        let around = roots.enumerate().filter(|(_, root)| path.starts_with(root));
        around.max_by_key(|(_, root)| root.as_str().len()).map_or(0, |(number, _)| FIRST_DEVICE + number)
    }

    /// Lets every storage be full, or have room again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Lets somebody freeze the host's file systems, or thaw them: whoever changes them waits.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Lets so many bytes be left for thick snapshots of LVM, in all groups together.
    pub fn leave_room(&mut self, bytes: u64) {
        self.room = Some(bytes);
    }

    /// Lets somebody remove a logical volume or an image of Ceph, by `group/volume` or `pool/image`: no tool knows it any more.
    pub fn lose(&mut self, name: &str) {
        self.logical.remove(name);
        self.images.remove(name);
    }

    /// Lets a thick snapshot of LVM run out of room, by `group/snapshot`: it holds nothing any more.
    pub fn overflow(&mut self, name: &str) {
        if let Some(logical) = self.logical.get_mut(name) {
            logical.overflow();
        }
    }
}

/// What a tool is run in.
pub(crate) struct Surroundings<'w> {
    /// The files.
    pub(crate) host: &'w mut Host,
    /// What lies below them.
    pub(crate) storage: &'w mut Storage,
    /// The files that a QEMU that runs has open.
    pub(crate) open: BTreeSet<Utf8PathBuf>,
}

/// Why a tool ends with another exit code than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Refusal {
    fn new(exit: i32, words: impl Into<String>) -> Self {
        Self { exit, stdout: String::new(), stderr: format!("{}\n", words.into()) }
    }

    fn not_simulated(program: &str, arguments: &[&str]) -> Self {
        Self::new(1, format!("{program}: not simulated: {}", arguments.join(" ")))
    }
}

/// What a tool says on its standard output.
type Said = Result<String, Refusal>;

/// The number of the first device that is not the host's own file system: as the system numbers those without a disk.
const FIRST_DEVICE: usize = 45;

/// How long a tool takes.
const TAKES: Duration = Duration::from_millis(5);

/// How long a tool takes that waits for what never comes.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Runs a tool; none if there is no such program.
pub(crate) fn run(
    program: &Utf8Path,
    arguments: &[String],
    input: &[u8],
    mut around: Surroundings<'_>,
) -> Option<Ran> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let around = &mut around;
    if around.storage.programs.contains_key(program) {
        return Some(ran(exec::run(program, input, around)));
    }
    let said = match program.file_name()? {
        "cp" | "ln" | "mv" | "rm" | "sync" if around.storage.frozen => {
            files::begin(&words, around);
            return Some(Ran { exit: 0, stdout: String::new(), stderr: String::new(), takes: FOR_EVER });
        }
        name @ ("cp" | "ln" | "mv" | "rm" | "sync" | "find" | "stat") => files::run(name, &words, around),
        "btrfs" => btrfs::run(&words, around),
        "findmnt" => findmnt(&words, around.storage),
        name @ ("lvs" | "lvcreate" | "lvremove" | "lvconvert") => lvm::run(name, &words, around),
        "zfs" => zfs::run(&words, around),
        // A full pool lets its clients wait.
        "rbd" if around.storage.full && words.contains(&"create") => {
            return Some(Ran { exit: 0, stdout: String::new(), stderr: String::new(), takes: FOR_EVER });
        }
        "rbd" => rbd::run(&words, around),
        _ => return None,
    };
    Some(ran(said))
}

/// Where something is mounted, a line each, with a blank as `\x20`.
fn findmnt(words: &[&str], storage: &Storage) -> Said {
    if words != ["--kernel", "--noheadings", "--raw", "--output", "TARGET"] {
        return Err(Refusal::not_simulated("findmnt", words));
    }
    let root = Utf8PathBuf::from("/");
    let sets = storage.sets.values().map(|set| &set.root);
    let places =
        [&root].into_iter().chain(&storage.btrfs).chain(&storage.shares).chain(sets).chain(&storage.mounts);
    let places: BTreeSet<_> = places.collect();
    Ok(places.into_iter().map(|place| format!("{}\n", place.as_str().replace(' ', "\\x20"))).collect())
}

fn ran(said: Said) -> Ran {
    match said {
        Ok(stdout) => Ran { exit: 0, stdout, stderr: String::new(), takes: TAKES },
        Err(Refusal { exit, stdout, stderr }) => Ran { exit, stdout, stderr, takes: TAKES },
    }
}
