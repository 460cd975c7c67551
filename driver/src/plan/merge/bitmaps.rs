//! The bitmaps of an overlay that is merged: who made them counts on them, so the image below goes on with them.

use super::Merge;
use crate::{
    commands::DirtyBitmap,
    error::{DeleteRefusal, Refusal},
    plan::Facts,
    step::{Below, MergeBitmaps, MergedBitmap},
};

impl Merge<'_> {
    /// Whether the image below can go on with all bitmaps.
    pub(super) fn check_bitmaps(&self, facts: Facts<'_>) -> Result<(), Refusal> {
        for bitmap in &self.overlay.node.bitmaps {
            let why = match self.bitmap_below(bitmap) {
                _ if facts.off.is_some() => "the machine is off: start it first",
                _ if !bitmap.is_usable() => "it is in use, or inconsistent",
                Some(below) if !below.is_usable() => "that of the image below is in use, or inconsistent",
                _ if bitmap.persistent && self.base.node.format != "qcow2" => {
                    "the image below is of a format that keeps none"
                }
                _ => continue,
            };
            let (disk, file) = (self.disk.target.clone(), self.overlay.file.to_owned());
            let bitmap = bitmap.name.clone().unwrap_or_default();
            return Err(DeleteRefusal::BitmapLost { disk, file, bitmap, why }.into());
        }
        Ok(())
    }

    /// That of the same name in the image below.
    fn bitmap_below(&self, bitmap: &DirtyBitmap) -> Option<&DirtyBitmap> {
        self.base.node.bitmaps.iter().find(|below| below.name == bitmap.name)
    }

    /// Lets the image below go on with the overlay's bitmaps, if it has any.
    pub(super) fn merge_bitmaps(&self) -> Option<MergeBitmaps> {
        let merged = |bitmap: &DirtyBitmap| MergedBitmap {
            name: bitmap.name.clone().unwrap_or_default(),
            granularity: bitmap.granularity,
            persistent: bitmap.persistent,
            recording: bitmap.recording,
            below: match self.bitmap_below(bitmap) {
                None => Below::Nothing,
                Some(below) if below.recording => Below::Recording,
                Some(_) => Below::Resting,
            },
        };
        let bitmaps: Vec<_> = self.overlay.node.bitmaps.iter().map(merged).collect();
        (!bitmaps.is_empty()).then(|| MergeBitmaps {
            target: self.disk.target.clone(),
            from: self.overlay.node.name.clone(),
            to: self.base.node.name.clone(),
            bitmaps,
        })
    }
}
