//! What of `freezeframe serve` can only be shown where the surroundings allow it: a thousand machines need file
//! descriptors, an image needs a `qemu-img` to judge it.
//!
//! What cannot be shown is skipped and says so; in CI, where `CI` is `true`, it fails. A test without libtest's harness,
//! which hides what a passing test prints: the figures must be seen.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real programs on real sockets")]
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]

mod served;

use std::{
    panic,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use freezeframe_tests::unharnessed::{asked_for, may_not_skip};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use served::{Client, Server};

/// A test's name, and the test: what it found, or why it could not be made.
type Test = (&'static str, fn() -> Result<String, String>);

const TESTS: [Test; 2] = [
    ("a_thousand_machines_in_use_idle_in_a_mebibyte_each_and_no_time", idle_machines),
    ("an_overlay_is_an_image_to_qemu_img", overlay),
];

const MACHINES: usize = 1000;

/// What is opened beside the sockets.
const OTHER_FILES: u64 = 200;

fn main() -> ExitCode {
    let asked = asked_for(&TESTS.map(|(name, _)| name));
    let tests: Vec<_> = TESTS.into_iter().filter(|(name, _)| asked.contains(name)).collect();
    if tests.is_empty() {
        return ExitCode::SUCCESS;
    }
    let in_ci = may_not_skip();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!();
    for (name, test) in tests {
        match panic::catch_unwind(test) {
            Ok(Ok(found)) => {
                println!("{name}: ok, {found}");
                passed += 1;
            }
            Ok(Err(lacking)) => {
                println!("{name}: {} for want of {lacking}", if in_ci { "failed" } else { "skipped" });
                *if in_ci { &mut failed } else { &mut skipped } += 1;
            }
            Err(_) => {
                println!("{name}: failed");
                failed += 1;
            }
        }
    }
    println!("serve_surroundings: {passed} passed, {failed} failed, {skipped} skipped\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Serves so many machines, each with a client that has negotiated and one that has synchronised with the agent.
fn in_use(machines: usize) -> (Server, Vec<Client>) {
    let count = machines.to_string();
    let server = Server::machine(
        "vm.toml",
        "[machine]\ndisks = [{ target = \"vda\" }]\nagent = \"linux\"\n",
        &["--count", &count, "--qmp", "unix:{dir}/{n}.qmp", "--agent", "unix:{dir}/{n}.agent"],
    );
    let mut clients = Vec::new();
    for number in 0..machines {
        let mut monitor = server.connect(&format!("{number}.qmp"));
        monitor.negotiate();
        let mut agent = server.connect(&format!("{number}.agent"));
        agent.send(b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":7}}\n");
        assert_eq!(agent.agent_line(), "{\"return\": 7}\n");
        clients.extend([monitor, agent]);
    }
    (server, clients)
}

fn idle_machines() -> Result<String, String> {
    // The server has a listener and a connection for each monitor and each agent.
    let wanted = 4 * MACHINES as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if let Some(allowed) = limit.maximum.filter(|maximum| *maximum < wanted) {
        return Err(format!("file descriptors: {allowed} are allowed, {wanted} are needed"));
    }
    let raised = limit.current.map(|current| current.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: raised, maximum: limit.maximum }).unwrap();

    let (one, _client) = in_use(1);
    let (many, clients) = in_use(MACHINES);
    let each = (many.memory("VmRSS") - one.memory("VmRSS")) / (MACHINES as u64 - 1);
    assert!(each <= 1024, "{each} KiB a machine");
    let before = many.ticks();
    thread::sleep(Duration::from_secs(3));
    let used = many.ticks() - before;
    assert!(used <= 10, "{used} hundredths of a second in three seconds of an idle one");
    let connected = clients.len();
    Ok(format!(
        "{MACHINES} machines with {connected} clients: {each} KiB a machine, {used} hundredths of a second in 3 s"
    ))
}

fn overlay() -> Result<String, String> {
    let qemu_img = |arguments: &[&str]| Command::new("qemu-img").args(arguments).output();
    let version = qemu_img(&["--version"]).map_err(|_| "a qemu-img".to_owned())?;
    let server = Server::start("external/one-disk", &["--qmp", "unix:{dir}/qmp", "--images", "{dir}"]);
    let mut client = server.connect("qmp");
    client.negotiate();
    let overlay = server.path("overlay");
    let overlay = overlay.to_str().unwrap();
    let snapshot = format!(
        "{{\"execute\":\"blockdev-snapshot-sync\",\"arguments\":{{\"node-name\":\"vda\",\
         \"snapshot-file\":\"{overlay}\",\"snapshot-node-name\":\"top\"}}}}\n"
    );
    client.send(snapshot.as_bytes());
    let said: Vec<_> =
        std::iter::repeat_with(|| client.line()).take_while(|line| line.contains("event")).collect();
    let judged = qemu_img(&["check", "-f", "qcow2", overlay]).unwrap();
    assert!(judged.status.success(), "{judged:?} after {said:?}");
    let version = String::from_utf8_lossy(&version.stdout);
    Ok(format!("said {}", version.lines().next().unwrap_or_default()))
}
