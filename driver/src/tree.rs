//! The snapshots of one machine and how they descend from one another. Pure: what is on disk is [`crate::store`]'s affair.
//!
//! ```text
//! s1 -- s2 -- s3        s1 is a root, s3 and s4 are leaves; one of them may be the current one:
//!        \--- s4        the one that the machine's disks and memory grew out of
//! ```
//!
//! A record whose parent is missing stands as a root, and so does the oldest of a circle: nothing that is stored is hidden.

mod filter;
mod goes_on;
mod hand_over;
mod redefine;
#[cfg(test)]
mod tests;
mod twin;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

pub use filter::{Filter, Scope};
pub(crate) use goes_on::{GoesOn, goes_on_in, overlay, settle_current, source};
pub use hand_over::{BadHandOver, check_moves};
pub use redefine::BadRedefinition;

use crate::domain_snapshot::DomainSnapshot;

/// The snapshots of one machine. A copy shares with it whatever neither changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotTree {
    snapshots: BTreeMap<String, Rc<Entry>>,
    current: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    snapshot: DomainSnapshot,
    /// By name, so that a list does not depend on the order in which they came.
    children: BTreeSet<String>,
}

/// What is wrong with how stored snapshots descend; all of them are kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// The parent is not there.
    #[error(
        "snapshot `{name}` says that its parent is `{parent}`, which does not exist; it stands as a root"
    )]
    NoParent {
        /// The snapshot.
        name: String,
        /// What it says.
        parent: String,
    },
    /// It is its own ancestor.
    #[error("snapshot `{0}` is its own ancestor; it stands as a root")]
    Circle(String),
    /// The current one is not there.
    #[error("the current snapshot is said to be `{0}`, which does not exist; none is current")]
    NoCurrent(String),
}

impl SnapshotTree {
    /// The tree of these snapshots, and what does not fit. A snapshot without a name is none, of two with one name the later is
    /// kept.
    pub fn new(snapshots: Vec<DomainSnapshot>, current: Option<String>) -> (Self, Vec<Inconsistent>) {
        let mut tree = Self::default();
        for snapshot in snapshots {
            if let Some(name) = snapshot.name.clone() {
                tree.snapshots.insert(name, Rc::new(Entry { snapshot, children: BTreeSet::new() }));
            }
        }
        let mut wrong = tree.link();
        match current {
            Some(name) if !tree.snapshots.contains_key(&name) => wrong.push(Inconsistent::NoCurrent(name)),
            current => tree.current = current,
        }
        (tree, wrong)
    }

    /// Writes every snapshot down with its parent; breaks what is no tree.
    fn link(&mut self) -> Vec<Inconsistent> {
        let mut wrong = Vec::new();
        let mut sound: BTreeSet<String> = BTreeSet::new();
        for name in self.snapshots.keys().cloned().collect::<Vec<_>>() {
            // Up to what is known to end at a root; each snapshot is passed once over all.
            let mut path = BTreeSet::new();
            let mut at = name;
            while !sound.contains(&at) {
                let parent = self.snapshots[&at].snapshot.parent.clone();
                path.insert(at.clone());
                match parent {
                    None => break,
                    Some(parent) if !self.snapshots.contains_key(&parent) => {
                        self.orphan(&at);
                        wrong.push(Inconsistent::NoParent { name: at, parent });
                        break;
                    }
                    Some(parent) if path.contains(&parent) => {
                        self.orphan(&at);
                        wrong.push(Inconsistent::Circle(at));
                        break;
                    }
                    Some(parent) => at = parent,
                }
            }
            sound.extend(path);
        }
        for (name, parent) in self.parents() {
            self.children_mut(&parent).insert(name);
        }
        wrong
    }

    fn orphan(&mut self, name: &str) {
        if let Some(entry) = self.entry_mut(name) {
            entry.snapshot.parent = None;
        }
    }

    fn parents(&self) -> Vec<(String, String)> {
        let parent =
            |(name, entry): (&String, &Rc<Entry>)| Some((name.clone(), entry.snapshot.parent.clone()?));
        self.snapshots.iter().filter_map(parent).collect()
    }

    fn children_mut(&mut self, name: &str) -> &mut BTreeSet<String> {
        &mut self.entry_mut(name).expect("a parent is in the tree").children
    }

