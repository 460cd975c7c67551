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
//! | `quiesced` | a snapshot that is told to be of a guest at rest is: every file system was frozen when it was taken |
//! | `told` | done means as it is without a fault; not done means as it was before |
//! | `converges` | once nothing goes wrong any more, what was not done can be done |
//! | `bound` | it ends in time, by the world's clock |

mod data;
mod state;
mod unlike;

use std::{collections::BTreeSet, fmt, time::Duration};

use camino::Utf8Path;
use freezeframe_driver::report::Verdict;

use self::unlike::ranked;
pub use self::{
    data::{Data, Deed},
    state::{ImageState, Layer, Record, State, disk_of, is_kept_by_storage},
    unlike::unlike,
};
pub use crate::language::Invariant;
use crate::play::{Stands, Told};

/// How long an operation may take beyond the time that it was given: for questions and for putting things back, which have
/// time of their own.
pub const BEYOND: Duration = Duration::from_secs(120);

/// How the driver says that the guest may stand frozen.
const FROZEN: [&str; 2] =
    ["the guest's file systems may still be frozen", "should the guest have been frozen"];

/// How the driver says that it has found the guest frozen, and has frozen nothing itself.
const MET_A_FREEZE: &str = "has frozen the guest";

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
    /// What is known of it from elsewhere.
    pub beside: &'a Beside,
}

/// What is known of an operation beside how everything stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// The snapshot that it is to take, and the file that the memory is to go to: the caller's own, where nobody keeps records.
    pub takes: Option<(String, Option<String>)>,
    /// An operation before it has told that the guest may still be frozen, and none was done since.
    pub frozen_told: bool,
    /// It is to put right what an earlier one has left.
    pub recovers: bool,
    /// In which run state somebody else has left the guest meanwhile.
    pub stirred: Option<&'static str>,
    /// Disks whose file system was not frozen when the snapshot was taken.
    pub awake: BTreeSet<String>,
}

