//! `snapshot hand-over`: the records of a machine go where it has gone, whole, and again if it was broken off.

use super::*;

const DOMAIN: &str =
    "<domain type='qemu'><name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>";

fn record(name: &str, more: &str) -> String {
    format!(
        "<domainsnapshot><name>{name}</name><state>running</state><creationTime>1</creationTime>{more}</domainsnapshot>"
    )
}

fn child_of(parent: &str) -> String {
    format!("<parent><name>{parent}</name></parent>")
}

fn snapshot(desk: &Desk, state: &str, arguments: &[&str]) -> Said {
    desk.run(&[&["snapshot"], arguments, &["--domain", "vm.xml", "--state", state]].concat())
}

fn recorded(desk: Desk, state: &str, name: &str, more: &str) -> Desk {
    let desk = desk.with("record.xml", &record(name, more));
    snapshot(&desk, state, &["redefine", "record.xml"]).assert(0, "recorded");
    desk
}

/// `a` with `b` with `c`; `b` is current.
fn desk() -> Desk {
    let mut desk = Desk::new().with("vm.xml", DOMAIN);
    for (name, more) in [("a", String::new()), ("b", child_of("a")), ("c", child_of("b"))] {
        desk = recorded(desk, "state", name, &more);
    }
    snapshot(&desk, "state", &["current", "--set", "b"]).assert(0, "b");
    fs::create_dir_all(desk.path.join("there")).unwrap();
    desk
}

fn hand_over(desk: &Desk, more: &[&str]) -> Said {
    snapshot(desk, "state", &[&["hand-over", "--to", "there"], more].concat())
}

/// The names at a place, and which is current.
fn names_at(desk: &Desk, state: &str) -> (String, String) {
    let list = snapshot(desk, state, &["list", "--name"]).stdout;
    (list.replace('\n', " "), snapshot(desk, state, &["current", "--name"]).stdout)
}

#[track_caller]
fn assert_handed_over(desk: &Desk) {
    assert_eq!(names_at(desk, "there"), ("a b c ".into(), "b\n".into()));
    assert_eq!(snapshot(desk, "there", &["parent", "c"]).stdout, "b\n");
    assert_eq!(names_at(desk, "state"), (String::new(), String::new()));
}

#[test]
fn a_machine_with_a_transient_disk_has_not_moved() {
    let disk = "<devices><disk type='file'><source file='/b.qcow2'/><target dev='vdb'/><transient/></disk></devices>";
    let desk = desk().with("vm.xml", &DOMAIN.replace("</domain>", &format!("{disk}</domain>")));
    hand_over(&desk, &[]).assert(1, "OPERATION_INVALID: a machine with a <transient/> disk does not migrate");
    assert_eq!(names_at(&desk, "state"), ("a b c ".into(), "b\n".into()));
    assert_eq!(names_at(&desk, "there"), (String::new(), String::new()));
}

#[test]
fn the_records_of_a_machine_go_to_its_new_host_and_leave_the_old_one() {
    let desk = desk();
    hand_over(&desk, &["--dry-run"]).assert(0, "dry run, nothing is changed: 3 records handed over to there");
    assert_eq!(names_at(&desk, "state"), ("a b c ".into(), "b\n".into()));
    assert_eq!(names_at(&desk, "there"), (String::new(), String::new()));
    hand_over(&desk, &[]).assert(0, "3 records handed over to there\nrecord of snapshot a handed over\n");
    assert_handed_over(&desk);
    hand_over(&desk, &["--json"]).assert(0, "\"handed-over\": []");
    assert_handed_over(&desk);
}

#[test]
fn records_do_not_go_where_no_folder_is() {
    let desk = desk();
    fs::remove_dir(desk.path.join("there")).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        hand_over(&desk, more).assert(1, "INVALID_ARG: there is no folder `there`");
    }
    assert!(!desk.path.join("there").exists());
    assert_eq!(names_at(&desk, "state"), ("a b c ".into(), "b\n".into()));
}

#[test]
fn what_was_broken_off_while_it_was_written_there_is_ended_by_the_next() {
    let desk = recorded(desk(), "there", "a", "");
    hand_over(&desk, &[]).assert(0, "3 records handed over");
    assert_handed_over(&desk);
}

#[test]
fn what_was_broken_off_while_it_was_removed_here_is_told_and_ended_by_the_next() {
    // A folder is where the first removal is to be written down.
    let desk = desk();
    let in_the_way = desk.path.join("state/vm/current.new");
    fs::create_dir(&in_the_way).unwrap();
    let said = hand_over(&desk, &[]);
    said.assert(1, "all 3 records are in `there`, and 2 of them are here still");
    assert_eq!(names_at(&desk, "there"), ("a b c ".into(), "b\n".into()));
    fs::remove_dir(&in_the_way).unwrap();
    hand_over(&desk, &[]).assert(0, "handed over");
    assert_handed_over(&desk);
}

#[test]
fn records_are_not_handed_over_where_something_would_be_lost() {
    let other = recorded(desk(), "there", "b", "");
    hand_over(&other, &[]).assert(1, "OPERATION_FAILED: the destination has another snapshot `b`");
    let begun = "<disks><disk name='vda' snapshot='external'><snapshotDeleteInProgress/></disk></disks>";
    let deleting = recorded(desk(), "state", "d", begun);
    hand_over(&deleting, &[]).assert(1, "OPERATION_INVALID: a deletion of a snapshot above `d` was begun");
    let unread = desk().with("state/vm/x.xml", "<domainsnapshot>");
    hand_over(&unread, &[])
        .assert(1, "OPERATION_INVALID: 1 files among the records, here or there, cannot be read");
    for desk in [&other, &deleting, &unread] {
        assert!(names_at(desk, "state").0.starts_with("a b c "));
    }
    let desk = desk();
    snapshot(&desk, "state", &["hand-over", "--to", "./state"])
        .assert(1, "INVALID_ARG: `./state` is where the records are");
    let foreign = DOMAIN.replace("1111", "9999");
    let with_machine = |desk| recorded(desk, "state", "e", DOMAIN);
    let desk = with_machine(desk).with("vm.xml", &foreign);
    hand_over(&desk, &[]).assert(1, "INVALID_ARG: snapshot `e` is of a machine with another UUID");
}
