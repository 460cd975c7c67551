//! What must hold after every operation of the driver's, whatever has gone wrong meanwhile.
//!
//! It is shown how everything stood before and after, and what was told; where the same was done without a fault, how that
//! ended too. It knows nothing of faults: a driver that tells the truth and leaves nothing unnamed passes, whatever it could
//! not do. What is [`State`] and what was told is all that it looks at, so each invariant can be tried by a state made by hand.
//!
//! | [`Invariant`] | must hold |
//! | --- | --- |
//! | `guest` | it is not left frozen or stopped, unless it was, or was to be, or that is told |
//! | `leftovers` | no job and no node is left, unless it is named |
//! | `chains` | every image in use is there, stands on what it names, and is written by one |
//! | `writes` | no write of the guest's is lost, on a disk or in a snapshot that is kept |
//! | `point-in-time` | all disks of a snapshot are of one moment |
//! | `records` | every recorded snapshot can be gone back to, unless what stands in the way is told |
//! | `files` | every new file is in use, recorded or named |
//! | `told` | done means as it is without a fault; not done means as it was before |
//! | `converges` | once nothing goes wrong any more, what was not done can be done |
//! | `bound` | it ends in time, by the world's clock |

mod data;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use camino::Utf8Path;

pub use self::{
    data::{Data, Deed},
    state::{ImageState, Layer, Record, State},
};
use crate::play::{Stands, Told};

/// How long an operation may take beyond the time that it was given: for questions and for putting things back, which have
/// time of their own.
pub const BEYOND: Duration = Duration::from_secs(120);

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// The guest is not left frozen or stopped.
    Guest,
    /// No job and no node is left.
    Leftovers,
    /// Images and what they stand on.
    Chains,
    /// No write is lost.
    Writes,
    /// All disks of a snapshot are of one moment.
    PointInTime,
    /// Recorded snapshots can be gone back to.
    Records,
    /// Every file is accounted for.
    Files,
    /// What was told is what happened.
    Told,
    /// A second try converges.
    Converges,
    /// It ends in time.
    Bound,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invariant::Guest => "guest",
            Invariant::Leftovers => "leftovers",
            Invariant::Chains => "chains",
            Invariant::Writes => "writes",
            Invariant::PointInTime => "point-in-time",
            Invariant::Records => "records",
            Invariant::Files => "files",
            Invariant::Told => "told",
            Invariant::Converges => "converges",
            Invariant::Bound => "bound",
        })
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// After which step, counted from 0.
    pub step: usize,
    /// What is wrong, in words.
    pub what: String,
    /// What was told of the step.
    pub told: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: step {}: {}", self.invariant, self.step + 1, self.what)
    }
}

/// One operation, from before it began until it was told how it went.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// How everything stood before.
    pub before: &'a State,
    /// How it stands now.
    pub after: &'a State,
    /// What was told of it.
    pub told: &'a Told,
    /// How it ended where nothing went wrong, if all was the same until then.
    pub usual: Option<(&'a Told, &'a State)>,
    /// The images that the disks of a machine that is gone were written to.
    pub last_tops: &'a BTreeSet<String>,
    /// Whether QEMU was killed from outside meanwhile.
    pub killed: bool,
    /// How long it took.
    pub took: Duration,
    /// How long it might take by what it was asked.
    pub within: Duration,
}

/// What one invariant finds, in words.
type Check = fn(Seen<'_>) -> Vec<String>;

/// Holds an operation against all invariants that speak of one alone.
pub fn check(step: usize, seen: Seen<'_>) -> Vec<Violation> {
    let checks: [(Invariant, Check); 7] = [
        (Invariant::Guest, guest),
        (Invariant::Leftovers, leftovers),
        (Invariant::Chains, chains),
        (Invariant::Records, records),
        (Invariant::Files, files),
        (Invariant::Told, told),
        (Invariant::Bound, bound),
    ];
    let found = checks.into_iter().flat_map(|(invariant, check)| {
        check(seen).into_iter().map(move |what| Violation {
            invariant,
            step,
            what,
            told: seen.told.text.clone(),
        })
    });
    found.collect()
}

impl Seen<'_> {
    /// Whether it was told of something: by its whole name or path, or by the last part of that.
    fn names(&self, what: &str) -> bool {
        let last = Utf8Path::new(what).file_name().unwrap_or(what);
        self.told.text.contains(last)
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.told.text.contains(word))
    }

    /// How it ends where nothing goes wrong, if it is told to have been done just so.
    fn usual_end(&self) -> Option<&State> {
        let (told, state) = self.usual?;
        (told.stands == Stands::Done && self.told.stands == Stands::Done).then_some(state)
    }
}

