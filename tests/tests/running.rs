//! Programs that the real world runs for the driver.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is tested is the real world, in real time"
)]

use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::env::{Ended, Env as _, HostCommand, Ran, tokio::TokioEnv};
use tempfile::TempDir;
use tokio::sync::watch;

const WITHIN: Duration = Duration::from_secs(20);

async fn run(command: HostCommand) -> std::io::Result<Ran> {
    TokioEnv::new().run(&command).await
}

/// What a shell script says and does.
fn script(text: &str) -> HostCommand {
    HostCommand::new("sh", ["-c", text], WITHIN)
}

#[tokio::test]
async fn both_outputs_and_the_exit_code_are_told() {
    let ran = run(script("echo out; echo err >&2; exit 3")).await.unwrap();
    assert_eq!(ran, Ran { ended: Ended::Exited(3), stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec() });
}

#[tokio::test]
async fn an_argument_arrives_as_it_is() {
    let odd = "$(touch x); a  b '\"*";
    let ran = run(HostCommand::new("printf", ["%s", odd], WITHIN)).await.unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), odd);
}

#[tokio::test]
async fn a_program_reads_its_input_to_the_end() {
    let input = vec![b'x'; 500_000];
    let ran = run(HostCommand { input: Some(input.clone()), ..script("cat") }).await.unwrap();
    assert!(ran.well() && ran.stdout == input);
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let ran = run(HostCommand { input: Some(vec![b'x'; 500_000]), ..script("exit 0") }).await.unwrap();
    assert!(ran.well());
}

#[tokio::test]
async fn without_input_there_is_nothing_to_read() {
    assert_eq!(run(script("cat")).await.unwrap().stdout, b"");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_found() {
    let error = run(HostCommand::new("/nowhere/program", [""; 0], WITHIN)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_signal_is_told_from_an_exit_code() {
    assert_eq!(run(script("kill -9 $$")).await.unwrap().ended, Ended::Killed(9));
}

/// When its time is up in the tests below: a busy host has started a shell by then.
const SOON: Duration = Duration::from_secs(1);

/// Where a script leaves a mark when it has cleaned up.
fn mark() -> (TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mark = Utf8Path::from_path(folder.path()).unwrap().join("mark");
    (folder, mark)
}

/// A script that takes half a second to clean up when it is asked to end, and says so.
fn cleans_up(mark: &Utf8Path) -> String {
    format!(
        "trap 'sleep 0.5; touch {mark}; echo clean; exit 0' TERM; echo begun; while :; do sleep 0.02; done"
    )
}

#[tokio::test]
async fn whoever_takes_too_long_is_asked_to_end_and_can_clean_up() {
    let (_folder, mark) = mark();
    let begun = Instant::now();
    let ran = run(HostCommand { within: SOON, ..script(&cleans_up(&mark)) }).await.unwrap();
    assert_eq!((ran.ended, ran.stdout), (Ended::TooLate, b"begun\nclean\n".to_vec()));
    assert!(mark.exists());
    assert!(begun.elapsed() < HostCommand::ENDS_WITHIN, "it was waited for longer than it lived");
}

#[tokio::test]
async fn whoever_does_not_end_when_asked_is_killed_with_all_that_it_started() {
    let (_folder, mark) = mark();
    let text = format!("trap '' TERM; echo begun; (sleep 9; touch {mark}) & sleep 60");
    let begun = Instant::now();
    let ran = run(HostCommand { within: SOON, ..script(&text) }).await.unwrap();
    let took = begun.elapsed();
    assert_eq!((ran.ended, ran.stdout), (Ended::TooLate, b"begun\n".to_vec()));
    let asked = SOON + HostCommand::ENDS_WITHIN;
    assert!((asked..asked + 2 * HostCommand::DIES_WITHIN).contains(&took), "it took {took:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!mark.exists(), "what it started went on");
}

#[tokio::test]
async fn what_it_started_is_waited_for_though_it_has_ended_itself() {
    let (_folder, mark) = mark();
    let text = format!("({}) >/dev/null 2>&1 & sleep 60", cleans_up(&mark));
    let ran = run(HostCommand { within: SOON, ..script(&text) }).await.unwrap();
    assert_eq!(ran.ended, Ended::TooLate);
    assert!(mark.exists(), "it was killed while it cleaned up");
}

#[tokio::test]
async fn one_that_gives_way_is_asked_to_end_as_soon_as_it_is_wanted_no_more() {
    let (_folder, mark) = mark();
    let (unwanted, is_unwanted) = watch::channel(false);
    let env = TokioEnv::new().until_unwanted(is_unwanted);
    let command = HostCommand { gives_way: true, ..script(&cleans_up(&mark)) };
    let says_so = async {
        tokio::time::sleep(SOON).await;
        unwanted.send_replace(true);
    };
    let begun = Instant::now();
    let (ran, ()) = tokio::join!(env.run(&command), says_so);
    assert_eq!((ran.unwrap().ended, mark.exists()), (Ended::GaveWay, true));
    assert!(begun.elapsed() < HostCommand::ENDS_WITHIN);
}

#[tokio::test]
async fn of_runs_that_nobody_waits_for_one_that_acts_is_asked_to_end_and_another_is_killed() {
    for acts in [true, false] {
        let (_folder, mark) = mark();
        // Nobody hears it any more.
        let command = HostCommand { acts, ..script(&format!("trap '' PIPE; {}", cleans_up(&mark))) };
        tokio::time::timeout(SOON, run(command)).await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(mark.exists(), acts);
    }
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_does_not_go_on() {
    for acts in [true, false] {
        let (_folder, mark) = mark();
        let command = HostCommand { acts, ..script(&format!("sleep 2; touch {mark}")) };
        tokio::time::timeout(SOON, run(command)).await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!mark.exists(), "it went on");
    }
}

#[tokio::test]
async fn what_a_program_leaves_running_keeps_nobody_waiting() {
    let run = tokio::time::timeout(Duration::from_secs(10), run(script("echo done; setsid sleep 15 &")));
    assert_eq!(run.await.expect("it waited for the daemon").unwrap().stdout, b"done\n");
}

#[tokio::test]
async fn a_program_that_never_stops_talking_is_ended() {
    let error = run(script("yes")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}
