//! Takes an internal snapshot of some disks of a machine that runs, without its memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, nodes_with_tag};
use crate::{
    commands::{Action, BlockdevSnapshotDeleteInternalSync, Transaction},
    env::Env,
    error::StepError,
    live::Live,
};

/// Takes an internal snapshot of some disks in one transaction: all of them or none, of one point in time. The guest waits with its
/// writes meanwhile and goes on in the same images. Undoing deletes it: it was looked before that no image had one of that name.
///
/// Source: QEMU QAPI `transaction`, `blockdev-snapshot-internal-sync`, `blockdev-snapshot-delete-internal-sync`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakeTags {
    /// The snapshot's name.
    pub tag: String,
    /// The nodes on top of the disks.
    pub nodes: Vec<String>,
}

impl Kind for TakeTags {
    const UNDO: Option<&'static str> = Some("delete the snapshot");

    fn lane(&self) -> String {
        "take".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let take = |node| Action::BlockdevSnapshotInternalSync { device: node, name: &self.tag };
        let actions = self.nodes.iter().map(|node| take(node)).collect();
        live.execute(&Transaction { actions }).await?;
        Ok(())
    }

    /// All disks or none: anything between would be a defect in QEMU, and is reported as such.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let found = nodes_with_tag(live, &self.tag, &self.nodes).await?;
        match found.len() {
            0 => Ok(Happened::No),
            all if all == self.nodes.len() => Ok(Happened::Yes),
            _ => Err(StepError::Torn(found.join(", "))),
        }
    }

    /// A refused transaction has changed nothing. Of one in doubt what is there is deleted.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if begun == Begun::Refused {
            return Ok(());
        }
        let undone = async {
            for node in nodes_with_tag(live, &self.tag, &self.nodes).await? {
                live.execute(&BlockdevSnapshotDeleteInternalSync { device: &node, name: &self.tag }).await?;
            }
            Ok::<_, StepError>(())
        };
        undone.await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!(
            "snapshot `{}` may or may not be in the images: look for it with query-named-block-nodes, or `qemu-img snapshot -U -l` where QEMU is gone",
            self.tag
        )
    }
}

impl fmt::Display for TakeTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nodes.len() {
            1 => write!(f, "take {} inside the image", self.tag),
            all => write!(f, "take {} inside {all} images in one transaction", self.tag),
        }
    }
}