fn guest(seen: Seen<'_>) -> Vec<String> {
    let Seen { before, after, .. } = seen;
    let mut found = Vec::new();
    let frozen: Vec<_> = after.frozen.difference(&before.frozen).map(String::as_str).collect();
    if !frozen.is_empty() && !seen.says(&["frozen"]) {
        found.push(format!("{} left frozen, and nobody is told", frozen.join(" ")));
    }
    // What is done is done as it was asked for; where that is known it is compared.
    let is_meant = match seen.usual {
        Some((_, usual)) => usual.guest == after.guest,
        None => seen.told.stands == Stands::Done,
    };
    if after.guest == before.guest || is_meant {
        return found;
    }
    match (before.guest, after.guest) {
        (Some(was), Some(is)) => {
            let told = match is {
                "running" => seen.says(&["runs"]),
                _ => seen.says(&[
                    "stand still",
                    "stands still",
                    "paused",
                    "stopped",
                    "QEMU may run",
                    "QEMU may still run",
                    is,
                ]),
            };
            if !told {
                found.push(format!("the guest was {was} and was left {is}, and nobody is told"));
            }
        }
        (Some(was), None) if !seen.killed && !seen.says(&["QEMU is gone", "is off", "ended"]) => {
            found.push(format!("the guest was {was}, QEMU is gone, and nobody is told"));
        }
        (None, Some(is)) if !seen.says(&["started", "runs", "may run"]) => {
            found.push(format!("the machine was off, its guest is {is}, and nobody is told"));
        }
        _ => {}
    }
    found
}

fn leftovers(seen: Seen<'_>) -> Vec<String> {
    let Seen { before, after, .. } = seen;
    let jobs = after.jobs.difference(&before.jobs).filter(|job| !seen.names(job));
    let mut found: Vec<_> = jobs.map(|job| format!("job {job} is left, and is not named")).collect();
    for (node, file) in &after.loose {
        let was_there =
            before.loose.contains_key(node) || before.chains.values().flatten().any(|f| f == file);
        if !was_there && !seen.names(node) && !seen.names(file) {
            found.push(format!("node {node} on {file} is left open, and is not named"));
        }
    }
    found
}

fn chains(seen: Seen<'_>) -> Vec<String> {
    let Seen { before, after, .. } = seen;
    let reachable = after.reachable(seen.last_tops);
    let harmless = |broken: &&String| {
        let between = |before: &str, behind: &str| {
            let rest = broken.strip_prefix(before)?;
            Some(rest.split_once(behind)?.0.to_owned())
        };
        // The guest does not use a node that was left open, a job that was left waits for its client: both are named. And
        // nobody reads a file that is in no chain.
        let node = between("the file of node ", " was unlinked")
            .or_else(|| between("node ", " is qcow2, and its image is not"));
        let job = between("job ", " rests in ");
        let file = between("file ", " is backed by ");
        node.is_some_and(|node| after.loose.contains_key(&node) && seen.names(&node))
            || job.is_some_and(|job| before.jobs.contains(&job) || seen.names(&job))
            || file.is_some_and(|file| !reachable.contains(&file))
    };
    let broken = after.broken.difference(&before.broken).filter(|broken| !harmless(broken));
    let mut found: Vec<_> = broken.cloned().collect();
    for (device, chain) in &after.chains {
        for file in chain.iter().filter(|file| !after.has(file)) {
            found.push(format!("{device} stands on {file}, which is not there"));
        }
    }
    found
}

fn records(seen: Seen<'_>) -> Vec<String> {
    let Seen { before, after, .. } = seen;
    let mut found = Vec::new();
    for (name, record) in after.records.iter().filter(|(_, record)| !record.being_deleted) {
        // What could not be gone back to before is nobody's doing now.
        let was = before.records.get(name);
        let missing = |file: &&String| !after.has(file) && !was.is_some_and(|was| lacks(was, file, before));
        for file in record.needs.iter().filter(missing).filter(|file| !seen.names(file)) {
            found.push(format!("snapshot {name} is recorded and needs {file}, which is not there"));
        }
        let holds =
            |state: &State, file: &str| state.images.get(file).is_some_and(|image| image.tags.contains(name));
        for file in record.inside.iter().filter(|file| after.has(file) && !holds(after, file)) {
            let did = was.is_none() || holds(before, file);
            if did && !seen.names(file) && !seen.says(&[&format!("`{name}`")]) {
                found.push(format!("snapshot {name} is recorded inside {file}, which does not hold it"));
            }
        }
        if let Some(parent) = record.parent.as_ref().filter(|parent| !after.records.contains_key(*parent)) {
            let was_so = was.is_some_and(|was| was.parent.as_ref() == Some(parent))
                && !before.records.contains_key(parent);
            if !was_so && !seen.names(name) {
                found.push(format!("snapshot {name} is recorded as a child of {parent}, which is not"));
            }
        }
    }
    found
}

/// Whether a record could not be gone back to before, for want of this file.
fn lacks(record: &Record, file: &str, before: &State) -> bool {
    record.needs.contains(file) && !before.has(file)
}

