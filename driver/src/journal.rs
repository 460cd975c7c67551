//! The journal: what an operation is about to do, written down before it does it, for whoever finds the machine when the driver
//! was killed.
//!
//! ```text
//! <state>/<machine>/pending     {"version":1, ... "plan":{...}}     the whole plan, before anything is done
//!                               {"about":[0,0]}                     before the steps of stage 0 act: in place with the plan
//!                               {"about":[3,6]}                     stages 3 to 6 are one standstill of the guest
//!                               {"undone":[4]}                      step 4, counted from 0, was put back, or never begun
//!                               {"told":true}                       its driver has told what is left
//!                               {"settled":true}                  it has ended well, and what earlier ones have left is left
//!                               {"over":true}                       nothing is pending; the file goes
//! ```
//!
//! One line each. The first two are put in place whole, the others are appended and synced. A last line without its end was not
//! followed by anything, and does not count.
//!
//! **Least harm.** Nothing is written while the guest stands still or is frozen: the mark before that covers all stages up to
//! its end, and the steps themselves are asked which of them have happened.
//!
//! An operation that has come to its end, done or put back, leaves no journal. One that has left something and told so keeps it
//! until the next begins, for what could not be put back today may be tomorrow: see [`crate::recover`]. The next takes along what
//! is left, in QEMU or on the host's disk ([`Left`]).

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io,
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::{
    domain_xml::DomainXml,
    env::{Access, Env, OpenFile},
    error::Code,
    plan::Plan,
    step::{Meanwhile, Step},
};

mod left;
mod programs;

pub use self::left::{Left, Open};

/// The file's name, in the folder of the machine's records.
pub const FILE: &str = "pending";

/// What this driver writes, and reads.
const VERSION: u32 = 1;

/// The longest journal that is read, in bytes: a plan for a thousand disks takes a few million.
const LONGEST: usize = 64 << 20;

/// What an operation is about to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The form of the journal.
    pub version: u32,
    /// Who the machine is, if its description says so.
    pub uuid: Option<String>,
    /// Whether it was off.
    pub was_off: bool,
    /// When it was begun, in seconds since 1970 (UTC).
    pub seconds: i64,
    /// What is done.
    pub plan: Plan,
    /// The machine then, if it is another one.
    pub domain: Option<DomainXml>,
    /// The file with the description of a machine that runs, from the root, if that is to be written when all is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Utf8PathBuf>,
    /// What operations before it have left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

impl Intent {
    /// What a plan is about to do to a machine.
    pub fn new(plan: &Plan, machine: Option<&DomainXml>, was_off: bool, seconds: i64) -> Self {
        let uuid = machine.and_then(DomainXml::uuid);
        let (domain, document, left) = (None, None, Vec::new());
        Self { version: VERSION, uuid, was_off, seconds, plan: plan.clone(), domain, document, left }
    }
}

/// What is written down as it comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mark {
    /// The steps of the stages from the first to the last are about to act; all before have come to their end.
    About(usize, usize),
    /// These steps have happened, and are not asked again.
    Done(Vec<usize>),
    /// These steps have failed, and the stages behind theirs are carried out all the same.
    Failed(Vec<usize>),
    /// These steps are put back, or were never begun.
    Undone(Vec<usize>),
    /// What is left has been told, and is no longer in anybody's way.
    Told(bool),
    /// Nothing of it is pending any more, but what operations before it have left.
    Settled(bool),
    /// Nothing is pending any more.
    Over(bool),
}

