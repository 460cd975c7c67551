//! What the model of QEMU does beyond what the recordings show: to images, between commands, to its views.

use std::time::Duration;

use freezeframe_sim::{
    Machine, Oracle, Release,
    host::{Blocks, Host, Image},
    machine::{Format, Power},
    qemu::{Context, Event, Qemu, QmpError, Timer, run_state::RunState},
};
use rstest::rstest;
use serde_json::{Value, json};

#[path = "qemu/devices.rs"]
mod devices;

#[path = "qemu/block_jobs.rs"]
mod block_jobs;
#[path = "qemu/drives.rs"]
mod drives;
#[path = "qemu/failures.rs"]
mod failures;
#[path = "qemu/groups.rs"]
mod groups;

/// One QEMU and its host. Time passes only when a test says so.
struct Bench {
    release: Release,
    host: Host,
    oracle: Oracle,
    qemu: Qemu,
    now: Duration,
    timers: Vec<(Duration, Timer)>,
}

impl Bench {
    fn new(machine: Machine) -> Self {
        let release = Release::V10_0;
        let mut host = Host::new();
        let qemu = Qemu::new(&machine, release, &mut host);
        Self { release, host, oracle: Oracle::default(), qemu, now: Duration::ZERO, timers: Vec::new() }
    }

    /// Sends a command; returns its events and its reply.
    fn send(&mut self, command: &str, arguments: Value) -> (Vec<String>, Result<Value, QmpError>) {
        let (events, reply) = self.execute(command, arguments);
        (events.into_iter().map(short).collect(), reply)
    }

