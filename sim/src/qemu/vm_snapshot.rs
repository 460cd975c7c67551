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
//! QEMU's main loop does nothing else meanwhile. Errors are plain texts: for a job they go into `query-jobs`, for the
//! human monitor behind "Error: ". Source: recordings of all releases.

use super::{
    Context,
    block::{Driver, Graph},
    differences::takes,
    run_state::{Cpus, RunState},
};
use crate::host::{Host, Image, InternalSnapshot};

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
}

impl Machine<'_> {
    /// Saves the machine as `tag`.
    ///
    /// # Errors
    /// QEMU's text; the guest was not stopped then.
    pub(crate) fn save(&mut self, tag: &str, disks: Disks<'_>, cx: &mut Context<'_>) -> Result<(), String> {
        let nodes = self.snapshotable(disks)?;
        match disks {
            Disks::Named { .. } if nodes.iter().all(|node| self.find(node, tag, cx).is_some()) => {
                return Err(format!("Snapshot '{tag}' already exists in one or more devices"));
            }
            Disks::Named { .. } => {}
            Disks::All => self.delete_from(&nodes, tag, cx),
        }
        let vmstate = vmstate_node(&nodes, disks, cx.release().no_disk_to_save_to())?;
        let before = self.cpus.state();
        self.cpus.stop(RunState::SaveVm, cx);
        let (date, clock) = (Host::EPOCH + cx.now(), self.cpus.clock(cx.now()));
        cx.stall(takes::SAVE);
        if let Some(error) = self.write_state(&vmstate, cx) {
            self.cpus.restore(before, cx);
            return Err(error);
        }
        for node in &nodes {
            let state = if *node == vmstate { cx.release().vm_state_size() } else { 0 };
            if let Some(image) = self.graph.qcow2_mut(node, cx.host()) {
                image.take_snapshot(tag, state, date, clock);
                if *node == vmstate {
                    image.keep_memory(self.cpus.memory());
                }
            }
        }
        self.cpus.restore(before, cx);
        Ok(())
    }

    /// Writes the machine state; returns why that failed, if it did. Newer releases lose a reference to the node then.
    fn write_state(&mut self, node: &str, cx: &Context<'_>) -> Option<String> {
        let rules = self.graph.injected_below(node)?;
        rules.event("vmstate_save");
        rules.event("write_aio");
        let strike = rules.strikes("write")?;
        if cx.release().a_failed_save_leaks() {
            self.graph.leak();
        }
        Some(cx.release().state_not_written(strike.errno))
    }

    /// Loads the machine from `tag`.
    ///
    /// # Errors
    /// QEMU's text; a guest that ran is left in `restore-vm`.
    pub(crate) fn load(&mut self, tag: &str, disks: Disks<'_>, cx: &mut Context<'_>) -> Result<(), String> {
        let before = self.cpus.state();
        self.cpus.stop(RunState::RestoreVm, cx);
        let release = cx.release();
        let nodes = self.snapshotable(disks)?;
        if let Some(lacking) = nodes.iter().find(|node| self.find(node, tag, cx).is_none()) {
            return Err(release.no_such_snapshot(tag, lacking));
        }
        let vmstate = vmstate_node(&nodes, disks, release.no_disk_to_load_from())?;
        if self.find(&vmstate, tag, cx).is_some_and(|snapshot| snapshot.vm_state_size == 0) {
            return Err("This is a disk-only snapshot. Revert to it  offline using qemu-img".into());
        }
        cx.stall(takes::LOAD);
        let mut state = None;
        for node in &nodes {
            let reverted = self.revert(node, tag, cx);
            if *node == vmstate {
                state = reverted;
            }
        }
        match state.filter(|snapshot| snapshot.vm_state_size > 0) {
            Some(snapshot) => self.cpus.loaded(snapshot.vm_clock, snapshot.memory, cx),
            None => return Err(release.not_a_migration_stream().into()),
        }
        self.cpus.restore(before, cx);
        Ok(())
    }

    /// Deletes `tag` from each disk that has it; that none has it is no error.
    ///
    /// # Errors
    /// QEMU's text, for a disk that takes no snapshots.
    pub(crate) fn delete(&mut self, tag: &str, disks: Disks<'_>, cx: &mut Context<'_>) -> Result<(), String> {
        let nodes = if cx.release().delete_needs_all_disks() {
            self.snapshotable(disks)?
        } else {
            self.chosen(disks)?
        };
        cx.stall(takes::DELETE);
        self.delete_from(&nodes, tag, cx);
        Ok(())
    }

    /// The chosen nodes, each of which must take snapshots.
    fn snapshotable(&self, disks: Disks<'_>) -> Result<Vec<String>, String> {
        let nodes = self.chosen(disks)?;
        let refused = nodes.iter().find(|name| {
            let read_only = self.graph.node(name).is_none_or(|node| node.read_only);
            read_only || !is_qcow2(self.graph, name)
        });
        match refused {
            Some(name) => Err(format!("Device '{name}' is writable but does not support snapshots")),
            None => Ok(nodes),
        }
    }

    fn chosen(&self, disks: Disks<'_>) -> Result<Vec<String>, String> {
        match disks {
            Disks::Named { devices: [], .. } => Err("At least one device is required for snapshot".into()),
            Disks::Named { devices, .. } => match devices.iter().find(|name| self.graph.node(name).is_none())
            {
                Some(unknown) => Err(format!("No block device node '{unknown}'")),
                None => Ok(devices.iter().map(ToString::to_string).collect()),
            },
            Disks::All => Ok(self.writable_roots()),
        }
    }

    /// The nodes that the human monitor snapshots: those of the devices, then those that nothing uses.
    pub(crate) fn writable_roots(&self) -> Vec<String> {
        let graph = &*self.graph;
        let attached = graph.devices().iter().filter_map(|device| graph.node(&device.node));
        let mut loose: Vec<_> = graph
            .newest_first()
            .filter(|node| {
                graph.device_on(&node.name).is_none() && graph.parents(&node.name).next().is_none()
            })
            .collect();
        loose.reverse();
        attached.chain(loose).filter(|node| !node.read_only).map(|node| node.name.clone()).collect()
    }

    fn find(&self, node: &str, tag: &str, cx: &mut Context<'_>) -> Option<InternalSnapshot> {
        self.graph.qcow2_mut(node, cx.host())?.find(tag).cloned()
    }

    /// Reverts a node; a snapshot whose id is `tag` comes before one whose name is.
    fn revert(&self, node: &str, tag: &str, cx: &mut Context<'_>) -> Option<InternalSnapshot> {
        let image = self.graph.qcow2_mut(node, cx.host())?;
        let id = image.find_for_load(tag)?.id.clone();
        image.revert(&id).cloned()
    }

    fn delete_from(&self, nodes: &[String], tag: &str, cx: &mut Context<'_>) {
        for node in nodes {
            if let Some(image) = self.graph.qcow2_mut(node, cx.host())
                && let Some(id) = image.find(tag).map(|snapshot| snapshot.id.clone())
            {
                image.delete_snapshot(&id);
            }
        }
    }
}

/// Whether a node is one whose image can hold internal snapshots.
pub(crate) fn is_qcow2(graph: &Graph, node: &str) -> bool {
    graph.node(node).is_some_and(|node| matches!(node.driver, Driver::Qcow2 { .. }))
}

/// The internal snapshots of a node's image, oldest first; none for an image of another format.
pub(crate) fn snapshots_of<'h>(graph: &Graph, node: &str, host: &'h Host) -> &'h [InternalSnapshot] {
    let node = graph.node(node).filter(|node| is_qcow2(graph, &node.name));
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
