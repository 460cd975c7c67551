//! What the guest does of its own, and what a human writes to its ports.

use freezeframe_sim::{
    Machine, Release,
    machine::{Actions, OnError},
    qemu::GuestAct,
};
use rstest::rstest;
use serde_json::json;

use super::{Client, one_disk};

#[test]
fn a_guest_that_shuts_down_ends_qemu_or_leaves_it_to_be_reset() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    assert_eq!(client.guest(GuestAct::ShutDown), ["SHUTDOWN guest-shutdown"]);
    assert!(!client.world.qemu_is_running());

    let actions = Actions { stays_after_shutdown: true, ..Actions::default() };
    let stays = Machine { actions, ..one_disk() };
    let mut client = Client::of(&stays, Release::V10_0);
    assert_eq!(client.guest(GuestAct::ShutDown), ["SHUTDOWN guest-shutdown", "STOP"]);
    assert_eq!(client.send("cont", json!({})), ["Resetting the Virtual Machine is required"]);
    client.send("system_reset", json!({}));
    assert_eq!(client.send("cont", json!({})), ["RESUME", "{}"]);
}

#[rstest]
#[case(Release::V5_2, &["GUEST_PANICKED pause", "GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"])]
#[case(Release::V10_0, &["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"])]
fn a_panic_ends_qemu(#[case] release: Release, #[case] said: &[&str]) {
    let mut client = Client::of(&one_disk(), release);
    assert_eq!(client.guest(GuestAct::Panic), said);
    assert!(!client.world.qemu_is_running());
}

#[test]
fn a_panic_does_what_was_set() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    client.send("set-action", json!({ "panic": "none" }));
    assert_eq!(client.guest(GuestAct::Panic), ["GUEST_PANICKED run"]);
    client.send("set-action", json!({ "panic": "pause" }));
    assert_eq!(client.guest(GuestAct::Panic), ["GUEST_PANICKED pause", "STOP"]);
    assert_eq!(client.status(), "guest-panicked");
}

#[rstest]
#[case("reset", &["WATCHDOG reset", "RESET guest-reset"], "running")]
#[case("shutdown", &["WATCHDOG shutdown", "POWERDOWN"], "running")]
#[case("pause", &["WATCHDOG pause", "STOP"], "watchdog")]
#[case("none", &["WATCHDOG none"], "running")]
fn a_watchdog_does_what_was_set(#[case] action: &str, #[case] said: &[&str], #[case] status: &str) {
    let mut client = Client::of(&one_disk(), Release::V7_2);
    client.send("watchdog-set-action", json!({ "action": action }));
    assert_eq!(client.guest(GuestAct::WatchdogExpires), said);
    assert_eq!(client.status(), status);
}

#[rstest]
#[case(Release::V7_2, &["{}"], "suspended")]
#[case(Release::V10_0, &["STOP", "{}"], "paused")]
fn a_guest_that_sleeps_is_stopped_by_newer_releases(
    #[case] release: Release,
    #[case] said: &[&str],
    #[case] status: &str,
) {
    let mut client = Client::of(&one_disk(), release);
    let awake = client.send("system_wakeup", json!({}));
    assert_eq!(awake, ["Unable to wake up: guest is not in suspended state"]);
    assert_eq!(client.guest(GuestAct::Sleep), ["SUSPEND"]);
    assert_eq!(client.send("stop", json!({})), said);
    assert_eq!(client.status(), status);
    client.send("cont", json!({}));
    assert_eq!(client.send("system_wakeup", json!({})), ["WAKEUP", "{}"]);
    assert_eq!(client.status(), "running");
}

/// A machine with `pvpanic` and a watchdog that stops the guest.
fn watched(arguments: &str) -> Machine {
    let line = format!(
        "-machine q35 -m 64 -chardev socket,id=mon0,path=qmp,server=on,wait=off -mon chardev=mon0,mode=control \
         -device pvpanic,id=pvpanic -device ib700 -watchdog-action pause {arguments}"
    );
    Machine::from_arguments(line.split_ascii_whitespace()).unwrap()
}

/// Asked of the four releases.
#[rstest]
#[case(Release::V5_2, &["\"\"", "WATCHDOG pause", "STOP"])]
#[case(Release::V7_2, &["WATCHDOG pause", "STOP", "\"\""])]
#[case(Release::V11_1, &["WATCHDOG pause", "STOP", "\"\""])]
fn a_port_that_the_human_monitor_writes_to_does_what_the_guest_would(
    #[case] release: Release,
    #[case] ran_out: &[&str],
) {
    let mut client = Client::of(&watched("-no-shutdown"), release);
    let panic =
        |client: &mut Client| client.send("human-monitor-command", json!({ "command-line": "o /b 0x505 1" }));
    assert_eq!(panic(&mut client), ["GUEST_PANICKED pause", "STOP", "\"\""]);
    assert_eq!(client.status(), "guest-panicked");
    client.send("cont", json!({}));
    let watchdog = client.send("human-monitor-command", json!({ "command-line": "o /b 0x443 15" }));
    assert_eq!(watchdog, ran_out);
    assert_eq!(client.status(), "watchdog");
    // It is the device that tells of it, whether or not the guest runs.
    assert_eq!(panic(&mut client), ["GUEST_PANICKED pause", "\"\""]);
    assert_eq!(client.status(), "watchdog");
    let elsewhere = client.send("human-monitor-command", json!({ "command-line": "o /b 0x80 1" }));
    assert_eq!(elsewhere, ["\"\""]);
    let half = client.send("human-monitor-command", json!({ "command-line": "o /b 0x505" }));
    assert_eq!(half, [r#""unexpected end of expression\r\nTry \"help o\" for more information\r\n""#]);
}

/// Asked of the four releases.
#[rstest]
#[case(
    Release::V5_2,
    &["GUEST_PANICKED pause", "STOP", "GUEST_PANICKED poweroff", "\"\"", "SHUTDOWN guest-panic"]
)]
#[case(Release::V7_2, &["GUEST_PANICKED poweroff", "STOP", "SHUTDOWN guest-panic", "\"\""])]
#[case(Release::V10_0, &["GUEST_PANICKED poweroff", "STOP", "SHUTDOWN guest-panic", "\"\""])]
fn a_panic_from_the_main_loop_stops_the_guest_before_qemu_ends(
    #[case] release: Release,
    #[case] said: &[&str],
) {
    let mut client = Client::of(&watched(""), release);
    let panic = client.send("human-monitor-command", json!({ "command-line": "o /b 0x505 1" }));
    assert_eq!(panic, said);
    assert!(!client.world.qemu_is_running());
}

#[test]
fn a_write_that_finds_no_space_does_what_its_disk_says() {
    let mut client = Client::of(&one_disk(), Release::V10_0);
    assert_eq!(client.guest(GuestAct::WriteFails(0)), ["BLOCK_IO_ERROR ", "STOP"]);
    assert_eq!(client.status(), "io-error");
    assert_eq!(client.send("cont", json!({})), ["RESUME", "{}"]);
    let mut told = one_disk();
    told.disks[0].on_write_error = OnError::Report;
    let mut client = Client::of(&told, Release::V10_0);
    assert_eq!(client.guest(GuestAct::WriteFails(0)), ["BLOCK_IO_ERROR "]);
    assert_eq!(client.status(), "running");
}
