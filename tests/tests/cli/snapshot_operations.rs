//! `snapshot create-as`, `create`, `revert` and `delete` on a machine that somebody else has started: a served one here, a real
//! QEMU in the test `real_qemu_snapshots`.

use serde_json::{Value, json};

use super::{served::Server, snapshot_records::assert_described, *};

/// A user's folder beside a served machine with the disks `vda` and `vdb`.
pub(super) struct Rig {
    pub(super) desk: Desk,
    server: Server,
}

impl Rig {
    pub(super) fn new() -> Self {
        let machine = "[machine]\ndisks = [{ target = 'vda' }, { target = 'vdb' }]\n";
        let options = ["--qmp", "unix:{dir}/qmp", "--images", "{dir}", "--speed", "max"];
        Self::beside(Server::machine("machine.toml", machine, &options))
    }

    /// The same with an agent in its guest, and where that is reached.
    fn with_agent() -> (Self, std::path::PathBuf) {
        let machine = "[machine]\ndisks = [{ target = 'vda' }, { target = 'vdb' }]\nagent = 'linux'\n";
        let options = ["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/qga", "--images", "{dir}"];
        let rig = Self::beside(Server::machine("machine.toml", machine, &options));
        let agent = rig.server.path("qga");
        (rig, agent)
    }

    /// On the machine of a scenario of the suite with these two disks, with its faults, in real time.
    fn of(scenario: &str) -> Self {
        Self::beside(Server::start(scenario, &["--qmp", "unix:{dir}/qmp", "--images", "{dir}"]))
    }

    fn beside(server: Server) -> Self {
        let disk = |target: &str| {
            let image = server.path(&format!("{target}.qcow2"));
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
                 <target dev='{target}'/></disk>",
                image.display()
            )
        };
        let domain = format!(
            "<domain type='qemu'><name>vm</name><devices>{}{}</devices></domain>",
            disk("vda"),
            disk("vdb")
        );
        Self { desk: Desk::new().with("vm.xml", &domain), server }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.command_at("state", arguments)
    }

    fn command_at(&self, state: &str, arguments: &[&str]) -> Command {
        let socket = self.server.path("qmp");
        let here = ["--domain", "vm.xml", "--state", state];
        let operates = matches!(arguments[0], "create" | "create-as" | "revert" | "delete");
        let monitor = ["--qmp", socket.to_str().unwrap()];
        let monitor = if operates && !arguments.contains(&"--qmp") { &monitor[..] } else { &[] };
        self.desk.command(&[&["snapshot"], arguments, &here, monitor].concat())
    }

    #[track_caller]
    pub(super) fn snapshot(&self, arguments: &[&str]) -> Said {
        let said = said(self.command(arguments).output().unwrap());
        self.desk.assert_nothing_left();
        said
    }

    /// With the records in another folder.
    pub(super) fn at(&self, state: &str, arguments: &[&str]) -> Said {
        said(self.command_at(state, arguments).output().unwrap())
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.snapshot(&[arguments, &["--json"]].concat());
        let object =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.whole()));
        assert_described(&self.desk, &object);
        object
    }

    pub(super) fn has(&self, image: &str) -> bool {
        self.server.path(image).exists()
    }
}

#[test]
fn a_snapshot_is_taken_as_options_describe_it_and_recorded() {
    let rig = Rig::new();
    let file = rig.server.path("with,comma");
    let spec = format!("vda,driver=qcow2,stype=file,file={}", file.to_str().unwrap().replace(',', ",,"));
    let options = ["s1", "the first", "--disk-only", "--atomic", "--diskspec", &spec];
    rig.snapshot(&[&["create-as"], &options[..], &["--diskspec", "vdb,snapshot=no"]].concat())
        .assert(0, "snapshot s1 taken: crash-consistent of vda; quiesced: no, not asked for\n");
    assert!(rig.has("with,comma") && !rig.has("vdb.s1"));
    let record = rig.snapshot(&["dumpxml", "s1"]);
    record.assert(0, "<description>the first</description>");
    record.assert(0, "<disk name='vdb' snapshot='no'/>");

    rig.snapshot(&["create-as", "--name", "s2"]).assert(0, "snapshot s2 taken: memory and disks of vda vdb");
    assert_eq!(rig.snapshot(&["list", "--tree"]).stdout, "s1\n  |\n  +- s2\n");
    assert_eq!(rig.snapshot(&["current", "--name"]).stdout, "s2\n");
}