fn files(seen: Seen<'_>) -> Vec<String> {
    let Seen { before, after, .. } = seen;
    if seen.told.stands == Stands::Done && after.guest.is_none() {
        // What a machine that was put off is to be started from, the driver alone knows.
        return Vec::new();
    }
    let reachable = after.reachable(seen.last_tops);
    let is_record = |path: &str| after.documents.contains_key(path) && !after.images.contains_key(path);
    let new = after.files().into_iter().filter(|path| !before.has(path));
    let left = new.filter(|path| !is_record(path) && !reachable.contains(*path) && !seen.names(path));
    let usual = seen.usual_end();
    let left = left.filter(|path| usual.is_none_or(|usual| !usual.has(path)));
    left.map(|path| format!("{path} is left behind, and is not named")).collect()
}

fn told(seen: Seen<'_>) -> Vec<String> {
    match seen.told.stands {
        Stands::Done => seen.usual_end().map_or_else(Vec::new, |usual| unlike(usual, seen.after, "usually")),
        Stands::Untouched | Stands::AsBefore | Stands::Gone => {
            let mut found = unlike(seen.before, seen.after, "before");
            if seen.told.stands == Stands::Gone && seen.after.guest.is_some() {
                found.push("QEMU is told to be gone, and is there".to_owned());
            }
            found
        }
        Stands::Left | Stands::Unfinished | Stands::Unknown | Stands::Partly | Stands::Unsaid => Vec::new(),
    }
}

/// In what a state is not as another one. Of a machine that is gone only its files are compared.
fn unlike(wanted: &State, found: &State, when: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, was: BTreeSet<String>, is: BTreeSet<String>| {
        let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
        let (missing, new) =
            (was.difference(&is).collect::<Vec<_>>(), is.difference(&was).collect::<Vec<_>>());
        if !missing.is_empty() {
            differences.push(format!("{what} gone, which {when} was there: {}", list(missing)));
        }
        if !new.is_empty() {
            differences.push(format!("{what} there, which {when} was not: {}", list(new)));
        }
    };
    let plain = |names: Vec<&String>| names.into_iter().map(|name| numberless(name)).collect::<BTreeSet<_>>();
    differ("file", plain(wanted.files().into_iter().collect()), plain(found.files().into_iter().collect()));
    differ("record", wanted.records.keys().cloned().collect(), found.records.keys().cloned().collect());
    if wanted.guest.is_some() && found.guest.is_some() {
        let jobs = |state: &State| plain(state.jobs.iter().collect());
        differ("job", jobs(wanted), jobs(found));
        differ("node", plain(wanted.loose.values().collect()), plain(found.loose.values().collect()));
        for (device, chain) in &wanted.chains {
            let (was, is) = (files_of(Some(chain)), files_of(found.chains.get(device)));
            if was != is {
                differences.push(format!("{device} was {when} on {was}, and is on {is}"));
            }
        }
    }
    let images: BTreeMap<_, _> = found.images.iter().map(|(path, image)| (numberless(path), image)).collect();
    for (path, image) in &wanted.images {
        let Some(is) = images.get(&numberless(path)) else { continue };
        let (was, is) = (told_of(image), told_of(is));
        if was != is {
            differences.push(format!("{path} was {when} {was}, and is {is}"));
        }
    }
    for (name, record) in &wanted.records {
        let is = found.records.get(name).map(numberless_record);
        if is.is_some_and(|is| is != numberless_record(record)) {
            differences.push(format!("the record of {name} is another than {when}"));
        }
    }
    if wanted.current != found.current {
        let name = |current: &Option<String>| current.clone().unwrap_or_else(|| "none".to_owned());
        let (was, is) = (name(&wanted.current), name(&found.current));
        differences.push(format!("the current snapshot was {when} {was}, and is {is}"));
    }
    differences
}

/// A name without the number that makes it one of its own: a second try has another.
fn numberless(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { "#" } else { part }
    });
    parts.collect::<Vec<_>>().join("-")
}

fn numberless_record(record: &Record) -> Record {
    let set = |paths: &BTreeSet<String>| paths.iter().map(|path| numberless(path)).collect();
    let images = record.images.iter().map(|(disk, image)| (disk.clone(), numberless(image)));
    Record {
        needs: set(&record.needs),
        inside: set(&record.inside),
        images: images.collect(),
        ..record.clone()
    }
}

fn files_of(chain: Option<&Vec<String>>) -> String {
    let each = |chain: &Vec<String>| chain.iter().map(|file| numberless(file)).collect::<Vec<_>>();
    chain.map_or("nothing".to_owned(), |chain| each(chain).join(" on "))
}

fn told_of(image: &ImageState) -> String {
    let backing = numberless(image.backing.as_deref().unwrap_or("nothing"));
    format!("on {backing} with [{}] inside", image.tags.join(" "))
}

fn bound(seen: Seen<'_>) -> Vec<String> {
    let bound = seen.within + BEYOND;
    let late = (seen.took > bound)
        .then(|| format!("it took {:?}, and might take {:?} and {:?} more", seen.took, seen.within, BEYOND));
    late.into_iter().collect()
}

#[cfg(test)]
mod tests;
