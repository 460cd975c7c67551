//! A machine's state that leaves, comes, or is of other hardware; the host's SIGTERM; [`guest`]: the guest's own acts. Over
//! the whole wire. What is expected was seen on the four releases.

use std::time::Duration;

use freezeframe_sim::{
    Machine, Oracle, Port, Release, World, host::Descriptor, machine::Power, qemu::GuestAct,
    world::Connection,
};
use rstest::rstest;
use serde_json::{Value, json};

mod guest;

/// A client of a machine.
struct Client {
    world: World,
    connection: Connection,
    now: Duration,
}

impl Client {
    /// A client of a machine whose firmware has run, to whom migrations tell how far they are.
    fn of(machine: &Machine, release: Release) -> Self {
        Self::with(World::new(machine, release, Oracle::default_order()))
    }

    fn with(mut world: World) -> Self {
        let connection = world.connect(Duration::ZERO, Port::Monitor(0)).unwrap();
        let mut client = Self { world, connection, now: Duration::ZERO };
        client.send("qmp_capabilities", json!({}));
        client.after(1);
        let events = json!([{ "capability": "events", "state": true }]);
        client.send("migrate-set-capabilities", json!({ "capabilities": events }));
        client
    }

    /// Sends a command and returns what is heard within the next milliseconds.
    fn send(&mut self, command: &str, arguments: Value) -> Vec<String> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let _ = self.world.receive(self.now, self.connection, line.as_bytes());
        self.wait(5)
    }

    /// What is heard within that many seconds.
    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.wait(seconds * 1000)
    }

    fn wait(&mut self, milliseconds: u64) -> Vec<String> {
        self.now += Duration::from_millis(milliseconds);
        self.world.advance(self.now);
        let output = self.world.output(self.connection).to_vec();
        self.world.consume(self.connection, output.len());
        String::from_utf8(output).unwrap().lines().map(short).collect()
    }

    fn migrate(&mut self, uri: &str) -> Vec<String> {
        let mut said = self.send("migrate", json!({ "uri": uri }));
        said.extend(self.after(1));
        said
    }

    fn guest(&mut self, act: GuestAct) -> Vec<String> {
        self.world.guest_does(self.now, act);
        self.wait(5)
    }

    fn set_capability(&mut self, name: &str) {
        let capabilities = json!([{ "capability": name, "state": true }]);
        assert_eq!(self.send("migrate-set-capabilities", json!({ "capabilities": capabilities })), ["{}"]);
    }

    fn status(&mut self) -> String {
        let reply: Value = serde_json::from_str(&self.send("query-status", json!({}))[0]).unwrap();
        reply["status"].as_str().unwrap().to_owned()
    }

    fn why_failed(&mut self) -> Option<String> {
        let reply: Value = serde_json::from_str(&self.send("query-migrate", json!({}))[0]).unwrap();
        assert_eq!(reply["status"], "failed");
        reply["error-desc"].as_str().map(str::to_owned)
    }

    fn quit(&mut self) {
        self.send("quit", json!({}));
        assert!(!self.world.qemu_is_running());
    }
}

/// An event as its name and the first member of its data; a reply as what it returns, or the error's text.
fn short(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    if let Some(event) = line["event"].as_str() {
        let first = line["data"].as_object().and_then(|data| data.values().next().cloned());
        return match first {
            Some(Value::String(text)) if event != "SHUTDOWN" => format!("{event} {text}"),
            Some(Value::Number(number)) => format!("{event} {number}"),
            _ => {
                line["data"]["reason"].as_str().map_or(event.to_owned(), |reason| format!("{event} {reason}"))
            }
        };
    }
    match line["error"]["desc"].as_str() {
        Some(error) => error.to_owned(),
        None => line["return"].to_string(),
    }
}

fn one_disk() -> Machine {
    Machine::new().disk("vda")
}

