//! Every wrong input of `snapshot`: what is said, with which exit code, and that nothing was done.

use freezeframe_driver::env::{Env as _, tokio::TokioEnv};
use tokio::runtime::Builder;

use super::{snapshot_operations::Rig, *};

#[test]
fn what_makes_no_sense_by_itself_ends_with_2() {
    let desk = Desk::new()
        .with("vm.xml", "<domain><name>vm</name></domain>")
        .with("broken.xml", "<domain>\n  <name>vm</nam>\n</domain>")
        .with("other.xml", "<domainsnapshot/>")
        .with(
            "wish.xml",
            "<domainsnapshot>\n <disks>\n  <disk snapshot='no'/>\n </disks>\n</domainsnapshot>",
        );
    let here = ["--domain", "vm.xml", "--state", "state", "--qmp", "gone"];
    let cases: [(&[&str], &str); 22] = [
        (&["create-as", "a", "\u{1}"], "error: XML_ERROR: the character U+0001 is not allowed in XML"),
        (&["create-as", "--diskspec", "vda,file=/a\u{1}"], "the document of these options:4:23"),
        (&["create-as", "--diskspec", ",file=/a"], "it must begin with a disk"),
        (&["create-as", "--diskspec", "vda,size=1"], "`size=1` is not understood"),
        (&["create-as", "--diskspec", "vda,file=/a,file=/b"], "`file` is said twice"),
        (
            &["create-as", "--diskspec", "vda,stype=network"],
            "an overlay is in a `file` or on a `block` device",
        ),
        (&["create-as", "--diskspec", "vda,snapshot=maybe"], "error: XML_ERROR"),
        (&["create-as", "--diskspec", "vda,driver=zip"], "error: CONFIG_UNSUPPORTED"),
        (
            &["create-as", "--diskspec", "vda,file=a"],
            "error: XML_ERROR: the overlay's path `a` must be absolute",
        ),
        (&["create-as", "--memspec", "a"], "error: XML_ERROR"),
        (&["create-as", "--memspec", "/a,snapshot=manual"], "error: XML_ERROR"),
        (&["create-as", "--memspec", "/a,live=yes"], "`live=yes` is not understood"),
        (&["create-as", "--memspec", "/a", "--disk-only"], "error: XML_ERROR"),
        (&["create-as", "a", "--name", "b"], "cannot be used with"),
        (&["create-as", "a", "--within", "0"], "--within <SECONDS>"),
        (&["create", "wish.xml"], "wish.xml:3:"),
        (&["create", "gone.xml"], "error: cannot read gone.xml: No such file or directory"),
        (&["create", "--redefine"], "required arguments were not provided"),
        (&["revert"], "required arguments were not provided"),
        (&["revert", "a", "--current"], "cannot be used with"),
        (&["delete", "a", "--children", "--children-only", "--metadata"], "cannot be used with"),
        (&["delete"], "required arguments were not provided"),
    ];
    for (arguments, words) in cases {
        desk.run(&[&["snapshot"], arguments, &here].concat()).assert(2, words);
    }
    for (file, words) in [
        ("broken.xml", "broken.xml:2:11"),
        ("other.xml", "the root element is `<domainsnapshot>`"),
        ("gone.xml", "error: cannot read gone.xml"),
    ] {
        let machine = ["--domain", file, "--state", "state", "--qmp", "gone"];
        for verb in [&["create-as", "a"][..], &["revert", "a"], &["delete", "a"]] {
            desk.run(&[&["snapshot"], verb, &machine].concat()).assert(2, words);
        }
    }
    for verb in [&["create-as", "a"][..], &["create"], &["revert", "a"], &["delete", "a"]] {
        desk.run(&[&["snapshot"], verb, &["--qmp", "gone", "--domain", "vm.xml"]].concat())
            .assert(2, "--state <DIR>");
    }
    assert!(!desk.path.join("state").exists(), "nothing was recorded");
}

