//! `fs freeze`, `thaw` and `status` on the guest of a served machine, in real time: what the watchdog does is a matter of it.

use serde_json::{Value, json};

use super::{served::Server, *};

/// How long a watchdog may take beyond its time, on a loaded machine.
const AT_LAST: Duration = Duration::from_secs(30);

/// A user's folder beside a served machine whose guest has an agent and two file systems.
struct Rig {
    desk: Desk,
    server: Server,
}

impl Rig {
    fn new() -> Self {
        Self::of("")
    }

    /// With more to be said of the machine.
    fn of(more: &str) -> Self {
        let machine = format!(
            "[machine]\ndisks = [{{ target = 'vda' }}, {{ target = 'vdb' }}]\nagent = 'linux'\n{more}"
        );
        Self::serving(&machine)
    }

    /// Of a machine, or a scenario.
    fn serving(contents: &str) -> Self {
        let options = ["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/qga", "--images", "{dir}"];
        Self { desk: Desk::new(), server: Server::machine("machine.toml", contents, &options) }
    }

    /// What a snapshot of its disks tells.
    #[track_caller]
    fn snapshot(&self, name: &str, options: &[&str]) -> Value {
        let path = |name: &str| self.server.path(name).to_str().unwrap().to_owned();
        let disk = |target: &str| {
            let image = path(&format!("{target}.qcow2"));
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/><target dev='{target}'/></disk>"
            )
        };
        let disks = [disk("vda"), disk("vdb")].concat();
        let domain = format!("<domain type='qemu'><name>vm</name><devices>{disks}</devices></domain>");
        fs::write(self.desk.path.join("vm.xml"), domain).unwrap();
        let create =
            ["snapshot", "create-as", name, "--disk-only", "--json", "--domain", "vm.xml", "--write-domain"];
        let at = ["--state", "state", "--qmp", &path("qmp"), "--agent", &path("qga")];
        let said = said(self.desk.command(&[&create[..], &at, options].concat()).output().unwrap());
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.whole()))
    }

    /// Runs a verb. A watchdog that it has started may live on.
    #[track_caller]
    fn fs(&self, arguments: &[&str]) -> Said {
        let socket = self.server.path("qga");
        let agent = ["--agent", socket.to_str().unwrap()];
        said(self.desk.command(&[&["fs"], arguments, &agent].concat()).output().unwrap())
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.fs(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.whole()))
    }

    /// The notes of the freezes that stand, by their names.
    fn tickets(&self) -> Vec<String> {
        let names = fs::read_dir(self.server.path("")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut tickets: Vec<_> = names.filter(|name| name.starts_with("qga.frozen.")).collect();
        tickets.sort();
        tickets
    }

    fn has_ticket(&self) -> bool {
        !self.tickets().is_empty()
    }
}

#[test]
fn a_guest_is_thawed_when_its_time_is_up_though_nobody_is_left_who_froze_it() {
    let rig = Rig::new();
    assert_eq!(rig.json(&["status"]), json!({"status": "thawed"}));
    let frozen = rig.json(&["freeze", "--thaw-after", "3"]);
    assert_eq!(frozen, json!({"status": "frozen", "file-systems": 2, "thawed-after-seconds": 3}));
    assert_eq!(rig.json(&["status"]), json!({"status": "frozen"}));
    assert!(rig.has_ticket());
    let began = Instant::now();
    while rig.json(&["status"]) != json!({"status": "thawed"}) {
        assert!(began.elapsed() < AT_LAST, "the guest is frozen for ever");
        thread::sleep(Duration::from_millis(100));
    }
    rig.desk.assert_nothing_left();
    assert!(!rig.has_ticket());
}

/// Its hook takes longer than the guest is to stand frozen.
#[test]
fn the_time_of_a_freeze_counts_from_when_it_stands() {
    let rig = Rig::of("agent-hook.freeze = { takes = '4s' }\n");
    rig.fs(&["freeze", "--thaw-after", "3"]).assert(0, "frozen: 2 file systems; they are thawed in 3 s");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.json(&["status"]), json!({"status": "frozen"}));
    let began = Instant::now();
    while rig.has_ticket() {
        assert!(began.elapsed() < AT_LAST, "the guest is frozen for ever");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rig.json(&["status"]), json!({"status": "thawed"}));
}