impl Mark {
    fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Why the journal cannot be written or read, and how things stand.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The host refused.
    #[error("cannot {action} `{path}`: {source}")]
    File {
        /// `write`, `read`, `lock`, `remove`.
        action: &'static str,
        /// The journal.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there, and does not say what was to be done.
    #[error(
        "`{path}` tells of an operation that was not finished, and cannot be read: {why}. See how the machine stands \
         (`freezeframe snapshot list`, query-block, query-jobs), put it right by hand, and then move that file away"
    )]
    Unreadable {
        /// The journal.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A program that the operation has started has outlived its driver. But for a thaw nothing was done.
    #[error(
        "a program that the operation has started still runs, though its driver was killed, and may yet do what it was to do: wait, or end \
         it (`fuser {path}` tells who it is), and recover then"
    )]
    StillRuns {
        /// The journal.
        path: Utf8PathBuf,
    },
    /// It is of another machine.
    #[error(
        "`{path}` tells of an operation on the machine {written}, and this is {found}: two machines of one name. Move that file to \
         the state folder of the other one"
    )]
    AnotherMachine {
        /// The journal.
        path: Utf8PathBuf,
        /// The uuid that is written there.
        written: String,
        /// That of this machine.
        found: String,
    },
}

impl JournalError {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            JournalError::File { .. } => Code::SystemError,
            JournalError::Unreadable { .. } => Code::InternalError,
            JournalError::AnotherMachine { .. } => Code::OperationInvalid,
            JournalError::StillRuns { .. } => Code::OperationTimeout,
        }
    }
}

/// An operation's journal while it is carried out.
#[derive(Debug)]
pub(crate) struct Journal<E: Env> {
    env: E,
    path: Utf8PathBuf,
    file: E::File,
    /// How long it is, in bytes: nobody else writes it.
    length: Cell<u64>,
    /// The first stage that may not be begun yet by what is written down.
    uncovered: Cell<usize>,
    left: Vec<Left>,
    /// Held by the programs too that are run for it.
    lock: RefCell<Option<E::Lock>>,
}

impl<E: Env> Journal<E> {
    /// Writes down what is about to be done. What was written before is over.
    ///
    /// # Errors
    /// [`JournalError::File`]: nothing is pending that was not before.
    pub(crate) async fn begin(env: &E, folder: &Utf8Path, intent: &Intent) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        let mut line = serde_json::to_vec(intent).map_err(|error| failed("write", &path, error.into()))?;
        line.push(b'\n');
        let first = intent.plan.stages.first().filter(|stage| !stage.steps.is_empty());
        let covered = first.map(|_| covered(&intent.plan, 0));
        if let Some(last) = covered {
            line.extend(Mark::About(0, last).line().map_err(|error| failed("write", &path, error))?);
        }
        env.replace_file(&path, &line).await.map_err(|source| failed("write", &path, source))?;
        let journal = Self::of(env, path, intent, line.len() as u64).await?;
        journal.lock().await?;
        journal.uncovered.set(covered.map_or(0, |last| last + 1));
        Ok(journal)
    }

    /// Goes on with one that was found.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub(crate) async fn go_on(env: &E, pending: &Pending) -> Result<Self, JournalError> {
        let journal = Self::of(env, pending.path.clone(), &pending.intent, pending.length).await?;
        // What was torn off with its writer is no beginning of the next line.
        journal
            .file
            .set_length(pending.length)
            .await
            .map_err(|source| failed("write", &journal.path, source))?;
        Ok(journal)
    }

    async fn of(env: &E, path: Utf8PathBuf, intent: &Intent, length: u64) -> Result<Self, JournalError> {
        let file = env.open(&path, Access::Write).await.map_err(|source| failed("write", &path, source))?;
        let (left, length, uncovered) = (intent.left.clone(), Cell::new(length), Cell::new(0));
        Ok(Self { env: env.clone(), path, file, length, uncovered, left, lock: RefCell::default() })
    }

    /// What operations before this one have left.
    pub(crate) fn left(&self) -> &[Left] {
        &self.left
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Before the steps of this stage of the plan act: that they are about to, unless that is covered.
    pub(crate) async fn about(&self, plan: &Plan, stage: usize) -> io::Result<()> {
        if stage < self.uncovered.get() || plan.stages[stage].steps.is_empty() {
            return Ok(());
        }
        let last = covered(plan, stage);
        self.mark(&Mark::About(stage, last)).await?;
        self.uncovered.set(last + 1);
        Ok(())
    }

    /// These steps, by their numbers, have happened.
    pub(crate) async fn done(&self, steps: Vec<usize>) -> io::Result<()> {
        self.mark(&Mark::Done(steps)).await
    }

    /// These steps have failed, and what follows them is carried out all the same.
    pub(crate) async fn failed(&self, steps: Vec<usize>) -> io::Result<()> {
        self.mark(&Mark::Failed(steps)).await
    }

    /// These steps are put back, or were never begun.
    pub(crate) async fn undone(&self, steps: Vec<usize>) -> io::Result<()> {
        self.mark(&Mark::Undone(steps)).await
    }

    /// It has ended, and what is left of it is told.
    pub(crate) async fn told(&self) -> io::Result<()> {
        self.mark(&Mark::Told(true)).await
    }

    /// It has ended well, and operations before it have left something open.
    pub(crate) async fn settled(&self) -> io::Result<()> {
        self.mark(&Mark::Settled(true)).await
    }

    /// Nothing is pending any more.
    ///
    /// # Errors
    /// [`JournalError::File`]: it still stands there.
    pub(crate) async fn over(self) -> Result<(), JournalError> {
        // Its removal alone may be lost with the host. Where there is no room for the mark it is all that can be done.
        let marked = self.mark(&Mark::Over(true)).await;
        match self.env.remove_file(&self.path).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(match marked {
                Ok(()) => failed("remove", &self.path, source),
                Err(source) => failed("write", &self.path, source),
            }),
            _ => Ok(()),
        }
    }

    async fn mark(&self, mark: &Mark) -> io::Result<()> {
        let line = mark.line()?;
        // What was torn off is written over.
        self.file.write_at(self.length.get(), &line).await?;
        self.length.update(|length| length + line.len() as u64);
        self.file.sync().await
    }
}

