//! `snapshot create-as` of a guest that stands frozen while a hook takes its time: killed, interrupted, or in nobody's way. In real time,
//! on a served machine.

use serde_json::{Value, json};

use super::{served::Server, *};

/// How long a watchdog may take beyond its time, on a loaded machine.
const AT_LAST: Duration = Duration::from_secs(30);

/// A hook that says that it was asked for the snapshot, and then takes its time: the guest stands frozen meanwhile.
const HOOK: &str = r#"
read -r asked
here=$(dirname "$0")
case $asked in
*'"operation":"list"'*) printf '{"snapshots":[%s]}' "$(cat "$here/kept")" ;;
*'"operation":"snapshot"'*) printf '"s1"' >"$here/kept"; touch "$here/asked"; sleep "$(cat "$here/seconds")"; printf '{"done":{}}' ;;
*) : >"$here/kept"; printf '{"done":{}}' ;;
esac
"#;

/// The same, that takes its snapshot only when its time is over.
const LATE: &str = r#"
read -r asked
here=$(dirname "$0")
case $asked in
*'"operation":"list"'*) printf '{"snapshots":[%s]}' "$(cat "$here/kept")" ;;
*'"operation":"snapshot"'*) touch "$here/asked"; sleep "$(cat "$here/seconds")"; printf '"s1"' >"$here/kept"; printf '{"done":{}}' ;;
*) : >"$here/kept"; printf '{"done":{}}' ;;
esac
"#;

/// A user's folder beside a served machine whose guest has an agent.
struct Rig {
    desk: Desk,
    server: Server,
}

impl Rig {
    fn new() -> Self {
        Self::of(HOOK)
    }

    fn of(hook: &str) -> Self {
        let machine = "[machine]\ndisks = [{ target = 'vda' }, { target = 'vdb' }]\nagent = 'linux'\n";
        let options = ["--qmp", "unix:{dir}/qmp", "--agent", "unix:{dir}/qga", "--images", "{dir}"];
        let server = Server::machine("machine.toml", machine, &options);
        let disk = |target: &str| {
            let image = server.path(&format!("{target}.qcow2"));
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='{target}'/></disk>",
                image.display()
            )
        };
        let disks = [disk("vda"), disk("vdb")].concat();
        let domain = format!("<domain type='qemu'><name>vm</name><devices>{disks}</devices></domain>");
        let desk = Desk::new().with("vm.xml", &domain).with_program("bin/hook", hook);
        let desk = desk.with("bin/kept", "").with("bin/seconds", "3");
        Self { desk, server }
    }

    fn socket(&self, name: &str) -> String {
        self.server.path(name).to_str().unwrap().to_owned()
    }

    /// A quiesced snapshot, during which the hook has a disk.
    fn create(&self, name: &str, options: &[&str]) -> Command {
        self.create_of("--quiesce", name, options)
    }

    /// A snapshot of a guest that is at rest so.
    fn create_of(&self, rest: &str, name: &str, options: &[&str]) -> Command {
        let (qmp, agent) = (self.socket("qmp"), self.socket("qga"));
        let hook = self.desk.path.join("bin/hook");
        let create = ["snapshot", "create-as", name, "--disk-only", rest, "--hook", hook.as_str()];
        let disk = ["--diskspec", "vdb,snapshot=manual", "--domain", "vm.xml", "--state", "state"];
        self.desk.command(&[&create[..], &disk, &["--qmp", &qmp, "--agent", &agent], options].concat())
    }

    #[track_caller]
    fn status(&self) -> Value {
        self.fs("status")
    }

    #[track_caller]
    fn fs(&self, verb: &str) -> Value {
        let socket = self.socket("qga");
        let more: &[&str] = if verb == "freeze" { &["--no-watchdog"] } else { &[] };
        let words = [&["fs", verb, "--json", "--agent", &socket], more].concat();
        let said = said(self.desk.command(&words).output().unwrap());
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.whole()))
    }

    /// The notes of the freezes that stand.
    fn tickets(&self) -> Vec<std::path::PathBuf> {
        let found = fs::read_dir(self.server.path("")).unwrap().map(|entry| entry.unwrap().path());
        let is_ticket = |path: &std::path::PathBuf| path.to_str().unwrap().contains("/qga.frozen.");
        found.filter(is_ticket).collect()
    }

    fn is_guarded(&self) -> bool {
        !self.tickets().is_empty()
    }

    /// Kills a command by SIGKILL as soon as the guest stands frozen for it.
    fn kill_while_frozen(&self, options: &[&str]) {
        let mut command =
            self.create("s1", options).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the hook is asked", || self.desk.path.join("bin/asked").exists());
        command.kill().unwrap();
        command.wait().unwrap();
        assert_eq!(self.status(), json!({"status": "frozen"}));
    }
}