#[test]
fn a_snapshot_is_taken_as_a_document_describes_it() {
    let rig = Rig::new();
    let wish =
        "<domainsnapshot><name>s1</name><disks><disk name='vdb' snapshot='no'/></disks></domainsnapshot>";
    let rig = Rig { desk: rig.desk.with("wish.xml", wish), ..rig };
    rig.snapshot(&["create", "wish.xml", "--disk-only"])
        .assert(0, "snapshot s1 taken: crash-consistent of vda");
    // Without a document all is the machine's default, and the name is the second.
    let before: i64 = 1_700_000_000;
    rig.snapshot(&["create", "--disk-only"]).assert(0, "crash-consistent of vda vdb");
    let name = rig.snapshot(&["current", "--name"]).stdout;
    assert!(name.trim().parse::<i64>().is_ok_and(|second| second > before), "{name}");

    let record = rig.snapshot(&["dumpxml", "s1"]).stdout;
    let rig = Rig { desk: rig.desk.with("record.xml", &record), ..rig };
    rig.snapshot(&["delete", "s1", "--metadata"]).assert(0, "record of snapshot s1 removed");
    rig.snapshot(&["create", "record.xml", "--redefine", "--current"]).assert(0, "snapshot s1 recorded");
    assert_eq!(rig.snapshot(&["current", "--name"]).stdout, "s1\n");
    assert_eq!(rig.snapshot(&["dumpxml", "s1"]).stdout, record);
}

#[test]
fn a_snapshot_without_a_record_leaves_none() {
    let rig = Rig::new();
    rig.snapshot(&["create-as", "s1", "--disk-only", "--no-metadata"]).assert(0, "snapshot s1 taken");
    assert!(rig.has("vda.s1"));
    assert_eq!(rig.snapshot(&["list", "--name"]).stdout, "");
}

#[test]
fn a_dry_run_prints_the_plan_and_does_nothing() {
    let rig = Rig::new();
    let said = rig.snapshot(&["create-as", "s1", "--disk-only", "--dry-run"]);
    assert_eq!(
        said.stdout,
        "snapshot s1 of vm: disk-only, disks vda vdb\n\
         \x20 1  reserve vda.s1                                 undo: unlink\n\
         \x20 2  reserve vdb.s1                                 undo: unlink\n\
         \x20 3  write the records                              undo: write back\n\
         \x20 4  prepare overlay vda -> vda.s1                  undo: drop nodes\n\
         \x20 5  prepare overlay vdb -> vdb.s1                  undo: drop nodes\n\
         \x20 6  switch 2 disks in one transaction              point of no return\n"
    );
    let plan = rig.json(&["create-as", "s1", "--disk-only", "--dry-run"]);
    assert_eq!((&plan["dry-run"], plan["plan"]["stages"].as_array().unwrap().len()), (&true.into(), 3));
    let changes = &plan["plan"]["stages"][1]["steps"][0]["write-records"]["changes"];
    assert_eq!(
        changes["writes"],
        serde_json::json!(["state/vm/s1.xml"]),
        "no documents: they may hold passwords"
    );
    assert!(!rig.has("vda.s1"));
    assert!(!rig.desk.path.join("state").exists(), "no folder, no lock, and nothing that is known of QEMU");
    assert_eq!(rig.snapshot(&["list", "--name"]).stdout, "");
}

