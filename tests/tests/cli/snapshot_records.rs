//! `snapshot`: the records of a machine, listed and changed.

use super::*;

const DOMAIN: &str =
    "<domain type='qemu'><name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>";
const HERE: [&str; 4] = ["--domain", "vm.xml", "--state", "state"];

fn record(name: &str, parent: Option<&str>, state: &str) -> String {
    let parent = parent.map(|parent| format!("<parent><name>{parent}</name></parent>")).unwrap_or_default();
    format!(
        "<domainsnapshot><name>{name}</name><state>{state}</state>{parent}\
             <creationTime>1795212236</creationTime></domainsnapshot>"
    )
}

fn snapshot(desk: &Desk, arguments: &[&str]) -> Said {
    desk.run(&[&["snapshot"], arguments, &HERE].concat())
}

/// `a` with `b` and `d`, `b` with `c`, `d` with `e`; `f` alone. `e` is current.
fn desk_with_records() -> Desk {
    let mut desk = Desk::new().with("vm.xml", DOMAIN);
    let records =
        [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("a")), ("e", Some("d")), ("f", None)];
    for (name, parent) in records {
        let state = if name == "c" { "shutoff" } else { "running" };
        desk = desk.with("record.xml", &record(name, parent, state));
        let current: &[&str] = if name == "e" { &["--current"] } else { &[] };
        snapshot(&desk, &[&["redefine", "record.xml"], current].concat()).assert(0, "recorded");
    }
    desk
}

#[test]
fn records_are_listed_as_table_tree_names_and_json() {
    let desk = desk_with_records();
    for arguments in [
        &["list"][..],
        &["list", "--tree"],
        &["list", "--json", "--leaves"],
        &["list", "--parent", "--topological", "--active"],
        &["list", "--from", "a", "--descendants", "--name"],
        &["list", "--from", "a", "--tree"],
        &["info", "d"],
        &["dumpxml", "b"],
    ] {
        let name = format!("snapshot {}", arguments.join(" ").replace("--", ""));
        insta::assert_snapshot!(name, snapshot(&desk, arguments).whole());
    }
    snapshot(&desk, &["parent", "e"]).assert(0, "d\n");
    assert_eq!(snapshot(&desk, &["parent", "--current"]).stdout, "d\n");
}

#[test]
fn the_current_one_is_shown_and_another_made_current() {
    let desk = desk_with_records();
    assert_eq!(snapshot(&desk, &["current", "--name"]).stdout, "e\n");
    assert_eq!(snapshot(&desk, &["current"]).stdout, snapshot(&desk, &["dumpxml", "e"]).stdout);
    snapshot(&desk, &["current", "--set", "b", "--dry-run"])
        .assert(0, "dry run, nothing is changed: snapshot b set as current");
    assert_eq!(snapshot(&desk, &["current", "--name"]).stdout, "e\n");
    snapshot(&desk, &["current", "--set", "b"]).assert(0, "snapshot b set as current");
    assert_eq!(snapshot(&desk, &["current", "--name"]).stdout, "b\n");
    snapshot(&desk, &["current", "--set", "zz"]).assert(1, "error: NO_DOMAIN_SNAPSHOT: no snapshot `zz`");
}

/// Not as libvirt has it: no other record knows those overlays, and once more current it would say that the machine is in others.
#[test]
fn the_one_that_was_current_says_still_in_which_overlays_its_branch_grew() {
    let more = "<revertDisks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/>\
                <source file='/images/vda.1'/></disk></revertDisks></domainsnapshot>";
    for make_current in [&["redefine", "b.xml", "--current"][..], &["current", "--set", "b"]] {
        let desk = Desk::new()
            .with("vm.xml", DOMAIN)
            .with("a.xml", &record("a", None, "shutoff").replace("</domainsnapshot>", more))
            .with("b.xml", &record("b", Some("a"), "shutoff"));
        snapshot(&desk, &["redefine", "a.xml", "--current"]).assert(0, "recorded");
        snapshot(&desk, &["redefine", "b.xml"]).assert(0, "recorded");
        assert!(snapshot(&desk, &["dumpxml", "a"]).stdout.contains("<revertDisks>"));
        snapshot(&desk, &["redefine", "a.xml", "--current"]).assert(0, "recorded");
        assert!(snapshot(&desk, &["dumpxml", "a"]).stdout.contains("<revertDisks>"), "it stays the same one");
        snapshot(&desk, make_current).assert(0, "b");
        assert!(snapshot(&desk, &["dumpxml", "a"]).stdout.contains("<revertDisks>"));
        snapshot(&desk, &["current", "--set", "a"]).assert(0, "a");
        assert!(snapshot(&desk, &["dumpxml", "a"]).stdout.contains("<revertDisks>"));
    }
}