/// Begins it, and returns while the hook has the disk.
fn begun(rig: &Rig, mut create: Command) -> Child {
    let child = create.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the hook is asked", || rig.desk.path.join("bin/asked").exists());
    child
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < AT_LAST, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_guest_frozen_by_a_command_that_was_killed_is_thawed_when_its_time_is_up() {
    let rig = Rig::new();
    rig.kill_while_frozen(&["--thaw-after", "4"]);
    assert!(rig.is_guarded());
    until("the guest is thawed", || rig.status() == json!({"status": "thawed"}));
    until("nobody waits any more", || rig.desk.processes().is_empty());
    assert!(!rig.is_guarded());
}

#[test]
fn without_a_watchdog_it_stays_frozen_until_it_is_recovered() {
    let rig = Rig::new();
    rig.kill_while_frozen(&["--no-watchdog"]);
    until("nobody is left", || rig.desk.processes().is_empty());
    assert!(!rig.is_guarded());
    assert_eq!(rig.status(), json!({"status": "frozen"}));
    let (qmp, agent) = (rig.socket("qmp"), rig.socket("qga"));
    let here = ["--domain", "vm.xml", "--state", "state", "--qmp", &qmp, "--agent", &agent];
    rig.desk
        .run(&[&["snapshot", "recover"], &here[..]].concat())
        .assert(1, "done: thaw the guest's file systems");
    assert_eq!(rig.status(), json!({"status": "thawed"}));
}

/// Else it would thaw somebody else's freeze when its time is up.
#[test]
fn a_recovery_that_thaws_leaves_nobody_who_thaws_later() {
    for verb in [&["snapshot", "recover"][..], &["snapshot", "delete", "none"]] {
        let rig = Rig::new();
        rig.kill_while_frozen(&["--thaw-after", "600"]);
        assert!(rig.is_guarded());
        let (qmp, agent) = (rig.socket("qmp"), rig.socket("qga"));
        let here = ["--domain", "vm.xml", "--state", "state", "--qmp", &qmp, "--agent", &agent];
        rig.desk.run(&[verb, &here[..]].concat()).assert(1, "done: thaw the guest's file systems");
        assert_eq!(rig.status(), json!({"status": "thawed"}));
        assert!(!rig.is_guarded());
        until("nobody waits any more", || rig.desk.processes().is_empty());
    }
}

/// What is recovered has frozen nothing: whoever has goes on with it.
#[test]
fn a_recovery_leaves_the_callers_freeze_as_it_is() {
    let rig = Rig::new();
    assert_eq!(rig.fs("freeze")["status"], "frozen");
    let tickets = rig.tickets();
    let create = rig.create_of("--already-frozen", "s1", &[]);
    let mut killed = begun(&rig, create);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let (qmp, agent) = (rig.socket("qmp"), rig.socket("qga"));
    let here = ["--domain", "vm.xml", "--state", "state", "--qmp", &qmp, "--agent", &agent];
    rig.desk.run(&[&["snapshot", "recover"], &here[..]].concat()).assert(1, "it is rolled back");
    assert_eq!(rig.status(), json!({"status": "frozen"}));
    assert_eq!((rig.tickets(), tickets.len()), (tickets, 1));
}

/// Else it would take its snapshot when all was told to be as before.
#[test]
fn a_hook_that_outlives_its_driver_is_waited_for_before_anything_is_told() {
    let rig = Rig::of(LATE);
    fs::write(rig.desk.path.join("bin/seconds"), "8").unwrap();
    rig.kill_while_frozen(&["--no-watchdog"]);
    let (qmp, agent) = (rig.socket("qmp"), rig.socket("qga"));
    let here = ["--domain", "vm.xml", "--state", "state", "--qmp", &qmp, "--agent", &agent];
    let recover = |within: &str| {
        let words = [&["snapshot", "recover", "--within", within], &here[..]].concat();
        said(rig.desk.command(&words).output().unwrap())
    };
    recover("1").assert(1, "error: OPERATION_TIMEOUT: a program that the operation has started still runs");
    assert_eq!(rig.status(), json!({"status": "thawed"}), "the guest is not waited with");
    let recovered = recover("30");
    assert_eq!(rig.desk.processes(), Vec::<String>::new(), "the hook has ended");
    assert_eq!(rig.desk.read("bin/kept"), "\"s1\"", "and has taken its snapshot");
    recovered.assert(1, "it is rolled back, but for what is told here");
    recovered.assert(1, "vdb.qcow2 may have the snapshot `s1`: list them, and delete it if so");
}

#[test]
fn what_somebody_else_freezes_behind_a_snapshot_stays_frozen() {
    let rig = Rig::new();
    let desk = &rig.desk;
    fs::write(desk.path.join("bin/seconds"), "0").unwrap();
    let taken = said(rig.create("s1", &["--thaw-after", "4"]).output().unwrap());
    taken.assert(0, "snapshot s1 taken: file-system-consistent of vda vdb");
    assert!(!rig.is_guarded());
    assert_eq!(rig.fs("freeze")["status"], "frozen");
    until("the watchdog is gone", || desk.processes().is_empty());
    thread::sleep(Duration::from_secs(5));
    assert_eq!(rig.status(), json!({"status": "frozen"}));
    // Somebody else's freeze comes without a note.
    rig.tickets().iter().for_each(|ticket| fs::remove_file(ticket).unwrap());
    // Nor is a snapshot of a guest that is frozen already guarded.
    said(rig.create("s2", &["--thaw-after", "1"]).output().unwrap()).assert(1, "error: OPERATION_INVALID");
    desk.assert_nothing_left();
    assert_eq!(rig.status(), json!({"status": "frozen"}));
}

#[test]
fn a_signal_ends_the_hook_and_lets_the_guest_go_at_once() {
    let rig = Rig::new();
    let unfinished = HOOK.replace(r#"printf '"s1"' >"$here/kept"; touch"#, "touch");
    fs::write(rig.desk.path.join("bin/hook"), format!("#!/bin/sh\n{unfinished}")).unwrap();
    fs::write(rig.desk.path.join("bin/seconds"), "50").unwrap();
    let child = begun(&rig, rig.create("s1", &["--json"]));
    interrupt(&child);
    let began = Instant::now();
    let ended = said(child.wait_with_output().unwrap());
    assert!(began.elapsed() < AT_LAST, "the hook was waited for");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.whole()));
    assert_eq!((&told["error"]["code"], &told["exit-code"]), (&json!("OPERATION_ABORTED"), &json!(1)));
    assert_eq!((&told["error"]["outcome"], &told["error"]["remains"]), (&json!("rolled-back"), &json!([])));
    ended.assert(1, "hook` was ended before it was done: the operation was interrupted");
    assert_eq!(rig.status(), json!({"status": "thawed"}));
    until("nobody is left", || rig.desk.processes().is_empty());
    assert!(!rig.is_guarded());
    assert!(!rig.server.path("vda.s1").exists());
}