/// The machine that takes up what one with the same disks has left.
fn taken_in(source: Client, machine: Machine, release: Release) -> (Client, Vec<String>) {
    let machine = Machine { incoming: true, ..machine };
    let mut world = World::new(&machine, release, Oracle::default_order());
    *world.host_mut() = source.world.host().clone();
    let mut client = Client::with(world);
    let mut said = client.send("migrate-incoming", json!({ "uri": "exec:cat state" }));
    said.extend(client.after(1));
    (client, said)
}

#[rstest]
fn a_narrow_bandwidth_holds_back_all_memory_before_10_0_and_what_is_not_zero_from_then_on(
    #[values(Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut client = Client::of(&one_disk(), release);
    client.send("migrate-set-parameters", json!({ "max-bandwidth": 65536 }));
    client.send("migrate", json!({ "uri": "exec:cat >/dev/null" }));
    let completed = |said: &[String]| said.contains(&"MIGRATION completed".to_owned());
    assert!(!completed(&client.wait(500)));
    assert_eq!(completed(&client.wait(500)), release >= Release::V10_0);
    assert_eq!(completed(&client.after(9)), release < Release::V10_0);
}

#[rstest]
#[case(Release::V5_2, &["MIGRATION setup", "{}", "MIGRATION_PASS 1", "MIGRATION active", "STOP", "MIGRATION_PASS 2",
    "MIGRATION completed"])]
#[case(Release::V10_0, &["MIGRATION setup", "{}", "MIGRATION_PASS 1", "MIGRATION active", "STOP", "MIGRATION device",
    "MIGRATION_PASS 2", "MIGRATION completed"])]
#[case(Release::V11_1, &["MIGRATION setup", "{}", "MIGRATION active", "MIGRATION_PASS 2", "STOP", "MIGRATION device",
    "MIGRATION completed"])]
fn a_migration_tells_of_itself_as_its_release_does(#[case] release: Release, #[case] said: &[&str]) {
    let mut client = Client::of(&one_disk(), release);
    assert_eq!(client.migrate("exec:cat >state"), said);
    assert_eq!(client.status(), "postmigrate");
    assert_eq!(client.send("cont", json!({})), ["RESUME", "{}"]);
}

#[rstest]
#[case(Release::V5_2)]
#[case(Release::V7_2)]
#[case(Release::V10_0)]
#[case(Release::V11_1)]
fn a_state_goes_on_in_another_machine(#[case] release: Release) {
    let mut source = Client::of(&one_disk(), release);
    source.migrate("exec:cat >state");
    source.quit();
    let (mut client, said) = taken_in(source, one_disk(), release);
    assert_eq!(said, ["MIGRATION setup", "{}", "MIGRATION active", "RESUME", "MIGRATION completed"]);
    assert_eq!(client.status(), "running");
}

#[test]
fn a_state_of_a_paused_machine_is_paused_where_it_comes_to() {
    let mut source = Client::of(&one_disk(), Release::V10_0);
    source.send("stop", json!({}));
    source.migrate("file:state");
    source.quit();
    let (mut client, said) = taken_in(source, one_disk(), Release::V10_0);
    assert_eq!(said, ["MIGRATION setup", "{}", "MIGRATION active", "MIGRATION completed"]);
    assert_eq!(client.status(), "paused");
}

#[test]
fn a_machine_started_stopped_keeps_a_running_state_paused() {
    let mut source = Client::of(&one_disk(), Release::V10_0);
    source.migrate("file:state");
    source.quit();
    let (mut client, _) = taken_in(source, one_disk().power(Power::Prelaunch), Release::V10_0);
    assert_eq!(client.status(), "paused");
}

#[test]
fn a_state_of_less_memory_ends_the_machine_that_waited_for_it() {
    let mut source = Client::of(&one_disk(), Release::V10_0);
    source.migrate("file:state");
    source.quit();
    let more = Machine { memory: 128 << 20, ..one_disk() };
    let (client, said) = taken_in(source, more, Release::V10_0);
    assert_eq!(said, ["MIGRATION setup", "{}", "MIGRATION active", "MIGRATION failed"]);
    assert!(!client.world.qemu_is_running());
}

