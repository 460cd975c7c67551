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
        let options = ["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/qga"];
        Self { desk: Desk::new(), server: Server::machine("machine.toml", &machine, &options) }
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

    fn has_ticket(&self) -> bool {
        self.server.path("qga.frozen").exists()
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
    let ticket = || fs::read_to_string(rig.server.path("qga.frozen")).unwrap();
    let first = ticket();
    rig.fs(&["freeze"]).assert(1, "error: OPERATION_INVALID: the guest is frozen already");
    assert_eq!(ticket(), first, "it is still that of the freeze that stands");
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