#[test]
fn a_machine_that_is_halted_is_told_what_its_description_has_to_say() {
    let rig = Rig::new();
    let said = rig.json(&["create-as", "s1", "--disk-only", "--halt"]);
    assert_eq!((&said["machine"], &said["description-is-old"]), (&"off".into(), &true.into()));
    let rig = Rig::new();
    rig.snapshot(&["create-as", "s1", "--disk-only", "--halt"])
        .assert(0, "vm.xml still names the images of before: it has to say vda in ");
    let rig = Rig::new();
    let said = rig.json(&["create-as", "s1", "--disk-only", "--halt", "--write-domain"]);
    assert_eq!((&said["machine"], &said["description-is-old"]), (&"off".into(), &Value::Null));
}

#[test]
fn a_description_that_names_other_images_than_the_machine_is_in_is_told_of() {
    let rig = Rig::new();
    let is_old = |rig: &Rig, words: &[&str]| rig.json(words)["description-is-old"].clone();
    assert_eq!(is_old(&rig, &["create-as", "s1", "--disk-only", "--write-domain"]), Value::Null);
    assert_eq!(is_old(&rig, &["create-as", "s2", "--disk-only"]), true);
    assert_eq!(
        is_old(&rig, &["delete", "s2"]),
        Value::Null,
        "it is in the overlays of s1 again, as is said there"
    );
    let said = rig.snapshot(&["delete", "s1"]);
    said.assert(0, "vm.xml still names the images of before: it has to say vda in ");
    said.assert(0, "/vda.qcow2, vdb in ");

    // It names overlays that are gone, and no device is named: only the truth helps.
    let said = rig.snapshot(&["create-as", "s3", "--disk-only"]);
    said.assert(1, "the description says that disk `vda` is in `");
    said.assert(
        1,
        "/vda.s1`, and no device of the running machine is (those that it does not tell of are in `",
    );
    said.assert(1, "the description is old");
    let alias = |text: String, target: &str| {
        let here = format!("<target dev='{target}'");
        text.replace(&here, &format!("<alias name='{target}-device'/>{here}"))
    };
    let named = alias(alias(rig.desk.read("vm.xml"), "vda"), "vdb");
    let rig = Rig { desk: rig.desk.with("vm.xml", &named), ..rig };
    assert_eq!(is_old(&rig, &["create-as", "s3", "--disk-only", "--write-domain"]), Value::Null);
    assert!(rig.has("vda.s3") && rig.has("vdb.s3"));

    // One that is halted goes on in what it was in, though the snapshot has changed nothing about that.
    let rig = Rig::new();
    rig.snapshot(&["create-as", "s1", "--disk-only"]).assert(0, "taken");
    assert_eq!(is_old(&rig, &["create-as", "s2", "--halt"]), true);
}

/// Only root can give files away; to whom else it is, it belongs to before and after.
#[test]
fn a_description_that_is_written_stays_whose_it_was_and_for_those_to_read_who_could_before() {
    let rig = Rig::new();
    let file = rig.desk.path.join("vm.xml");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(12_345), Some(23_456)).unwrap();
    }
    let whose = || fs::metadata(&file).map(|found| (found.uid(), found.gid())).unwrap();
    let before = whose();
    for (mode, name) in [(0o644, "s1"), (0o640, "s2")] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        rig.snapshot(&["create-as", name, "--disk-only", "--write-domain"]).assert(0, "taken");
        assert!(rig.desk.read("vm.xml").contains(&format!("vda.{name}")));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
        assert_eq!(whose(), before);
    }
    let record = rig.desk.path.join("state/vm/s1.xml");
    assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
}

/// The same of who is no root.
#[test]
fn an_overlay_is_whose_its_image_is() {
    let rig = Rig::new();
    let image = rig.server.path("vda.qcow2");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&image, Some(12_345), Some(23_456)).unwrap();
    }
    fs::set_permissions(&image, fs::Permissions::from_mode(0o664)).unwrap();
    let whose = |name: &str| {
        let found = fs::metadata(rig.server.path(name)).unwrap();
        (found.uid(), found.gid(), found.permissions().mode() & 0o777)
    };
    let memory = rig.server.path("memory");
    rig.snapshot(&["create-as", "s1", "--memspec", memory.to_str().unwrap()]).assert(0, "taken");
    let (owner, group, mode) = whose("vda.qcow2");
    assert_eq!(whose("vda.s1"), (owner, group, mode));
    assert_eq!(whose("memory"), (owner, group, 0o660));
}

