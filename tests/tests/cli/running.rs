//! `run`: what is told of plays that pass and fail.

use super::*;

/// Two scenarios of the suite, with their expected transcripts.
fn desk() -> Desk {
    let files = [
        "external/two-disks.toml",
        "external/two-disks.snap",
        "monitor/garbage.toml",
        "monitor/garbage.snap",
    ];
    files.into_iter().fold(Desk::new(), |desk, name| desk.with(&format!("suite/{name}"), &suite(name)))
}

/// The arguments that a failure names to repeat it.
fn repeat(said: &Said) -> Vec<&str> {
    let line = said.stdout.lines().find_map(|line| line.trim().strip_prefix("repeat: freezeframe "));
    line.expect("a failure names what repeats it").split(' ').collect()
}

#[test]
fn the_last_line_is_the_count_and_a_second_run_says_the_same() {
    let desk = desk();
    let first = desk.run(&["run", "suite", "--release", "10.0", "--jobs", "4"]);
    first.assert(0, "");
    assert_eq!(first.stdout.lines().last(), Some("2 passed, 0 failed, 0 skipped"));
    assert_eq!(desk.run(&["run", "suite", "--release", "10.0"]).whole(), first.whole());
}

#[test]
fn another_transcript_than_expected_is_shown_can_be_repeated_and_can_be_taken() {
    let snap = "suite/external/two-disks.snap";
    let desk = desk();
    let good = desk.read(snap);
    let desk = desk.with(snap, &good.replace("== snapshot s1", "== snapshot s9"));
    let first = desk.run(&["run", "suite", "--filter", "two-disks", "--release", "10.0"]);
    first.assert(1, "the transcript differs (- expected, + found)");
    assert!(first.stdout.contains("\n  -") && first.stdout.contains("\n  +"), "{}", first.whole());
    assert_eq!(first.stdout.lines().last(), Some("0 passed, 1 failed, 0 skipped"));
    assert_eq!(desk.run(&repeat(&first)).whole(), first.whole());

    desk.run(&["run", "suite", "--update"]).assert(0, &format!("wrote   {snap}"));
    assert_eq!(desk.read(snap), good);
    desk.run(&["run", "suite"]).assert(0, "0 failed");
}

#[test]
fn a_scenario_that_fails_with_a_seed_is_repeated_with_it() {
    let failing = format!("{PROBE}fails = {{ code = 'OPERATION_FAILED' }}\n");
    let desk = Desk::new().with("a folder/it's.toml", &failing);
    let first = desk.run(&["run", "a folder", "--seed", "7"]);
    first.assert(1, "step 1: it succeeded, and was to fail");
    let line = first.stdout.lines().find_map(|line| line.trim().strip_prefix("repeat: ")).unwrap();
    let shell = format!("{} {}", env!("CARGO_BIN_EXE_freezeframe-command"), &line["freezeframe ".len()..]);
    let mut again = Command::new("sh");
    again.args(["-c", &shell]).current_dir(&desk.path);
    assert_eq!(said(again.output().unwrap()).whole(), first.whole());
}

#[test]
fn a_transcript_that_cannot_be_written_is_named() {
    let desk = Desk::new().with("probe.toml", PROBE).with("probe.snap/in-the-way", "");
    desk.run(&["run", "probe.toml", "--update"]).assert(2, "cannot write probe.snap: Is a directory");
}

#[test]
fn a_scenario_for_a_real_qemu_alone_is_skipped_on_the_simulator() {
    let desk = Desk::new().with("probe.toml", &format!("targets = ['qemu']\n{PROBE}"));
    desk.run(&["run", "probe.toml"]).assert(0, "0 passed, 0 failed, 1 skipped\n");
    desk.run(&["run", "probe.toml", "--update"]).assert(0, "0 passed, 0 failed, 0 skipped\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let desk = desk();
    let mut child =
        desk.command(&["run", "suite"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_under_the_output_is_an_error() {
    let desk = desk();
    for arguments in [&["run", "suite"][..], &["schema"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = said(desk.command(arguments).stdout(full).output().unwrap());
        said.assert(2, "cannot write to standard output: No space left on device");
    }
}
