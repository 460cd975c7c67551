//! What backs what, and since when: what a node says of why it is blocked is what came last, be it a job or an overlay.
//!
//! Links are made deep within a command and noted when it ends: one that is not noted yet is the newest. Which came later,
//! a job or a link, is told by how many jobs there had been.
//! Source: probes of the four releases.

use super::Graph;
use crate::qemu::{QmpError, job::Jobs};

/// A node that stands on another by its `backing` child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backed {
    overlay: String,
    backing: String,
    /// How many jobs there had been.
    since: u64,
}

impl Graph {
    /// Notes which nodes are backed by another than when this was last called.
    pub(crate) fn note_backing(&mut self, jobs: &Jobs) {
        let Self { nodes, backed, .. } = self;
        let since = jobs.created();
        let is = |overlay: &str, backing: &str| {
            nodes.iter().any(|node| node.name == overlay && node.driver.backing() == Some(backing))
        };
        backed.retain(|link| is(&link.overlay, &link.backing));
        for node in nodes.iter() {
            let Some(backing) = node.driver.backing() else { continue };
            if !backed.iter().any(|link| link.overlay == node.name) {
                backed.push(Backed { overlay: node.name.clone(), backing: backing.to_owned(), since });
            }
        }
    }

    /// What a node backs will be backed by another from now on, or again by the same.
    pub(crate) fn forget_backed_by(&mut self, backing: &str) {
        self.backed.retain(|link| link.backing != backing);
    }

    /// Refuses what may be done neither to a node that a block job works on nor to one that backs another. What came last is
    /// told.
    pub(crate) fn check_not_blocked(&self, name: &str, jobs: &Jobs) -> Result<(), QmpError> {
        let since = |overlay: &str| {
            let is_noted = |link: &&Backed| link.overlay == overlay && link.backing == name;
            self.backed.iter().find(is_noted).map_or(u64::MAX, |link| link.since)
        };
        let overlays = self.parents(name).filter(|parent| parent.driver.backing() == Some(name));
        let Some(overlay) = overlays.max_by_key(|overlay| since(&overlay.name)) else {
            return jobs.check_not_busy(name);
        };
        if jobs.newest_blocker(name).is_some_and(|job| job > since(&overlay.name)) {
            return jobs.check_not_busy(name);
        }
        Err(QmpError::generic(format!(
            "Node '{name}' is busy: node is used as backing hd of '{}'",
            overlay.name
        )))
    }
}
