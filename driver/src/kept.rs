//! Files that an operation was to remove and has kept, and what for: told when it has ended.

use std::{cell::RefCell, collections::BTreeSet, fmt, rc::Rc};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// A file that is of no use to the machine any more, and was not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Which.
    pub file: Utf8PathBuf,
    /// What for.
    pub why: WhyKept,
}

/// What a file is kept for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyKept {
    /// Another process has it open, be it to read what stands on it.
    InUse,
    /// Whether another process has it open could not be found out.
    Unclear(String),
    /// It is a symbolic link, to the file that is named.
    Link(Utf8PathBuf),
    /// It holds internal snapshots, of these names, that no record leads to.
    Holds(Vec<String>),
    /// It is of this disk, which is no part of the machine any more.
    NoPart(String),
    /// This disk was in it, and has no image in common with the disk of that name that the machine goes on with.
    Another(String),
    /// It was merged, and the machine may have been started in it since, from a description that was old.
    MayHaveRun,
    /// It holds the snapshot, of which this is another record.
    Twin(String),
    /// This disk was in it, and is in another one now; no record knows of it.
    Unrecorded(String),
    /// This image stands on it, and no record leads to either.
    Below(Utf8PathBuf),
}

impl fmt::Display for KeptFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeptFile { file, why } = self;
        match why {
            WhyKept::InUse => write!(f, "`{file}` is kept, because another process has it open"),
            WhyKept::Unclear(error) => {
                write!(
                    f,
                    "`{file}` is kept, because it could not be found out whether another process has it open: {error}"
                )
            }
            WhyKept::Link(to) => {
                write!(f, "`{file}` is kept, because it is a link, and so is `{to}` behind it")
            }
            WhyKept::Holds(names) => {
                let snapshots = if names.len() == 1 { "snapshot" } else { "snapshots" };
                write!(f, "`{file}` is kept for the internal {snapshots} `{}` in it", names.join("`, `"))
            }
            WhyKept::MayHaveRun => {
                write!(
                    f,
                    "`{file}` is kept, though it was merged: if the machine was started from an old description since, what it wrote then is \
                     there alone; if it was not, remove it"
                )
            }
            WhyKept::NoPart(disk) => {
                write!(
                    f,
                    "disk {disk} is no part of the machine now, and `{file}` is kept with what is on it"
                )
            }
            WhyKept::Another(disk) => write!(
                f,
                "`{file}`, which disk {disk} was in, is kept, because nothing that it stands on is below the disk {disk} that was gone back to: \
                 it may be of another disk; remove it if what is on it is of no use"
            ),
            WhyKept::Twin(name) => {
                write!(
                    f,
                    "`{file}` is kept with what is on it, for `{name}` is another record of the same snapshot"
                )
            }
            WhyKept::Unrecorded(disk) => write!(
                f,
                "`{file}`, which disk {disk} was in, is kept, because no record knows of it; remove it if what is on it is of no use"
            ),
            WhyKept::Below(above) => write!(
                f,
                "`{file}` is kept, because `{above}` stands on it; no record leads to either: if what is on them is of no use, remove that one, \
                 and then this"
            ),
        }
    }
}

/// These, behind what else is told.
pub(crate) fn told(kept: &[KeptFile]) -> String {
    kept.iter().map(|kept| format!("; {kept}")).collect()
}

/// Where steps tell what they have kept, and are told what to keep. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptFiles {
    noted: Rc<RefCell<Vec<KeptFile>>>,
    described: Rc<RefCell<BTreeSet<Utf8PathBuf>>>,
}

impl KeptFiles {
    /// From now on these are kept, because the machine's description names them.
    pub(crate) fn spare(&self, described: BTreeSet<Utf8PathBuf>) {
        self.described.replace(described);
    }

    /// Whether this one is kept for that.
    pub(crate) fn is_spared(&self, file: &Utf8Path) -> bool {
        self.described.borrow().contains(file)
    }

    /// Takes note of one; to be told it once is enough.
    pub(crate) fn note(&self, kept: KeptFile) {
        let mut noted = self.noted.borrow_mut();
        if !noted.contains(&kept) {
            noted.push(kept);
        }
    }

    /// What was kept since this was asked last, in the order of their names: steps of one stage come to their ends in any order.
    pub(crate) fn take(&self) -> Vec<KeptFile> {
        let mut kept = self.noted.take();
        kept.sort_by(|one, other| one.file.cmp(&other.file));
        kept
    }
}
