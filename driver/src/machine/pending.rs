//! An operation that has not come to its end: its journal, and the way out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::Machine;
use crate::{
    domain::Domain,
    domain_xml::DomainXml,
    env::{Env, FileKind, identity, one_name},
    error::OperationError,
    journal::{self, Intent, Journal, Left, Pending, Written},
    kept::{KeptFile, WhyKept},
    mark,
    plan::{self, Plan},
    qcow2,
    recover::{self, Recovered, Turn},
    step::{EndCommit, Step},
    tree::SnapshotTree,
};

mod doubts;
mod given_up;

/// What is told of a description that was brought up to date.
const DESCRIBED: &str = "write into the machine's description the images that it went on in";

impl<E: Env> Machine<E> {
    /// The operation that has not come to its end, if there is one. Nothing is done about it.
    ///
    /// # Errors
    /// [`OperationError::Journal`].
    pub async fn pending(&self) -> Result<Option<Pending>, OperationError> {
        let Some(records) = self.records.as_ref().filter(|_| !self.nothing_pends.get()) else {
            return Ok(None);
        };
        let folder = records.borrow().folder().to_owned();
        let Some(pending) = journal::read(self.monitor.env(), &folder).await? else {
            // Nobody else begins anything while the records are locked.
            self.nothing_pends.set(records.borrow().is_locked());
            return Ok(None);
        };
        pending.check(self.domain.borrow().document.as_ref())?;
        Ok(Some(pending))
    }

    /// Puts back, or carries to its end, an operation whose driver was killed or that has left something behind. None if there
    /// is nothing of the kind.
    ///
    /// Once nothing is left of it, it is forgotten; until then this may be tried again.
    ///
    /// # Errors
    /// [`OperationError::Held`], [`OperationError::Journal`], [`OperationError::Unreachable`]: nothing was touched.
    pub async fn recover(&self, within: Duration) -> Result<Option<Recovered>, OperationError> {
        let Some(pending) = self.pending().await? else { return Ok(None) };
        let _held = self.hold().await?;
        if self.is_off() {
            // It may have been started since, by the operation itself or by somebody else.
            let _ = self.monitor.reconnect(self.patience.connect).await;
        }
        let env = self.monitor.env();
        let journal = Journal::go_on(env, &pending).await?;
        // It is the whole way back and forward of every step: no place for that on the stack of who seldom needs it.
        let mut recovered = match pending.is_settled() {
            true => Recovered::over(&pending),
            false => Box::pin(self.follow(&pending, &journal, within)).await?,
        };
        // Of what nobody can tell whether the machine is made of it nothing is removed.
        let is_described = self.read_document().await.is_ok();
        let open = self.close_left(pending.intent.left.clone(), is_described).await;
        recovered.remains.extend(open.iter().map(Left::remains));
        recovered.kept = self.monitor.kept().take();
        recovered.forget_deeds_of_kept(&pending.intent.plan);
        // That is told, and no part of what was begun: another recovery has nothing to do about it.
        let elsewhere = self.in_what_was_merged(&pending).await;
        let is_done = recovered.turn == Turn::Forward && !elsewhere.is_empty();
        match recovered.turn {
            _ if is_done || recovered.remains.is_empty() => journal.over().await?,
            // Nothing else is to be done until somebody has looked.
            Turn::Unknown => {}
            _ => note(journal.told().await),
        }
        recovered.remains.extend(elsewhere);
        if recovered.turn == Turn::Unknown {
            recovered.remains.extend(self.left_in_doubt(&pending).await);
        }
        self.tell_doubts(&mut recovered);
        Ok(Some(recovered))
    }

    /// Carries it to its end, or puts it back; and takes over what that has come to.
    async fn follow(
        &self,
        pending: &Pending,
        journal: &Journal<E>,
        within: Duration,
    ) -> Result<Recovered, OperationError> {
        let (deadline, patience) = (self.monitor.env().now() + within, self.patience.at_most(within));
        let Intent { plan, domain, was_off, document, .. } = &pending.intent;
        let mut named = BTreeSet::new();
        if self.is_off() && !was_off {
            self.read_document().await?;
            named = self.domain().disks.into_iter().filter_map(|disk| disk.source).collect();
            named.retain(|file: &Utf8PathBuf| plan.merges().any(|end| end.file == *file));
        }
        self.monitor.kept().spare(named.clone());
        let recovered = recover::recover(&self.monitor, pending, deadline, patience, journal).await;
        self.monitor.rest().release();
        self.monitor.kept().spare(BTreeSet::new());
        let mut recovered = recovered?;
        let done = recovered.turn == Turn::Forward;
        if self.is_off() && !done {
            self.note_stayed(pending, journal).await;
        }
        let tree = self.written_records().await;
        let document = self.document.as_deref().or(document.as_deref());
        match self.take_over(plan, tree, domain.clone(), done, *was_off, document).await {
            Ok(false) => {}
            Ok(true) => {
                recovered.deeds.push(DESCRIBED.to_owned());
                self.note_left(named).await;
            }
            Err(error) => recovered.remains.push(mark::told(&error)),
        }
        Ok(recovered)
    }