#[test]
fn a_waiting_machine_that_may_not_end_tells_why_it_failed() {
    let machine = Machine { incoming: true, ..one_disk() };
    let mut client = Client::of(&machine, Release::V11_1);
    client.send("migrate-incoming", json!({ "uri": "exec:cat vda.qcow2", "exit-on-error": false }));
    client.after(1);
    let why = "load of migration failed: Invalid argument: Not a migration stream, magic: 0 != 5145564d";
    assert_eq!(client.why_failed().as_deref(), Some(why));
    assert_eq!(client.status(), "inmigrate");
}

#[rstest]
#[case(Release::V7_2, &["MIGRATION cancelling", "{}", "RESUME", "MIGRATION cancelled"])]
#[case(Release::V11_1, &["MIGRATION cancelling", "{}", "RESUME", "MIGRATION cancelled"])]
fn what_waits_before_the_switchover_can_be_cancelled(#[case] release: Release, #[case] said: &[&str]) {
    let mut client = Client::of(&one_disk(), release);
    client.set_capability("pause-before-switchover");
    client.migrate("exec:cat >state");
    assert_eq!(client.status(), "finish-migrate");
    assert_eq!(client.send("cont", json!({})), ["Migration is not finalized yet"]);
    assert_eq!(client.send("migrate_cancel", json!({})), said);
    assert_eq!(client.status(), "running");
}

#[test]
fn what_waits_before_the_switchover_goes_on_from_there_alone() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    client.set_capability("pause-before-switchover");
    client.migrate("exec:cat >state");
    let from = |state: &str| json!({ "state": state });
    let refused = client.send("migrate-continue", from("device"));
    assert_eq!(refused, ["Migration not in expected state: pre-switchover"]);
    let said = client.send("migrate-continue", from("pre-switchover"));
    assert_eq!(said, ["{}", "MIGRATION device", "MIGRATION_PASS 2", "MIGRATION completed"]);
}

#[rstest]
#[case(Release::V10_0, "MIGRATION failed")]
#[case(Release::V11_1, "MIGRATION failing")]
fn a_target_without_space_lets_the_guest_run_on(#[case] release: Release, #[case] first: &str) {
    let mut client = Client::of(&one_disk(), release);
    client.world.host_mut().set_full("state".into(), true);
    assert!(client.migrate("file:state").contains(&first.to_owned()));
    assert_eq!(client.why_failed().as_deref(), Some("Unable to write to file: No space left on device"));
    assert_eq!(client.status(), "running");
}

#[rstest]
#[case(Release::V5_2)]
#[case(Release::V7_2)]
#[case(Release::V10_0)]
#[case(Release::V11_1)]
fn credentials_that_nobody_made_end_a_migration_before_its_reply(#[case] release: Release) {
    let mut client = Client::of(&one_disk(), release);
    client.send("migrate-set-parameters", json!({ "tls-creds": "x" }));
    let said = client.migrate("exec:cat >state");
    assert_eq!(said[0], "MIGRATION setup");
    assert_eq!(said[said.len() - 2..], ["MIGRATION failed", "{}"]);
    assert_eq!(client.why_failed().as_deref(), Some("No TLS credentials with id 'x'"));
    assert_eq!(client.status(), "running");
}

#[test]
fn memory_with_places_of_its_own_in_a_file_cannot_go_over_tls() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    client.send("migrate-set-parameters", json!({ "tls-creds": "x" }));
    client.set_capability("mapped-ram");
    assert_eq!(client.migrate("file:state"), ["Cannot use TLS with mapped-ram"]);
    let off = client.send("migrate-set-parameters", json!({ "tls-creds": "" }));
    assert_eq!(off, ["Mapped-ram only available for non-compressed non-TLS multifd migration"]);
}

#[rstest]
#[case(Release::V10_0, "return-path")]
#[case(Release::V10_0, "postcopy-ram")]
#[case(Release::V11_1, "return-path")]
#[case(Release::V11_1, "postcopy-ram")]
fn a_file_gives_no_answer(#[case] release: Release, #[case] wanted: &str) {
    let mut client = Client::of(&one_disk().power(Power::Prelaunch), release);
    client.set_capability(wanted);
    let said = client.migrate("file:state");
    assert!(said.contains(&"MIGRATION device".to_owned()));
    assert_eq!(said.last().map(String::as_str), Some("MIGRATION failed"));
    assert_eq!(client.why_failed().as_deref(), Some("Unable to read from file: Bad file descriptor"));
    assert_eq!(client.status(), "prelaunch");
}