#[test]
fn passwords_are_shown_on_request_only() {
    let screen =
        "<domain><name>vm</name><devices><graphics type='vnc' passwd='open sesame'/></devices></domain>";
    let text =
        record("p", None, "running").replace("</domainsnapshot>", &format!("{screen}</domainsnapshot>"));
    let desk = Desk::new().with("vm.xml", DOMAIN).with("record.xml", &text);
    snapshot(&desk, &["redefine", "record.xml", "--current"]).assert(0, "recorded");
    for verb in [&["dumpxml", "p"][..], &["current"]] {
        let hidden = snapshot(&desk, verb);
        assert!(
            hidden.stdout.contains("<graphics type='vnc'/>") && !hidden.stdout.contains("sesame"),
            "{}",
            hidden.stdout
        );
        snapshot(&desk, &[verb, &["--security-info"]].concat()).assert(0, "passwd='open sesame'");
    }
}

/// Every word of an object is in the help.
#[track_caller]
pub(super) fn assert_described(desk: &Desk, object: &serde_json::Value) {
    let help = desk.run(&["snapshot", "--help"]).stdout;
    let words: Vec<&str> = help.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    for name in object.as_object().unwrap().keys() {
        assert!(words.contains(&name.as_str()), "`{name}` is not described");
    }
}

#[test]
fn every_verb_says_the_same_to_programs_in_one_object() {
    let desk = desk_with_records().with("g.xml", &record("g", Some("f"), "running"));
    let json = |arguments: &[&str]| -> serde_json::Value {
        let said = snapshot(&desk, &[arguments, &["--json"]].concat());
        assert!(matches!(said.code, Some(0 | 1)), "{}", said.whole());
        let object =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.whole()));
        assert_described(&desk, &object);
        object
    };
    let list = json(&["list", "--roots"]);
    assert_eq!((&list["domain"], &list["current"]), (&"vm".into(), &"e".into()));
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(json(&["info", "d"])["descendants"], 1);
    assert_eq!(json(&["parent", "b"])["parent"], "a");
    assert_eq!(json(&["current", "--name"])["name"], "e");
    assert_eq!(json(&["dumpxml", "b"])["xml"], snapshot(&desk, &["dumpxml", "b"]).stdout);
    assert_eq!(json(&["redefine", "g.xml", "--dry-run"])["dry-run"], true);
    assert_eq!(json(&["redefine", "g.xml"])["recorded"], "g");
    assert_eq!(json(&["current", "--set", "g"])["current"], "g");
    let removed = json(&["delete", "f", "--metadata", "--children"]);
    assert_eq!(removed["records-removed"], serde_json::json!(["f", "g"]));
    let failed = json(&["info", "f"]);
    assert_eq!((&failed["error"]["code"], &failed["exit-code"]), (&"NO_DOMAIN_SNAPSHOT".into(), &1.into()));
    assert_eq!(failed["error"]["outcome"], "not-begun");
}

#[test]
fn a_record_that_is_removed_gives_its_children_to_its_parent() {
    let desk = desk_with_records();
    snapshot(&desk, &["delete", "d", "--metadata", "--dry-run"])
        .assert(0, "dry run, nothing is changed: record of snapshot d removed\n");
    snapshot(&desk, &["parent", "e"]).assert(0, "d\n");
    snapshot(&desk, &["delete", "d", "--metadata"]).assert(0, "record of snapshot d removed\n");
    snapshot(&desk, &["parent", "e"]).assert(0, "a\n");
    snapshot(&desk, &["parent", "a"]).assert(1, "error: NO_DOMAIN_SNAPSHOT: snapshot `a` has no parent");
    snapshot(&desk, &["delete", "e", "--metadata"]).assert(0, "");
    snapshot(&desk, &["current", "--name"]).assert(0, "a\n");
    snapshot(&desk, &["delete", "a", "--metadata", "--children-only"]).assert(0, "");
    snapshot(&desk, &["list", "--name"]).assert(0, "a\nf\n");
    snapshot(&desk, &["delete", "a", "--metadata", "--children"]).assert(0, "");
    snapshot(&desk, &["current"])
        .assert(1, "error: NO_DOMAIN_SNAPSHOT: this machine has no current snapshot");
}

#[test]
fn a_record_that_does_not_fit_is_refused_and_changes_nothing() {
    let mut desk = desk_with_records();
    let before = snapshot(&desk, &["list", "--parent"]).stdout;
    for (name, parent, state, words) in [
        ("g", Some("zz"), "running", "error: INVALID_ARG: snapshot `g` says that its parent is `zz`"),
        ("a", Some("a"), "running", "error: INVALID_ARG: snapshot `a` cannot be its own parent"),
        ("a", Some("e"), "running", "error: INVALID_ARG: snapshot `a` cannot descend from `e`"),
        ("c", Some("b"), "running", "error: INVALID_ARG: snapshot `c` cannot change between"),
        ("..", None, "running", "error: XML_DETAIL: the name `..` begins with a `.`"),
        ("a/b", None, "running", "error: XML_DETAIL: the name `a/b` holds a `/`"),
    ] {
        desk = desk.with("record.xml", &record(name, parent, state));
        snapshot(&desk, &["redefine", "record.xml"]).assert(1, words);
    }
    assert_eq!(snapshot(&desk, &["list", "--parent"]).stdout, before);
    snapshot(&desk, &["dumpxml", "nobody"]).assert(1, "error: NO_DOMAIN_SNAPSHOT: no snapshot `nobody`");
}

