use std::time::Duration;

use rstest::rstest;
use serde_json::Value;

use crate::{
    Machine, Oracle, Port, Release, World,
    connection::Connection,
    machine::{
        Agent, Chardev, Frontend, Power,
        agent::{Hook, Presence, Script},
    },
    qemu::GuestAction,
};

/// A world, and a client of its agent.
struct Host {
    world: World,
    now: Duration,
    client: Connection,
}

impl Host {
    fn new(agent: Agent, disks: &[&str], release: Release) -> Self {
        let machine = disks.iter().fold(Machine::new(), |machine, disk| machine.disk(disk)).agent(agent);
        Self::of(&machine, release)
    }

    fn of(machine: &Machine, release: Release) -> Self {
        let mut world = World::new(machine, release, Oracle::default_order());
        let client = world.connect(Duration::ZERO, Port::Agent).unwrap();
        Self { world, now: Duration::ZERO, client }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.world.receive(self.now, self.client, bytes).unwrap();
    }

    /// Lets so much time pass and takes what was said meanwhile.
    fn hear(&mut self, within: Duration) -> String {
        self.now += within;
        self.world.advance(self.now);
        let said = latin1(self.world.output(self.client));
        self.world.consume(self.client, said.chars().count());
        said
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(format!("{{\"execute\":\"{command}\"}}").as_bytes());
        self.hear(Duration::from_secs(1))
    }

    fn reconnect(&mut self) {
        self.world.close(self.now, self.client);
        self.client = self.world.connect(self.now, Port::Agent).unwrap();
    }

    fn monitor(&mut self) -> Connection {
        let monitor = self.world.connect(self.now, Port::Monitor(0)).unwrap();
        self.world.receive(self.now, monitor, b"{\"execute\":\"qmp_capabilities\"}").unwrap();
        self.hear(Duration::from_millis(10));
        self.world.consume(monitor, self.world.output(monitor).len());
        monitor
    }

    fn qmp(&mut self, monitor: Connection, request: &str) -> String {
        self.world.receive(self.now, monitor, request.as_bytes()).unwrap();
        self.now += Duration::from_millis(20);
        self.world.advance(self.now);
        let said = latin1(self.world.output(monitor));
        self.world.consume(monitor, said.chars().count());
        said
    }

    fn act(&mut self, action: GuestAction) {
        self.world.in_guest(self.now, action);
    }

    fn is_frozen(&self, disk: &str) -> bool {
        self.world.qemu().guest().unwrap().is_frozen(disk)
    }
}

