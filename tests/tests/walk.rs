//! A walk through runs by seed: whatever the seed, only orders come up that recordings show, and all of those do.
//!
//! What is allowed stands here as data, from the recordings and QEMU's own table of job states, and knows nothing of the
//! simulator's code: [`CONVERSATIONS`] for whole orders, [`may_follow`] and [`Rules`] for what holds in any.
//!
//! How many runs: `FREEZEFRAME_WALK_RUNS`, 4,000 unless it is set; the gate makes 100,000.
#![allow(clippy::disallowed_methods, reason = "asks how much is to be done")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::Duration,
};

use freezeframe_sim::{Machine, Oracle, Port, Release, World};
use serde_json::Value;

use Release::{V5_2, V7_2, V10_0, V11_1};

const ALL: &[Release] = &[V5_2, V7_2, V10_0, V11_1];
const SINCE_7_2: &[Release] = &[V7_2, V10_0, V11_1];

/// How long a conversation is listened to after its last line, in virtual time.
const REST: Duration = Duration::from_secs(2);

/// Something that is said, and the orders in which the answers and events may come.
struct Conversation {
    releases: &'static [Release],
    /// Said one after the other, each when all is at rest.
    before: &'static [&'static str],
    /// Said in one go. The ids of the lines are the names of their replies.
    then: &'static [&'static str],
    /// All orders that there are, the usual one first.
    orders: &'static [&'static str],
}

const STOP: &str = r#"{"execute": "stop", "id": "stop"}"#;
const CONT: &str = r#"{"execute": "cont", "id": "cont"}"#;
const SAVE: &str = r#"{"execute": "snapshot-save", "id": "save",
    "arguments": {"job-id": "j", "tag": "s", "vmstate": "vda", "devices": ["vda"]}}"#;
const LOAD: &str = r#"{"execute": "snapshot-load", "id": "load",
    "arguments": {"job-id": "l", "tag": "s", "vmstate": "vda", "devices": ["vda"]}}"#;
const DELETE: &str = r#"{"execute": "snapshot-delete", "id": "delete",
    "arguments": {"job-id": "d", "tag": "s", "devices": ["vda"]}}"#;
const FILE_A: &str = r#"{"execute": "blockdev-create", "id": "a",
    "arguments": {"job-id": "a", "options": {"driver": "file", "filename": "a", "size": 16777216}}}"#;
const FILE_B: &str = r#"{"execute": "blockdev-create", "id": "b",
    "arguments": {"job-id": "b", "options": {"driver": "file", "filename": "b", "size": 512}}}"#;
const NOWHERE: &str = r#"{"execute": "blockdev-create", "id": "refused",
    "arguments": {"job-id": "bad", "options": {"driver": "qcow2", "file": "nosuch", "size": 1048576}}}"#;
const NODE: &str = r#"{"execute": "blockdev-add", "id": "node",
    "arguments": {"driver": "file", "node-name": "target", "filename": "a"}}"#;
const BACKUP: &str = r#"{"execute": "blockdev-backup", "id": "backup",
    "arguments": {"job-id": "j", "device": "vda", "target": "target", "sync": "full", "speed": 1}}"#;
const CANCEL: &str = r#"{"execute": "job-cancel", "id": "cancel", "arguments": {"id": "j"}}"#;
const DISMISS: &str = r#"{"execute": "job-dismiss", "id": "dismiss", "arguments": {"id": "j"}}"#;
const NEGATIVE: &str = r#"{"execute": "block-stream", "id": "stream",
    "arguments": {"job-id": "n", "device": "vda", "speed": -1}}"#;
const QUIT: &str = r#"{"execute": "quit", "id": "quit"}"#;
const RESET: &str = r#"{"execute": "system_reset", "id": "reset"}"#;
const SAVEVM: &str =
    r#"{"execute": "human-monitor-command", "id": "savevm", "arguments": {"command-line": "savevm s"}}"#;
const LOADVM: &str =
    r#"{"execute": "human-monitor-command", "id": "loadvm", "arguments": {"command-line": "loadvm s"}}"#;

