//! Programs that the real world runs for the driver.

use std::time::Duration;

use freezeframe_driver::env::{Ended, Env as _, HostCommand, Ran, tokio::TokioEnv};

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

#[tokio::test]
async fn whoever_takes_too_long_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late");
    let text = format!("echo begun; (sleep 1; touch '{}') & wait", file.display());
    let ran = run(HostCommand { within: Duration::from_millis(300), ..script(&text) }).await.unwrap();
    assert_eq!((ran.ended, ran.stdout), (Ended::TooLate, b"begun\n".to_vec()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!file.exists(), "what it started went on");
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late");
    let text = format!("sleep 1; touch '{}'", file.display());
    tokio::time::timeout(Duration::from_millis(300), run(script(&text))).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!file.exists(), "it went on");
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