#[test]
fn what_the_machine_cannot_have_ends_with_1_and_leaves_it_as_it_is() {
    let rig = Rig::new();
    let cases: [(&[&str], &str); 13] = [
        (&["revert", "a", "--running", "--paused"], "error: INVALID_ARG"),
        (&["create-as", "a/b"], "error: XML_DETAIL: the name `a/b` holds a `/`"),
        (&["create-as", ".a"], "error: XML_DETAIL: the name `.a` begins with a `.`"),
        (
            &["create-as", "a", "--quiesce"],
            "error: INVALID_ARG: the flag `quiesce` needs `disk-only` with it",
        ),
        (&["create-as", "a", "--quiesce", "--disk-only"], "error: ARGUMENT_UNSUPPORTED: no guest agent"),
        (
            &["create-as", "a", "--quiesce", "--disk-only", "--agent", "gone"],
            "error: AGENT_UNRESPONSIVE: nobody can bring the guest to rest: the guest agent is not connected",
        ),
        (&["create-as", "a", "--live"], "error: OPERATION_UNSUPPORTED: `live` is for a running machine"),
        (
            &["create-as", "a", "--disk-only", "--diskspec", "vdx"],
            "error: CONFIG_UNSUPPORTED: no disk `vdx` in vm",
        ),
        (
            &["create-as", "a", "--disk-only", "--diskspec", "vda", "--diskspec", "vda"],
            "error: CONFIG_UNSUPPORTED: disk `vda` is named twice",
        ),
        (&["create-as", "a", "--disk-only", "--reuse-external"], "error: SYSTEM_ERROR: the file"),
        (&["create", "--current"], "error: INVALID_ARG: the flag `current` needs `redefine` with it"),
        (&["revert", "a"], "error: NO_DOMAIN_SNAPSHOT"),
        (&["delete", "--current"], "error: NO_DOMAIN_SNAPSHOT: this machine has no current snapshot"),
    ];
    for (arguments, words) in cases {
        rig.snapshot(arguments).assert(1, words);
    }
    for flag in ["--no-metadata", "--halt", "--live"] {
        rig.snapshot(&["create", "vm.xml", "--redefine", flag]).assert(1, "error: INVALID_ARG: the flags");
    }
    assert!(!rig.has("vda.a"));
    assert_eq!(rig.snapshot(&["list", "--name"]).stdout, "");
}

#[test]
fn a_monitor_that_is_not_there_ends_with_1_and_one_that_says_nothing_with_75() {
    let rig = Rig::new();
    let silent = rig.desk.path.join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    for (socket, within, code, words) in [
        ("gone", "60", 1, "error: OPERATION_FAILED: no QEMU monitor at `gone`"),
        ("vm.xml", "60", 1, "error: OPERATION_FAILED: no QEMU monitor at `vm.xml`"),
        // Another client may hold it, and will let it go.
        ("silent", "1", 75, "error: OPERATION_TIMEOUT"),
    ] {
        rig.snapshot(&["create-as", "a", "--qmp", socket, "--within", within]).assert(code, words);
    }
    assert!(!rig.has("vda.a"));
}

/// 75 is for what may pass: a file in the place of a folder stays there.
#[test]
fn records_that_cannot_be_kept_where_they_are_to_be_are_no_reason_to_try_again() {
    let rig = Rig::new();
    for verb in [&["create-as", "s1", "--disk-only"][..], &["redefine", "vm.xml"], &["list"]] {
        let said = rig.at("vm.xml", verb);
        // A document that is no snapshot is found before the records are opened.
        let (code, words) =
            if verb[0] == "redefine" { (2, "vm.xml:1:1") } else { (1, "error: SYSTEM_ERROR: cannot") };
        said.assert(code, words);
    }
    assert!(!rig.has("vda.s1"));
}