    /// As [`Bench::send`], each event with the job that it is about.
    fn send_with_ids(&mut self, command: &str, arguments: Value) -> (Vec<String>, Result<Value, QmpError>) {
        let (events, reply) = self.execute(command, arguments);
        (events.into_iter().map(with_id).collect(), reply)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> (Vec<Event>, Result<Value, QmpError>) {
        let mut cx = Context::new(self.now, self.release, &mut self.oracle, &mut self.host);
        let reply = self.qemu.execute(command, arguments.as_object().cloned().unwrap_or_default(), &mut cx);
        let (events, timers) = cx.finish();
        self.timers.extend(timers);
        (events, reply.map(Value::from))
    }

    /// Sends a command that must succeed.
    fn ok(&mut self, command: &str, arguments: Value) -> Value {
        self.send(command, arguments).1.unwrap_or_else(|error| panic!("{command}: {}", error.desc))
    }

    /// Sends a command that must fail; returns the text.
    fn refused(&mut self, command: &str, arguments: Value) -> String {
        self.send(command, arguments).1.expect_err(command).desc
    }

    /// Lets the timers strike, and all that they bring; returns the events.
    fn settle(&mut self) -> Vec<String> {
        self.strike(|_| false).into_iter().map(short).collect()
    }

    /// As [`Bench::settle`], each event with the job that it is about.
    fn settle_with_ids(&mut self) -> Vec<String> {
        self.strike(|_| false).into_iter().map(with_id).collect()
    }

    /// Lets timers strike until a job has come to a status.
    fn settle_until(&mut self, status: &str) {
        self.strike(|event| event.data.as_ref().and_then(|data| data.text("status")) == Some(status));
    }

    fn strike(&mut self, enough: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut said = Vec::new();
        while !said.iter().any(&enough)
            && let Some(next) = (0..self.timers.len()).min_by_key(|timer| self.timers[*timer].0)
        {
            let (at, timer) = self.timers.remove(next);
            self.now = self.now.max(at);
            let mut cx = Context::new(self.now, self.release, &mut self.oracle, &mut self.host);
            self.qemu.timer(timer, &mut cx);
            let (events, timers) = cx.finish();
            self.timers.extend(timers);
            said.extend(events);
        }
        said
    }

    /// Makes and adds an empty overlay `name`.
    fn add_overlay(&mut self, name: &str) {
        let file = format!("{name}-file");
        self.ok(
            "blockdev-create",
            json!({ "job-id": "c", "options": { "driver": "file", "filename": name, "size": 0 } }),
        );
        self.settle();
        self.ok("job-dismiss", json!({ "id": "c" }));
        self.ok("blockdev-add", json!({ "driver": "file", "node-name": file, "filename": name }));
        self.ok(
            "blockdev-create",
            json!({ "job-id": "c", "options": { "driver": "qcow2", "file": file, "size": 512 } }),
        );
        self.settle();
        self.ok("job-dismiss", json!({ "id": "c" }));
        self.ok(
            "blockdev-add",
            json!({ "driver": "qcow2", "node-name": name, "file": file, "backing": null }),
        );
    }

    /// Runs a snapshot job on `vda`; returns its error.
    fn snapshot(&mut self, command: &str, tag: &str) -> Option<String> {
        self.ok(command, json!({ "job-id": "s", "tag": tag, "vmstate": "vda", "devices": ["vda"] }));
        self.settle();
        let error = self.qemu.jobs().next().and_then(|job| job.error.clone());
        self.ok("job-dismiss", json!({ "id": "s" }));
        error
    }
}

fn short(event: Event) -> String {
    match event.data.as_ref().and_then(|data| data.text("status")) {
        Some(status) => status.into(),
        None => event.name.into(),
    }
}

fn with_id(event: Event) -> String {
    let data = event.data.clone().unwrap_or_default();
    let id = data.text("id").or(data.text("device")).unwrap_or_default();
    format!("{}.{id}", short(event))
}

fn one_disk() -> Bench {
    Bench::new(Machine::new().disk("vda"))
}

#[test]
fn a_create_job_leaves_room_for_other_commands() {
    let mut bench = one_disk();
    let options = json!({ "driver": "file", "filename": "new", "size": 0 });
    let (events, reply) = bench.send("blockdev-create", json!({ "job-id": "c", "options": options }));
    assert_eq!((events, reply.unwrap()), (vec!["created".into(), "running".into()], json!({})));
    assert_eq!(bench.ok("query-jobs", json!({}))[0]["status"], "running");
    assert_eq!(bench.settle(), ["waiting", "pending", "concluded"]);
    assert!(bench.now > Duration::ZERO);
}

#[test]
fn a_node_in_use_by_a_job_cannot_be_removed() {
    let mut bench = one_disk();
    bench.host.create_new("new".into(), Image::raw(0)).unwrap();
    bench.ok("blockdev-add", json!({ "driver": "file", "node-name": "new", "filename": "new" }));
    let options = json!({ "driver": "qcow2", "file": "new", "size": 1024 });
    bench.ok("blockdev-create", json!({ "job-id": "c", "options": options }));
    assert_eq!(bench.refused("blockdev-del", json!({ "node-name": "new" })), "Block device new is in use");
    bench.settle();
    bench.ok("blockdev-del", json!({ "node-name": "new" }));
}

#[test]
fn the_header_of_a_new_image_is_written_when_its_job_ends() {
    let mut bench = one_disk();
    bench.host.create_new("new".into(), Image::raw(0)).unwrap();
    bench.ok("blockdev-add", json!({ "driver": "file", "node-name": "new", "filename": "new" }));
    let options = json!({ "driver": "qcow2", "file": "new", "size": 1024, "backing-file": "vda.qcow2" });
    bench.ok("blockdev-create", json!({ "job-id": "c", "options": options }));
    assert!(bench.host.image("new".into()).unwrap().as_qcow2().is_none());
    bench.settle();
    let image = bench.host.image("new".into()).unwrap().as_qcow2().unwrap();
    assert_eq!((image.size, image.backing.as_ref().unwrap().file.as_str()), (1024, "vda.qcow2"));
}

#[test]
fn a_cancelled_create_job_ends_aborted() {
    let mut bench = one_disk();
    let options = json!({ "driver": "file", "filename": "new", "size": 0 });
    bench.ok("blockdev-create", json!({ "job-id": "c", "options": options }));
    bench.ok("job-cancel", json!({ "id": "c" }));
    assert_eq!(bench.settle(), ["aborting", "concluded"]);
    assert_eq!(bench.ok("query-jobs", json!({}))[0]["error"], "Operation canceled");
}

#[test]
fn quit_forgets_all_jobs_newest_first() {
    let mut bench = one_disk();
    for id in ["old", "new"] {
        let options = json!({ "driver": "file", "filename": id, "size": 0 });
        bench.ok("blockdev-create", json!({ "job-id": id, "options": options }));
        if id == "old" {
            bench.settle();
        }
    }
    let (events, _) = bench.send("quit", json!({}));
    assert_eq!(events, ["SHUTDOWN", "aborting", "concluded", "null", "null"]);
    assert!(bench.qemu.gone());
}

#[test]
fn a_load_brings_back_what_the_disk_held() {
    let mut bench = one_disk();
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(7, 1);
    assert_eq!(bench.snapshot("snapshot-save", "s"), None);
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(7, 2);
    assert_eq!(bench.snapshot("snapshot-load", "s"), None);
    assert_eq!(bench.host.image("vda.qcow2".into()).unwrap().blocks(), &Blocks::from([(7, 1)]));
    assert_eq!(bench.qemu.run_state(), RunState::Running);
}

#[test]
fn a_tag_that_is_the_id_of_another_snapshot_loads_that_one() {
    let mut bench = one_disk();
    bench.ok("blockdev-snapshot-internal-sync", json!({ "device": "vda", "name": "disk-only" }));
    assert_eq!(bench.snapshot("snapshot-save", "1"), None);
    assert_eq!(bench.snapshot("snapshot-load", "1").unwrap(), "Error -22 while loading VM state");
    assert_eq!(bench.qemu.run_state(), RunState::RestoreVm);
}

#[test]
fn a_load_sets_the_guests_clock_back() {
    let mut bench = one_disk();
    bench.now = Duration::from_secs(5);
    assert_eq!(bench.snapshot("snapshot-save", "first"), None);
    bench.now = Duration::from_secs(60);
    assert_eq!(bench.snapshot("snapshot-load", "first"), None);
    assert_eq!(bench.snapshot("snapshot-save", "second"), None);
    let snapshots = &bench.host.image("vda.qcow2".into()).unwrap().as_qcow2().unwrap().snapshots;
    assert_eq!([snapshots[0].vm_clock, snapshots[1].vm_clock], [Duration::from_secs(5); 2]);
}

#[test]
fn a_guest_that_is_loaded_while_stopped_reports_its_ports_when_it_runs() {
    let mut bench = Bench::new(Machine::new().disk("vda").serial_port("port0").power(Power::Paused));
    assert_eq!(bench.snapshot("snapshot-save", "s"), None);
    assert_eq!(bench.snapshot("snapshot-load", "s"), None);
    assert_eq!(bench.send("cont", json!({})).0, ["RESUME", "VSERPORT_CHANGE"]);
    assert_eq!(bench.send("stop", json!({})).0, ["STOP"]);
    assert_eq!(bench.send("cont", json!({})).0, ["RESUME"]);
}

#[test]
fn a_loaded_states_disks_are_started_when_the_guest_runs() {
    let mut bench = one_disk();
    let human =
        |bench: &mut Bench, line: &str| bench.ok("human-monitor-command", json!({ "command-line": line }));
    let cached = |bench: &mut Bench| {
        let blocks = bench.ok("query-block", json!({}));
        blocks[0]["inserted"]["cache"]["writeback"].as_bool().unwrap()
    };
    bench.now = Duration::from_secs(5);
    human(&mut bench, "savevm s");
    bench.ok("stop", json!({}));
    assert!(!cached(&mut bench));
    human(&mut bench, "loadvm s");
    assert!(cached(&mut bench), "no driver has started it since");
    bench.ok("cont", json!({}));
    assert!(!cached(&mut bench));
}

#[test]
fn there_is_one_processor_for_the_human_monitor() {
    let mut bench = one_disk();
    let line = |index: u64| json!({ "command-line": "info block", "cpu-index": index });
    bench.ok("human-monitor-command", line(0));
    let refused = bench.refused("human-monitor-command", line(1));
    assert_eq!(refused, "Parameter 'cpu-index' expects a CPU number");
}

/// The table's head and the end of its row as the real releases print them.
#[rstest]
#[case(
    Release::V5_2,
    "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\r\n1         i  ",
    " 00:00:00.000          0\r\n"
)]
#[case(
    Release::V10_0,
    "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT\r\n1       i  ",
    "  0000:00:00.000          0\r\n"
)]
fn details_of_a_disk_list_the_snapshots_of_each_of_its_images(
    #[case] release: Release,
    #[case] head: &str,
    #[case] end: &str,
) {
    let mut bench = one_disk();
    bench.release = release;
    let image = bench.host.image_mut("vda.qcow2".into()).unwrap().as_qcow2_mut().unwrap();
    image.take_snapshot("i", 0, Duration::ZERO, Duration::ZERO);
    image.keep_no_instructions();
    bench.add_overlay("ov");
    bench.ok("blockdev-snapshot", json!({ "node": "vda", "overlay": "ov" }));
    let shown = bench.ok("human-monitor-command", json!({ "command-line": "info block -v" }));
    let (overlay, below) = shown.as_str().unwrap().split_once("extended l2: false\r\nimage: ").unwrap();
    assert!(!overlay.contains("Snapshot list"));
    let (_, list) = below.split_once("Snapshot list:\r\n").unwrap();
    assert!(list.starts_with(head), "{list}");
    assert!(list.contains(&format!("{end}Format specific information:\r\n")), "{list}");
}