    /// Of the overlays that the description of a machine that is off named until now: what may be in those that it names no more.
    async fn note_left(&self, mut named: BTreeSet<Utf8PathBuf>) {
        if self.read_document().await.is_ok() {
            let domain = self.domain();
            named.retain(|file| !domain.disks.iter().any(|disk| disk.source.as_ref() == Some(file)));
        }
        for file in named {
            if !matches!(self.monitor.env().file_kind(&file).await, Ok(FileKind::Absent)) {
                self.monitor.kept().note(KeptFile { file, why: WhyKept::MayHaveRun });
            }
        }
    }

    /// That the QEMU that answers has disks in overlays out of which the operation had taken them: it is another one.
    async fn in_what_was_merged(&self, pending: &Pending) -> Vec<String> {
        let done = pending.steps().filter(|(_, written, _)| *written == Written::Done);
        let merged: Vec<_> = done.filter_map(|(.., step)| step.takes_the_guest_out()).collect();
        if merged.is_empty() || pending.is_settled() || self.is_off() {
            return Vec::new();
        }
        let Ok(observed) = self.observe().await else { return Vec::new() };
        let is_in = |end: &&&EndCommit| {
            let disk = observed.disk(&end.target);
            disk.is_some_and(|disk| disk.chain.iter().any(|image| image.file == end.file))
        };
        let told = |end: &&EndCommit| {
            format!(
                "QEMU has disk {} in `{}`, out of which it was taken: it was started from an old description since, and what was written \
                 below meanwhile lies under what it sees",
                end.target, end.file
            )
        };
        merged.iter().filter(is_in).map(told).collect()
    }

    /// Gives up an operation that has not come to its end: whatever it has left stays, and nobody is told of it any more.
    ///
    /// # Errors
    /// [`OperationError::Journal`].
    pub async fn forget_pending(&self) -> Result<Option<Pending>, OperationError> {
        let pending = self.pending().await?;
        if let Some(pending) = &pending {
            Journal::go_on(self.monitor.env(), pending).await?.over().await?;
        }
        Ok(pending)
    }

    /// What the records say was begun and has not ended, where nothing is pending: [`Machine::recover`] does nothing about it.
    pub fn forgotten(&self) -> Option<Recovered> {
        let tree = self.tree()?;
        let is_begun = |name: &&str| {
            tree.get(name).is_some_and(|record| record.disks.iter().any(|disk| disk.delete_in_progress))
        };
        let names: Vec<String> = tree.topological().into_iter().filter(is_begun).map(str::to_owned).collect();
        let mut forgotten = Recovered::forgotten(&names);
        self.tell_doubts(&mut forgotten);
        (!names.is_empty()).then_some(forgotten)
    }

    /// Before anything is changed: what an operation has left whose driver was killed is put right. What is left even then is told,
    /// and does not stand in the way, unless nobody knows how that operation came out. [`Machine::perform`] does so by itself, but
    /// tells it in the log alone.
    ///
    /// # Errors
    /// Those of [`Machine::recover`], and [`OperationError::Pending`].
    pub async fn put_right(&self, within: Duration) -> Result<Option<Recovered>, OperationError> {
        if self.pending().await?.is_none_or(|pending| pending.is_told()) {
            return Ok(None);
        }
        match Box::pin(self.recover(within)).await? {
            Some(unknown) if unknown.turn == Turn::Unknown => Err(OperationError::Pending(Box::new(unknown))),
            recovered => Ok(recovered),
        }
    }

    /// Closes what operations have left open that have told so, and with `removes` removes what they have left on the host's disk. Open
    /// still, an image stands on one that a disk is in, and QEMU would refuse to merge that one; and it refuses to write an overlay into
    /// a file that it has open. Returns what is left still.
    async fn close_left(&self, left: Vec<Left>, removes: bool) -> Vec<Left> {
        if left.is_empty() {
            return left;
        }
        let is_off = self.is_off();
        if !is_off {
            // A connection that was lost on the way here would be lost for all of them; without one each tells that it is open.
            let _ = self.monitor.reconnect(self.patience.connect).await;
        }
        let used = self.images_led_to(&left, is_off, removes).await;
        let tree = self.tree();
        let is_used = |file: &Utf8Path| {
            used.contains(file) || tree.as_ref().is_some_and(|tree| plan::is_named(tree, file))
        };
        let deadline = self.monitor.env().now() + self.patience.command;
        let live = self.monitor.live("left".into(), deadline, self.patience).of_one_that_is_gone(is_off);
        let mut open = Vec::new();
        for left in left {
            let closed = left.close(&live, removes, is_used).await;
            if let Err(error) = &closed {
                tracing::warn!(%error, of = left.of, "it is left still");
            }
            if !matches!(closed, Ok(true)) {
                open.push(left);
            }
        }
        open
    }