/// Bytes as the characters of the same number: 0xFF is no UTF-8.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn linux(release: Release) -> Host {
    Host::new(Agent::linux(), &["a", "b"], release)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn described(value: &Value, release: Release) -> Host {
    let script =
        |name: &str| Script { takes: Duration::ZERO, status: value[name].as_u64().unwrap_or(0) as u8 };
    let agent = Agent {
        hook: Some(Hook { freeze: script("freeze_hook"), thaw: script("thaw_hook") }),
        refusing: value["refusing"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect(),
        frozen_before: texts(&value["frozen_before"]),
        blocked: texts(&value["blocked"]),
        ..Agent::linux()
    };
    let disks: &[&str] = if value["disks"].is_array() { &[] } else { &["a", "b"] };
    Host::new(agent, disks, release)
}

#[rstest]
#[case(Release::V5_2, include_str!("../../data/recordings/5.2/agent.jsonl"))]
#[case(Release::V7_2, include_str!("../../data/recordings/7.2/agent.jsonl"))]
#[case(Release::V10_0, include_str!("../../data/recordings/10.0/agent.jsonl"))]
#[case(Release::V11_1, include_str!("../../data/recordings/11.1/agent.jsonl"))]
fn it_says_what_the_real_agent_was_recorded_to_say(#[case] release: Release, #[case] recorded: &str) {
    let mut host = linux(release);
    for (place, case) in recorded.lines().enumerate() {
        let case: Value = serde_json::from_str(case).unwrap();
        if case["agent"].is_object() {
            host = described(&case["agent"], release);
        }
        if let Some(unfinished) = case["reconnect"].as_str() {
            host.send(unfinished.as_bytes());
            host.hear(Duration::from_millis(10));
            host.reconnect();
        }
        if case["restart"] == true {
            host.act(GuestAction::KillAgent);
            host.act(GuestAction::StartAgent);
        }
        let sent: Vec<u8> = case["send"].as_str().unwrap().chars().map(|byte| byte as u8).collect();
        host.send(&sent);
        let said = host.hear(Duration::from_secs(1));
        assert_eq!(said, case["says"].as_str().unwrap(), "line {}: after {}", place + 1, case["send"]);
    }
}

#[test]
fn an_agent_that_is_killed_leaves_what_it_froze_and_its_successor_knows() {
    let mut host = linux(Release::V10_0);
    let monitor = host.monitor();
    host.ask("guest-fsfreeze-freeze");
    host.act(GuestAction::KillAgent);
    assert!(
        host.qmp(monitor, "").contains("\"VSERPORT_CHANGE\", \"data\": {\"open\": false, \"id\": \"agent\"}")
    );
    assert!(host.is_frozen("a") && host.is_frozen("b"));
    assert_eq!(host.ask("guest-fsfreeze-status"), "");
    host.act(GuestAction::StartAgent);
    assert_eq!(
        host.hear(Duration::from_secs(1)),
        "{\"return\": \"frozen\"}\n",
        "it was asked before it came"
    );
    assert_eq!(host.ask("guest-fsfreeze-thaw"), "{\"return\": 2}\n");
}

#[test]
fn a_request_that_a_stopped_guest_has_not_taken_is_lost_with_its_client() {
    let mut host = linux(Release::V10_0);
    let monitor = host.monitor();
    host.qmp(monitor, "{\"execute\":\"stop\"}");
    assert_eq!(host.ask("guest-ping"), "");
    host.qmp(monitor, "{\"execute\":\"cont\"}");
    assert_eq!(host.hear(Duration::from_millis(50)), "{\"return\": {}}\n");
    host.qmp(monitor, "{\"execute\":\"stop\"}");
    host.ask("guest-fsfreeze-freeze");
    host.reconnect();
    host.qmp(monitor, "{\"execute\":\"cont\"}");
    assert_eq!(host.ask("guest-fsfreeze-status"), "{\"return\": \"thawed\"}\n");
}

#[test]
fn a_late_reply_reaches_the_next_client() {
    let slow = Script { takes: Duration::from_secs(2), status: 0 };
    let agent = Agent::linux().hook(Hook { freeze: slow, thaw: Script::default() });
    let mut host = Host::new(agent, &["a"], Release::V10_0);
    assert_eq!(host.ask("guest-fsfreeze-freeze"), "");
    assert!(!host.is_frozen("a"), "the hook runs first");
    host.reconnect();
    assert_eq!(host.ask("guest-ping"), "", "nothing is answered before the hook has ended");
    assert_eq!(host.hear(Duration::from_secs(1)), "{\"return\": 1}\n{\"return\": {}}\n");
    assert!(host.is_frozen("a"));
}

#[test]
fn a_write_to_a_frozen_file_system_waits_for_the_thaw() {
    let mut host = linux(Release::V10_0);
    let write = |block| GuestAction::Write { disk: "a".into(), block, write: 7 };
    let written = |host: &Host| host.world.host().image("/images/a.qcow2".into()).unwrap().blocks().len();
    host.act(write(1));
    assert_eq!(written(&host), 1);
    host.ask("guest-fsfreeze-freeze");
    host.act(write(2));
    assert_eq!(written(&host), 1);
    host.ask("guest-fsfreeze-thaw");
    assert_eq!(written(&host), 2);
}

#[test]
fn windows_lets_its_writers_go_after_ten_seconds_and_says_so_at_the_thaw() {
    let mut host = Host::new(Agent::windows(), &["a"], Release::V10_0);
    host.ask("guest-fsfreeze-freeze");
    assert_eq!(host.ask("guest-fsfreeze-thaw"), "{\"return\": 1}\n");
    host.ask("guest-fsfreeze-freeze");
    host.hear(Duration::from_secs(8));
    assert!(host.is_frozen("a"));
    host.hear(Duration::from_secs(2));
    assert!(!host.is_frozen("a"));
    assert_eq!(host.ask("guest-fsfreeze-status"), "{\"return\": \"frozen\"}\n");
    assert!(host.ask("guest-fsfreeze-thaw").contains("fsfreeze is limited up to 10 seconds"));
    assert_eq!(host.ask("guest-fsfreeze-status"), "{\"return\": \"thawed\"}\n");
}

#[test]
fn a_load_brings_back_the_freeze_and_reports_the_port_twice() {
    let mut host = linux(Release::V10_0);
    let monitor = host.monitor();
    let job = |command: &str| {
        format!(
            "{{\"execute\":\"{command}\",\"arguments\":{{\"job-id\":\"{command}\",\"tag\":\"t\",\"vmstate\":\"a\",\
             \"devices\":[\"a\",\"b\"]}}}}"
        )
    };
    host.ask("guest-fsfreeze-freeze");
    host.qmp(monitor, &job("snapshot-save"));
    host.ask("guest-fsfreeze-thaw");
    host.hear(Duration::from_secs(2));
    let mut said = host.qmp(monitor, &job("snapshot-load"));
    host.hear(Duration::from_secs(2));
    said += &host.qmp(monitor, "");
    let order: Vec<_> = ["\"STOP\"", "\"open\": false", "\"RESUME\"", "\"open\": true"]
        .map(|part| said.find(part).unwrap_or_else(|| panic!("no {part} in {said}")))
        .into();
    assert!(order.is_sorted(), "{said}");
    assert!(host.is_frozen("a"));
    assert_eq!(host.ask("guest-fsfreeze-thaw"), "{\"return\": 2}\n");
}

#[test]
fn the_agent_of_a_machine_that_has_not_run_comes_some_seconds_after_it_does() {
    let machine = Machine::new().disk("a").agent(Agent::linux()).power(Power::Prelaunch);
    let mut host = Host::of(&machine, Release::V10_0);
    let monitor = host.monitor();
    assert_eq!(host.ask("guest-ping"), "");
    host.qmp(monitor, "{\"execute\":\"cont\"}");
    assert_eq!(host.hear(Duration::from_secs(2)), "");
    assert_eq!(host.hear(Duration::from_secs(2)), "{\"return\": {}}\n");
    assert!(host.qmp(monitor, "").contains("\"open\": true"));
}

#[test]
fn an_absent_agent_and_a_mute_one_say_nothing() {
    for presence in [Presence::Absent, Presence::Mute] {
        let mut host = Host::new(Agent::linux().presence(presence), &["a"], Release::V10_0);
        assert_eq!(host.ask("guest-ping"), "");
        host.act(GuestAction::StartAgent);
        assert_eq!(host.hear(Duration::from_millis(10)), "{\"return\": {}}\n");
    }
}

#[test]
fn a_reset_thaws_and_the_agent_comes_back() {
    let mut host = linux(Release::V10_0);
    let monitor = host.monitor();
    host.ask("guest-fsfreeze-freeze");
    let said = host.qmp(monitor, "{\"execute\":\"system_reset\"}");
    let (closed, reset) = (said.find("\"open\": false"), said.find("\"RESET\""));
    assert!(closed.is_some() && closed < reset, "recorded in this order: {said}");
    assert!(!host.is_frozen("a"));
    assert_eq!(host.ask("guest-fsfreeze-status"), "");
    assert_eq!(host.hear(Duration::from_secs(3)), "{\"return\": \"thawed\"}\n");
}

#[test]
fn a_second_client_is_served_when_the_first_has_left() {
    let mut host = linux(Release::V10_0);
    let second = host.world.connect(host.now, Port::Agent).unwrap();
    host.ask("guest-ping");
    host.world.receive(host.now, second, b"{\"execute\":\"guest-ping\"}").unwrap();
    host.hear(Duration::from_secs(1));
    assert!(host.world.output(second).is_empty());
    host.world.close(host.now, host.client);
    host.client = second;
    assert_eq!(host.hear(Duration::from_secs(1)), "{\"return\": {}}\n");
}

#[test]
fn query_chardev_tells_who_is_at_either_end_of_the_agents_port() {
    let mut machine = Machine::new().disk("a").agent(Agent::linux());
    machine.chardevs.push(Chardev {
        label: "qga".into(),
        path: "/run/qga".into(),
        frontend: Some(Frontend::Agent),
        connected: false,
    });
    let mut host = Host::of(&machine, Release::V10_0);
    let monitor = host.monitor();
    let query = "{\"execute\":\"query-chardev\"}";
    let both = "\"frontend-open\": true, \"filename\": \"unix:/run/qga,server=on\"";
    let said = host.qmp(monitor, query);
    assert!(said.contains(both), "{said}");
    host.act(GuestAction::KillAgent);
    host.world.close(host.now, host.client);
    let neither = "\"frontend-open\": false, \"filename\": \"disconnected:unix:/run/qga,server=on\"";
    let said = host.qmp(monitor, query);
    assert!(said.contains(neither), "{said}");
}