#[test]
fn the_device_moves_to_the_overlay() {
    let mut bench = one_disk();
    bench.add_overlay("ov");
    bench.ok("blockdev-snapshot", json!({ "node": "vda", "overlay": "ov" }));
    assert_eq!(bench.qemu.chain("vda-device"), ["ov", "vda"]);
    assert!(bench.qemu.graph().node("vda").unwrap().read_only);
}

#[test]
fn a_transaction_that_fails_changes_neither_graph_nor_images() {
    let mut bench = one_disk();
    bench.add_overlay("ov");
    let (graph, host) = (bench.qemu.graph().clone(), bench.host.clone());
    bench.refused(
        "transaction",
        json!({ "actions": [
            { "type": "blockdev-snapshot-internal-sync", "data": { "device": "vda", "name": "i" } },
            { "type": "blockdev-snapshot", "data": { "node": "vda", "overlay": "ov" } },
            { "type": "abort", "data": {} },
        ] }),
    );
    assert_eq!(bench.qemu.graph(), &graph);
    assert_eq!(bench.host, host);
}

#[test]
fn a_second_start_finds_the_images_of_the_first() {
    let machine = Machine::new().disk("vda");
    let mut bench = Bench::new(machine.clone());
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(7, 1);
    Qemu::new(&machine, Release::V10_0, &mut bench.host);
    assert_eq!(bench.host.image("vda.qcow2".into()).unwrap().blocks(), &Blocks::from([(7, 1)]));
}

