//! Going back inside the images of a machine that is off, or is ended for it: `qemu-img` puts them back one by one.
//!
//! All that the guest can write goes back, unless the snapshot is one of some disks alone: then those, and the others stay in the
//! images that they are in by now.

use super::{Goal, Way};
use crate::{
    domain_snapshot::{Location, SnapshotDisk, State},
    domain_xml::DomainXml,
    error::Refusal,
    launch::arguments::Power,
    observed::ObservedDisk,
    plan::{Planned, Stage, internal, targets},
    request::RevertFlag,
    step::{ApplySnapshot, RemoveFile, RemoveTag, Step},
    tree::SnapshotTree,
};

impl Way<'_> {
    /// Inside the images, while no machine has them.
    pub(super) fn apart(&self) -> Result<Planned, Refusal> {
        self.nothing_above()?;
        let (disks, domain) = if self.is_of_disks_alone() {
            (self.alone()?, self.machine(&[])?)
        } else {
            let disks = internal::holders(&self.revert.name, self.facts)?;
            self.same_images()?;
            (disks, self.domain.clone())
        };
        let going: &[String] = if self.facts.off.is_some() { &self.doomed } else { &[] };
        internal::check_nothing_stands_on(&self.revert.name, &disks, going, self.facts)?;
        let launcher = self.launcher_if_needed(&domain)?;
        let reset = self.reset_nvram()?;
        let (write, tree) = self.recorded(&[], &domain)?;
        let left = self.left_above(&domain, &tree)?;
        let tool = self.tool();
        let put_back = disks.iter().map(|disk| ApplySnapshot {
            program: tool.clone(),
            target: disk.target.clone(),
            file: disk.file.clone(),
            tag: self.name(),
        });
        let mut stages = vec![Stage::one(write)];
        stages.extend(self.described(&domain));
        stages.extend(launcher.and_then(|launcher| self.try_out(launcher, &domain)));
        stages.extend(self.stop().map(Stage::one));
        stages.extend(reset.clone().map(Stage::one));
        stages.push(Stage::all(put_back));
        let no_return = stages.len() - 1;
        let removed = self.tags().into_iter().flat_map(|(tag, disks)| {
            disks.into_iter().map(|disk| RemoveTag {
                program: tool.clone(),
                target: disk.target.clone(),
                file: disk.file.clone(),
                tag: tag.to_owned(),
            })
        });
        stages.extend(removed.map(Stage::one));
        stages.extend((!left.is_empty()).then(|| Stage::all(left)));
        stages.extend(self.discarded_parts(&tree)?.into_iter().map(Stage::one));
        stages.extend(self.thrown_away.clone());
        stages.extend(launcher.map(|launcher| {
            let power = if self.goal == Goal::Running { Power::Running } else { Power::Paused };
            Stage::one(self.start(launcher, &domain, power))
        }));
        stages.extend(reset.map(|reset| Stage::one(RemoveFile { path: reset.kept })));
        stages.extend(self.no_part(&tree).into_iter().map(Stage::one));
        let plan = self.plan("internal, without memory", targets(&disks), stages, no_return);
        Ok(Planned { plan, tree: Some(tree), domain: Some(domain) })
    }

    /// What goes with it beside the tags: of a machine that is off the overlays above too.
    fn left_above(&self, domain: &DomainXml, tree: &SnapshotTree) -> Result<Vec<Step>, Refusal> {
        if self.facts.off.is_none() {
            self.check_none_outside()?;
            return Ok(Vec::new());
        }
        let overlays = self.discarded(domain, tree)?;
        if self.revert.flags.has(RevertFlag::Discard) {
            self.check_all_above_goes(&overlays)?;
        }
        let overlays = overlays.into_iter().map(|path| Step::from(RemoveFile { path }));
        Ok(overlays.chain(self.discarded_memory(tree).map(Step::from)).collect())
    }

    /// Whether it is one of some disks: the others and the firmware's variables stay as they are.
    fn is_of_disks_alone(&self) -> bool {
        self.record.state == Some(State::DiskSnapshot)
    }

    /// The disks of one of some disks alone, each in the image that holds it.
    fn alone(&self) -> Result<Vec<&ObservedDisk>, Refusal> {
        let parts = self.record.disks.iter().filter(|part| part.location == Some(Location::Internal));
        let disk = |part: &SnapshotDisk| {
            let recorded = self.domain.disk(&part.name);
            let is_it = |disk: &&ObservedDisk| {
                let same = recorded.as_ref().is_some_and(|recorded| recorded.path() == Some(&disk.file));
                same && disk.snapshot(self.revert.name.as_str()).is_some()
            };
            let found = self.facts.observed.disk(&part.name).filter(is_it);
            found.ok_or_else(|| Refusal::NotOnDisk { name: self.name(), disk: part.name.clone() })
        };
        parts.map(disk).collect()
    }
}
