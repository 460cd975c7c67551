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
    pass_on(snapshot, frozen.iter(), &mut tree);
    if was_current && snapshot.parent.is_some() {
        tree.goes_on(|target| {
            let mut live = frozen.iter().filter(|disk| disk.target == target);
            let live = live.find_map(|disk| Some(disk.live.as_ref()?.file.to_owned()));
            live.or_else(|| merge::is_in(target, snapshot, facts))
        });
    }
    settle_current(&mut tree);
    for disk in frozen {
        forget_below(&mut tree, disk);
    }
    tree
}

/// Has the parent of a snapshot that is gone say of its own overlays, where they are gone, in which the disks went on.
pub(in crate::plan) fn pass_on<'f, 'a: 'f>(
    snapshot: &DomainSnapshot,
    frozen: impl Iterator<Item = &'f Frozen<'a>>,
    tree: &mut SnapshotTree,
) {
    let parent = snapshot.parent.as_deref().and_then(|parent| tree.get(parent));
    let Some(mut parent) = parent.cloned() else { return };
    let mut any = false;
    for disk in frozen {
        any = true;
        let heir = disk.heir().map(ToOwned::to_owned).or_else(|| branch_of(&parent, disk.target, tree));
        let part = parent.disks.iter_mut().find(|part| part.name == disk.target);
        let part = part.filter(|part| part.path() == Some(&disk.file));
        if let (Some(part), Some(heir)) = (part, heir) {
            part.source = Some(Element::new("source").with("file", heir.as_str()));
        }
    }
    if any {
        tree.insert(parent);
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
