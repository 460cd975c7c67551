//! The overlays of `<transient/>` disks: those that go with the machine that is ended, and those that the next start makes.

use super::Way;
use crate::{
    domain_xml::{Disk, DomainXml},
    error::RevertRefusal,
    launch::{LaunchError, transient},
    plan::{Facts, Stage, transient as overlays},
};

/// Removes what goes with the machine that is ended, if nobody can miss any of it.
pub(super) fn thrown_away(facts: Facts<'_>) -> Result<Option<Stage>, RevertRefusal> {
    let mut kept = facts.observed.transient().filter_map(|disk| {
        let (disk, file, why) = (disk.target.clone(), disk.file.clone(), overlays::why_kept(disk, facts)?);
        Some(RevertRefusal::OverlayKept { disk, file, why })
    });
    kept.next().map_or_else(|| Ok(overlays::removal(facts)), Err)
}

impl Way<'_> {
    /// Whether nothing is in the way of the overlays on which the machine is to be started, as far as it was looked at.
    pub(super) fn check_overlays(&self, domain: &DomainXml) -> Result<(), LaunchError> {
        for overlay in transient::overlays(domain)? {
            let found = self.facts.aside.and_then(|aside| aside.kept.get(&overlay.file).cloned());
            let recorded = || overlays::is_recorded(&overlay.file, self.facts);
            if let Some(why) = found.or_else(|| recorded().then(|| "a record leads there".to_owned())) {
                let (target, file) = (overlay.target, overlay.file);
                return Err(LaunchError::OverlayStays { target, file, why });
            }
        }
        Ok(())
    }

    /// Whether no disk that is to load its part of the machine's state is written through an overlay, which has none of it.
    pub(super) fn holds_no_transient(&self) -> Result<(), RevertRefusal> {
        let transient = self.domain.disks().find(Disk::transient);
        transient.map_or(Ok(()), |disk| {
            let why = format!(
                "its memory is inside the images, and disk {} is <transient/>: its overlay would not hold it",
                disk.target
            );
            Err(RevertRefusal::CannotLaunch { name: self.name(), why })
        })
    }
}
