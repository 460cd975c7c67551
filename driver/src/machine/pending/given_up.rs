//! What an operation has left of a machine that is off, where nobody knows whether it was decided: it is kept, and in the way of others once
//! the operation is given up.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    env::{Env, FileKind},
    journal::{Left, Open, Pending},
    machine::Machine,
    plan, qcow2,
    step::{RemoveFile, Step, SwitchOverlays},
};

impl<E: Env> Machine<E> {
    /// Tells of what is kept of an operation that may have been decided or not: the record of a snapshot that may not be whole, and what was
    /// to go with it and nothing leads to any more. Nothing of a machine that runs, which tells it itself.
    pub async fn left_in_doubt(&self, pending: &Pending) -> Vec<String> {
        if !pending.may_be_decided() || !self.has_ended().await {
            return Vec::new();
        }
        let mut told: Vec<String> = self.may_not_be_whole(pending).await.into_iter().collect();
        told.extend(self.nobodys(pending).await.iter().map(|file| {
            format!(
                "`{file}` was to be removed, and is kept: no record leads to it now, nor does the machine's description. To do the same once \
                 more may be refused while it stands on one of their images: if what is on it is of use, copy it as a whole first \
                 (qemu-img convert), then remove it"
            )
        }));
        told
    }

    /// The snapshot that was being taken, if it is recorded, and both ways out.
    async fn may_not_be_whole(&self, pending: &Pending) -> Option<String> {
        let steps = || pending.intent.plan.steps();
        let name = steps().find_map(|step| match step {
            Step::WriteRecords(step) => step.changes.current(),
            _ => None,
        })?;
        let switch = steps().find_map(|step| match step {
            Step::SwitchOverlays(switch) => Some(switch),
            _ => None,
        })?;
        self.tree()?.get(name)?;
        let overlays: Vec<_> = switch.files().map(|file| format!("`{file}`")).collect();
        let overlays = overlays.join(", ");
        let memory: Vec<_> =
            steps().filter_map(Step::begins_memory).map(|file| format!(" and `{file}`")).collect();
        let without = match holds_nothing(self.monitor.env(), switch).await {
            true => format!(
                "; or, for these hold nothing, do without it: remove its record alone (`snapshot delete {name} --metadata`), and then {overlays}{}",
                memory.concat()
            ),
            false => String::new(),
        };
        Some(format!(
            "snapshot `{name}` is recorded, and may not be whole: once this is given up (`recover --forget`), go on from it: write its overlays \
             {overlays} into the machine's description{without}"
        ))
    }

    /// The files that were to go when all was decided, that are there, and that neither a record nor the description leads to.
    async fn nobodys(&self, pending: &Pending) -> BTreeSet<Utf8PathBuf> {
        let title = pending.title();
        let left = |step: &Step| {
            let path = step.removes()?.to_owned();
            Some(Left { of: title.clone(), what: Open::File(RemoveFile { path }) })
        };
        let plan = &pending.intent.plan;
        let behind = plan.stages[plan.no_return + 1..].iter().flat_map(|stage| &stage.steps);
        let left: Vec<_> = behind.filter_map(left).collect();
        let led_to = self.images_led_to(&left, true, true).await;
        let tree = self.tree();
        let is_named = |file: &Utf8Path| {
            led_to.contains(file) || tree.as_ref().is_some_and(|tree| plan::is_named(tree, file))
        };
        let mut nobodys = BTreeSet::new();
        for file in left.iter().filter_map(Left::image).filter(|file| !is_named(file)) {
            if !matches!(self.monitor.env().file_kind(file).await, Ok(FileKind::Absent)) {
                nobodys.insert(file.to_owned());
            }
        }
        nobodys
    }
}

/// Whether all that the guest has written to its disks is surely in the images below these overlays.
async fn holds_nothing<E: Env>(env: &E, switch: &SwitchOverlays) -> bool {
    for file in switch.files() {
        let is_free = matches!(env.image_in_use(file).await, Ok(false));
        if !is_free || qcow2::holds_data(env, file).await != Some(false) {
            return false;
        }
    }
    true
}
