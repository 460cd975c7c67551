//! What an operation has left, open in QEMU or on the host's disk, and told so.
//!
//! A later operation writes its own journal in the place of the one that says so. What is left is taken along there until it is gone:
//!
//! ```text
//! open in QEMU        every later operation closes it: QEMU itself refuses to close what is in use
//! a file              every later operation names it, and recovery removes it: by now it may be somebody else's of the same name
//! used once more      nobody's affair any more: a record leads to it, or the machine's description
//! ```

use std::collections::BTreeSet;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{Pending, Written};
use crate::{
    env::{Env, FileKind},
    error::StepError,
    live::Live,
    step::{DropOverlay, ForgetLoad, Kind, PrepareOverlay, RemoveFile, RemoveImage, RemoveMemory, Step},
    strangers,
};

/// Something that an operation has left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The operation.
    pub of: String,
    /// What is left.
    pub what: Open,
}

/// What is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Open {
    /// An image that is of no use any more.
    Image(RemoveImage),
    /// The nodes of an overlay that no disk was switched to, and the job that was to write it.
    Overlay(PrepareOverlay),
    /// What tells of a load, of which nothing more is to be told.
    Load(ForgetLoad),
    /// A file that nothing leads to.
    File(RemoveFile),
    /// An overlay that nothing leads to, unless it holds an internal snapshot.
    Unless(DropOverlay),
    /// The memory of a snapshot that is gone.
    Memory(RemoveMemory),
}

impl Left {
    /// What to do about it by hand.
    pub(crate) fn remains(&self) -> String {
        match &self.what {
            Open::Image(image) => image.remains(),
            Open::Overlay(overlay) => overlay.remains(),
            Open::Load(load) => load.remains(),
            Open::File(file) => file.remains(),
            Open::Unless(overlay) => overlay.remains(),
            Open::Memory(memory) => memory.remains(),
        }
    }

    /// Its file, if it is one.
    fn file(&self) -> Option<&Utf8Path> {
        match &self.what {
            Open::Image(image) => Some(&image.file),
            Open::Overlay(overlay) => Some(&overlay.file),
            Open::File(file) => Some(&file.path),
            Open::Unless(overlay) => Some(&overlay.file),
            Open::Memory(memory) => Some(&memory.path),
            Open::Load(_) => None,
        }
    }

    /// Its image, which another one may stand on.
    pub(crate) fn image(&self) -> Option<&Utf8Path> {
        self.file().filter(|_| !matches!(self.what, Open::Memory(_)))
    }

    /// The image that is of no use, whatever it stands on.
    pub(crate) fn worthless(&self) -> Option<&Utf8Path> {
        self.file().filter(|_| !matches!(self.what, Open::Unless(_)))
    }

    /// Closes what is open of it, and with `removes` removes what is a file, unless `is_used` says that it is of use by now. Tells
    /// whether nothing is left.
    ///
    /// # Errors
    /// It may still be there.
    pub(crate) async fn close<E: Env>(
        &self,
        live: &Live<E>,
        removes: bool,
        is_used: impl Fn(&Utf8Path) -> bool,
    ) -> Result<bool, StepError> {
        // What was open in a QEMU that has ended went with it.
        let is_gone = live.is_gone();
        match &self.what {
            Open::Overlay(_) | Open::Load(_) if is_gone => {}
            Open::Overlay(overlay) => overlay.close(live).await?,
            Open::Load(load) => load.act(live).await?,
            Open::Image(image) if is_used(&image.file) => {}
            Open::Image(image) if !is_gone && image.is_open(live).await? => image.act(live).await?,
            Open::Image(image) if image.device => {}
            Open::Image(image) if image.merged_before => {
                return Ok(matches!(live.env().file_kind(&image.file).await, Ok(FileKind::Absent)));
            }
            Open::Image(RemoveImage { file, .. }) | Open::File(RemoveFile { path: file }) => {
                let file = RemoveFile { path: file.clone() };
                return remove(&file, &file.path, live, removes, is_used).await;
            }
            Open::Unless(overlay) => return remove(overlay, &overlay.file, live, removes, is_used).await,
            Open::Memory(memory) if !memory.may_be_there(live.env()).await => {}
            Open::Memory(memory) => return remove(memory, &memory.path, live, removes, is_used).await,
        }
        Ok(true)
    }
}

/// Removes a file that is left, and on which nothing stands by now, if that is asked for. Tells whether nothing is left.
async fn remove<E: Env>(
    step: &impl Kind,
    file: &Utf8Path,
    live: &Live<E>,
    removes: bool,
    is_used: impl Fn(&Utf8Path) -> bool,
) -> Result<bool, StepError> {
    let env = live.env();
    if is_used(file) || matches!(env.file_kind(file).await, Ok(FileKind::Absent)) {
        return Ok(true);
    }
    let alone = [file.to_owned()].into();
    if !removes || !strangers::standing_on(env, &alone, &BTreeSet::new()).await.is_empty() {
        return Ok(false);
    }
    step.act(live).await?;
    Ok(true)
}

impl Pending {
    /// What is left, by all that is written down: of the operations before it, and of this one.
    pub(crate) fn left(&self) -> Vec<Left> {
        let own = self.own_left().map(|what| Left { of: self.intent.plan.title.clone(), what });
        let own = own.filter(|_| !self.settled);
        self.intent.left.iter().cloned().chain(own).collect()
    }

    /// Behind the decisive stage what became of the removal of a file is not written down. Before it a disk may be in an overlay, or a
    /// machine in a new process, as soon as that was begun and is not put back.
    fn own_left(&self) -> impl Iterator<Item = Open> {
        let plan = &self.intent.plan;
        let steps: Vec<_> = self.steps().collect();
        let is_begun = |written: Written| matches!(written, Written::Done | Written::InDoubt);
        let may_use = |step: &Step| step.switches() || step.starts_a_machine();
        let in_use = steps.iter().any(|(_, written, step)| may_use(step) && is_begun(*written));
        let is_marked = |step: &Step| matches!(step, Step::MarkProcess(_));
        let marked = steps.iter().any(|(_, written, step)| is_marked(step) && is_begun(*written));
        // What was put back in part leaves what it has made; what came to its end has made it for use.
        let is_back = !self.undone.is_empty();
        steps.into_iter().filter_map(move |(stage, written, step)| {
            let not_removed = stage > plan.no_return && written == Written::InDoubt;
            match step {
                Step::RemoveImage(image) if not_removed => Some(Open::Image(image.clone())),
                Step::RemoveFile(file) if not_removed => Some(Open::File(file.clone())),
                Step::DropOverlay(overlay) if not_removed => Some(Open::Unless(overlay.clone())),
                Step::RemoveMemory(memory) if not_removed => Some(Open::Memory(memory.clone())),
                Step::ReserveFile(file) if is_back && !in_use && written == Written::Done => {
                    Some(Open::File(RemoveFile { path: file.path.clone() }))
                }
                Step::PrepareOverlay(overlay) if !in_use && is_begun(written) => {
                    Some(Open::Overlay(overlay.clone()))
                }
                Step::ForgetLoad(load) if marked && written != Written::Done => {
                    Some(Open::Load(load.clone()))
                }
                _ => None,
            }
        })
    }
}
