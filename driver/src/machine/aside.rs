//! What lies on the host beside what the machine uses, read before an operation is planned.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use super::Machine;
use crate::{
    domain::Domain,
    env::{Env, FileKind},
    journal::Pending,
    launch::{LaunchError, Launcher, chain, transient},
    mark,
    observed::Observed,
    plan::{self, Aside, Beside, GoingBack, HostFiles, Kept},
    qemu_img::{ImageInfo, QemuImg},
    request::Request,
    step,
    strangers::{self, Stranger},
};

impl<E: Env> Machine<E> {
    /// Reads what lies aside, which nobody writes: a machine that runs is not touched.
    pub(super) async fn look_aside(
        &self,
        request: &Request,
        observed: &Observed,
        going_back: &GoingBack,
        files: &mut HostFiles,
    ) -> Aside {
        let env = self.monitor.env();
        let GoingBack { domain, memory, left_to_caller } = going_back;
        for path in domain.disks().filter_map(|disk| disk.path()) {
            let kind = env.file_kind(path).await.unwrap_or(FileKind::Other);
            files.insert(path.to_owned(), kind);
        }
        if let Some((template, _)) = domain.nvram_template() {
            let kind = env.file_kind(&template).await.unwrap_or(FileKind::Other);
            files.insert(template, kind);
        }
        let tool = self.tool(domain).await;
        let reader = QemuImg { program: tool.clone(), within: request.within(), ..QemuImg::new(env.clone()) };
        // What is missing is told better by the plan.
        let is_there = |path: &Utf8Path| matches!(files.get(path), Some(FileKind::File { .. }));
        let found = domain.with_disks(|target| {
            domain.disks().any(|disk| disk.target == target && disk.path().is_some_and(is_there))
        });
        let chains = chain::read(&reader, &found).await.map_err(|error| mark::told(&error));
        let behind = chains.iter().flat_map(BTreeMap::values).flatten().map(|image| &image.file);
        for path in behind.chain(left_to_caller) {
            let kind = env.file_kind(path).await.unwrap_or(FileKind::Other);
            files.insert(path.clone(), kind);
        }
        let memory = match memory {
            Some(path) => Some(step::read_save_image(env, path).await.map_err(|error| mark::told(&error))),
            None => None,
        };
        let mut kept = Kept::new();
        let overlays = plan::overlays_found(request, self.tree().as_ref(), observed);
        for overlay in overlays.into_iter().filter(|_| matches!(self.launcher, Some(Launcher::BuiltIn(_)))) {
            if let Err(LaunchError::OverlayStays { why, .. }) = transient::is_left(&reader, &overlay).await {
                kept.insert(overlay.file, why);
            }
        }
        Aside { tool, chains, memory, kept }
    }

    /// Reads the headers of images that the machine does not use now, where a plan has to know what stands on what.
    pub(super) async fn look_beside(
        &self,
        request: &Request,
        observed: &Observed,
        domain: &Domain,
    ) -> Option<Beside> {
        let tree = self.tree();
        let mut wanted = plan::images_beside(request, tree.as_ref(), observed);
        wanted.extend(plan::images_reused(request, domain, observed));
        wanted.extend(plan::images_discarded(request, tree.as_ref(), observed));
        wanted.extend(plan::images_of_other_branches(request, tree.as_ref(), observed));
        let at_stake = plan::at_stake(request, tree.as_ref(), observed);
        let elsewhere = tree.as_ref().map(|tree| plan::went_on(tree, observed)).unwrap_or_default();
        let released = tree.as_ref().map(|tree| plan::may_be_released(request, tree)).unwrap_or_default();
        if wanted.is_empty() && at_stake.is_empty() && elsewhere.is_empty() && released.is_empty() {
            return None;
        }
        let env = self.monitor.env();
        let mut known = plan::known_files(tree.as_ref(), observed);
        // What an earlier operation could not remove is of no use, whatever it stands on.
        let pending = self.pending().await.ok().flatten();
        let left = pending.iter().flat_map(Pending::left);
        known.extend(left.filter_map(|left| left.worthless().map(Utf8Path::to_owned)));
        let ours = tree.as_ref().map(|tree| plan::recorded_images(tree, observed)).unwrap_or_default();
        let read: BTreeSet<_> = known.iter().chain(wanted.keys()).cloned().collect();
        let standing = strangers::standing_on(env, &released, &read).await;
        // Of those that are read below it is found there, and only who deletes wants to know it.
        let deletes = matches!(request, Request::Delete(_));
        known.extend(ours.keys().filter(|file| !deletes || wanted.contains_key(*file)).cloned());
        known.extend(at_stake.iter().cloned());
        let found = strangers::standing_on(env, &at_stake, &known).await.into_iter();
        let (mut recorded, strangers): (Vec<_>, _) = found.partition(|it| ours.contains_key(&it.file));
        let tool = match &domain.document {
            Some(document) => self.tool(document).await,
            None => "qemu-img".into(),
        };
        let within = request.within();
        let reader = QemuImg { program: tool.clone(), within, ..QemuImg::new(env.clone()) };
        let mut images = BTreeMap::new();
        for (path, format) in wanted {
            if !matches!(env.file_kind(&path).await, Ok(FileKind::Absent)) {
                let info = reader.info(&path, &format).await.map_err(|error| mark::told(&error));
                images.insert(path, info);
            }
        }
        let ours = images.iter().filter(|(file, _)| ours.contains_key(*file));
        recorded.extend(ours.filter_map(|(file, found): (_, &Result<ImageInfo, String>)| {
            let on = found.as_ref().ok()?.backing_file().filter(|on| at_stake.contains(on))?;
            Some(Stranger { file: file.clone(), on })
        }));
        let behind = images.values().flatten().filter_map(ImageInfo::backing_file);
        let mut canonical = BTreeMap::new();
        let in_use = observed.disks.iter().flat_map(|disk| &disk.chain).map(|image| image.file.clone());
        let tops = observed.disks.iter().map(|disk| disk.file.clone());
        let same = in_use.filter(|_| !elsewhere.is_empty()).chain(elsewhere.clone());
        for path in behind.chain(tops).chain(same) {
            if let Ok(name) = env.canonical(&path).await {
                canonical.insert(path, name);
            }
        }
        Some(Beside { tool, images, canonical, strangers, recorded, standing })
    }
}