#[test]
fn an_option_that_would_say_nothing_is_refused() {
    let rig = Rig::new();
    let alone: [(&[&str], &str); 5] = [
        (&["--thaw-after", "5"], "--quiesce"),
        (&["--no-watchdog"], "--quiesce"),
        (&["--thaw-hooks"], "--quiesce"),
        (&["--schema", "x.rng"], "--validate"),
        (&["--disk-only", "--memory-format", "raw"], "cannot be used with"),
    ];
    for (options, words) in alone {
        rig.snapshot(&[&["create-as", "s1"], options].concat()).assert(2, words);
    }
    let listed = rig.at("mistyped", &["list", "--name"]);
    listed.assert(0, "warning: there is no folder `mistyped`");
    assert_eq!(listed.stdout, "");
}

#[test]
fn a_machine_that_is_forgotten_when_it_stops_is_not_left_off() {
    let rig = Rig::new();
    let words = "error: OPERATION_INVALID";
    for verb in ["create-as", "create"] {
        rig.snapshot(&[verb, "--halt", "--transient"]).assert(1, words);
    }
    rig.snapshot(&["create-as", "s1", "--disk-only", "--transient"]).assert(0, "taken");
    rig.snapshot(&["revert", "s1", "--force", "--transient", "--launcher", "built-in"]).assert(1, words);
    rig.desk
        .run(&["snapshot", "revert", "s1", "--transient", "--domain", "vm.xml", "--state", "state"])
        .assert(2, "--qmp");
}

#[test]
fn programs_are_told_in_one_object_what_was_done_and_how_it_failed() {
    let rig = Rig::new();
    let taken = rig.json(&["create-as", "s1"]);
    assert_eq!((&taken["done"], &taken["consistency"]), (&"taken".into(), &"memory".into()));
    assert_eq!(
        (&taken["machine"], &taken["disks"]),
        (&"as-it-was".into(), &serde_json::json!(["vda", "vdb"]))
    );
    assert!(taken["guest-stopped-seconds"].as_f64().unwrap() > 0.0, "{taken}");
    let manual = rig.json(&["create-as", "m", "--disk-only", "--diskspec", "vdb,snapshot=manual"]);
    assert_eq!(
        (&manual["machine"], &manual["take-yourself"]),
        (&"paused".into(), &serde_json::json!(["vdb"]))
    );

    let refused = rig.json(&["create-as", "s1"]);
    assert_eq!(refused["error"]["outcome"], "not-begun");
    assert_eq!((&refused["error"]["code"], &refused["exit-code"]), (&"OPERATION_FAILED".into(), &1.into()));
}

#[test]
fn a_machine_is_put_back_and_its_snapshot_deleted() {
    let rig = Rig::new();
    rig.snapshot(&["create-as", "s1"]).assert(0, "taken");
    rig.snapshot(&["revert", "s1", "--dry-run"]).assert(0, "point of no return");
    rig.snapshot(&["revert", "--current"]).assert(0, "reverted to s1: vda vdb");
    rig.snapshot(&["delete", "--snapshotname", "s1", "--dry-run"]).assert(0, "point of no return");
    rig.snapshot(&["delete", "s1"]).assert(0, "snapshot s1 deleted from vda vdb");
    rig.snapshot(&["revert", "s1"]).assert(1, "NO_DOMAIN_SNAPSHOT");
}