/// The agent counts what it has thawed, and says then that the guest is frozen; before, `fs freeze` asks it three times.
const BELIES_ITS_COUNT: &str = r#"
id = "belies-its-count"
title = "a thaw is answered with a count, and the guest is told to be frozen still"
why = "see the test"
targets = ["sim"]
machine = { disks = [{ target = "vda" }, { target = "vdb" }], agent = "linux" }

[[step]]
probe = {}

[[fault]]
at = { agent = "guest-fsfreeze-status", nth = 4 }
do = { garbage = '{"return": "frozen"}' }
"#;

#[test]
fn a_thaw_that_is_counted_and_has_not_happened_leaves_the_note() {
    let rig = Rig::serving(BELIES_ITS_COUNT);
    rig.fs(&["freeze", "--thaw-after", "600"]).assert(0, "frozen: 2 file systems");
    let said = rig.fs(&["thaw"]);
    said.assert(1, "error: AGENT_COMMAND_FAILED: the guest agent takes 2 file systems for thawed, but says");
    assert!(rig.has_ticket());
    rig.fs(&["thaw"]).assert(0, "thawed: 0 file systems had been frozen");
    assert!(!rig.has_ticket());
}

#[test]
fn a_watchdog_whose_freeze_is_over_leaves_another_one_alone() {
    let rig = Rig::new();
    rig.fs(&["freeze", "--thaw-after", "2"]).assert(0, "frozen: 2 file systems");
    rig.fs(&["thaw"]).assert(0, "thawed: 2 file systems had been frozen");
    rig.fs(&["freeze", "--no-watchdog"]).assert(0, "until somebody thaws them");
    let began = Instant::now();
    while !rig.desk.processes().is_empty() {
        assert!(began.elapsed() < AT_LAST, "the watchdog lives for ever");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rig.json(&["status"]), json!({"status": "frozen"}));
    assert_eq!(rig.json(&["thaw"]), json!({"status": "thawed", "file-systems": 2}));
    assert_eq!(rig.json(&["thaw"]), json!({"status": "thawed", "file-systems": 0}));
}

#[test]
fn a_guest_that_is_frozen_already_is_not_frozen_again_and_nothing_thaws_it() {
    let rig = Rig::new();
    rig.fs(&["freeze", "--no-watchdog"]).assert(0, "frozen: 2 file systems");
    let first = rig.tickets();
    assert_eq!(first.len(), 1);
    rig.fs(&["freeze"]).assert(1, "error: OPERATION_INVALID: the guest is frozen already");
    assert_eq!(rig.tickets(), first, "it is still that of the freeze that stands");
    rig.desk.assert_nothing_left();
    assert_eq!(rig.json(&["status"]), json!({"status": "frozen"}));
}

#[test]
fn an_agent_that_is_not_there_ends_with_1() {
    let rig = Rig::new();
    let said = rig.desk.run(&["fs", "freeze", "--agent", "gone"]);
    said.assert(1, "error: AGENT_UNRESPONSIVE: the guest agent is not connected: `gone`");
    rig.desk.run(&["fs", "freeze"]).assert(2, "--agent <SOCK>");
    rig.desk.run(&["fs", "freeze", "--agent", "a", "--thaw-after", "1", "--no-watchdog"]).assert(2, "cannot");
    assert!(!rig.desk.path.join("gone.frozen").exists());
}

