//! What must hold between any two turns of the world, whatever its clients did: asserted after every run.
//!
//! | of | must |
//! | --- | --- |
//! | images | name backing files that exist, without a loop; number their internal snapshots apart |
//! | nodes | have names of their own, children that exist and fit, and an image that was not unlinked |
//! | chains | stand on the backing file that the image's header names, and be written by one node a file |
//! | devices | read and write a node that exists |
//! | jobs | rest only where a job can rest, with work to do while they run and none once they have ended |
//!
//! Of a QEMU that is gone only its images are looked at. What a client wanted is not known here: whether a job, a
//! node, a file or a stopped guest was left over is for whoever ran the client.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    host::{Host, Qcow2},
    qemu::{
        block::{Device, Driver, Graph, Node},
        job::{Job, JobStatus},
    },
    world::World,
};

/// Everything that does not hold, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Broken(pub Vec<String>);

impl World {
    /// Holds the world against what must hold in any case.
    ///
    /// # Errors
    /// [`Broken`]: a client has harmed what QEMU relies on, or the simulator has a defect.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        let mut broken = images(self.host());
        if self.qemu_is_running() {
            let qemu = self.qemu();
            let graph = qemu.graph();
            broken.extend(nodes(graph, self.host()));
            broken.extend(chains(graph, self.host()));
            broken.extend(devices(graph));
            broken.extend(jobs(&qemu.jobs().collect::<Vec<_>>(), graph));
        }
        if broken.is_empty() { Ok(()) } else { Err(Broken(broken)) }
    }
}

fn images(host: &Host) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, image) in host.files().filter_map(|(path, image)| Some((path, image.as_qcow2()?))) {
        let mut ids = BTreeSet::new();
        for snapshot in image.snapshots.iter().filter(|snapshot| !ids.insert(&snapshot.id)) {
            broken.push(format!("file {path} has two internal snapshots numbered {}", snapshot.id));
        }
        let Some(backing) = named_backing(path, image) else { continue };
        if !host.exists(&backing) {
            broken.push(format!("file {path} is backed by {backing}, which does not exist"));
        } else if is_its_own_backing(host, path) {
            broken.push(format!("file {path} is its own backing file, at some depth"));
        }
    }
    broken
}

/// The backing file that a header names: a relative name starts at the image's own folder.
fn named_backing(path: &Utf8Path, image: &Qcow2) -> Option<Utf8PathBuf> {
    let folder = path.parent().unwrap_or(Utf8Path::new("/"));
    image.backing.as_ref().map(|backing| folder.join(&backing.file))
}

fn is_its_own_backing(host: &Host, path: &Utf8Path) -> bool {
    let below = |path: &Utf8PathBuf| named_backing(path, host.image(path)?.as_qcow2()?);
    let mut chain = std::iter::successors(below(&path.to_owned()), below).take(host.files().count());
    chain.any(|below| below == path)
}

fn nodes(graph: &Graph, host: &Host) -> Vec<String> {
    let mut broken = Vec::new();
    let mut names = BTreeSet::new();
    for node in graph.newest_first() {
        let Node { name, driver, .. } = node;
        if !names.insert(name) {
            broken.push(format!("two nodes are called {name}"));
        }
        let is_protocol =
            |child: &Node| matches!(child.driver, Driver::File { .. } | Driver::Blkdebug { .. });
        for (child, protocol) in [(driver.file(), true), (driver.backing(), false)] {
            let Some(child) = child else { continue };
            match graph.node(child) {
                None => broken.push(format!("node {name} stands on {child}, which does not exist")),
                Some(found) if is_protocol(found) != protocol && driver.job_filter().is_none() => {
                    broken.push(format!("node {name} stands on {child}, which is of the wrong kind"));
                }
                Some(_) => {}
            }
        }
        match (driver, graph.image(node, host)) {
            // It holds nothing, and has no file.
            (Driver::Null(_), _) => {}
            (_, None) => broken.push(format!("the file of node {name} was unlinked")),
            (Driver::Qcow2 { .. }, Some(image)) if image.as_qcow2().is_none() => {
                broken.push(format!("node {name} is qcow2, and its image is not"));
            }
            _ => {}
        }
    }
    broken
}

fn chains(graph: &Graph, host: &Host) -> Vec<String> {
    let mut broken = Vec::new();
    let path = |node: &Node| graph.file_of(node).map(|file| host.resolve(Utf8Path::new(file)));
    let mut written = BTreeSet::new();
    let is_format = |node: &&Node| matches!(node.driver, Driver::Raw { .. } | Driver::Qcow2 { .. });
    for node in graph.newest_first().filter(is_format) {
        let Some(own) = path(node) else { continue };
        let live = node.driver.backing().and_then(|backing| path(graph.node(backing)?));
        let named = graph.image(node, host).and_then(|image| named_backing(&own, image.as_qcow2()?));
        if let Some(live) = live.filter(|live| named.as_ref() != Some(live)) {
            let named = named.map_or("none".into(), Utf8PathBuf::into_string);
            broken.push(format!("node {} stands on {live}, and its image names {named}", node.name));
        }
        if !node.read_only && !written.insert(own.clone()) {
            broken.push(format!("file {own} is written by two nodes"));
        }
    }
    broken
}

fn devices(graph: &Graph) -> Vec<String> {
    let holds = |device: &&Device| device.model.tray_open().is_none() || !device.node.is_empty();
    let lost = graph.devices().iter().filter(holds).filter(|device| graph.node(&device.node).is_none());
    lost.map(|device| format!("device {} uses node {}, which does not exist", device.id, device.node))
        .collect()
}

fn jobs(jobs: &[&Job], graph: &Graph) -> Vec<String> {
    use JobStatus::{Concluded, Paused, Ready, Running, Standby};
    let mut broken = Vec::new();
    let mut ids = BTreeSet::new();
    for job in jobs {
        let (id, status) = (&job.id, job.status.name());
        if !ids.insert(id) {
            broken.push(format!("two jobs are called {id}"));
        }
        match job.status {
            Running | Paused | Ready | Standby if !job.has_work() => {
                broken.push(format!("job {id} is {status} and has nothing to do"));
            }
            Concluded if job.has_work() => broken.push(format!("job {id} is {status} and has work to do")),
            Running | Paused | Ready | Standby | Concluded => {}
            _ => broken.push(format!("job {id} rests in {status}")),
        }
        for node in job.nodes.iter().filter(|node| job.status.is_alive() && graph.node(node).is_none()) {
            broken.push(format!("job {id} uses node {node}, which does not exist"));
        }
    }
    broken
}

#[cfg(test)]
mod tests;
