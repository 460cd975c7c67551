//! Who descends from whom, what a list holds, and which record is refused.

use super::*;
use crate::{
    domain_snapshot::{Purpose, State},
    error::Code,
};

fn record(name: &str, parent: Option<&str>, state: &str, more: &str) -> DomainSnapshot {
    let parent = parent.map(|parent| format!("<parent><name>{parent}</name></parent>")).unwrap_or_default();
    let text = format!(
        "<domainsnapshot><name>{name}</name><state>{state}</state>{parent}<creationTime>1</creationTime>{more}</domainsnapshot>"
    );
    DomainSnapshot::read(text.as_bytes(), Purpose::Redefine).unwrap()
}

fn of(pairs: &[(&str, Option<&str>)]) -> SnapshotTree {
    let records = pairs.iter().map(|(name, parent)| record(name, *parent, "running", ""));
    let (tree, wrong) = SnapshotTree::new(records.collect(), None);
    assert_eq!(wrong, []);
    tree
}

/// `a` with `b` and `e`, `b` with `c` and `d`; `f` alone.
fn forest() -> SnapshotTree {
    of(&[("c", Some("b")), ("a", None), ("d", Some("b")), ("b", Some("a")), ("e", Some("a")), ("f", None)])
}

#[test]
fn each_stands_behind_its_parent() {
    let tree = forest();
    assert_eq!(tree.topological(), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(tree.descendants("a"), ["b", "c", "d", "e"]);
    assert_eq!(tree.children("a").collect::<Vec<_>>(), ["b", "e"]);
    assert_eq!(tree.roots().collect::<Vec<_>>(), ["a", "f"]);
}

#[test]
fn what_is_no_tree_is_told_and_nothing_is_hidden() {
    let records = vec![
        record("a", Some("b"), "running", ""),
        record("b", Some("c"), "running", ""),
        record("c", Some("a"), "running", ""),
        record("d", Some("gone"), "running", ""),
        record("e", Some("e"), "running", ""),
    ];
    let (tree, wrong) = SnapshotTree::new(records, Some("nobody".into()));
    assert_eq!(tree.topological().len(), 5);
    assert_eq!(tree.current(), None);
    let gone = Inconsistent::NoParent { name: "d".into(), parent: "gone".into() };
    assert_eq!(
        wrong,
        [
            Inconsistent::Circle("c".into()),
            gone,
            Inconsistent::Circle("e".into()),
            Inconsistent::NoCurrent("nobody".into())
        ]
    );
}

#[test]
fn the_children_of_one_that_is_removed_are_its_parents() {
    let mut tree = forest();
    tree.set_current(Some("b"));
    assert_eq!(tree.remove("b"), ["c", "d"]);
    assert_eq!(tree.children("a").collect::<Vec<_>>(), ["c", "d", "e"]);
    assert_eq!(tree.get("c").unwrap().parent.as_deref(), Some("a"));
    assert_eq!(tree.current(), Some("a"));
    tree.remove("a");
    assert_eq!((tree.roots().count(), tree.current()), (4, None));
}

#[test]
fn a_list_holds_what_every_group_asks_for() {
    let external = "<memory snapshot='external' file='/m'/>";
    let (tree, _) = SnapshotTree::new(
        vec![
            record("off", None, "shutoff", ""),
            record("full", Some("off"), "running", ""),
            record("file", Some("full"), "paused", external),
            record(
                "disks",
                Some("full"),
                "disk-snapshot",
                "<disks><disk name='vda' snapshot='external'/></disks>",
            ),
        ],
        None,
    );
    let list = |filter| tree.list(Scope::All, filter);
    let none = Filter::default();
    assert_eq!(list(none), ["disks", "file", "full", "off"]);
    assert_eq!(list(Filter { topological: true, ..none }), ["off", "full", "disks", "file"]);
    assert_eq!(list(Filter { leaves: true, ..none }), ["disks", "file"]);
    assert_eq!(list(Filter { no_leaves: true, ..none }), ["full", "off"]);
    assert_eq!(list(Filter { leaves: true, no_leaves: true, ..none }).len(), 4);
    assert_eq!(list(Filter { inactive: true, ..none }), ["off"]);
    assert_eq!(list(Filter { active: true, ..none }), ["file", "full"]);
    assert_eq!(list(Filter { disk_only: true, inactive: true, ..none }), ["disks", "off"]);
    assert_eq!(list(Filter { internal: true, ..none }), ["full", "off"]);
    assert_eq!(list(Filter { external: true, leaves: true, ..none }), ["disks", "file"]);
    assert_eq!(list(Filter { no_metadata: true, ..none }), Vec::<&str>::new());
    assert_eq!(list(Filter { no_metadata: true, metadata: true, ..none }).len(), 4);
    assert_eq!(tree.list(Scope::Roots, none), ["off"]);
    assert_eq!(tree.list(Scope::Children("full"), none), ["disks", "file"]);
    assert_eq!(tree.list(Scope::Descendants("off"), Filter { external: true, ..none }), ["disks", "file"]);
}

#[test]
fn a_record_takes_its_place_and_keeps_children_current_and_machine() {
    let mut tree = forest();
    tree.insert(record("b", Some("a"), "running", "<domain type='kvm'><name>vm</name></domain>"));
    tree.set_current(Some("b"));
    tree.redefine(record("b", Some("f"), "paused", ""), None, false).unwrap();
    assert_eq!(tree.children("f").collect::<Vec<_>>(), ["b"]);
    assert_eq!(tree.children("b").collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(tree.children("a").collect::<Vec<_>>(), ["e"]);
    assert_eq!((tree.current(), tree.get("b").unwrap().state), (Some("b"), Some(State::Paused)));
    assert!(tree.get("b").unwrap().domain.is_some());
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let uuid = "11111111-2222-3333-4444-555555555555";
    let other =
        "<domain type='kvm'><name>vm</name><uuid>99999999-2222-3333-4444-555555555555</uuid></domain>";
    let before = forest();
    let mut tree = before.clone();
    let mut why = |record, disk_only| tree.redefine(record, Some(uuid), disk_only).unwrap_err();
    let named = |name: &str, parent: &str| (name.to_owned(), parent.to_owned());
    assert_eq!(why(record("a", Some("a"), "running", ""), false), BadRedefinition::OwnParent("a".into()));
    let unreadable = record("n", None, "running", "<domain type='kvm'><name/></domain>");
    let refused = why(unreadable, false);
    assert!(matches!(refused, BadRedefinition::Domain { .. }), "{refused}");
    assert_eq!(refused.code(), Code::XmlError);
    let (name, parent) = named("n", "zzz");
    assert_eq!(
        why(record("n", Some("zzz"), "running", ""), false),
        BadRedefinition::NoParent { name, parent }
    );
    let (name, parent) = named("a", "d");
    assert_eq!(why(record("a", Some("d"), "running", ""), false), BadRedefinition::Circle { name, parent });
    assert_eq!(why(record("n", None, "running", ""), true), BadRedefinition::NotDiskOnly("n".into()));
    let another = BadRedefinition::OtherMachine { name: "n".into(), uuid: uuid.into() };
    assert_eq!(why(record("n", None, "running", other), false), another);
    assert_eq!(why(record("a", None, "shutoff", ""), false), BadRedefinition::OnlineOffline("a".into()));
    assert_eq!(
        why(record("f", None, "disk-snapshot", ""), false),
        BadRedefinition::OnlineOffline("f".into())
    );
    assert_eq!(tree, before);
}

#[test]
fn a_record_that_takes_anothers_place_is_of_the_same_kind_and_of_the_same_machine() {
    let machine = |memory: u32| {
        format!(
            "<domain type='kvm'><name>vm</name><memory>{memory}</memory><devices><disk type='file'>
             <source file='/images/vda'/><target dev='vda'/></disk></devices></domain>"
        )
    };
    let disks = |names: &[&str]| {
        let disks: String = names.iter().map(|name| format!("<disk name='{name}' snapshot='no'/>")).collect();
        format!("<disks>{disks}</disks>{}", machine(1024))
    };
    let mut tree = SnapshotTree::default();
    tree.insert(record("off", None, "shutoff", ""));
    tree.insert(record("full", None, "running", &machine(1024)));
    let mut why = |record| tree.redefine(record, None, false).unwrap_err();
    let refused = why(record("off", None, "disk-snapshot", ""));
    assert_eq!((refused.code(), refused), (Code::InvalidArg, BadRedefinition::DiskOnlyFull("off".into())));
    let refused = why(record("full", None, "running", &machine(2048)));
    assert_eq!(refused.code(), Code::ConfigUnsupported);
    assert!(
        matches!(&refused, BadRedefinition::MachineChanged { difference, .. } if difference.contains("2048"))
    );
    let (name, disk) = ("full".to_owned(), "vdb".to_owned());
    assert_eq!(
        why(record("full", None, "running", &disks(&["vda", "vdb"]))),
        BadRedefinition::NoSuchDisk { name: name.clone(), disk }
    );
    let twice = why(record("full", None, "running", &disks(&["vda", "/images/vda"])));
    assert_eq!(twice, BadRedefinition::DiskTwice { name, disk: "/images/vda".into() });
    tree.redefine(record("full", None, "paused", &disks(&["vda"])), None, false).unwrap();
}

#[test]
fn a_chain_of_ten_thousand_is_walked_without_recursion() {
    // The youngest is the first by name: the way up is longest there.
    let name = |number: usize| format!("s{:05}", 9999 - number);
    let records = (0..10_000).map(|number| DomainSnapshot {
        name: Some(name(number)),
        parent: number.checked_sub(1).map(name),
        ..record("s", None, "running", "")
    });
    let (mut tree, wrong) = SnapshotTree::new(records.rev().collect(), Some(name(9999)));
    assert_eq!((tree.topological().len(), wrong.len()), (10_000, 0));
    assert_eq!(tree.descendants(&name(0)).last(), Some(&"s00000"));
    tree.remove(&name(5000));
    assert_eq!(tree.get(&name(5001)).unwrap().parent.as_deref(), Some("s05000"));
}
