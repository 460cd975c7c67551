//! `undefine`: a machine's records are not forgotten by accident.

use super::*;

fn desk() -> Desk {
    let record = "<domainsnapshot><name>s1</name><state>shutoff</state><creationTime>1</creationTime></domainsnapshot>";
    let desk = Desk::new().with("vm.xml", "<domain><name>vm</name></domain>").with("record.xml", record);
    desk.run(&["snapshot", "redefine", "record.xml", "--domain", "vm.xml", "--state", "state"])
        .assert(0, "recorded");
    desk
}

fn undefine(desk: &Desk, options: &[&str]) -> Said {
    desk.run(&[&["undefine", "--domain", "vm.xml", "--state", "state"], options].concat())
}

#[test]
fn a_machine_with_snapshots_is_forgotten_on_request_only() {
    let desk = desk();
    let refused = "error: OPERATION_INVALID: 1 snapshots of this machine are recorded";
    undefine(&desk, &[]).assert(1, refused);
    undefine(&desk, &["--json"]).assert(1, "\"code\": \"OPERATION_INVALID\"");
    undefine(&desk, &["--snapshots-metadata", "--dry-run"])
        .assert(0, "dry run, nothing is changed: vm undefined");
    undefine(&desk, &[]).assert(1, refused);
    undefine(&desk, &["--snapshots-metadata"]).assert(0, "vm undefined\nrecord of snapshot s1 removed\n");
    undefine(&desk, &["--json"]).assert(0, "\"undefined\": \"vm\"");
}

#[test]
fn a_record_that_cannot_be_read_counts_as_a_snapshot() {
    let desk = desk().with("state/vm/s2.xml", "<domainsnapshot>");
    undefine(&desk, &[]).assert(1, "2 snapshots of this machine are recorded");
    undefine(&desk, &["--snapshots-metadata"])
        .assert(0, "warning: the record `state/vm/s2.xml` is passed over");
    assert!(desk.path.join("state/vm/s2.xml").exists(), "what is no record of ours is left where it is");
}
