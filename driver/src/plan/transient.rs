//! The overlays of `<transient/>` disks, of which the guest writes to one as long as its machine runs: they go with it.
//!
//! Who starts the next machine makes them anew ([`crate::launch::transient`]).

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Stage, merge};
use crate::{
    domain_snapshot::Location,
    domain_xml::{Disk, DomainXml},
    launch::transient::{self, TransientOverlay},
    observed::{Observed, ObservedDisk},
    qemu_img::Backing,
    request::Request,
    step::RemoveTransient,
    tree::SnapshotTree,
};

/// Why overlays that an earlier run may have left stay; those of which nothing is said are not there, or may go.
pub type Kept = BTreeMap<Utf8PathBuf, String>;

/// The overlays that a request would have made anew: those on images that are there already. One that the machine writes to now is
/// not left by an earlier run.
pub fn overlays_found(
    request: &Request,
    tree: Option<&SnapshotTree>,
    observed: &Observed,
) -> Vec<TransientOverlay> {
    let Request::Revert(revert) = request else { return Vec::new() };
    let Some(record) = tree.and_then(|tree| tree.get(revert.name.as_str())) else { return Vec::new() };
    let Some(domain) = record.domain.clone().and_then(|domain| DomainXml::of(domain).ok()) else {
        return Vec::new();
    };
    let is_new = |disk: &Disk<'_>| {
        let part = record.disks.iter().find(|part| part.name == disk.target);
        part.is_none_or(|part| part.location == Some(Location::External))
    };
    let on = |disk: Disk<'_>| {
        let now = observed.sources().find(|(target, ..)| *target == disk.target);
        let (file, format) = now.map_or((disk.path()?, disk.format()), |(_, file, format)| (file, format));
        let image = Backing { file: file.to_owned(), format: format.to_owned() };
        Some(TransientOverlay {
            target: disk.target.to_owned(),
            file: transient::overlay_on(file, &domain.name()),
            image,
        })
    };
    let in_use = |file: &Utf8Path| observed.transient().any(|disk| disk.file == file);
    let transient = domain.disks().filter(|disk| disk.transient() && !is_new(disk));
    transient.filter_map(on).filter(|overlay| !in_use(&overlay.file)).collect()
}

/// Why an overlay is not to be removed, if somebody may miss it.
pub(super) fn why_kept(disk: &ObservedDisk, facts: Facts<'_>) -> Option<String> {
    if let Some(held) = disk.snapshots.first() {
        return Some(format!("it holds the internal snapshot `{}`", held.name));
    }
    let mut others = facts.observed.disks.iter().filter(|other| other.target != disk.target);
    if let Some(other) = others.find(|other| other.chain.iter().any(|image| image.file == disk.file)) {
        return Some(format!("disk `{}` stands on it", other.target));
    }
    is_recorded(&disk.file, facts).then(|| "a record leads there".to_owned())
}

/// Whether a record names a file, be it as a disk's image or as one below.
pub(super) fn is_recorded(file: &Utf8Path, facts: Facts<'_>) -> bool {
    facts.records.is_some_and(|records| {
        let mut all = records.tree.topological().into_iter().filter_map(|name| records.tree.get(name));
        merge::is_named(records.tree, file)
            || all.any(|record| {
                let said = [&record.domain, &record.inactive_domain];
                said.into_iter().flatten().any(|domain| domain.names(file.as_str()))
            })
    })
}

/// Removes the overlays of a machine that has ended, but for those that somebody may miss.
pub(super) fn removal(facts: Facts<'_>) -> Option<Stage> {
    let monitor = facts.monitor?;
    let overlays = facts.observed.transient().filter(|disk| why_kept(disk, facts).is_none());
    let remove =
        overlays.map(|disk| RemoveTransient { path: disk.file.clone(), monitor: monitor.to_owned() });
    let stage = Stage::all(remove);
    (!stage.steps.is_empty()).then_some(stage)
}