    fn entry_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.snapshots.get_mut(name).map(Rc::make_mut)
    }

    /// Gives a snapshot another name: what descends from it does so still, and it is the current one if it was.
    pub fn rename(&mut self, from: &str, record: DomainSnapshot) {
        let to = record.name.clone().unwrap_or_default();
        let children: Vec<_> = self.children(from).filter_map(|child| self.get(child).cloned()).collect();
        let was_current = self.current() == Some(from);
        self.insert(record);
        for child in children {
            self.insert(DomainSnapshot { parent: Some(to.clone()), ..child });
        }
        self.remove(from);
        if was_current {
            self.set_current(Some(&to));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// The snapshot of that name.
    pub fn get(&self, name: &str) -> Option<&DomainSnapshot> {
        self.snapshots.get(name).map(|entry| &entry.snapshot)
    }

    /// The name of the current one.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The names of the current one and of those that it descends from, the newest first.
    pub(crate) fn line(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(self.current(), |name| self.get(name)?.parent.as_deref())
    }

    /// Makes one the current one, or none.
    pub fn set_current(&mut self, name: Option<&str>) {
        self.current = name.filter(|name| self.snapshots.contains_key(*name)).map(str::to_owned);
    }

    /// The names of those whose parent it is, in their order as texts.
    pub fn children(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.snapshots.get(name).into_iter().flat_map(|entry| &entry.children).map(String::as_str)
    }

    /// The names of those without a parent, in their order as texts.
    pub fn roots(&self) -> impl DoubleEndedIterator<Item = &str> {
        let root = |(_, entry): &(&String, &Rc<Entry>)| entry.snapshot.parent.is_none();
        self.snapshots.iter().filter(root).map(|(name, _)| name.as_str())
    }

    /// The names of all that descend from it, each behind its parent.
    pub fn descendants(&self, name: &str) -> Vec<&str> {
        self.below(self.children(name).rev().collect())
    }

    /// All names, each behind its parent's.
    pub fn topological(&self) -> Vec<&str> {
        self.below(self.roots().rev().collect())
    }

    /// These and all that descend from them. Without recursion: a chain may be as long as it likes.
    fn below<'a>(&'a self, mut open: Vec<&'a str>) -> Vec<&'a str> {
        let mut found = Vec::new();
        while let Some(name) = open.pop() {
            found.push(name);
            open.extend(self.children(name).rev());
        }
        found
    }

    /// Puts a snapshot in; one of the same name gives its place up, and keeps its children.
    pub fn insert(&mut self, snapshot: DomainSnapshot) {
        let Some(name) = snapshot.name.clone() else { return };
        let children = match self.take_out(&name) {
            Some(old) => old.children.clone(),
            None => BTreeSet::new(),
        };
        if let Some(parent) = snapshot.parent.as_ref().and_then(|parent| self.entry_mut(parent)) {
            parent.children.insert(name.clone());
        }
        self.snapshots.insert(name, Rc::new(Entry { snapshot, children }));
    }

    /// Takes a record out. Its children become its parent's, and if it was current its parent is; gives the children's names. Where the
    /// images stay see [`SnapshotTree::forget`].
    pub fn remove(&mut self, name: &str) -> Vec<String> {
        let Some(taken) = self.take_out(name) else { return Vec::new() };
        let Entry { snapshot, children } = Rc::unwrap_or_clone(taken);
        for child in &children {
            if let Some(entry) = self.entry_mut(child) {
                entry.snapshot.parent.clone_from(&snapshot.parent);
            }
            if let Some(parent) = &snapshot.parent {
                self.children_mut(parent).insert(child.clone());
            }
        }
        if self.current.as_deref() == Some(name) {
            self.current = snapshot.parent;
        }
        children.into_iter().collect()
    }

    /// The names of those that are not in `old` as they are here, those that are in `old` alone, and those that became the current
    /// one or ceased to be it.
    pub fn changed_since(&self, old: &SnapshotTree) -> BTreeSet<String> {
        let (mut here, mut there) = (self.snapshots.iter().peekable(), old.snapshots.iter().peekable());
        let mut names = BTreeSet::new();
        // Both are in order: to look each up in the other would take longer than all the rest.
        loop {
            let order = match (here.peek(), there.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((here, _)), Some((there, _))) => here.cmp(there),
            };
            let new = if order.is_le() { here.next() } else { None };
            let old = if order.is_ge() { there.next() } else { None };
            let same =
                |new: &Rc<Entry>, old: &Rc<Entry>| Rc::ptr_eq(new, old) || new.snapshot == old.snapshot;
            match (new, old) {
                (Some((_, new)), Some((_, old))) if same(new, old) => {}
                (one, other) => names.extend(one.or(other).map(|(name, _)| name.clone())),
            }
        }
        let current =
            [&self.current, &old.current].into_iter().flatten().filter(|_| self.current != old.current);
        names.extend(current.cloned());
        names
    }

    fn take_out(&mut self, name: &str) -> Option<Rc<Entry>> {
        let entry = self.snapshots.remove(name)?;
        if let Some(parent) = &entry.snapshot.parent {
            self.children_mut(parent).remove(name);
        }
        Some(entry)
    }
}
