//! An option that would do nothing is refused: whoever says it believes that it does something.

use super::{snapshot_operations::Rig, *};

#[test]
fn what_would_do_nothing_by_itself_is_wrong_use() {
    let desk = Desk::new()
        .with("vm.xml", "<domain><name>vm</name><devices><disk type='file'><source file='/images/vda.raw'/><target dev='vda'/></disk></devices></domain>")
        .with("record.xml", "<domainsnapshot/>");
    let here = ["--domain", "vm.xml", "--state", "state"];
    let redefine = ["snapshot", "create", "record.xml", "--redefine"];
    let of_taking: [&[&str]; 7] = [
        &["--reuse-external"],
        &["--quiesce", "--disk-only"],
        &["--already-frozen"],
        &["--provider", "vda,method=btrfs"],
        &["--hook", "/bin/hook"],
        &["--memory-format", "raw"],
        &["--transient", "--qmp", "gone"],
    ];
    for options in of_taking {
        desk.run(&[&redefine, options, &here].concat()).assert(2, "cannot be used with");
    }
    let cases: [(&[&str], &str); 13] = [
        (&["snapshot", "create", "--thaw-hooks"], "--quiesce"),
        (&["snapshot", "create", "--thaw-after", "9"], "--quiesce"),
        (&["snapshot", "create", "--no-watchdog"], "--quiesce"),
        (&["snapshot", "create", "--background"], "--live"),
        (&["snapshot", "create", "--schema", "a.rng"], "--validate"),
        (&["snapshot", "create", "--memory-format", "sparse", "--disk-only"], "cannot be used with"),
        (&["snapshot", "list", "--descendants"], "--from <NAME>|--current"),
        (&["snapshot", "list", "--descendants", "--roots"], "--from <NAME>|--current"),
        (
            &["snapshot", "revert", "a", "--managed-save", "f", "--qmp", "gone"],
            "--managed-save is of a machine that is off",
        ),
        (
            &["snapshot", "delete", "a", "--children-only", "--provider", "vda,method=btrfs"],
            "cannot be used with",
        ),
        (&["snapshot", "delete", "a", "--metadata", "--storage-stays"], "cannot be used with"),
        (&["snapshot", "current", "--dry-run"], "--set"),
        (&["snapshot", "current", "--name", "--security-info"], "cannot be used with"),
    ];
    for (arguments, words) in cases {
        desk.run(&[arguments, &here].concat()).assert(2, words);
    }
    assert!(!desk.path.join("state").exists(), "nothing was recorded");
}

#[test]
fn what_would_do_nothing_for_this_machine_is_wrong_use() {
    let rig = Rig::new();
    let cases: [(&[&str], &str); 8] = [
        (&["create-as", "a", "--reuse-external"], "error: INVALID_ARG: no disk gets an overlay"),
        (&["create-as", "a", "--memory-format", "sparse"], "no memory goes into a file"),
        (&["create-as", "a", "--hook", "/bin/hook"], "error: INVALID_ARG: no disk is left to `/bin/hook`"),
        (&["create-as", "a", "--disk-only", "--hook", "/bin/hook"], "no disk is left to `/bin/hook`"),
        (
            &[
                "create-as",
                "a",
                "--disk-only",
                "--hook",
                "/bin/hook",
                "--provider",
                "vda,method=exec,program=/bin/other",
            ],
            "no disk is left to `/bin/hook`",
        ),
        (
            &["create-as", "a", "--provider", "vda,method=btrfs"],
            "disk `vda` is said to be taken by its storage",
        ),
        (
            &["revert", "inside", "--provider", "vda,method=btrfs"],
            "disk `vda` is said to be taken by its storage",
        ),
        (
            &["delete", "inside", "--provider", "vda,method=btrfs"],
            "disk `vda` is said to be taken by its storage",
        ),
    ];
    rig.snapshot(&["create-as", "inside", "--no-metadata"]).assert(0, "taken");
    for (arguments, words) in cases {
        rig.snapshot(arguments).assert(2, words);
    }
    assert!(!rig.has("vda.a"));
    assert_eq!(rig.snapshot(&["list", "--name"]).stdout, "");
}

/// A caller gives them always, as virsh gives its connection: they say where things are, or permit.
#[test]
fn what_describes_the_machine_or_permits_may_always_be_given() {
    let rig = Rig::new();
    let always = ["--launcher", "built-in", "--within", "60", "--write-domain"];
    let verbs: [&[&str]; 4] = [
        &["create-as", "a", "--atomic"],
        &["revert", "a", "--force", "--storage-is-back", "--reset-nvram"],
        &["delete", "a", "--storage-stays", "--children"],
        &["create-as", "b", "--print-xml"],
    ];
    for verb in verbs {
        rig.snapshot(&[verb, &always].concat()).assert(0, "");
    }
}

#[test]
fn what_another_method_would_do_is_wrong_use_of_this_one() {
    let domain = "<domain><name>vm</name><devices><disk type='file'><source file='/images/vda.raw'/><target dev='vda'/></disk></devices></domain>";
    let desk = Desk::new().with("vm.xml", domain);
    let here = ["--domain", "vm.xml", "--disk", "vda"];
    let cases: [(&[&str], &str); 8] = [
        (
            &["list", "--method", "btrfs", "--room", "9"],
            "vda: the method btrfs knows no `room`, which is lvm's",
        ),
        (&["list", "--method", "zfs", "--group", "a/b"], "the method zfs knows no `group`, which is rbd's"),
        (
            &["list", "--method", "exec", "--settings", "f"],
            "the method exec knows no `settings`, which is rbd's",
        ),
        (&["list", "--method", "reflink", "--program", "/bin/a"], "knows no `program`, which is exec's"),
        (
            &["list", "--method", "qemu", "--volume", "a"],
            "the method qemu knows no `volume`, which is a storage's",
        ),
        (&["delete", "a", "--method", "btrfs", "--state", "state"], "--state is for the method qemu"),
        (
            &["revert", "a", "--method", "btrfs", "--state", "s", "--qmp", "q"],
            "--state and --qmp are for the method qemu",
        ),
        (
            &["export", "a", "--method", "btrfs", "--state", "state", "--socket", "s"],
            "--state is for the method qemu",
        ),
    ];
    for (arguments, words) in cases {
        desk.run(&[&["disk"], arguments, &here].concat()).assert(2, words);
    }
}
