//! What an operation has left open in QEMU, and told so.
//!
//! A later operation writes its own journal in the place of the one that says so. What can be closed at any later time, because
//! QEMU itself refuses to close what is in use, is taken along there until it is closed.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{Pending, Written};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    step::{ForgetLoad, Kind as _, PrepareOverlay, RemoveImage, Step},
};

/// Something that an operation has left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The operation.
    pub of: String,
    /// What is left.
    pub what: Open,
}

/// What is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Open {
    /// An image that is of no use any more.
    Image(RemoveImage),
    /// The nodes of an overlay that no disk was switched to, and the job that was to write it.
    Overlay(PrepareOverlay),
    /// What tells of a load, of which nothing more is to be told.
    Load(ForgetLoad),
}

impl Left {
    /// What to do about it by hand.
    pub(crate) fn remains(&self) -> String {
        match &self.what {
            Open::Image(image) => image.remains(),
            Open::Overlay(overlay) => overlay.remains(),
            Open::Load(load) => load.remains(),
        }
    }

    /// The file that is open, if it is one.
    pub(crate) fn file(&self) -> Option<&Utf8Path> {
        match &self.what {
            Open::Image(image) => Some(&image.file),
            Open::Overlay(overlay) => Some(&overlay.file),
            Open::Load(_) => None,
        }
    }

    /// Closes it. An image that is open is removed too, unless `is_named` says that a record needs it; of a file that no node has
    /// open nobody knows whose it is by now.
    ///
    /// # Errors
    /// It may still be open.
    pub(crate) async fn close<E: Env>(
        &self,
        live: &Live<E>,
        is_named: impl Fn(&RemoveImage) -> bool,
    ) -> Result<(), StepError> {
        match &self.what {
            Open::Image(image) if is_named(image) || !image.is_open(live).await? => Ok(()),
            Open::Image(image) => image.act(live).await,
            Open::Overlay(overlay) => overlay.close(live).await,
            Open::Load(load) => load.act(live).await,
        }
    }
}

impl Pending {
    /// What is left open, by all that is written down: of the operations before it, and of this one.
    pub(crate) fn left(&self) -> Vec<Left> {
        let own = self.own_left().map(|what| Left { of: self.intent.plan.title.clone(), what });
        let own = own.filter(|_| !self.settled);
        self.intent.left.iter().cloned().chain(own).collect()
    }

    /// Behind the decisive stage what became of the removal of an image is not written down. Before it a disk may be in an overlay
    /// as soon as the switch was begun and is not put back.
    fn own_left(&self) -> impl Iterator<Item = Open> {
        let plan = &self.intent.plan;
        let stages = plan.stages.iter().enumerate();
        let steps = stages.flat_map(|(stage, steps)| steps.steps.iter().map(move |step| (stage, step)));
        let steps: Vec<_> =
            steps.enumerate().map(|(number, (stage, step))| (stage, self.of(stage, number), step)).collect();
        let is_begun = |written: Written| matches!(written, Written::Done | Written::InDoubt);
        let in_use = steps.iter().any(|(_, written, step)| step.switches() && is_begun(*written));
        let is_marked = |step: &Step| matches!(step, Step::MarkProcess(_));
        let marked = steps.iter().any(|(_, written, step)| is_marked(step) && is_begun(*written));
        steps.into_iter().filter_map(move |(stage, written, step)| match step {
            Step::RemoveImage(image) if stage > plan.no_return && written == Written::InDoubt => {
                Some(Open::Image(image.clone()))
            }
            Step::PrepareOverlay(overlay) if !in_use && is_begun(written) => {
                Some(Open::Overlay(overlay.clone()))
            }
            Step::ForgetLoad(load) if marked && written != Written::Done => Some(Open::Load(load.clone())),
            _ => None,
        })
    }
}
