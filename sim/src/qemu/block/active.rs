//! Active and inactive nodes, and `blockdev-set-active`: whose images are this machine's, and whose are another's for now.
//!
//! ```text
//! active -(a migration has left; blockdev-set-active)-> inactive -(cont, a state has come; blockdev-set-active)-> active
//! ```
//! Nothing is written to an inactive node, and its files are not locked. An active node stands on active ones alone: to activate
//! one activates all below it, to give one away gives away all below it, and is refused while an active node stands on it.
//!
//! Not here: when a migration gives the images away or takes them back. Source: QEMU QAPI `blockdev-set-active`; probes of the
//! four releases.

use super::{Driver, Graph};
use crate::{
    Release,
    qemu::{Context, QmpError, arguments::Arguments},
    qobject::QObject,
};

/// `blockdev-set-active`: one node, or all.
pub(crate) fn blockdev_set_active(
    graph: &mut Graph,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let active = arguments.flag("active");
    match arguments.optional_text("node-name") {
        None => graph.set_all_active(active),
        Some(name) => {
            graph.node(name).ok_or_else(|| cx.release().node_not_found(name))?;
            if active {
                graph.activate(name);
            } else {
                graph.give_away(name)?;
            }
        }
    }
    Ok(QObject::empty())
}

impl Graph {
    /// Whether all nodes are this machine's.
    pub(crate) fn all_are_active(&self) -> bool {
        self.inactive.is_empty()
    }

    /// Whether this machine owns the image of a node.
    pub(crate) fn is_active(&self, name: &str) -> bool {
        self.inactive.is_empty() || !self.inactive.contains(name)
    }

    /// Gives all images away to another machine, or takes them back.
    pub(crate) fn set_all_active(&mut self, active: bool) {
        self.inactive.clear();
        if !active {
            self.inactive.extend(self.nodes.iter().map(|node| node.name.clone()));
        }
    }

    /// The machine waits for another one's state: that one has the images.
    pub(crate) fn wait_for_images(&mut self) {
        self.waits = true;
        self.set_all_active(false);
    }

    /// The state has come, and its images are this machine's, at once or not before the guest goes on.
    pub(crate) fn state_has_come(&mut self, at_once: bool) {
        self.waits = false;
        if at_once {
            self.set_all_active(true);
        }
    }

    /// A node that was opened is not this machine's yet.
    pub(super) fn open_inactive(&mut self, name: &str) {
        self.inactive.insert(name.to_owned());
    }

    /// Takes back a node and all below it.
    pub(super) fn activate(&mut self, name: &str) {
        let Some(children) = self.children_of(name) else { return };
        self.inactive.remove(name);
        children.iter().for_each(|child| self.activate(child));
    }

    /// Gives away a node and all below it that no active node stands on.
    fn give_away(&mut self, name: &str) -> Result<(), QmpError> {
        if self.parents(name).any(|parent| self.is_active(&parent.name)) {
            return Err(QmpError::generic("Node has active parent node"));
        }
        self.let_go(name);
        Ok(())
    }

    fn let_go(&mut self, name: &str) {
        if self.parents(name).any(|parent| self.is_active(&parent.name)) {
            return;
        }
        let Some(children) = self.children_of(name) else { return };
        self.inactive.insert(name.to_owned());
        children.iter().for_each(|child| self.let_go(child));
    }

    /// An overlay on top of what is another machine's is that machine's, too.
    pub(super) fn follow_below(&mut self, overlay: &str, below: &str) {
        if !self.is_active(below) && self.is_active(overlay) {
            self.let_go(overlay);
        }
    }

    /// Refuses an active node on top of an inactive one, where the release looks at that.
    pub(super) fn check_active_below(
        &self,
        child: &str,
        role: &str,
        parent: &str,
        release: Release,
    ) -> Result<(), QmpError> {
        if self.is_active(child) || !self.is_active(parent) || !release.nodes_have_active() {
            return Ok(());
        }
        let text = format!("Inactive '{child}' can't be a {role} child of active '{parent}'");
        Err(QmpError::generic(text))
    }

    /// Refuses the filter of a job that moves what is in a chain, on top of an inactive node.
    pub(super) fn check_filter_below(
        &self,
        child: &str,
        role: &str,
        filter: &str,
        release: Release,
    ) -> Result<(), QmpError> {
        match release.nodes_have_active() {
            _ if self.is_active(child) => Ok(()),
            true => self.check_active_below(child, role, filter, release),
            false => Err(QmpError::generic("Block node is read-only")),
        }
    }

    fn children_of(&self, name: &str) -> Option<Vec<String>> {
        let children = self.node(name).map(|node| &node.driver).map(Driver::children)?;
        Some(children.map(str::to_owned).collect())
    }
}