#[rstest]
#[case("return-path", "not simulated: migration with an answer from the other end")]
#[case("postcopy-ram", "not simulated: migration with an answer from the other end")]
#[case("x-colo", "not simulated: migration with `x-colo`")]
fn what_another_end_would_have_to_answer_is_refused(#[case] capability: &str, #[case] refused: &str) {
    let mut client = Client::of(&one_disk(), Release::V7_2);
    client.set_capability(capability);
    assert_eq!(client.migrate("exec:cat >state"), [refused]);
    assert_eq!(client.status(), "running");
}

#[test]
fn the_cache_of_xbzrle_is_told_where_it_is_used() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    client.set_capability("xbzrle");
    client.send("migrate-set-parameters", json!({ "xbzrle-cache-size": 8192 }));
    client.migrate("file:state");
    let reply: Value = serde_json::from_str(&client.send("query-migrate", json!({}))[0]).unwrap();
    assert_eq!(reply["xbzrle-cache"]["cache-size"], 8192);
}

#[test]
fn a_background_snapshot_leaves_the_guest_running() {
    let mut client = Client::of(&one_disk(), Release::V7_2);
    client.set_capability("background-snapshot");
    let said = client.migrate("exec:cat >state");
    assert_eq!(said, ["MIGRATION setup", "{}", "MIGRATION active", "STOP", "RESUME", "MIGRATION completed"]);
    assert!(client.world.host().image("state".into()).unwrap().as_machine_state().is_some());
}

#[rstest]
#[case(Release::V10_0, "{}")]
#[case(Release::V11_1, "fd: migration to a file is not supported. Use file: instead.")]
fn a_descriptor_is_used_once(#[case] release: Release, #[case] reply: &str) {
    let mut client = Client::of(&one_disk(), release);
    let name = json!({ "fdname": "f" });
    assert_eq!(client.send("getfd", name.clone()), ["No file descriptor supplied via SCM_RIGHTS"]);
    client.world.pass_descriptor(client.connection, Descriptor::File { path: "state".into(), position: 0 });
    assert_eq!(client.send("getfd", name), ["{}"]);
    assert!(client.migrate("fd:f").contains(&reply.to_owned()));
    client.send("cont", json!({}));
    assert!(client.migrate("fd:f").contains(&"File descriptor named 'f' has not been found".to_owned()));
}

/// What a waiting machine says to `migrate-incoming` from a file in which a state begins at byte 65536.
fn incoming_at(release: Release, capability: Option<&str>, offset: u64) -> (Client, Vec<String>) {
    let channel = |offset: u64| {
        let addr = json!({ "transport": "file", "filename": "/images/state", "offset": offset });
        json!([{ "channel-type": "main", "addr": addr }])
    };
    let mut source = Client::of(&one_disk(), release);
    source.send("migrate", json!({ "channels": channel(65536) }));
    source.after(1);
    let mut world = World::new(&Machine { incoming: true, ..one_disk() }, release, Oracle::default_order());
    *world.host_mut() = source.world.host().clone();
    let mut client = Client::with(world);
    capability.into_iter().for_each(|name| client.set_capability(name));
    let said =
        client.send("migrate-incoming", json!({ "channels": channel(offset), "exit-on-error": false }));
    let said = [said, client.after(1)].concat();
    (client, said)
}

#[rstest]
fn a_state_is_found_only_where_it_begins(#[values(Release::V10_0, Release::V11_1)] release: Release) {
    let (_, said) = incoming_at(release, None, 65536);
    assert!(said.contains(&"MIGRATION completed".to_owned()), "{said:?}");
    let (client, said) = incoming_at(release, None, 0);
    assert_eq!(said.last().unwrap(), "MIGRATION failed");
    assert!(client.world.qemu_is_running());
}