#[test]
fn what_the_hook_has_taken_before_a_signal_ended_it_is_told() {
    let rig = Rig::new();
    fs::write(rig.desk.path.join("bin/seconds"), "50").unwrap();
    let child = begun(&rig, rig.create("s1", &[]));
    interrupt(&child);
    let ended = said(child.wait_with_output().unwrap());
    ended.assert(1, "error: OPERATION_ABORTED");
    ended.assert(1, "may have the snapshot `s1`");
    assert_eq!(rig.status(), json!({"status": "thawed"}));
}

#[test]
fn while_a_hook_has_a_disk_of_a_guest_that_the_caller_froze_others_reach_the_agent() {
    for (thaws, why) in [
        (false, "frozen by the caller, with freezeframe fs freeze"),
        (true, "the caller's freeze was over before the snapshot was taken"),
    ] {
        let rig = Rig::new();
        fs::write(rig.desk.path.join("bin/seconds"), "7").unwrap();
        assert_eq!(rig.fs("freeze")["status"], "frozen");
        // One storage takes all, so that the guest is not paused for it.
        let of_the_hook = ["--json", "--diskspec", "vda,snapshot=no"];
        let mut child = begun(&rig, rig.create_of("--already-frozen", "s1", &of_the_hook));
        assert_eq!(rig.status(), json!({"status": "frozen"}));
        if thaws {
            assert_eq!(rig.fs("thaw")["status"], "thawed");
        }
        assert_eq!(child.try_wait().unwrap(), None, "the hook has ended before anybody came to the agent");
        let taken = said(child.wait_with_output().unwrap());
        let told: Value = serde_json::from_str(&taken.stdout).unwrap_or_else(|_| panic!("{}", taken.whole()));
        assert_eq!((&told["quiesced"], &told["quiesced-why"]), (&json!(!thaws), &json!(why)));
    }
}