    /// The files among what is left that the machine's description or a record leads to: as an image of its own, or, where something is to
    /// be removed, as one below such an image, by the headers.
    async fn images_led_to(&self, left: &[Left], is_off: bool, removes: bool) -> BTreeSet<Utf8PathBuf> {
        let env = self.monitor.env();
        // The description of a machine that runs may be an old one.
        let domain = self.domain();
        let sources = domain.disks.iter().filter(|_| is_off).filter_map(|disk| disk.source.clone());
        let mut led_to: BTreeSet<Utf8PathBuf> = sources.collect();
        let mut files = BTreeMap::new();
        for file in left.iter().filter_map(Left::image).filter(|_| removes) {
            if !matches!(env.file_kind(file).await, Ok(FileKind::Absent)) {
                files.insert(identity(env, file).await, file);
            }
        }
        if files.is_empty() {
            return led_to;
        }
        let is_left = |file: &Utf8PathBuf| files.values().any(|left| left == file);
        let described = domain.disks.iter().filter_map(|disk| disk.source.clone());
        let described = described.filter(|file| is_off || !is_left(file));
        let mut open: Vec<_> = described.chain(plan::recorded(self.tree().as_ref())).collect();
        let mut seen = BTreeSet::new();
        while let Some(image) = open.pop() {
            if !seen.insert(identity(env, &image).await) {
                continue;
            }
            let Some(below) = qcow2::below(env, &one_name(env, &image).await).await else { continue };
            let below = image.parent().unwrap_or(&image).join(below);
            led_to.extend(files.get(&identity(env, &below).await).map(|file| (*file).to_owned()));
            open.push(below);
        }
        led_to
    }

    /// Writes down what is about to be done, where records are kept.
    pub(super) async fn begin_journal(
        &self,
        plan: &Plan,
        domain: Option<&DomainXml>,
    ) -> Result<Option<Journal<E>>, OperationError> {
        let Some(records) = &self.records else { return Ok(None) };
        let folder = records.borrow().folder().to_owned();
        let env = self.monitor.env();
        let machine = self.domain.borrow().document.clone();
        let left = self.pending().await?.map(|pending| pending.left()).unwrap_or_default();
        self.nothing_pends.set(false);
        let document = match self.document.as_deref().filter(|_| !self.is_off()) {
            Some(path) => Some(one_name(env, path).await),
            None => None,
        };
        let intent = Intent {
            domain: domain.cloned(),
            document,
            left: self.close_left(left, false).await,
            ..Intent::new(plan, machine.as_ref(), self.is_off(), env.seconds())
        };
        Ok(Some(Journal::begin(env, &folder, &intent).await?))
    }

    /// An operation has ended. What has left something behind stays written down, and is told by whoever has the error.
    pub(super) async fn end_journal(&self, journal: Option<Journal<E>>, ended: &Result<(), OperationError>) {
        let leaves = match ended {
            Ok(()) => false,
            Err(error) => matches!(
                error,
                OperationError::NotRolledBack { .. }
                    | OperationError::Unfinished { .. }
                    | OperationError::Unknown { .. }
            ),
        };
        let Some(journal) = journal else { return };
        if leaves {
            return note(journal.told().await);
        }
        // Who finds it finds everything done, or put back.
        match journal.left().is_empty() {
            true => note(journal.over().await),
            false => note(journal.settled().await),
        }
    }

    /// Takes over what a plan has come to: what the records say, in which images the machine is, and what machine it is. The file with
    /// its description is `document`, if that is to be written; tells whether it was.
    pub(super) async fn take_over(
        &self,
        plan: &Plan,
        tree: Option<SnapshotTree>,
        domain: Option<DomainXml>,
        done: bool,
        was_off: bool,
        document: Option<&Utf8Path>,
    ) -> Result<bool, OperationError> {
        if let (Some(records), Some(tree)) = (&self.records, tree) {
            records.borrow_mut().adopt(tree);
        }
        // Disks that a failed deletion has merged are in other images all the same.
        let merges = plan.steps().any(|step| matches!(step, Step::EndCommit(_)));
        let kept = match (done || merges) && !was_off {
            true => self.keep_document(document, plan, domain.as_ref().filter(|_| done)).await,
            false => Ok(false),
        };
        if done && self.off.is_some() && plan.ends_the_machine() {
            self.monitor.went_off();
        }
        if let Some(document) = domain.filter(|_| done) {
            let transient = self.domain.borrow().transient;
            self.domain.replace(Domain { transient, ..Domain::from(document) });
        }
        kept
    }
}

/// Whoever finds the journal later finds out by the machine itself what could not be written there.
fn note<E: std::fmt::Display>(written: Result<(), E>) {
    if let Err(error) = written {
        tracing::warn!(%error, "how the operation has ended is not written down");
    }
}