const CONVERSATIONS: &[Conversation] = &[
    Conversation { releases: ALL, before: &[], then: &[STOP], orders: &["STOP stop"] },
    Conversation { releases: ALL, before: &[STOP], then: &[CONT, CONT], orders: &["RESUME cont cont"] },
    Conversation { releases: SINCE_7_2, before: &[], then: &[RESET], orders: &["RESET reset"] },
    Conversation { releases: &[V5_2], before: &[], then: &[RESET], orders: &["reset RESET"] },
    Conversation {
        releases: SINCE_7_2,
        before: &[],
        then: &[SAVE],
        orders: &["j:created j:running STOP RESUME save j:waiting j:pending j:concluded"],
    },
    Conversation {
        releases: SINCE_7_2,
        before: &[STOP],
        then: &[SAVE],
        orders: &["j:created j:running save j:waiting j:pending j:concluded"],
    },
    Conversation {
        releases: SINCE_7_2,
        before: &[SAVE],
        then: &[LOAD],
        orders: &["l:created l:running STOP RESUME load VSERPORT_CHANGE l:waiting l:pending l:concluded"],
    },
    Conversation {
        releases: SINCE_7_2,
        before: &[SAVE],
        then: &[DELETE],
        orders: &["d:created d:running delete d:waiting d:pending d:concluded"],
    },
    Conversation { releases: SINCE_7_2, before: &[SAVE], then: &[DISMISS], orders: &["j:null dismiss"] },
    Conversation { releases: ALL, before: &[], then: &[SAVEVM], orders: &["STOP RESUME savevm"] },
    Conversation {
        releases: SINCE_7_2,
        before: &[SAVEVM, STOP, LOADVM],
        then: &[CONT],
        orders: &["RESUME VSERPORT_CHANGE cont", "RESUME cont VSERPORT_CHANGE"],
    },
    Conversation {
        releases: ALL,
        before: &[],
        then: &[FILE_A],
        orders: &["a:created a:running a a:waiting a:pending a:concluded"],
    },
    Conversation {
        releases: ALL,
        before: &[],
        then: &[FILE_A, FILE_B],
        orders: &[
            "a:created a:running a a:waiting a:pending a:concluded b:created b:running b b:waiting b:pending b:concluded",
            "a:created a:running a b:created b:running b a:waiting a:pending a:concluded b:waiting b:pending b:concluded",
            "a:created a:running a b:created b:running b b:waiting b:pending b:concluded a:waiting a:pending a:concluded",
        ],
    },
    Conversation {
        releases: &[V7_2],
        before: &[],
        then: &[NOWHERE],
        orders: &["bad:created bad:running bad:aborting bad:concluded refused"],
    },
    Conversation {
        releases: &[V5_2, V10_0, V11_1],
        before: &[],
        then: &[NOWHERE],
        orders: &["bad:created bad:running refused bad:aborting bad:concluded"],
    },
    Conversation { releases: ALL, before: &[], then: &[NEGATIVE], orders: &["n:created n:null stream"] },
    Conversation {
        releases: ALL,
        before: &[FILE_A, NODE],
        then: &[BACKUP],
        orders: &["j:created j:running j:paused j:running backup"],
    },
    Conversation {
        releases: SINCE_7_2,
        before: &[FILE_A, NODE, BACKUP],
        then: &[CANCEL],
        orders: &["j:aborting BLOCK_JOB_CANCELLED j:concluded j:null cancel"],
    },
    Conversation {
        releases: &[V5_2],
        before: &[FILE_A, NODE, BACKUP],
        then: &[CANCEL],
        orders: &["cancel j:aborting BLOCK_JOB_CANCELLED j:concluded j:null"],
    },
    Conversation { releases: SINCE_7_2, before: &[FILE_A], then: &[QUIT], orders: &["SHUTDOWN a:null quit"] },
    Conversation { releases: &[V5_2], before: &[FILE_A], then: &[QUIT], orders: &["quit SHUTDOWN a:null"] },
];

/// Whether a job may go from one state to the next: QEMU's table, of which `undefined` is where none was told yet.
fn may_follow(state: &str, next: &str) -> bool {
    let may: &[&str] = match state {
        "undefined" | "null" => &["created"],
        "created" => &["running", "aborting", "null"],
        "running" => &["paused", "ready", "waiting", "aborting"],
        "paused" => &["running"],
        "ready" => &["standby", "waiting", "aborting"],
        "standby" => &["ready"],
        "waiting" => &["pending", "aborting"],
        "pending" => &["concluded", "aborting"],
        "aborting" => &["concluded", "aborting"],
        "concluded" => &["null"],
        _ => &[],
    };
    may.contains(&next)
}

/// What holds in any order: jobs follow the table, `STOP` and `RESUME` alternate, a block job tells how it ended right
/// before `concluded`, and time does not go back but for events that were held back.
#[derive(Default)]
struct Rules {
    jobs: BTreeMap<String, String>,
    stopped: bool,
    ended: Option<String>,
    time: (u64, u64),
}

