//! Saving, loading and deleting the whole machine as internal snapshots: what `snapshot-save` and its kin, and the
//! human monitor's `savevm` and its kin, have in common.
//!
//! ```text
//! save:   checks, STOP, write the state and snapshot each disk, RESUME
//! load:   STOP, checks, revert each disk, load the state, RESUME
//! delete: checks, delete from each disk that has it
//! ```
//! `STOP` and `RESUME` only if the guest ran. A load stops the guest before it checks anything, so one that is
//! refused leaves a running guest in `restore-vm`; one that fails later has reverted the disks by then.
//!
//! QEMU's main loop does nothing else meanwhile. A state is loaded only into the hardware that it is of, and into a machine
//! that was reset for it. Errors are plain texts: for a job they go into `query-jobs`, for the human monitor behind
//! "Error: ". Source: recordings of all releases.

use super::{
    Context,
    block::{Driver, Graph},
    differences::{Drain, Unloadable, takes},
    ended::Saving,
    firmware::Firmware,
    job::Jobs,
    migration::Migration,
    run_state::{Cpus, RunState},
};
use crate::{
    Release,
    host::{Host, Image, InternalSnapshot, Unfit},
    machine::Chipset,
};

/// Which disks, and which of them holds the state.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disks<'a> {
    /// As a job names them: nodes, in this order.
    Named {
        /// Every disk of the snapshot.
        devices: &'a [&'a str],
        /// The one that holds the state.
        vmstate: &'a str,
    },
    /// All that the human monitor means: nodes with a device, then loose ones; those that can be written.
    All,
}

/// What a command works on.
pub(crate) struct Machine<'a> {
    /// The block graph.
    pub(crate) graph: &'a mut Graph,
    /// The virtual processors.
    pub(crate) cpus: &'a mut Cpus,
    /// Jobs, which a drain makes rest.
    pub(crate) jobs: &'a mut Jobs,
    /// The machine's migrations: to save a snapshot is one.
    pub(crate) migration: &'a mut Migration,
    /// The guest's firmware, which begins anew where a load fails.
    pub(crate) firmware: &'a mut Firmware,
    /// What it finds itself on.
    pub(crate) chipset: Chipset,
}

/// Why a machine was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotLoaded {
    /// What the human monitor shows before the error.
    pub(crate) detail: String,
    /// The error.
    pub(crate) text: String,
}

impl From<String> for NotLoaded {
    fn from(text: String) -> Self {
        Self { detail: String::new(), text }
    }
}