/// An operation that was begun and, as far as is written down, has not come to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    path: Utf8PathBuf,
    /// What was to be done.
    pub intent: Intent,
    /// The first stage that may not have come to its end.
    first: usize,
    /// The first stage of which no step was begun.
    end: usize,
    done: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    undone: BTreeSet<usize>,
    told: bool,
    settled: bool,
    /// How long the part is that can be read, in bytes.
    length: u64,
}

/// How far a step had got, by what is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It had come to its end.
    Done,
    /// It may have begun.
    InDoubt,
    /// It had not begun.
    Ahead,
    /// It is put back.
    Undone,
}

impl Pending {
    /// How far a step had got, which is the `number`th of all and in this stage, both counted from 0.
    fn of(&self, stage: usize, number: usize) -> Written {
        match stage {
            _ if self.undone.contains(&number) => Written::Undone,
            _ if self.done.contains(&number) => Written::Done,
            _ if self.failed.contains(&number) => Written::InDoubt,
            stage if stage < self.first => Written::Done,
            stage if stage < self.end => Written::InDoubt,
            _ => Written::Ahead,
        }
    }

    /// Every step with its stage, and how far it had got.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (usize, Written, &Step)> {
        let stages = self.intent.plan.stages.iter().enumerate();
        let steps = stages.flat_map(|(stage, steps)| steps.steps.iter().map(move |step| (stage, step)));
        steps.enumerate().map(|(number, (stage, step))| (stage, self.of(stage, number), step))
    }

    /// Whether, by what is written down, it may be decided, and may not be: its decisive steps may have begun, and nothing came behind them.
    pub(crate) fn may_be_decided(&self) -> bool {
        let decisive = self.intent.plan.no_return;
        let mut steps = self.steps().filter(|(stage, ..)| *stage == decisive);
        let in_doubt = steps.any(|(_, written, _)| written == Written::InDoubt);
        in_doubt && self.undone.is_empty() && self.failed.is_empty() && !self.settled
    }

    /// Whether its driver has lived to tell what is left. Then it stands in nobody's way, and is put right only where that is
    /// asked for: who does the same once more finds it as it was told.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// Whether its plan is over, and only what earlier ones have left is written down with it.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// The operation that something is left of, or those.
    pub fn title(&self) -> String {
        let mut titles: Vec<_> = self.intent.left.iter().map(|left| left.of.as_str()).collect();
        titles.dedup();
        match self.settled {
            true => titles.join("; "),
            false => self.intent.plan.title.clone(),
        }
    }

    /// Whether it is this machine's, as far as both say.
    ///
    /// # Errors
    /// [`JournalError::AnotherMachine`].
    pub(crate) fn check(&self, machine: Option<&DomainXml>) -> Result<(), JournalError> {
        match (&self.intent.uuid, machine.and_then(DomainXml::uuid)) {
            (Some(written), Some(found)) if *written != found => {
                Err(JournalError::AnotherMachine { path: self.path.clone(), written: written.clone(), found })
            }
            _ => Ok(()),
        }
    }

    fn fold(&mut self, mark: Mark) {
        match mark {
            Mark::About(first, last) => {
                self.first = first;
                self.end = last + 1;
            }
            Mark::Done(steps) => self.done.extend(steps),
            Mark::Failed(steps) => self.failed.extend(steps),
            Mark::Undone(steps) => self.undone.extend(steps),
            Mark::Told(told) => self.told = told,
            Mark::Settled(settled) => (self.told, self.settled) = (settled, settled),
            Mark::Over(_) => {}
        }
    }
}