impl Rules {
    fn hear(&mut self, message: &Value) -> Result<(), String> {
        let Some(event) = message["event"].as_str() else { return Ok(()) };
        let stamp = &message["timestamp"];
        let time = (stamp["seconds"].as_u64().unwrap_or(0), stamp["microseconds"].as_u64().unwrap_or(0));
        if event != "VSERPORT_CHANGE" {
            if time < self.time {
                return Err(format!("{event} goes back in time"));
            }
            self.time = time;
        }
        let text = |name: &str| message["data"][name].as_str().unwrap_or_default().to_owned();
        if let Some(job) = self.ended.take()
            && (event, text("id"), text("status"))
                != ("JOB_STATUS_CHANGE", job.clone(), "concluded".to_owned())
        {
            return Err(format!("job {job} told its end, and then {event} comes"));
        }
        match event {
            "JOB_STATUS_CHANGE" => {
                let state = self.jobs.entry(text("id")).or_insert_with(|| "undefined".to_owned());
                if !may_follow(state, &text("status")) {
                    return Err(format!("job {} goes from {state} to {}", text("id"), text("status")));
                }
                *state = text("status");
            }
            "BLOCK_JOB_COMPLETED" | "BLOCK_JOB_CANCELLED" => self.ended = Some(text("device")),
            "STOP" | "RESUME" if self.stopped == (event == "STOP") => {
                return Err(format!("{event} comes twice"));
            }
            "STOP" | "RESUME" => self.stopped = event == "STOP",
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn no_seed_brings_an_order_that_recordings_do_not_show_and_some_seed_brings_each_that_they_do() {
    let wanted: u64 = env::var("FREEZEFRAME_WALK_RUNS").map_or(4_000, |runs| runs.parse().expect("a number"));
    let cases: Vec<_> = CONVERSATIONS
        .iter()
        .flat_map(|conversation| conversation.releases.iter().map(move |release| (conversation, *release)))
        .collect();
    let mut reached = vec![BTreeSet::new(); cases.len()];
    for run in 0..wanted {
        let at = run as usize % cases.len();
        let (conversation, release) = cases[at];
        let seed = run / cases.len() as u64;
        let order = hold(conversation, release, seed);
        let order = order
            .unwrap_or_else(|broken| panic!("{:?} on {release}, seed {seed}: {broken}", conversation.then));
        let allowed = conversation.orders.contains(&order.as_str());
        assert!(allowed, "{:?} on {release}, seed {seed}: {order}", conversation.then);
        reached[at].insert(order);
    }
    for ((conversation, release), reached) in cases.iter().zip(&reached) {
        let missed = conversation.orders.iter().find(|order| !reached.contains(**order));
        assert_eq!(missed, None, "of {:?} on {release}", conversation.then);
    }
}

/// Holds a conversation; in which order what was said last was answered.
fn hold(conversation: &Conversation, release: Release, seed: u64) -> Result<String, String> {
    let machine = Machine::new().disk("vda").serial_port("port0");
    let mut client = Client::new(World::new(&machine, release, Oracle::seeded(seed)));
    client.say(&[r#"{"execute": "qmp_capabilities"}"#])?;
    for line in conversation.before {
        client.say(&[line])?;
    }
    let order = client.say(conversation.then)?;
    client.world.check_invariants().map_err(|broken| broken.to_string())?;
    Ok(order.join(" "))
}

/// A client that waits until all is at rest.
struct Client {
    world: World,
    connection: freezeframe_sim::world::Connection,
    now: Duration,
    rules: Rules,
}

impl Client {
    fn new(mut world: World) -> Self {
        let connection = world.connect(Duration::ZERO, Port::Monitor(0)).expect("QEMU runs");
        Self { world, connection, now: Duration::ZERO, rules: Rules::default() }
    }

    /// Says lines in one go, and tells what comes back in a word each.
    fn say(&mut self, lines: &[&str]) -> Result<Vec<String>, String> {
        let text = lines.concat();
        self.world.receive(self.now, self.connection, text.as_bytes()).map_err(|error| error.to_string())?;
        let until = self.now + REST;
        while let Some(next) = self.world.next_event().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.world.advance(self.now);
        }
        self.now = until;
        self.world.advance(until);
        let output = String::from_utf8_lossy(self.world.output(self.connection)).into_owned();
        self.world.consume(self.connection, output.len());
        let mut words = Vec::new();
        for line in output.lines() {
            let message: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            self.rules.hear(&message)?;
            // The guest's firmware resets the machine in its own time.
            if message["data"]["reason"] != "guest-reset" {
                words.push(word(&message));
            }
        }
        Ok(words)
    }
}

fn word(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match text(&message["event"]).as_str() {
        "" => text(&message["id"]),
        "JOB_STATUS_CHANGE" => {
            format!("{}:{}", text(&message["data"]["id"]), text(&message["data"]["status"]))
        }
        event => event.to_owned(),
    }
}