#[test]
fn an_overlay_that_two_records_name_is_taken_from_neither() {
    let rig = Rig::new();
    rig.snapshot(&["create-as", "s1", "--disk-only"]).assert(0, "taken");
    // Of the same time it would be another record of the same snapshot.
    let copy = rig.snapshot(&["dumpxml", "s1"]).stdout.replace("<name>s1<", "<name>copy<");
    let copy = copy.replace("<creationTime>", "<creationTime>1");
    let rig = Rig { desk: rig.desk.with("copy.xml", &copy), ..rig };
    rig.snapshot(&["create", "--xmlfile", "copy.xml", "--redefine"]).assert(0, "snapshot copy recorded");
    for name in ["s1", "copy"] {
        rig.snapshot(&["delete", name]).assert(1, "error: OPERATION_UNSUPPORTED");
        assert!(rig.has("vda.s1") && rig.has("vdb.s1"));
    }
    rig.snapshot(&["delete", "copy"]).assert(1, "the records of `copy` and `s1` both name `");
    rig.snapshot(&["delete", "copy", "--metadata"]).assert(0, "record of snapshot copy removed");
    rig.snapshot(&["delete", "s1"]).assert(0, "snapshot s1 deleted from vda vdb");
    assert!(!rig.has("vda.s1"));
}

#[test]
fn what_a_record_calls_its_memory_is_removed_if_it_is_that() {
    let rig = Rig::new();
    let [memory, letter] = ["m1.mem", "letter"].map(|name| rig.server.path(name));
    let spec = |name: &str| format!("{},snapshot=external", rig.server.path(name).display());
    rig.snapshot(&["create-as", "m1", "--memspec", &spec("m1.mem")]).assert(0, "taken");
    rig.snapshot(&["create-as", "m2", "--memspec", &spec("m2.mem")]).assert(0, "taken");
    fs::write(&letter, "Dear reader").unwrap();
    let record = rig.snapshot(&["dumpxml", "m1"]).stdout.replace("m1.mem", "letter");
    let rig = Rig { desk: rig.desk.with("record.xml", &record), ..rig };
    rig.snapshot(&["create", "record.xml", "--redefine"]).assert(0, "recorded");

    rig.snapshot(&["delete", "m2"]).assert(0, "snapshot m2 deleted from vda vdb");
    assert!(!rig.has("m2.mem"));
    rig.snapshot(&["delete", "m1"]).assert(1, "letter` holds no memory of a machine, and was not removed");
    assert_eq!(fs::read_to_string(&letter).unwrap(), "Dear reader");
    assert!(memory.exists() && !rig.has("vda.m1"));
    assert_eq!(rig.snapshot(&["list", "--name"]).stdout, "");
}

#[test]
fn the_document_of_options_is_printed_without_a_machine() {
    let said = Desk::new().run(&[
        "snapshot",
        "create-as",
        "--name",
        "s1",
        "--description",
        "a & b",
        "--print-xml",
        "--memspec",
        "/m,,1,snapshot=external",
        "--diskspec",
        "vda,file=/vda.s1,driver=qcow2",
        "--diskspec",
        "vdb,snapshot=no",
    ]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (
            Some(0),
            "<domainsnapshot>\n  <name>s1</name>\n  <description>a &amp; b</description>\n  \
             <memory snapshot='external' file='/m,1'/>\n  <disks>\n    <disk name='vda'>\n      \
             <driver type='qcow2'/>\n      <source file='/vda.s1'/>\n    </disk>\n    \
             <disk name='vdb' snapshot='no'/>\n  </disks>\n</domainsnapshot>\n"
        )
    );
}

