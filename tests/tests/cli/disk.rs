//! `disk`: snapshots of disks by the storage below them; here by a program of the user's, which needs nothing else.

use super::*;

/// Keeps its snapshots as lines of a file beside it.
const PROGRAM: &str = r#"
read -r asked
kept=$(dirname "$0")/kept
touch "$kept"
name=$(printf '%s' "$asked" | sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
case $asked in
*'"operation":"list"'*) printf '{"snapshots":[%s]}' "$(sed 's/.*/"&"/' "$kept" | paste -sd,)" ;;
*'"operation":"snapshot"'*) echo "$name" >>"$kept"; printf '{"done":{}}' ;;
*) sed -i "/^$name\$/d" "$kept"; printf '{"done":{}}' ;;
esac
"#;

/// A machine with one disk of which its document says nothing.
fn desk() -> Desk {
    let disk = "<disk type='file'><source file='/images/vda.raw'/><target dev='vda'/></disk>";
    let domain = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
    Desk::new().with("vm.xml", &domain).with_program("bin/array", PROGRAM)
}

fn disk(desk: &Desk, words: &[&str], options: &[&str]) -> Said {
    desk.run(&[&["disk"], words, &["--domain", "vm.xml", "--disk", "vda"], options].concat())
}

#[test]
fn a_snapshot_is_taken_listed_and_deleted() {
    let desk = desk();
    let program = desk.path.join("bin/array");
    let by = ["--method", "exec", "--program", program.as_str()];
    disk(&desk, &["snapshot", "s1"], &by)
        .assert(0, "snapshot s1 of /images/vda.raw taken by exec; quiesced: no, not asked for\n");
    disk(&desk, &["snapshot", "s1"], &by).assert(1, "error: OPERATION_INVALID: it exists already: ");
    disk(&desk, &["list"], &by).assert(0, "s1\n");
    disk(&desk, &["list", "--json"], &by).assert(0, "\"name\": \"s1\"");
    let taken = disk(&desk, &["snapshot", "s2", "--json"], &by);
    taken.assert(0, "\"quiesced-why\": \"not asked for\"");
    taken.assert(0, "\"guest-frozen-seconds\": null");
    disk(&desk, &["delete", "s2"], &by).assert(0, "deleted s2\n");
    disk(&desk, &["merge", "s1"], &by).assert(0, "merged s1\n");
    disk(&desk, &["delete", "s1"], &by).assert(1, "error: NO_DOMAIN_SNAPSHOT: it is not there: ");
    disk(&desk, &["delete", "s1", "--json"], &by).assert(1, "\"outcome\": \"not-begun\"");
}

#[test]
fn what_says_too_little_is_wrong_use() {
    let desk = desk();
    disk(&desk, &["list"], &[])
        .assert(2, "error: CONFIG_UNSUPPORTED: nothing says who takes snapshots of vda");
    disk(&desk, &["list"], &["--method", "floppy"])
        .assert(2, "they are: btrfs, reflink, lvm, zfs, rbd, exec");
    disk(&desk, &["list"], &["--volume", "a"]).assert(2, "--method");
    disk(&desk, &["snapshot", "../s1"], &["--method", "reflink"])
        .assert(2, "error: INVALID_ARG: the name `../s1`");
    disk(&desk, &["snapshot", "s1", "--quiesce"], &["--method", "reflink"]).assert(2, "--agent");
    desk.run(&["disk", "list", "--domain", "vm.xml", "--disk", "vdb"])
        .assert(2, "the machine has no disk `vdb`");
}

#[test]
fn no_snapshot_is_taken_of_a_guest_that_nobody_answers_for() {
    let desk = desk();
    let program = desk.path.join("bin/array");
    let by = ["--method", "exec", "--program", program.as_str()];
    let quiesced = [&by[..], &["--quiesce", "--agent", "no.sock"]].concat();
    disk(&desk, &["snapshot", "s1", "--json"], &quiesced).assert(1, "\"code\": \"AGENT_UNRESPONSIVE\"");
    disk(&desk, &["list"], &by).assert(0, "");
    assert!(desk.read("bin/kept").is_empty(), "the program was not asked for a snapshot");
}

#[test]
fn what_would_be_done_is_printed_and_not_done() {
    let desk = desk();
    let program = desk.path.join("bin/array");
    let by = ["--method", "exec", "--program", program.as_str()];
    disk(&desk, &["snapshot", "s1", "--dry-run"], &by).assert(0, "catch vda as s1 by exec");
    disk(&desk, &["list"], &by).assert(0, "");
    assert!(desk.read("bin/kept").is_empty(), "the program was not asked for a snapshot");
    disk(&desk, &["snapshot", "s1"], &by).assert(0, "taken by exec");
    disk(&desk, &["delete", "s1", "--dry-run", "--json"], &by).assert(0, "\"dry-run\": true");
    disk(&desk, &["list"], &by).assert(0, "s1\n");
}

#[test]
fn qemus_snapshots_of_disks_need_the_machines_records() {
    disk(&desk(), &["list"], &["--method", "qemu"])
        .assert(2, "error: CONFIG_UNSUPPORTED: snapshots by QEMU stand among the machine's records");
}

#[test]
fn what_a_storage_cannot_do_is_asked_of_qemu_alone() {
    let desk = desk();
    disk(&desk, &["snapshot", "s1", "--internal"], &["--method", "reflink"])
        .assert(2, "--internal is a snapshot inside an image, by the method qemu");
    disk(&desk, &["export", "s1", "--socket", "s", "--by", "qemu"], &["--method", "reflink"])
        .assert(2, "QEMU has no snapshot of a storage open");
    disk(&desk, &["snapshot", "s1", "--internal"], &["--method", "qemu"])
        .assert(2, "error: CONFIG_UNSUPPORTED: snapshots by QEMU stand among the machine's records");
}

#[test]
fn what_cannot_be_exported_is_told_and_no_socket_is_left() {
    let desk = desk().with("taken.sock", "");
    let program = desk.path.join("bin/array");
    let by = ["--method", "exec", "--program", program.as_str(), "--socket"];
    let to = |socket| [&by[..], &[socket]].concat();
    disk(&desk, &["export", "s1"], &to("taken.sock")).assert(2, "taken.sock is there already");
    disk(&desk, &["export", "s1"], &to("new.sock")).assert(1, "error: NO_DOMAIN_SNAPSHOT: ");
    disk(&desk, &["snapshot", "s1"], &by[..4]).assert(0, "taken by exec");
    disk(&desk, &["export", "s1"], &to("new.sock")).assert(1, "error: OPERATION_UNSUPPORTED: ");
    assert!(!desk.path.join("new.sock").exists(), "nothing listens there");
}

#[test]
fn the_schema_of_a_storage_program_is_printed() {
    Desk::new().run(&["schema", "storage-exec"]).assert(0, "\"operation\"");
}