#[test]
fn a_socket_may_be_named_without_its_folder() {
    let rig = Rig::new();
    let mut freeze = rig.desk.command(&["fs", "freeze", "--thaw-after", "2", "--agent", "qga"]);
    said(freeze.current_dir(rig.server.path("")).output().unwrap()).assert(0, "frozen: 2 file systems");
    assert!(rig.has_ticket());
    rig.fs(&["thaw"]).assert(0, "thawed: 2 file systems had been frozen");
    let began = Instant::now();
    while !rig.desk.processes().is_empty() {
        assert!(began.elapsed() < AT_LAST, "the watchdog lives for ever");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_guest_that_is_paused_is_not_waited_for_where_qemu_can_be_asked() {
    let rig = Rig::of("state = 'paused'\n");
    let qmp = rig.server.path("qmp");
    for verb in ["freeze", "thaw", "status"] {
        let said = rig.fs(&[verb, "--qmp", qmp.to_str().unwrap()]);
        said.assert(1, "error: OPERATION_INVALID: the guest does not run (QEMU says `paused`)");
    }
    assert!(!rig.has_ticket());
    rig.desk.assert_nothing_left();
}

/// Whoever asks QEMU whether the guest runs loses the agent the first time, and has it started anew the second.
const LOSES_ITS_AGENT: &str = r#"
id = "loses-its-agent"
title = "the agent of a frozen guest is killed, and the next one knows nothing of the freeze"
why = "see the test"
targets = ["sim"]
machine = { disks = [{ target = "vda" }, { target = "vdb" }], agent = "linux" }

[[step]]
probe = {}

[[fault]]
at = { qmp = "query-status" }
do = { guest = "lose-agent" }

[[fault]]
at = { qmp = "query-status", nth = 2 }
do = { guest = "start-agent" }
"#;

#[test]
fn a_freeze_that_froze_nothing_leaves_the_one_before_it_to_its_watchdog() {
    let rig = Rig::serving(LOSES_ITS_AGENT);
    rig.fs(&["freeze", "--thaw-after", "12"]).assert(0, "frozen: 2 file systems");
    let first = rig.tickets();
    let qmp = rig.server.path("qmp");
    let qmp = ["--qmp", qmp.to_str().unwrap()];
    rig.fs(&[&["status", "--within", "1"], &qmp[..]].concat()).assert(1, "AGENT_UNRESPONSIVE");
    rig.fs(&[&["status"], &qmp[..]].concat()).assert(0, "thawed");
    let said = rig.fs(&["freeze", "--thaw-after", "100"]);
    said.assert(
        1,
        "none of 2 file systems (/mnt/vda, /mnt/vdb) was frozen: somebody else may have frozen them",
    );
    assert_eq!(rig.tickets(), first, "the first freeze stands, whatever the agent says");
    let began = Instant::now();
    while rig.has_ticket() {
        assert!(began.elapsed() < AT_LAST, "nobody has thawed the first freeze");
        thread::sleep(Duration::from_millis(100));
    }
    // Nothing but a thaw of the first one lets the second have them all.
    rig.fs(&["freeze", "--no-watchdog"]).assert(0, "frozen: 2 file systems; they stay so");
}

#[test]
fn a_freeze_in_part_says_so_and_so_does_the_snapshot_behind_it() {
    let rig = Rig::of("frozen-before = ['vdb']\n");
    let frozen = rig.json(&["freeze", "--thaw-after", "60"]);
    let why = "only 1 of 2 file systems (/mnt/vda, /mnt/vdb) was frozen";
    let whole = json!({"status": "frozen", "file-systems": 1, "thawed-after-seconds": 60, "in-part": why});
    assert_eq!(frozen, whole);
    let taken = rig.snapshot("s1", &["--already-frozen"]);
    let by = format!("frozen by the caller, with freezeframe fs freeze, and maybe in part only: {why}");
    assert_eq!((&taken["quiesced"], &taken["quiesced-why"]), (&Value::Null, &json!(by)));
    rig.fs(&["thaw"]).assert(0, "thawed: 2 file systems had been frozen");
    assert!(!rig.has_ticket());
    rig.fs(&["freeze", "--no-watchdog"]).assert(0, "frozen: 2 file systems; they stay so");
    let taken = rig.snapshot("s2", &["--already-frozen"]);
    assert_eq!(taken["quiesced-why"], "frozen by the caller, with freezeframe fs freeze");
}

#[test]
fn a_freeze_of_all_shows_that_none_before_it_stands() {
    let rig = Rig::new();
    rig.fs(&["freeze", "--thaw-after", "3"]).assert(0, "frozen: 2 file systems");
    let first = rig.tickets();
    // By other means, which know nothing of notes.
    let mut agent = rig.server.connect("qga");
    agent.send(b"{\"execute\": \"guest-fsfreeze-thaw\"}\n");
    assert_eq!(agent.agent_line().trim_end(), "{\"return\": 2}");
    drop(agent);
    rig.fs(&["freeze", "--no-watchdog"]).assert(0, "frozen: 2 file systems");
    assert_eq!(rig.tickets().len(), 1);
    assert_ne!(rig.tickets(), first);
    let began = Instant::now();
    while !rig.desk.processes().is_empty() {
        assert!(began.elapsed() < AT_LAST, "the watchdog lives for ever");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rig.json(&["status"]), json!({"status": "frozen"}));
}
