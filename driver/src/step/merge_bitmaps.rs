//! Lets the image below go on with an overlay's bitmaps, before the overlay is taken out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains};
use crate::{
    commands::{Action, BitmapOf, Transaction},
    env::Env,
    error::StepError,
    live::Live,
};

/// Lets the image below go on with an overlay's bitmaps, in one transaction, when all that the overlay holds has been copied down.
///
/// From here on the image below takes account itself of what the guest writes: the job writes it there too, and when the overlay is
/// taken out the guest does. So no write is missed. Of what was copied the bitmap tells too, which makes the next incremental backup
/// larger and never smaller.
///
/// There is nothing to undo: the overlay keeps its bitmaps, and one of the same name below it that tells of more than it must is
/// what every snapshot leaves behind.
///
/// Source: QEMU QAPI `block-dirty-bitmap-merge`; libvirt's `qemuBlockBitmapsHandleCommitFinish`, which does the same; tried on all
/// releases, with writes of a guest before and after the overlay is taken out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeBitmaps {
    /// The disk.
    pub target: String,
    /// The overlay's node.
    pub from: String,
    /// The node below it.
    pub to: String,
    /// Which.
    pub bitmaps: Vec<MergedBitmap>,
}

/// A bitmap that goes on below under its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergedBitmap {
    /// Its name.
    pub name: String,
    /// How many bytes one bit stands for.
    pub granularity: u32,
    /// Whether it is kept in the image when QEMU ends.
    pub persistent: bool,
    /// Whether it takes account of writes.
    pub recording: bool,
    /// Whether there is none below; else whether that one takes account of writes.
    pub below: Below,
}

/// What is below an overlay's bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Below {
    /// None of that name.
    Nothing,
    /// One that takes account of writes.
    Recording,
    /// One that does not.
    Resting,
}

impl MergeBitmaps {
    fn actions<'a>(&'a self, bitmap: &'a MergedBitmap) -> Vec<Action<'a>> {
        let (node, name) = (self.to.as_str(), bitmap.name.as_str());
        let add = Action::BlockDirtyBitmapAdd {
            node,
            name,
            granularity: bitmap.granularity,
            persistent: bitmap.persistent,
            disabled: !bitmap.recording,
        };
        let begin = match bitmap.below {
            Below::Nothing => Some(add),
            Below::Resting if bitmap.recording => Some(Action::BlockDirtyBitmapEnable { node, name }),
            Below::Resting | Below::Recording => None,
        };
        let bitmaps = vec![BitmapOf { node: &self.from, name }];
        begin.into_iter().chain([Action::BlockDirtyBitmapMerge { node, target: name, bitmaps }]).collect()
    }
}

impl Kind for MergeBitmaps {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("bitmaps-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let actions = self.bitmaps.iter().flat_map(|bitmap| self.actions(bitmap)).collect();
        live.execute(&Transaction { actions }).await?;
        Ok(())
    }

    // In doubt it is done again: bitmaps may be merged twice.

    async fn undo<E: Env>(
        &self,
        _live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        let names: Vec<_> = self.bitmaps.iter().map(|bitmap| bitmap.name.as_str()).collect();
        format!(
            "the bitmaps {} of disk {} may tell in the image below of more than was written",
            names.join(", "),
            self.target
        )
    }
}

impl fmt::Display for MergeBitmaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let the image below go on with the bitmaps of {}", self.target)
    }
}