#[test]
fn what_is_no_record_is_passed_over_with_a_warning_and_stays() {
    let desk = desk_with_records()
        .with("state/vm/bad.xml", "<domainsnapshot>")
        .with("state/vm/long.xml", &format!("{}{}", record("long", None, "running"), " ".repeat(4 << 20)))
        .with("state/vm/x.xml", &record("y", None, "running"));
    std::os::unix::fs::symlink("/etc/passwd", desk.path.join("state/vm/link.xml")).unwrap();
    let said = snapshot(&desk, &["list", "--name"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "a\nb\nc\nd\ne\nf\n"));
    for file in ["bad.xml", "link.xml", "long.xml", "x.xml"] {
        assert!(
            said.stderr.contains(&format!("warning: the record `state/vm/{file}` is passed over")),
            "{}",
            said.stderr
        );
        assert!(desk.path.join("state/vm").join(file).symlink_metadata().is_ok());
    }
}

#[test]
fn a_record_that_cannot_be_read_is_removed_by_the_name_of_its_file() {
    let desk = desk_with_records()
        .with("state/vm/e.xml", "<domainsnap")
        .with("state/vm/x.xml", &record("y", None, "running"));
    snapshot(&desk, &["delete", "e", "--metadata", "--dry-run"])
        .assert(0, "dry run, nothing is changed: record of snapshot e, which could not be read, removed\n");
    assert_eq!(desk.read("state/vm/e.xml"), "<domainsnap");
    for name in ["e", "x"] {
        let told = format!("record of snapshot {name}, which could not be read, removed\n");
        snapshot(&desk, &["delete", name, "--metadata"]).assert(0, &told);
        assert!(!desk.path.join(format!("state/vm/{name}.xml")).exists());
    }
    // `e` was the current one, and nobody says so any more.
    let said = snapshot(&desk, &["list", "--name"]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("a\nb\nc\nd\nf\n", ""));
    snapshot(&desk, &["delete", "e", "--metadata"]).assert(1, "NO_DOMAIN_SNAPSHOT");
}

#[test]
fn two_at_once_are_kept_apart_and_the_folder_is_its_owners() {
    let desk = desk_with_records();
    let lock = fs::File::open(desk.path.join("state/vm/lock")).unwrap();
    lock.lock().unwrap();
    snapshot(&desk, &["list", "--name"]).assert(
        0, "a
",
    );
    snapshot(&desk, &["delete", "a", "--metadata"])
        .assert(75, "error: OPERATION_TIMEOUT: another freezeframe works on this machine");
    drop(lock);
    let mode = |path: &str| fs::metadata(desk.path.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("state/vm"), mode("state/vm/a.xml"), mode("state/vm/current")), (0o700, 0o600, 0o600));
    snapshot(&desk, &["delete", "a", "--metadata"]).assert(0, "");
}

#[test]
fn records_behind_a_link_are_nobodys() {
    let desk = desk_with_records().with("wish.xml", &record("g", None, "running"));
    fs::rename(desk.path.join("state/vm"), desk.path.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(desk.path.join("elsewhere"), desk.path.join("state/vm")).unwrap();
    let words = "`state/vm` is a symbolic link, and no records are kept behind one";
    for verb in [&["list"][..], &["redefine", "wish.xml"], &["redefine", "wish.xml", "--dry-run"]] {
        snapshot(&desk, verb).assert(1, words);
    }
    // The folder of all records is the caller's to name, and may be one.
    fs::remove_file(desk.path.join("state/vm")).unwrap();
    fs::rename(desk.path.join("elsewhere"), desk.path.join("state/vm")).unwrap();
    std::os::unix::fs::symlink("state", desk.path.join("link")).unwrap();
    desk.run(&["snapshot", "list", "--name", "--domain", "vm.xml", "--state", "link"]).assert(0, "a\nb\n");
}

#[test]
fn a_dry_run_makes_no_folder_and_no_lock() {
    let desk = Desk::new().with("vm.xml", DOMAIN).with("a.xml", &record("a", None, "running"));
    snapshot(&desk, &["redefine", "a.xml", "--dry-run"]).assert(0, "dry run, nothing is changed");
    desk.run(&[&["undefine", "--dry-run"], &HERE[..]].concat()).assert(0, "dry run, nothing is changed");
    assert!(!desk.path.join("state").exists());
    snapshot(&desk, &["redefine", "a.xml"]).assert(0, "recorded");
    let there = desk.path.join("there");
    fs::create_dir(&there).unwrap();
    snapshot(&desk, &["hand-over", "--to", "there", "--dry-run"]).assert(0, "dry run, nothing is changed");
    assert_eq!(fs::read_dir(there).unwrap().count(), 0);
}