/// What one invariant finds, in words.
type Check = fn(Seen<'_>) -> Vec<String>;

/// Holds an operation against all invariants that speak of one alone.
pub fn check(step: usize, seen: Seen<'_>) -> Vec<Violation> {
    if seen.told.stands == Stands::Killed {
        // What was begun is written down, and whoever comes next recovers it. Whatever is in use is whole all the same.
        return chains(seen).into_iter().map(|what| violation(Invariant::Chains, step, what, seen)).collect();
    }
    let checks: [(Invariant, Check); 8] = [
        (Invariant::Guest, guest),
        (Invariant::Leftovers, leftovers),
        (Invariant::Chains, chains),
        (Invariant::Records, records),
        (Invariant::Files, files),
        (Invariant::Quiesced, quiesced),
        (Invariant::Told, told),
        (Invariant::Bound, bound),
    ];
    let found = checks.into_iter().flat_map(|(invariant, check)| {
        check(seen).into_iter().map(move |what| violation(invariant, step, what, seen))
    });
    found.collect()
}

fn violation(invariant: Invariant, step: usize, what: String, seen: Seen<'_>) -> Violation {
    Violation { invariant, step, what, told: seen.told.text.clone() }
}

/// What is wrong with a second try, when nothing goes wrong any more: where nothing had been done it must now be, and else at
/// least be refused. `could_be_done` says whether there is still a machine to do it with.
pub fn converges(first: &Told, told: &Told, could_be_done: bool, beside: &Beside) -> Option<String> {
    let as_before = matches!(first.stands, Stands::Untouched | Stands::AsBefore);
    let well = match told.stands {
        Stands::Done => true,
        Stands::Untouched if waits_for_guest(first, told) => true,
        Stands::Untouched if beside.frozen_told && told.text.contains(MET_A_FREEZE) => true,
        Stands::Untouched | Stands::AsBefore => !(as_before && could_be_done),
        // What was left, and was named, may be in the way.
        Stands::Unfinished | Stands::Partly => !as_before,
        // Of a machine that is gone nobody can find out more.
        Stands::Left => beside.recovers && !could_be_done,
        _ => false,
    };
    (!well).then(|| "tried again without faults, it was not done".to_owned())
}

/// Whether the first try has told that QEMU lets the state of a machine go once, and the second is refused for just that.
fn waits_for_guest(first: &Told, told: &Told) -> bool {
    first.text.contains("but that QEMU is in `postmigrate`")
        && told.text.contains("has been saved or sent already and its guest has not gone on since")
}

impl Seen<'_> {
    /// Whether it was told of something: by its whole name or path, or by the last part of that; or of a folder that it is in and
    /// no disk is.
    fn names(&self, what: &str) -> bool {
        let path = Utf8Path::new(what);
        let is_told = |path: &Utf8Path| path.file_name().is_some_and(|last| self.told.text.contains(last));
        let in_use = |folder: &Utf8Path| {
            let mut files = self.before.chains.values().chain(self.after.chains.values()).flatten();
            // A group of volumes is no folder that somebody looks through for what is left.
            let is_group = folder.starts_with("/dev");
            files.any(|file| Utf8Path::new(file).starts_with(folder)) || is_group || folder.as_str().len() < 2
        };
        is_told(path)
            || self.is_told_by_its_word(path)
            || self.is_told_by_its_volume(path)
            || path
                .ancestors()
                .skip(1)
                .any(|folder| !in_use(folder) && (is_told(folder) || self.is_told_by_its_word(folder)))
    }

    /// A snapshot of LVM's, `/dev/vg/vda.s1`, is told by its volume and its name.
    fn is_told_by_its_volume(&self, path: &Utf8Path) -> bool {
        let volume = path.strip_prefix("/dev").ok().zip(path.extension());
        volume.is_some_and(|(place, name)| {
            let volume = place.with_extension("");
            let may_be = format!("{volume} may have the snapshot `{name}`");
            self.says(&[&may_be, &format!("the snapshot `{name}` of {volume}: ")])
        })
    }

    /// What a storage has caught and not named yet is told by the word that is fresh in it.
    fn is_told_by_its_word(&self, path: &Utf8Path) -> bool {
        let word = path.file_name().and_then(|name| name.split_once(".freezeframe-"));
        word.is_some_and(|(_, word)| self.told.text.contains(&format!("`...freezeframe-{word}`")))
    }

    /// Whether a file is what the caller asked for: the memory, or what the storage keeps by the snapshot's name.
    fn is_asked_for(&self, what: &str) -> bool {
        let taken = matches!(self.told.stands, Stands::Done | Stands::Unfinished | Stands::Unsaid);
        let Some((name, memory)) = self.beside.takes.as_ref().filter(|_| taken) else { return false };
        let path = Utf8Path::new(what);
        let by_name = |part: &str| part.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('@'));
        is_kept_by_storage(what, name)
            || path.components().any(|part| by_name(part.as_str()))
            || memory.as_ref().is_some_and(|memory| path.file_name() == Some(memory))
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
    // What was not begun has frozen nothing, and nor has what met a freeze: it is that of the one before, which has said so.
    let began_no_freeze = seen.told.stands == Stands::Untouched || seen.says(&[MET_A_FREEZE]);
    let of_before = seen.beside.frozen_told && began_no_freeze;
    // Nobody knows whether it was loaded, and that is told, and not to let it run: what was loaded may be frozen.
    let may_be_loaded = seen.beside.takes.is_none() && seen.told.stands == Stands::Unknown;
    // The driver must know it, and say it: the one without the other helps nobody.
    let is_told = seen.told.frozen && seen.says(&FROZEN);
    if !frozen.is_empty() && !is_told && !of_before && !may_be_loaded {
        found.push(format!("{} left frozen, and nobody is told", frozen.join(" ")));
    }
    // What is done is done as it was asked for; where that is known it is compared.
    let is_meant = match seen.usual {
        Some((_, usual)) => usual.guest == after.guest,
        None => seen.told.stands == Stands::Done,
    };
    let by_another = seen.beside.stirred.is_some() && seen.beside.stirred == after.guest;
    // The saving of a driver that was killed comes to its end by itself.
    let by_itself =
        before.pending && seen.told.stands == Stands::Untouched && after.guest == Some("postmigrate");
    if after.guest == before.guest || is_meant || by_another || by_itself {
        return found;
    }
    match (before.guest, after.guest) {
        (Some(was), Some(is)) => {
            let told = match is {
                "running" => seen.says(&["runs", "let the guest go on", "let it go on"]),
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
        (Some(was), None) if !seen.killed && !seen.says(&["QEMU is gone", "is off", "ended", "end QEMU"]) => {
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
    let killed = seen.told.stands == Stands::Killed;
    let reachable = after.reachable(seen.last_tops);
    let harmless = |broken: &&String| {
        let between = |before: &str, behind: &str| {
            let rest = broken.strip_prefix(before)?;
            Some(rest.split_once(behind)?.0.to_owned())
        };
        // The guest does not use a node that was left open, a job that was left waits for its client: both are named, unless who
        // would name them is killed. And nobody reads a file that is in no chain.
        let node = between("the file of node ", " was unlinked")
            .or_else(|| between("node ", " is qcow2, and its image is not"))
            .or_else(|| between("node ", " stands on "));
        let job = between("job ", " rests in ");
        let file = between("file ", " is backed by ");
        node.is_some_and(|node| after.loose.contains_key(&node) && seen.names(&node))
            || job.is_some_and(|job| killed || before.jobs.contains(&job) || seen.names(&job))
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
        // What a storage has caught and could not name is told so.
        let is_nameless = |file: &String| {
            file.ends_with(&format!("@{name}")) && seen.says(&[&format!("without its name `{name}`")])
        };
        let missing = record.needs.iter().filter(missing).filter(|file| !is_nameless(file));
        for file in missing.filter(|file| !seen.names(file)) {
            found.push(format!("snapshot {name} is recorded and needs {file}, which is not there"));
        }
        let was_gone = |file: &str| was.is_some_and(|was| was.overlays.contains(file) && !before.has(file));
        let gone = record.overlays.iter().filter(|file| !after.has(file) && !was_gone(file));
        let own_file = format!("{name}.xml");
        for file in gone.filter(|file| !seen.names(file) && !seen.names(&own_file)) {
            found.push(format!("snapshot {name} is recorded to have gone on in {file}, which is not there"));
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
    let left = left.filter(|path| !seen.is_asked_for(path));
    left.map(|path| format!("{path} is left behind, and is not named")).collect()
}

fn quiesced(seen: Seen<'_>) -> Vec<String> {
    let awake: Vec<_> = seen.beside.awake.iter().map(String::as_str).collect();
    let is_lie = seen.told.quiesced == Some(Verdict::Yes) && !awake.is_empty();
    let found = is_lie.then(|| {
        format!(
            "it is told to be of a guest at rest, and {} was not frozen when it was taken",
            awake.join(" ")
        )
    });
    found.into_iter().collect()
}

fn told(seen: Seen<'_>) -> Vec<String> {
    match seen.told.stands {
        Stands::Done => {
            let compare = |usual| {
                let wanted = without_what_was_closed(seen, usual);
                unlike(&wanted, &without_what_was_left(seen, usual), "usually")
            };
            seen.usual_end().map_or_else(Vec::new, compare)
        }
        Stands::Untouched | Stands::AsBefore | Stands::Gone => {
            let mut found = unlike(&without_what_was_closed(seen, seen.before), seen.after, "before");
            if seen.told.stands == Stands::Gone && seen.after.guest.is_some() {
                found.push("QEMU is told to be gone, and is there".to_owned());
            }
            found
        }
        Stands::Left
        | Stands::Unfinished
        | Stands::Unknown
        | Stands::Partly
        | Stands::Killed
        | Stands::Unsaid => Vec::new(),
    }
}

/// How everything stands, but for what an earlier operation had left already and is named again: it is not this one's.
fn without_what_was_left(seen: Seen<'_>, usual: &State) -> State {
    let Seen { before, after, .. } = seen;
    let mut without = after.clone();
    let in_use = before.in_use();
    let is_named = |node: &String, file: &String| seen.names(node) || seen.names(file);
    let (names, usually) = (ranked(after.files()), ranked(usual.files()));
    let is_usual = |file: &String| names.iter().any(|(name, own)| *own == file && usually.contains_key(name));
    let was_left =
        |file: &String| before.images.contains_key(file) && !is_usual(file) && !in_use.contains(file);
    // A node that is a mark has no file.
    let was_open = |file: &String| file.is_empty() || was_left(file);
    without.jobs.retain(|job| !(before.jobs.contains(job) && seen.names(job)));
    without
        .loose
        .retain(|node, file| !(before.loose.contains_key(node) && was_open(file) && is_named(node, file)));
    without.images.retain(|file, _| !(was_left(file) && seen.names(file)));
    without.data.retain(|file, _| without.images.contains_key(file));
    let is_told_again = without != *after || seen.says(&["of earlier operations"]);
    without.pending &= !before.pending || !is_told_again;
    without
}

/// How everything was to stand, but for what an earlier operation had left open and this one has closed first: that was of no use.
/// What was open in a QEMU that is gone nobody has closed.
fn without_what_was_closed(seen: Seen<'_>, wanted: &State) -> State {
    let Seen { before, after, .. } = seen;
    let mut without = wanted.clone();
    if before.pending {
        let in_use = before.reachable(seen.last_tops);
        let was_left =
            |file: &String| before.loose.values().any(|left| left == file) && !in_use.contains(file);
        let is_closed = |node: &String| before.loose.contains_key(node) && !after.loose.contains_key(node);
        without.loose.retain(|node, _| after.guest.is_none() || !is_closed(node));
        let is_dismissed = |job: &String| before.jobs.contains(job) && !after.jobs.contains(job);
        let is_a_drivers = |job: &String| job.starts_with("ff-");
        without.jobs.retain(|job| after.guest.is_none() || !is_a_drivers(job) || !is_dismissed(job));
        without.images.retain(|file, _| after.has(file) || !was_left(file));
        without.data.retain(|file, _| without.images.contains_key(file));
    }
    without
}

fn bound(seen: Seen<'_>) -> Vec<String> {
    let bound = seen.within + BEYOND;
    let late = (seen.took > bound)
        .then(|| format!("it took {:?}, and might take {:?} and {:?} more", seen.took, seen.within, BEYOND));
    late.into_iter().collect()
}

#[cfg(test)]
mod tests;