#[rstest]
#[case(Release::V10_0, "load of migration failed: Invalid argument")]
#[case(
    Release::V11_1,
    "load of migration failed: Invalid argument: post load hook failed for: configuration, version_id: 1, \
     minimum_version: 0: Failed to validate capabilities"
)]
fn a_state_is_loaded_only_as_it_was_laid_out(#[case] release: Release, #[case] why: &str) {
    let (mut client, _) = incoming_at(release, Some("mapped-ram"), 65536);
    assert_eq!(client.why_failed().as_deref(), Some(why));
}

#[rstest]
#[case(Release::V10_0, None, "{}")]
#[case(Release::V11_1, None, "fd: migration to a file is not supported. Use file: instead.")]
#[case(Release::V10_0, Some("mapped-ram"), "Migration requires seekable transport (e.g. file)")]
fn a_descriptor_is_a_source_where_it_is_a_target(
    #[case] release: Release,
    #[case] capability: Option<&str>,
    #[case] reply: &str,
) {
    let mut client = Client::of(&Machine { incoming: true, ..one_disk() }, release);
    capability.into_iter().for_each(|name| client.set_capability(name));
    client.world.pass_descriptor(client.connection, Descriptor::File { path: "state".into(), position: 0 });
    client.send("getfd", json!({ "fdname": "f" }));
    let said = client.send("migrate-incoming", json!({ "uri": "fd:f" }));
    assert!(said.contains(&reply.to_owned()), "{said:?}");
}

#[test]
fn a_pipe_is_a_target_for_every_release() {
    let mut client = Client::of(&one_disk(), Release::V11_1);
    client.world.pass_descriptor(client.connection, Descriptor::Pipe("state".into()));
    client.send("getfd", json!({ "fdname": "f" }));
    assert_eq!(client.migrate("fd:f").last().unwrap(), "MIGRATION completed");
}

#[test]
fn a_snapshot_of_the_machine_tells_of_itself_as_a_migration() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    let said = client.send("human-monitor-command", json!({ "command-line": "savevm s" }));
    let said = [said, client.after(1)].concat();
    let migration = ["MIGRATION setup", "MIGRATION_PASS 1", "MIGRATION_PASS 2", "MIGRATION completed"];
    assert_eq!(said, [&["STOP"], migration.as_slice(), &["RESUME", "\"\""]].concat());
}

#[test]
fn images_that_were_given_away_take_no_snapshot() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    client.migrate("exec:cat >/dev/null");
    let said = client.send("human-monitor-command", json!({ "command-line": "savevm s" }));
    let why = "Error: Device 'vda' is writable but does not support snapshots\r\n";
    assert_eq!(said, [Value::from(why).to_string()]);
}

#[rstest]
#[case(Release::V7_2, false)]
#[case(Release::V10_0, true)]
fn a_reset_machine_whose_images_are_given_away_is_migrated_again_or_aborts(
    #[case] release: Release,
    #[case] survives: bool,
) {
    let mut client = Client::of(&one_disk(), release);
    client.migrate("exec:cat >/dev/null");
    client.send("system_reset", json!({}));
    assert_eq!(client.status(), "prelaunch");
    client.migrate("exec:cat >/dev/null");
    assert_eq!(client.world.qemu_is_running(), survives);
}

#[test]
fn a_migration_after_a_failed_load_aborts() {
    let mut client = Client::of(&one_disk(), Release::V11_1);
    client.send("human-monitor-command", json!({ "command-line": "loadvm nope" }));
    assert_eq!(client.status(), "restore-vm");
    let said = client.migrate("exec:cat >state");
    assert_eq!(said, ["MIGRATION setup", "{}", "MIGRATION active", "MIGRATION_PASS 2"]);
    assert!(!client.world.qemu_is_running());
}

#[test]
fn the_hosts_signal_is_told_and_ends_qemu() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    client.world.terminate_qemu(client.now);
    assert_eq!(client.wait(5), ["SHUTDOWN host-signal"]);
    assert!(client.world.at_end(client.connection));
}
