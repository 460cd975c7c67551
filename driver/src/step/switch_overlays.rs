//! Puts every prepared overlay under its disk: the moment of the snapshot.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Remains};
use crate::{
    commands::{Action, DirtyBitmap, QueryBlock, Transaction},
    env::Env,
    error::StepError,
    live::Live,
};

/// Puts every prepared overlay under its disk in one transaction: the moment of the snapshot.
///
/// Point of no return: once QEMU has answered, the guest writes to the overlays.
/// Source: QEMU QAPI `transaction`, `blockdev-snapshot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwitchOverlays {
    /// One for each disk.
    pub switches: Vec<Switch>,
}

/// One disk's change of image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// The disk.
    pub target: String,
    /// The node that becomes the backing one.
    pub node: String,
    /// The overlay's node.
    pub overlay: String,
    /// The overlay's file.
    pub file: Utf8PathBuf,
    /// Bitmaps that go on in the overlay: what keeps account of writes must not stop at a snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<CarriedBitmap>,
}

/// A bitmap that goes on in the overlay under its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarriedBitmap {
    /// Its name.
    pub name: String,
    /// How many bytes one bit stands for.
    pub granularity: u32,
}

impl From<&DirtyBitmap> for CarriedBitmap {
    fn from(bitmap: &DirtyBitmap) -> Self {
        Self { name: bitmap.name.clone().unwrap_or_default(), granularity: bitmap.granularity }
    }
}

impl SwitchOverlays {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let bitmaps = self.switches.iter().flat_map(|Switch { overlay, bitmaps, .. }| {
            bitmaps.iter().map(move |CarriedBitmap { name, granularity }| Action::BlockDirtyBitmapAdd {
                node: overlay,
                name,
                granularity: *granularity,
                persistent: true,
            })
        });
        let switches = self
            .switches
            .iter()
            .map(|Switch { node, overlay, .. }| Action::BlockdevSnapshot { node, overlay });
        let actions = bitmaps.chain(switches).collect();
        live.execute(&Transaction { actions }).await?;
        Ok(())
    }

    /// All disks or none: anything between would be a defect in QEMU, and is reported as such.
    pub(super) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let devices = live.ask(&QueryBlock {}).await?;
        let on_top = |switch: &&Switch| {
            devices
                .iter()
                .filter_map(|device| device.inserted.as_ref()?.node_name.as_ref())
                .any(|top| *top == switch.overlay)
        };
        let switched: Vec<_> =
            self.switches.iter().filter(on_top).map(|switch| switch.target.as_str()).collect();
        match switched.len() {
            0 => Ok(Happened::No),
            all if all == self.switches.len() => Ok(Happened::Yes),
            _ => Err(StepError::Torn(switched.join(", "))),
        }
    }

    /// A refused transaction has changed nothing; one that was carried out is past the point of no return.
    pub(super) fn undo(&self, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Part | Begun::Refused => Ok(()),
            Begun::Whole => Err(self.remains()),
        }
    }

    pub(super) fn remains(&self) -> Remains {
        let files: Vec<_> = self.switches.iter().map(|switch| switch.file.as_str()).collect();
        format!(
            "the overlays {} are kept, for the guest may have written to them: see with query-block which images are \
             in use before you remove or start anything",
            files.join(", ")
        )
    }
}