impl Machine<'_> {
    /// Saves the machine as `tag`.
    ///
    /// # Errors
    /// QEMU's text; the guest was not stopped then.
    pub(crate) fn save(&mut self, tag: &str, disks: Disks<'_>, cx: &mut Context<'_>) -> Result<(), String> {
        let nodes = self.snapshotable(disks, cx.release())?;
        match disks {
            Disks::Named { .. } if nodes.iter().all(|node| self.find(node, tag, cx).is_some()) => {
                return Err(format!("Snapshot '{tag}' already exists in one or more devices"));
            }
            Disks::Named { .. } => {}
            Disks::All => self.delete_from(&nodes, tag, cx),
        }
        let vmstate = vmstate_node(&nodes, disks, cx.release().no_disk_to_save_to())?;
        let before = self.cpus.state();
        self.stop(RunState::SaveVm, cx);
        self.jobs.drained(Drain::Transaction, cx);
        let (date, clock) = (Host::EPOCH + cx.now(), self.cpus.clock(cx.now()));
        if let Err(error) = self.write_state(&vmstate, cx) {
            self.go_on(before, cx);
            return Err(error);
        }
        let state_size = cx.release().vm_state_size(before != RunState::Prelaunch);
        let mut saving = Saving { until: cx.now(), snapshots: Vec::new() };
        for node in &nodes {
            let state = if *node == vmstate { state_size } else { 0 };
            if let Some(image) = self.graph.keeper_mut(node, cx.host()) {
                saving.snapshots.push((node.clone(), image.take_snapshot(tag, state, date, clock)));
                if *node == vmstate {
                    image.keep_memory(self.cpus.memory());
                    image.keep_hardware(self.migration.hardware().clone());
                }
            }
        }
        cx.saving = Some(saving);
        self.go_on(before, cx);
        Ok(())
    }

    /// Writes the machine state, which is a migration of its own.
    fn write_state(&mut self, node: &str, cx: &mut Context<'_>) -> Result<(), String> {
        if self.migration.is_under_way() {
            return Err("There's a migration process in progress".into());
        }
        cx.stall(takes::SAVE);
        if !self.graph.all_are_active() {
            cx.abort();
        }
        let written = self.fill(node, cx);
        match written {
            Ok(()) => self.migration.saved_snapshot(self.cpus, cx),
            Err(_) => self.migration.lost_snapshot(cx),
        }
        written
    }

    /// Puts the state into its node. Only where the very first write fails newer releases lose a reference to the node.
    fn fill(&mut self, node: &str, cx: &mut Context<'_>) -> Result<(), String> {
        let release = cx.release();
        if let Some(rules) = self.graph.injected_below(node) {
            rules.event("vmstate_save");
            rules.event("write_aio");
            if let Some(strike) = rules.strikes("write") {
                if release.a_failed_save_leaks() {
                    self.graph.leak();
                }
                return Err(release.state_not_written(strike.errno));
            }
        }
        let file = self.graph.node(node).and_then(|node| self.graph.file_of(node));
        match file.is_some_and(|file| cx.host().is_full(file.into())) {
            true => Err(release.state_cut_short().into()),
            false => Ok(()),
        }
    }

    /// Loads the machine from `tag`.
    ///
    /// # Errors
    /// QEMU's text; a guest that ran is left in `restore-vm`.
    pub(crate) fn load(
        &mut self,
        tag: &str,
        disks: Disks<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), NotLoaded> {
        let before = self.cpus.state();
        self.stop(RunState::RestoreVm, cx);
        let release = cx.release();
        let nodes = self.snapshotable(disks, cx.release())?;
        if let Some(lacking) = nodes.iter().find(|node| self.find(node, tag, cx).is_none()) {
            return Err(release.no_such_snapshot(tag, lacking).into());
        }
        let vmstate = vmstate_node(&nodes, disks, release.no_disk_to_load_from())?;
        if self.find(&vmstate, tag, cx).is_some_and(|snapshot| snapshot.vm_state_size == 0) {
            let text = "This is a disk-only snapshot. Revert to it  offline using qemu-img";
            return Err(text.to_owned().into());
        }
        self.jobs.drained(Drain::Transaction, cx);
        cx.stall(takes::LOAD);
        let mut state = None;
        for node in &nodes {
            if self.graph.has_bitmaps(node) {
                let why = "Device has active dirty bitmaps";
                return Err(format!("Could not load snapshot '{tag}' on '{node}': {why}").into());
            }
            let reverted = self.revert(node, tag, cx);
            if *node == vmstate {
                state = reverted;
            }
        }
        match self.fitting(state) {
            Ok(state) => self.cpus.loaded(state.vm_clock, state.memory, cx),
            Err(why) => {
                // A section that nothing takes is found when memory and processors are loaded.
                if !matches!(why, Unloadable::Unfit { unfit: Unfit::Section(_), .. }) {
                    self.cpus.reset_unheard(cx);
                    self.firmware.reset(self.chipset, self.cpus, cx);
                }
                let (detail, text) = (release.not_loaded_detail(&why), release.not_loaded(&why));
                return Err(NotLoaded { detail, text });
            }
        }
        self.go_on(before, cx);
        Ok(())
    }

    /// A snapshot, if it holds a state that this machine can take.
    fn fitting(&self, state: Option<InternalSnapshot>) -> Result<InternalSnapshot, Unloadable> {
        let state = state.filter(|snapshot| snapshot.vm_state_size > 0).ok_or(Unloadable::NoStream)?;
        let here = self.migration.hardware();
        if let Some(saved) = &state.hardware
            && let Err(unfit) = here.takes(saved)
        {
            return Err(Unloadable::Unfit { unfit, saved: saved.memory, here: here.memory });
        }
        Ok(state)
    }

    /// Deletes `tag` from each disk that has it; that none has it is no error.
    ///
    /// # Errors
    /// QEMU's text, for a disk that takes no snapshots.
    pub(crate) fn delete(&mut self, tag: &str, disks: Disks<'_>, cx: &mut Context<'_>) -> Result<(), String> {
        let nodes = if cx.release().delete_needs_all_disks() {
            self.snapshotable(disks, cx.release())?
        } else {
            self.chosen(disks, cx.release())?
        };
        cx.stall(takes::DELETE);
        self.delete_from(&nodes, tag, cx);
        Ok(())
    }

    fn stop(&mut self, why: RunState, cx: &mut Context<'_>) {
        if self.cpus.running() {
            self.jobs.drained(Drain::Stop, cx);
            self.cpus.stop(why, cx);
        }
        self.jobs.drained(Drain::Stopped, cx);
        self.graph.flush_all();
    }

    fn go_on(&mut self, before: RunState, cx: &mut Context<'_>) {
        self.cpus.restore(before, cx);
        if before == RunState::Running {
            self.jobs.drained(Drain::Cont, cx);
        }
    }

    /// The chosen nodes, each of which must take snapshots.
    fn snapshotable(&self, disks: Disks<'_>, release: Release) -> Result<Vec<String>, String> {
        let nodes = self.chosen(disks, release)?;
        let refused = nodes.iter().find(|name| {
            let read_only = self.graph.node(name).is_none_or(|node| node.read_only);
            let given_away = !self.graph.is_active(name) && !release.writing_given_images_aborts();
            read_only || given_away || !is_qcow2(self.graph, name)
        });
        match refused {
            Some(name) => {
                let shown = matches!(disks, Disks::All).then(|| self.top_of(name)).flatten();
                let name = self.drive_on(name).or(shown).unwrap_or(name);
                Err(format!("Device '{name}' is writable but does not support snapshots"))
            }
            None => Ok(nodes),
        }
    }

    /// The top node of the device that a node, or a job's filter on it, is under.
    fn top_of(&self, node: &str) -> Option<&str> {
        let mut tops = self.graph.devices().iter().map(|device| device.node.as_str());
        tops.find(|top| self.graph.below_job_filters(top).is_some_and(|below| below.name == node))
    }

    /// The name of the drive that has a node, or a job's filter on it, for its disk.
    fn drive_on(&self, node: &str) -> Option<&str> {
        let graph = &*self.graph;
        let mut drives = graph.devices().iter().filter(|device| !device.drive.is_empty());
        let drive = drives
            .find(|device| graph.below_job_filters(&device.node).is_some_and(|below| below.name == node));
        drive.map(|device| device.drive.as_str())
    }

    fn chosen(&self, disks: Disks<'_>, release: Release) -> Result<Vec<String>, String> {
        match disks {
            Disks::Named { devices: [], .. } => Err("At least one device is required for snapshot".into()),
            Disks::Named { devices, .. } => match devices.iter().find(|name| self.graph.node(name).is_none())
            {
                Some(unknown) => Err(format!("No block device node '{unknown}'")),
                None => Ok(devices.iter().map(ToString::to_string).collect()),
            },
            Disks::All => Ok(self.writable_roots(release)),
        }
    }

    /// The nodes that the human monitor snapshots: those of the devices, those that are exported, though devices have
    /// them too, those that jobs write, then those that nothing uses.
    pub(crate) fn writable_roots(&self, release: Release) -> Vec<String> {
        let graph = &*self.graph;
        let devices =
            graph.devices().iter().filter(|device| graph.exports().on(&device.node).next().is_none());
        let attached = devices.map(|device| &*device.node).chain(graph.exports().roots());
        let attached = attached.filter_map(|root| graph.below_job_filters(root));
        let of_jobs = self.jobs.written_disks().filter_map(|node| graph.node(node));
        let used: Vec<_> = attached.chain(of_jobs).collect();
        let mut nodes = graph.oldest_first().filter(|node| node.owned_by_monitor);
        if release.unused_nodes_are_looked_for_behind_the_last_used()
            && let Some(last) = used.last()
        {
            nodes.find(|node| node.name == last.name);
        }
        let loose = nodes.filter(|node| !graph.is_used(&node.name));
        let all = used.into_iter().chain(loose).filter(|node| !node.read_only);
        all.map(|node| node.name.clone()).collect()
    }

    fn find(&self, node: &str, tag: &str, cx: &mut Context<'_>) -> Option<InternalSnapshot> {
        self.graph.keeper_mut(node, cx.host())?.find(tag).cloned()
    }

    /// Reverts a node; a snapshot whose id is `tag` comes before one whose name is.
    fn revert(&self, node: &str, tag: &str, cx: &mut Context<'_>) -> Option<InternalSnapshot> {
        let image = self.graph.keeper_mut(node, cx.host())?;
        let id = image.find_for_load(tag)?.id.clone();
        image.revert(&id).cloned()
    }

    fn delete_from(&self, nodes: &[String], tag: &str, cx: &mut Context<'_>) {
        for node in nodes {
            if let Some(image) = self.graph.keeper_mut(node, cx.host())
                && let Some(id) = image.find(tag).map(|snapshot| snapshot.id.clone())
            {
                image.delete_snapshot(&id);
            }
        }
    }
}

/// Whether a node's image, or that of the node which it passes everything on to, can hold internal snapshots.
pub(crate) fn is_qcow2(graph: &Graph, node: &str) -> bool {
    graph.node(graph.keeper(node)).is_some_and(|node| matches!(node.driver, Driver::Qcow2 { .. }))
}

/// The internal snapshots of a node's image, oldest first; none for an image of another format.
pub(crate) fn snapshots_of<'h>(graph: &Graph, node: &str, host: &'h Host) -> &'h [InternalSnapshot] {
    let node = graph.node(graph.keeper(node)).filter(|node| is_qcow2(graph, &node.name));
    let image = node.and_then(|node| graph.image(node, host)).and_then(Image::as_qcow2);
    image.map_or(&[], |image| &image.snapshots)
}

fn vmstate_node(nodes: &[String], disks: Disks<'_>, none: &str) -> Result<String, String> {
    match disks {
        Disks::Named { vmstate, .. } if nodes.iter().any(|node| node == vmstate) => Ok(vmstate.into()),
        Disks::Named { vmstate, .. } => Err(format!("vmstate block device '{vmstate}' does not exist")),
        Disks::All => nodes.first().cloned().ok_or_else(|| none.into()),
    }
}
