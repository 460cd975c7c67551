//! What the records say when a snapshot at which branches part is gone.

use camino::Utf8PathBuf;

use super::Frozen;
use crate::{
    domain_snapshot::DomainSnapshot,
    domain_xml::DomainXml,
    plan::{Facts, merge},
    tree::{SnapshotTree, settle_current},
    xml::Element,
};

/// The records without the snapshot. Its parent says of its own overlays, where they are gone, in which the disks went on; and of
/// a machine that went on from the snapshot itself, in which it does.
pub(super) fn tree_without(
    snapshot: &DomainSnapshot,
    frozen: &[Frozen<'_>],
    old: &SnapshotTree,
    facts: Facts<'_>,
) -> SnapshotTree {
    let mut tree = old.clone();
    let name = snapshot.name.as_deref().unwrap_or_default();
    let was_current = old.current() == Some(name);
    tree.remove(name);
    pass_on(frozen.iter(), &mut tree);
    if was_current && snapshot.parent.is_some() {
        let gone =
            |target: &str| frozen.iter().find(|disk| disk.target == target).map(|disk| disk.file.as_path());
        tree.goes_on(|current, target| merge::goes_on(target, current, gone(target), snapshot, facts));
    }
    settle_current(&mut tree);
    for disk in frozen {
        forget_below(&mut tree, disk);
    }
    tree
}

/// Has the records that say that a disk went on in an image of a snapshot that is gone say in which it did of those that stood on that.
pub(in crate::plan) fn pass_on<'f, 'a: 'f>(
    frozen: impl Iterator<Item = &'f Frozen<'a>>,
    tree: &mut SnapshotTree,
) {
    let mut any = false;
    for disk in frozen {
        any = true;
        tree.lose(disk.target, &disk.file, &disk.heirs());
    }
    if any {
        settle_current(tree);
    }
}

/// The overlay of another branch that begins at a snapshot.
pub(in crate::plan) fn branch_of(
    parent: &DomainSnapshot,
    target: &str,
    tree: &SnapshotTree,
) -> Option<Utf8PathBuf> {
    let name = parent.name.as_deref()?;
    tree.children(name).filter_map(|child| tree.get(child)).find_map(|child| merge::source(child, target))
}

/// What records say of the images below those that stood on it is not so any more.
fn forget_below(tree: &mut SnapshotTree, disk: &Frozen<'_>) {
    let names: Vec<String> = tree.topological().into_iter().map(str::to_owned).collect();
    let records = names.iter().filter_map(|name| tree.get(name));
    let records = records.filter(|record| !merge::is_manual(record, disk.target));
    for snapshot in records.cloned().collect::<Vec<_>>() {
        let forgotten = |domain: &Option<Element>| {
            let document = DomainXml::of(domain.clone()?).ok()?;
            Some(document.without_chain_through(disk.target, &disk.file)?.element().clone())
        };
        let [live, next] = [&snapshot.domain, &snapshot.inactive_domain].map(forgotten);
        if live.is_some() || next.is_some() {
            let domain = live.or_else(|| snapshot.domain.clone());
            let inactive_domain = next.or_else(|| snapshot.inactive_domain.clone());
            tree.insert(DomainSnapshot { domain, inactive_domain, ..snapshot });
        }
    }
}
