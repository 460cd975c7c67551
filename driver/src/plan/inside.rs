//! Snapshots of some disks alone inside their images, without memory: all in one transaction of the machine that runs.
//!
//! ```text
//! write the record -> [freeze] -> take the tags -> [thaw]
//! ```
//! libvirt refuses it of a machine that runs, for a machine is not to be put back to disks of another moment than its memory. Whoever
//! asks for some disks goes back to those while it is off.
//!
//! Source: QEMU QAPI `transaction`, `blockdev-snapshot-internal-sync`.

use super::{Facts, Plan, Stage, check_images_are_held, internal, targets};
use crate::{
    align::{Aligned, Place},
    error::Refusal,
    step::{Freeze, TakeTags, Thaw, WriteRecords},
};

/// Plans the taking of one.
pub(super) fn create(
    aligned: &Aligned,
    record: Option<WriteRecords>,
    freeze: Option<Freeze>,
    facts: Facts<'_>,
) -> Result<Plan, Refusal> {
    let missing = facts.capabilities.missing_for_tags();
    if !missing.is_empty() {
        return Err(Refusal::Unsupported(missing));
    }
    internal::check_name(&aligned.name)?;
    check_images_are_held(facts)?;
    internal::check_is_new(&aligned.name, facts)?;
    let inside = aligned.targets(|place| *place == Place::Internal);
    let disks: Vec<_> = inside.iter().filter_map(|target| facts.observed.disk(target)).collect();
    let nodes = disks.iter().map(|disk| disk.node.clone()).collect();
    let take = TakeTags { tag: aligned.name.to_string(), nodes };
    let thaw = freeze.is_some().then(|| Stage::one(Thaw {}));
    let mut stages: Vec<_> = record.into_iter().map(Stage::one).chain(freeze.map(Stage::one)).collect();
    let no_return = stages.len();
    stages.push(Stage::one(take));
    stages.extend(thaw);
    let disks = targets(&disks);
    let (name, machine) = (&aligned.name, &facts.domain.name);
    let title = format!("snapshot {name} of {machine}: internal, of disks {} alone", disks.join(" "));
    Ok(Plan { title, disks, manual: Vec::new(), stages, no_return })
}
