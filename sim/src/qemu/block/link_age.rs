//! How old the links between nodes are: as old as the node above, unless that was reopened onto another one since.
//!
//! Of several users that do not bear something QEMU names the one whose link is the youngest. Source: the four releases, asked; the
//! recordings `reopened-onto-a-node-that-has-a-user`.

use super::{Graph, Node};

impl Graph {
    /// Changes a node that is reopened: its links to others that it has not stood on before are new.
    pub(super) fn relink(&mut self, to: Node) {
        let stood_on = |below: &str| {
            self.node(&to.name).is_some_and(|node| node.driver.children().any(|child| child == below))
        };
        let new: Vec<_> = to.driver.children().filter(|child| !stood_on(child)).map(str::to_owned).collect();
        for below in new {
            let link = (to.name.clone(), below);
            self.relinked.retain(|known| *known != link);
            self.relinked.push(link);
        }
        self.replace(to);
    }

    /// All nodes, those first whose link to this one is younger than they are: the youngest link first.
    pub(super) fn youngest_link_first(&self, name: &str) -> impl Iterator<Item = &Node> {
        let young = self.relinked.iter().rev().filter(move |(_, below)| below == name);
        let young = young.filter_map(|(above, _)| self.node(above));
        let is_young = move |node: &&Node| {
            self.relinked.iter().any(|(above, below)| *above == node.name && below == name)
        };
        young.chain(self.newest_first().filter(move |node| !is_young(node)))
    }
}