/// The reply to the switch is lost: the driver waits for it for two seconds, then asks.
fn waiting(rig: &Rig) -> Child {
    let mut command = rig.command(&["create-as", "s1", "--disk-only", "--within", "2"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !rig.desk.path.join("state/vm/s1.xml").exists() && begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    // Long after the switch was sent, long before the driver asks.
    thread::sleep(Duration::from_millis(500));
    child
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn an_interrupted_operation_is_brought_to_its_end() {
    let rig = Rig::of("external/switch-reply-lost");
    let child = waiting(&rig);
    interrupt(&child);
    let said = said(child.wait_with_output().unwrap());
    said.assert(0, "snapshot s1 taken: crash-consistent of vda vdb");
    said.assert(0, "this is brought to its end first; a second signal leaves it where it stands");
    assert_eq!(rig.snapshot(&["current", "--name"]).stdout, "s1\n");
}

#[test]
fn a_second_signal_leaves_it_where_it_stands_and_the_record_with_it() {
    let rig = Rig::of("external/switch-reply-lost");
    let child = waiting(&rig);
    interrupt(&child);
    thread::sleep(Duration::from_millis(200));
    interrupt(&child);
    let said = said(child.wait_with_output().unwrap());
    said.assert(130, "a second signal leaves it where it stands");
    // The record was written before the switch: the overlays that the guest writes to are not forgotten.
    assert_eq!(rig.snapshot(&["current", "--name"]).stdout, "s1\n");
    assert!(rig.has("vda.s1") && rig.has("vdb.s1"));
}

#[test]
fn a_signal_while_the_monitor_is_silent_ends_it_at_once() {
    let rig = Rig::new();
    let _silent = std::os::unix::net::UnixListener::bind(rig.desk.path.join("silent")).unwrap();
    let mut command = rig.command(&["create-as", "s1", "--disk-only", "--qmp", "silent"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !rig.desk.path.join("state/vm/lock").exists() && begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    interrupt(&child);
    said(child.wait_with_output().unwrap()).assert(130, "ended by a signal");
    assert_eq!(rig.snapshot(&["list", "--name"]).stdout, "");
}

#[test]
fn a_snapshot_of_a_guest_at_rest_says_so_and_one_of_a_guest_without_agent_says_why_not() {
    let (rig, agent) = Rig::with_agent();
    let at_rest = ["--disk-only", "--quiesce", "--agent", agent.to_str().unwrap()];
    let taken = rig.json(&[&["create-as", "a"][..], &at_rest].concat());
    assert_eq!(taken["quiesced"], true);
    assert_eq!(taken["quiesced-why"], "2 file systems");
    assert_eq!(taken["consistency"], "file-system");
    assert!(taken["guest-frozen-seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    let taken = rig.json(&["create-as", "b", "--disk-only", "--quiesce=best-effort"]);
    assert_eq!(taken["quiesced"], false);
    assert_eq!(taken["quiesced-why"], "no guest agent is configured");
    assert_eq!(taken["consistency"], "crash");
    assert_eq!(taken["guest-frozen-seconds"], Value::Null);
    let taken = rig.json(&["create-as", "c", "--disk-only", "--already-frozen"]);
    assert_eq!(taken["quiesced"], Value::Null);
}

#[test]
fn a_guest_that_fs_freeze_has_frozen_is_left_so_and_the_snapshot_and_its_record_say_by_whom() {
    let (rig, agent) = Rig::with_agent();
    let agent = ["--agent", agent.to_str().unwrap()];
    rig.desk.run(&[&["fs", "freeze", "--no-watchdog"], &agent[..]].concat()).assert(0, "frozen");
    let by = "frozen by the caller, with freezeframe fs freeze";
    for (name, how) in [("a", &["--quiesce"][..]), ("b", &["--quiesce=best-effort"]), ("c", &[])] {
        let taken = rig.json(&[&["create-as", name, "--disk-only"][..], how, &agent].concat());
        assert_eq!((&taken["quiesced"], &taken["quiesced-why"]), (&json!(true), &json!(by)), "{how:?}");
        rig.desk.run(&[&["fs", "status"], &agent[..]].concat()).assert(0, "frozen");
        rig.snapshot(&["info", name]).assert(0, &format!("Quiesced:       yes, {by}"));
    }
    rig.desk.run(&[&["fs", "thaw"], &agent[..]].concat()).assert(0, "thawed: 2 file systems");
    let taken = rig.json(&[&["create-as", "d", "--disk-only", "--quiesce"], &agent[..]].concat());
    assert_eq!(taken["quiesced-why"], "2 file systems");
    rig.snapshot(&["info", "d"]).assert(0, "Quiesced:       yes, 2 file systems");
}
