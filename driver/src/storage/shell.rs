//! Runs what a [`Provider`] asks for: the one place that does an operation of a storage, the same way for every one.

use std::{io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Act, BackupSource, InUse, Provider, Snapshot, StorageError, WITHIN};
use crate::{
    env::{Ended, Env, HostCommand},
    name::SnapshotName,
    step::Happened,
};

/// A volume, or several as one group, and the world in which its storage's tool is run.
#[derive(Debug)]
pub struct Storage<E> {
    env: E,
    provider: Box<dyn Provider>,
    within: Duration,
}

/// How a storage is to stand after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// It has the snapshot now, whole.
    Present,
    /// It has it no more.
    Absent,
    /// It has it still; what else has changed, its list does not tell.
    Kept,
}

impl Wanted {
    fn is(self, name: &SnapshotName, found: &[Snapshot]) -> bool {
        let mut of_that_name = found.iter().filter(|snapshot| snapshot.name == *name);
        match self {
            Wanted::Present => of_that_name.any(|snapshot| snapshot.fit),
            Wanted::Kept => of_that_name.next().is_some(),
            Wanted::Absent => of_that_name.next().is_none(),
        }
    }
}

/// Whether none of the snapshots that there are has this name.
///
/// # Errors
/// [`StorageError::Exists`].
pub(crate) fn absent(
    provider: &dyn Provider,
    name: &SnapshotName,
    found: &[Snapshot],
) -> Result<(), StorageError> {
    let words = || format!("{} has a snapshot `{name}`", provider.volume());
    match found.iter().any(|snapshot| snapshot.name == *name) {
        true => Err(StorageError::Exists { words: words() }),
        false => Ok(()),
    }
}

/// The snapshot of this name, among those that there are.
///
/// # Errors
/// [`StorageError::Gone`].
pub(crate) fn present<'f>(
    provider: &dyn Provider,
    name: &SnapshotName,
    found: &'f [Snapshot],
) -> Result<&'f Snapshot, StorageError> {
    let words = || format!("{} has no snapshot `{name}`", provider.volume());
    let is_it = |snapshot: &&Snapshot| snapshot.name == *name;
    found.iter().find(is_it).ok_or_else(|| StorageError::Gone { words: words() })
}

impl<E: Env> Storage<E> {
    /// A volume whose commands may take [`WITHIN`] each.
    pub fn new(env: E, provider: impl Provider + 'static) -> Self {
        Self::boxed(env, Box::new(provider))
    }

    /// The same of a provider that is known only when the program runs.
    pub fn boxed(env: E, provider: Box<dyn Provider>) -> Self {
        Self { env, provider, within: WITHIN }
    }