#[test]
fn one_machine_is_worked_on_by_one_at_a_time() {
    let rig = Rig::new();
    rig.snapshot(&["create-as", "s1"]).assert(0, "taken");
    let lock = fs::File::open(rig.desk.path.join("state/vm/lock")).unwrap();
    lock.lock().unwrap();
    for verb in [&["create-as", "s2"][..], &["revert", "s1"], &["delete", "s1"]] {
        rig.snapshot(verb).assert(75, "error: OPERATION_TIMEOUT: another freezeframe works on this machine");
    }
    rig.snapshot(&["list", "--name"]).assert(0, "s1\n");
}

/// Each with records in a folder of its own: the lock among the records keeps neither from the other.
#[test]
fn one_machine_is_worked_on_by_one_at_a_time_wherever_the_records_are() {
    let uuid = format!("11111111-2222-3333-4444-{:012x}", std::process::id());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = runtime.block_on(TokioEnv::new().runtime_folder()).unwrap();
    let path = folder.join(format!("{uuid}.lock"));
    let lock = fs::File::create(&path).unwrap();
    lock.lock().unwrap();
    let domain = format!("<domain><name>vm</name><uuid>{uuid}</uuid><devices/></domain>");
    let desk = Desk::new().with("vm.xml", &domain);
    let take = ["snapshot", "create-as", "s1", "--domain", "vm.xml", "--state", "state"];
    let words = format!(
        "error: OPERATION_TIMEOUT: another freezeframe works on this machine, with its records in another folder (it holds `{path}`)"
    );
    desk.run(&take).assert(75, &words);
    drop(lock);
    // Nothing of it can be taken: but that is said by who has looked.
    desk.run(&take).assert(1, "error: ");
    fs::remove_file(path).unwrap();
}

/// What is only shown is refused as what is taken.
#[test]
fn a_name_that_could_leave_its_folder_is_refused_by_every_verb() {
    let desk = Desk::new()
        .with("vm.xml", "<domain><name>vm</name><devices/></domain>")
        .with("wish.xml", "<domainsnapshot><name>../x</name></domainsnapshot>");
    let here = ["--domain", "vm.xml", "--state", "state"];
    let words = "error: XML_DETAIL: the name `../x` holds a `/`";
    desk.run(&["snapshot", "xml", "wish.xml"]).assert(1, words);
    desk.run(&["snapshot", "create-as", "../x", "--print-xml"]).assert(1, words);
    for verb in ["dumpxml", "info", "parent"] {
        desk.run(&[&["snapshot", verb, "../x"], &here[..]].concat()).assert(1, words);
    }
}

#[test]
fn an_argument_that_is_no_text_is_wrong_use() {
    use std::os::unix::ffi::OsStrExt as _;
    let desk = Desk::new();
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    let mut command = desk.command(&["snapshot", "create-as", "--print-xml", "--json"]);
    said(command.arg(bytes).output().unwrap()).assert(2, "UTF-8");
}

/// What was done is done: a program that took this for a failure of the snapshot would take it once more.
#[test]
fn what_is_done_and_cannot_be_said_is_said_on_standard_error() {
    let rig = Rig::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = rig.command(&["create-as", "s1"]);
    let said = said(command.stdout(full).output().unwrap());
    said.assert(1, "cannot write to standard output: No space left on device");
    said.assert(1, "snapshot s1 taken");
    rig.snapshot(&["list", "--name"]).assert(0, "s1\n");
}

#[test]
fn a_program_gets_an_object_for_bad_arguments_too() {
    let desk = Desk::new();
    let said = desk.run(&["snapshot", "create-as", "a", "--name", "b", "--print-xml", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &object["exit-code"]), (Some(2), &2.into()));
    assert_eq!(object["error"]["outcome"], "not-begun");
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.contains("cannot be used with"), "{message}");
    // Help is no error, and a person gets no object.
    let help = desk.run(&["snapshot", "--help", "--json"]);
    assert_eq!((help.code, help.stdout.starts_with('{')), (Some(0), false));
    assert_eq!(desk.run(&["snapshot", "create-as", "a", "--name", "b"]).stdout, "");
}