/// Reads the journal in a folder of records, if an operation is pending.
///
/// # Errors
/// [`JournalError::File`], [`JournalError::Unreadable`].
pub async fn read<E: Env>(env: &E, folder: &Utf8Path) -> Result<Option<Pending>, JournalError> {
    let path = folder.join(FILE);
    let bytes = match env.read_file(&path, LONGEST).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let why = format!("it is longer than {LONGEST} bytes");
            return Err(JournalError::Unreadable { path, why });
        }
        Err(source) => return Err(failed("read", &path, source)),
    };
    parse(path.clone(), &bytes).map_err(|why| JournalError::Unreadable { path, why })
}

fn parse(path: Utf8PathBuf, bytes: &[u8]) -> Result<Option<Pending>, String> {
    #[derive(Deserialize)]
    struct Form {
        version: u32,
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().ok_or("its first line is not whole")?;
    let form: Form = serde_json::from_slice(first).map_err(|error| error.to_string())?;
    if form.version != VERSION {
        return Err(format!("it is of the form {}, and this freezeframe knows {VERSION}", form.version));
    }
    let intent: Intent = serde_json::from_slice(first).map_err(|error| error.to_string())?;
    let mut pending = Pending {
        path,
        intent,
        first: 0,
        end: 0,
        done: BTreeSet::new(),
        failed: BTreeSet::new(),
        undone: BTreeSet::new(),
        told: false,
        settled: false,
        length: whole as u64,
    };
    for line in lines {
        let mark: Mark = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if mark == Mark::Over(true) {
            return Ok(None);
        }
        pending.fold(mark);
    }
    Ok(Some(pending))
}

/// The last stage that the mark before this one covers: where the guest is stopped or frozen by it, the last up to which it is.
fn covered(plan: &Plan, stage: usize) -> usize {
    let has = |index: usize, is: fn(&Step) -> bool| plan.stages[index].steps.iter().any(is);
    if !has(stage, stops) {
        return stage;
    }
    let last = plan.stages.len() - 1;
    (stage + 1..=last).rev().find(|index| has(*index, lets_go)).unwrap_or(last)
}

/// Whether the guest stands still, or is frozen, behind it.
fn stops(step: &Step) -> bool {
    match step {
        Step::Freeze(_) | Step::Pause(_) => true,
        Step::SaveMemory(save) => save.guest == Meanwhile::Live,
        _ => false,
    }
}

fn lets_go(step: &Step) -> bool {
    matches!(step, Step::Thaw(_) | Step::Resume(_))
}

fn failed(action: &'static str, path: &Utf8Path, source: io::Error) -> JournalError {
    JournalError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