#[rstest]
#[case("blockdev-add", json!({ "driver": "nbd", "node-name": "n" }))]
#[case("blockdev-add", json!({ "driver": "file", "node-name": "n", "filename": "vda.qcow2", "aio": "native" }))]
#[case("drive-mirror", json!({ "device": "vda", "target": "t", "sync": "full", "node-name": "t", "replaces": "vda" }))]
#[case("drive-backup", json!({ "device": "vda", "target": "t", "sync": "full", "format": "vmdk" }))]
#[case("migrate", json!({ "uri": "vsock:1:2" }))]
#[case("human-monitor-command", json!({ "command-line": "info qtree" }))]
#[case("human-monitor-command", json!({ "command-line": "gpa2hva 0" }))]
fn what_is_not_modelled_says_so(#[case] command: &str, #[case] arguments: Value) {
    let text = one_disk().refused(command, arguments);
    assert!(text.starts_with("not simulated: "), "{command}: {text}");
}

#[test]
fn a_raw_disk_takes_no_snapshot() {
    let mut machine = Machine::new().disk("vda");
    machine.disks[0].format = Format::Raw;
    let error = Bench::new(machine).snapshot("snapshot-save", "s");
    assert_eq!(error.unwrap(), "Device 'vda' is writable but does not support snapshots");
}