    /// The same with another bound for each command.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    pub(super) fn env(&self) -> &E {
        &self.env
    }

    /// The volume, and how its tool is spoken to.
    pub fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// The snapshots that there are, as the storage orders them.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn list(&self) -> Result<Vec<Snapshot>, StorageError> {
        let said = self.ask(self.provider.list()).await?;
        self.provider.listed(&said)
    }

    /// Whether a snapshot that is taken now gets the room that it is to have. What others take meanwhile is not seen.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn check_room(&self) -> Result<(), StorageError> {
        let said = self.ask(self.provider.room()).await?;
        self.provider.check_room(&said)
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// [`StorageError`]: there is none then, but where the error says so.
    pub async fn snapshot(&self, name: &SnapshotName) -> Result<(), StorageError> {
        let fresh = self.env.unique_id();
        // What the storage cannot have is refused before it is asked for anything.
        self.provider.snapshot(name, &fresh)?;
        absent(&*self.provider, name, &self.list().await?)?;
        self.check_room().await?;
        let taken = match self.catch(name, &fresh).await {
            Ok(()) => self.seal(name, &fresh).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(done @ StorageError::Unfinished { .. }) => Err(done),
            Err(error) => {
                let left = self.let_go(name, &fresh, false).await;
                Err(error.but(left))
            }
        }
    }

    /// The moment of a snapshot, and no more than that: a guest that is at rest for it may go on behind it. [`Storage::seal`]
    /// has to follow, or [`Storage::let_go`]. It may be long, and the guest stands still for it: it gives way as soon as the operation is
    /// wanted no more, and the guest is let go before anybody asks what the storage has done.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn catch(&self, name: &SnapshotName, fresh: &str) -> Result<(), StorageError> {
        let acts = self.provider.snapshot(name, fresh)?;
        let Some(moment) = acts.first() else { return Ok(()) };
        let run = HostCommand { gives_way: true, ..moment.run.clone() };
        match self.act(&Act { run, ..moment.clone() }).await {
            Ok(()) => self.check_given(name, fresh).await,
            // A copy that has no name yet is none, whatever there is of it.
            Err(mut error) if acts.len() > 1 => {
                error.doubt().into_iter().for_each(|happened| *happened = Happened::No);
                Err(error)
            }
            Err(error) => self.after_all(error, name, Wanted::Present).await,
        }
    }

    /// Whether a snapshot that was just made has the room that it was to have. One that has not is deleted.
    async fn check_given(&self, name: &SnapshotName, fresh: &str) -> Result<(), StorageError> {
        let asked = self.ask(self.provider.given(name)).await;
        match asked.and_then(|said| self.provider.check_given(&said)) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.but(self.let_go(name, fresh, true).await)),
        }
    }

    /// Does what a snapshot that is caught still needs, and sees that it is there.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn seal(&self, name: &SnapshotName, fresh: &str) -> Result<(), StorageError> {
        let acts = self.provider.snapshot(name, fresh)?;
        self.carry_out(acts.get(1..).unwrap_or_default(), name, Wanted::Present).await
    }

    /// Does what comes behind the decision of a snapshot that is there, once more if it was done.
    ///
    /// # Errors
    /// [`StorageError::Unfinished`].
    pub(crate) async fn tidy_up(&self, name: &SnapshotName, fresh: &str) -> Result<(), StorageError> {
        let acts = self.provider.snapshot(name, fresh)?;
        let mut failed = Vec::new();
        for act in acts.iter().skip_while(|act| !act.decides).skip(1) {
            match self.act(act).await {
                Ok(()) | Err(StorageError::Gone { .. }) => {}
                Err(error) => failed.push(format!("{}: {error}", in_words(&act.run))),
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(StorageError::Unfinished { failed }) }
    }

    /// Clears away what was caught; with `whole` also one that has its name by being caught. What could not be.
    pub(crate) async fn let_go(&self, name: &SnapshotName, fresh: &str, whole: bool) -> Vec<String> {
        let acts = self.provider.snapshot(name, fresh).unwrap_or_default();
        match acts.as_slice() {
            [moment, _, ..] => self.undo(std::slice::from_ref(moment)).await,
            [_] if whole => match self.delete(name).await {
                Ok(()) | Err(StorageError::Gone { .. }) => Vec::new(),
                Err(error) => vec![format!("the snapshot `{name}` of {}: {error}", self.provider.volume())],
            },
            _ => Vec::new(),
        }
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// [`StorageError`]: it is there still, but where the error says that it is not.
    pub async fn delete(&self, name: &SnapshotName) -> Result<(), StorageError> {
        let acts = self.provider.delete(name)?;
        self.known(name).await?;
        self.carry_out(&acts, name, Wanted::Absent).await
    }

    /// Lets go of a snapshot and keeps all that was written since.
    ///
    /// # Errors
    /// [`StorageError`]: it is there still, but where the error says that it is not.
    pub async fn merge(&self, name: &SnapshotName) -> Result<(), StorageError> {
        let acts = self.provider.merge(name)?;
        self.known(name).await?;
        self.carry_out(&acts, name, Wanted::Absent).await
    }

    /// Lets the live volume be what the snapshot holds; what was written since is lost. Nobody may use it: who has it open is
    /// asked for where the storage tells, and is the caller's to know elsewhere.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn revert(&self, name: &SnapshotName) -> Result<(), StorageError> {
        let fresh = self.env.unique_id();
        self.provider.revert(name, &fresh)?;
        self.may_revert(name).await?;
        self.revert_at_once(name, &fresh).await
    }

    /// Whether the live volume may be put back to it now.
    ///
    /// # Errors
    /// [`StorageError`]: nothing was changed.
    pub(crate) async fn may_revert(&self, name: &SnapshotName) -> Result<(), StorageError> {
        if !self.known(name).await?.fit {
            let volume = self.provider.volume();
            let words = format!("the snapshot `{name}` of {volume} is incomplete, or has lost what it held");
            return Err(StorageError::Gone { words });
        }
        let said = self.ask(self.provider.users()).await?;
        match self.provider.used(name, &said)? {
            Some(words) => Err(StorageError::Busy { words }),
            None => self.check_goes_back_whole().await,
        }
    }

    /// The same as [`Storage::revert`], where it is known that it may be.
    pub(crate) async fn revert_at_once(&self, name: &SnapshotName, fresh: &str) -> Result<(), StorageError> {
        let acts = self.provider.revert(name, fresh)?;
        let consumes = self.provider.capabilities().revert_consumes;
        self.carry_out(&acts, name, if consumes { Wanted::Absent } else { Wanted::Kept }).await
    }

    /// Where a backup reads a snapshot of `image`, the file or device that the machine uses.
    ///
    /// # Errors
    /// [`StorageError`]: there is no such snapshot, or this storage shows none.
    pub async fn backup_source(
        &self,
        name: &SnapshotName,
        image: Option<&Utf8Path>,
    ) -> Result<BackupSource, StorageError> {
        self.known(name).await?;
        let words = || format!("{} shows no snapshot beside the live volume", self.provider.method());
        let image = match image {
            Some(path) => Some(InUse::ask(&self.env, path).await),
            None => None,
        };
        let source = self.provider.backup_source(name, image.as_ref());
        source.ok_or_else(|| StorageError::NotSupported { words: words() })
    }

    /// The files that go back with the volume; none where it is all one disk's.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn files(&self) -> Result<Vec<Utf8PathBuf>, StorageError> {
        let said = self.ask(self.provider.place()).await?;
        let said = self.ask(self.provider.files(&said)?).await?;
        let names =
            said.iter().flat_map(|said| said.split(|byte| *byte == 0)).filter(|name| !name.is_empty());
        names.map(|name| Ok(super::text("find", name)?.into())).collect()
    }

    /// A snapshot that must be there.
    async fn known(&self, name: &SnapshotName) -> Result<Snapshot, StorageError> {
        present(&*self.provider, name, &self.list().await?).cloned()
    }

    /// Does the acts, undoes them if one fails, and sees for itself how things stand.
    async fn carry_out(&self, acts: &[Act], name: &SnapshotName, wanted: Wanted) -> Result<(), StorageError> {
        let (mut decided, mut failed) = (false, Vec::new());
        for (at, act) in acts.iter().enumerate() {
            match self.act(act).await {
                Ok(()) => decided |= act.decides,
                Err(error) if decided => failed.push(format!("{}: {error}", in_words(&act.run))),
                Err(mut error) if wanted == Wanted::Kept && !act.decides && decides(&acts[at..]) => {
                    // No list would tell, and what decides is still to come.
                    error.doubt().into_iter().for_each(|happened| *happened = Happened::No);
                    let left = self.undo(&acts[..=at]).await;
                    return Err(error.but(left));
                }
                Err(error) => match self.after_all(error, name, wanted).await {
                    Ok(()) => decided = true,
                    Err(error) => {
                        let left = self.undo(&acts[..=at]).await;
                        return Err(error.but(left));
                    }
                },
            }
        }
        if !failed.is_empty() {
            return Err(StorageError::Unfinished { failed });
        }
        let shown = match self.list().await {
            Ok(found) if wanted.is(name, &found) => return Ok(()),
            Ok(_) if wanted == Wanted::Absent => format!("{} still has `{name}`", self.provider.volume()),
            Ok(_) => format!("{} has no `{name}`", self.provider.volume()),
            // The tool's word is all there is: to take it for done and say so loses nothing, to take it for not done would.
            Err(error) => {
                let asked = format!("whether `{name}` of {} is as it should be", self.provider.volume());
                return Err(StorageError::Unfinished {
                    failed: vec![format!("{asked} cannot be asked: {error}")],
                });
            }
        };
        Err(StorageError::Stale { shown })
    }

    /// Does one act.
    async fn act(&self, act: &Act) -> Result<(), StorageError> {
        self.run(&act.run).await.and_then(|said| self.provider.understood(&said))
    }

    /// Whether an act that has failed has done what is wanted all the same, where that is not known: a tool that was killed, or
    /// had no answer, may be behind it.
    async fn after_all(
        &self,
        mut error: StorageError,
        name: &SnapshotName,
        wanted: Wanted,
    ) -> Result<(), StorageError> {
        let Some(happened) = error.doubt() else { return Err(error) };
        *happened = match (wanted, self.list().await) {
            (Wanted::Kept, _) | (_, Err(_)) => Happened::Unknown,
            (_, Ok(found)) if wanted.is(name, &found) => return Ok(()),
            _ => Happened::No,
        };
        Err(error)
    }

    /// Takes back what was begun, newest first; what could not be.
    async fn undo(&self, acts: &[Act]) -> Vec<String> {
        let mut left = Vec::new();
        for undo in acts.iter().rev().filter_map(|act| act.undo.as_ref()) {
            match self.run(undo).await {
                Ok(_) | Err(StorageError::Gone { .. }) => {}
                Err(error) => {
                    left.push(format!("{}: {error}", in_words(undo)));
                }
            }
        }
        left
    }

    /// Runs commands that change nothing; what each of them says.
    pub(super) async fn ask(&self, commands: Vec<HostCommand>) -> Result<Vec<Vec<u8>>, StorageError> {
        let mut said = Vec::new();
        for command in commands {
            said.push(self.run(&command).await?);
        }
        Ok(said)
    }

    /// Runs one command to its end; what it says if it succeeds.
    async fn run(&self, command: &HostCommand) -> Result<Vec<u8>, StorageError> {
        let program = || -> Utf8PathBuf { command.program.clone() };
        let command = HostCommand { within: self.within, acts: true, ..command.clone() };
        let ran = self.env.run(&command).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StorageError::ToolMissing { program: program() },
            _ => StorageError::CannotRun { program: program(), source },
        })?;
        match ran.ended {
            Ended::Exited(0) => Ok(ran.stdout),
            Ended::Exited(code) => {
                let words = ran.words();
                Err(StorageError::refused(self.provider.refusal(code, &words), program(), words))
            }
            Ended::Killed(signal) => {
                Err(StorageError::Killed { program: program(), signal, happened: Happened::Unknown })
            }
            Ended::GaveWay => Err(StorageError::GaveWay { program: program() }),
            Ended::TooLate | Ended::Stuck => {
                Err(StorageError::TimedOut { program: program(), happened: Happened::Unknown })
            }
        }
    }
}

fn decides(acts: &[Act]) -> bool {
    acts.iter().any(|act| act.decides)
}

fn in_words(command: &HostCommand) -> String {
    format!("`{} {}`", command.program, command.arguments.join(" "))
}
