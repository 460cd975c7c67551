//! `explore`: what is told of all orders, and how a finding is repeated.

use super::*;

/// It usually takes 10 ms, and must not take more than 12: one reply that is late is enough.
const HURRIED: &str = "id = 'hurried'\ntitle = 't'\nwhy = 'w'\nreleases = ['10.0']\n\
                       [machine]\ndisks = [{ target = 'vda' }]\n\
                       [[step]]\nsnapshot = { name = 's1', disk-only = true, within = '12ms' }\n";

#[test]
fn the_orders_that_there_are_are_counted_and_said_to_be_all() {
    let desk = Desk::new().with("probe.toml", PROBE);
    let said = desk.run(&["explore", "probe.toml", "--bound", "1"]);
    said.assert(0, "probe 10.0: exhausted: every order with at most 1 deviation, ");
    assert!(said.stdout.lines().last().unwrap().ends_with(" runs, 0 violations"), "{}", said.whole());
    assert_eq!(desk.run(&["explore", "probe.toml", "--jobs", "1"]).whole(), said.whole(), "1 is the default");
    let usual = desk.run(&["explore", "probe.toml", "--bound", "0"]);
    usual.assert(0, "exhausted: every order with at most 0 deviations, 1 runs, ");
}

#[test]
fn where_time_is_too_short_it_says_so_and_it_is_no_finding() {
    let desk = Desk::new().with("two-disks.toml", &suite("external/two-disks.toml"));
    let said =
        desk.run(&["explore", "two-disks.toml", "--release", "10.0", "--bound", "9", "--seconds", "1"]);
    said.assert(0, "external/two-disks 10.0: NOT exhausted, the time is up, ");
}

#[test]
fn a_finding_names_the_command_that_plays_its_order_again() {
    let desk = Desk::new().with("a folder/hurried.toml", HURRIED);
    let first = desk.run(&["explore", "a folder", "--release", "10.0"]);
    first.assert(1, "FOUND   hurried 10.0: step 1: OPERATION_TIMEOUT");
    let line =
        first.stdout.lines().find_map(|line| line.trim().strip_prefix("repeat: freezeframe ")).unwrap();
    let again = || {
        let shell = format!("{} {line}", env!("CARGO_BIN_EXE_freezeframe-command"));
        said(Command::new("sh").args(["-c", &shell]).current_dir(&desk.path).output().unwrap())
    };
    let told = again();
    told.assert(1, "FOUND   hurried 10.0: step 1: OPERATION_TIMEOUT");
    assert!(told.stdout.contains("== snapshot s1, disk-only"), "what was said is shown: {}", told.whole());
    assert_eq!(again().whole(), told.whole());
}

#[test]
fn a_finding_is_kept_as_a_scenario_that_shows_it_and_is_not_written_twice() {
    let desk = Desk::new().with("hurried.toml", HURRIED);
    let explore = ["explore", "hurried.toml", "--regressions", "kept"];
    let file = "kept/hurried-10.0-written.toml";
    desk.run(&explore).assert(1, &format!("  kept: {file}\n"));
    desk.run(&explore).assert(1, &format!("  kept before: {file}\n"));
    let played = desk.run(&["run", "kept"]);
    played.assert(1, "FAILED  hurried-10-0-written 10.0\n  step 1: OPERATION_TIMEOUT");
    assert!(played.stdout.contains(&format!("repeat: freezeframe run {file} ")), "{}", played.whole());
    let text = std::fs::read_to_string(desk.path.join(file)).unwrap();
    assert!(text.contains("\n[[schedule]]\nchoice = "), "{text}");
    let patient = text.replace("within = \"12ms\"", "within = \"12s\"");
    std::fs::write(desk.path.join(file), &patient).unwrap();
    desk.run(&["run", "kept"]).assert(0, "ok      hurried-10-0-written 10.0\n");
    let stale = patient.replace("nth = ", "nth = 9999");
    std::fs::write(desk.path.join(file), stale).unwrap();
    desk.run(&["run", "kept"]).assert(1, "of its schedule only `` came up");
}

#[test]
fn all_pairs_are_played_and_counted_where_few_commands_are_sent() {
    let desk =
        Desk::new().with("probe.toml", PROBE).with("two-disks.toml", &suite("external/two-disks.toml"));
    let sweep = ["sweep", ".", "--release", "10.0", "--kinds", "lose-reply"];
    let few = desk.run(&[&sweep[..], &["--pairs", "all", "--commands", "1"]].concat());
    few.assert(0, "not swept, for they send more than 1 commands: 1\n");
    few.assert(0, " of them with two faults: all pairs, 0 violations\n");
    let bound = desk.run(&[&sweep[..], &["--pairs", "9"]].concat());
    bound.assert(0, ", 9 of them with two faults, 0 violations\n");
    desk.run(&[&sweep[..], &["--pairs", "some"]].concat()).assert(2, "a whole number, or `all`");
}

#[test]
fn a_fault_is_added_by_its_number() {
    let desk = Desk::new().with("two-disks.toml", &suite("external/two-disks.toml"));
    let replay = ["explore", "two-disks.toml", "--release", "10.0", "--replay", ""];
    desk.run(&replay).assert(0, "1 runs, 0 violations\n");
    desk.run(&[&replay[..], &["--fault", "1"]].concat()).assert(0, "\n[[fault]]\nat = ");
    desk.run(&[&replay[..], &["--fault", "99999"]].concat())
        .assert(2, "faults that can be added, and none has the number 99999");
}

#[test]
fn a_trace_that_does_not_fit_is_told() {
    let desk = Desk::new().with("probe.toml", PROBE);
    let said = desk.run(&["explore", "probe.toml", "--release", "10.0", "--replay", "task#9999=1"]);
    said.assert(1, "FAILED  it is another order: only `` was asked for");
}

#[test]
fn options_that_do_not_go_together_end_with_2() {
    let desk = Desk::new().with("probe.toml", PROBE).with("other.toml", &PROBE.replace("'probe'", "'other'"));
    let cases: [(&[&str], &str); 11] = [
        (&["--mode", "bfs"], "possible values: random, pct, dfs"),
        (&["--faults", "2"], "--faults <N>"),
        (&["--seconds", "0"], "--seconds <N>"),
        (&["--runs", "0", "--mode", "pct"], "--runs <N>"),
        (&["--bound", "-1"], "unexpected argument '-1' found"),
        (&["--seed", "1"], "`--seed` goes with `--mode random` and `--mode pct`"),
        (&["--runs", "1"], "`--runs` goes with `--mode random` and `--mode pct`"),
        (&["--mode", "random", "--bound", "1"], "`--bound` goes with `--mode dfs` and `--mode pct`"),
        (&["--replay", "task#1=1", "--mode", "dfs"], "cannot be used with"),
        (&["--replay", "task"], "`task` is no deviation: a trace is words such as `latency#4=2`"),
        (&["--replay", ""], "`--replay` is for one scenario and `--release`, and these are 2"),
    ];
    for (options, words) in cases {
        desk.run(&[&["explore", "."], options].concat()).assert(2, words);
    }
}
