//! The partial order: what must be equal, and what may differ.

use super::*;

/// `lane direction text`, one line each; times do not matter here.
fn run(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let (lane, rest) = line.split_once(' ').unwrap();
        let (direction, text) = rest.split_once(' ').unwrap();
        let direction = match direction {
            "->" => Direction::Command,
            "<-" => Direction::Reply,
            ".." => Direction::Event,
            "==" => Direction::Step,
            "::" => Direction::Host,
            "**" => Direction::Fault,
            other => panic!("no direction {other}"),
        };
        Line { at: Duration::ZERO, lane: lane.into(), direction, text: text.into() }
    };
    text.lines().map(str::trim).filter(|text| !text.is_empty()).map(line).collect()
}

#[test]
fn lanes_of_one_stage_may_interleave_in_any_way() {
    let one = run("1.a -> x\n 1.b -> y\n 1.a <- return {}\n 1.b <- return {}");
    let other = run("1.b -> y\n 1.b <- return {}\n 1.a -> x\n 1.a <- return {}");
    assert_eq!(compare(&one, &other), []);
}

#[test]
fn the_order_within_a_lane_is_exact() {
    let one = run("1.a -> x\n 1.a .. job j running\n 1.a <- return {}");
    let other = run("1.a -> x\n 1.a <- return {}\n 1.a .. job j running");
    assert_eq!(compare(&one, &other).len(), 1);
}

#[test]
fn a_stage_never_moves_before_the_one_it_waited_for() {
    let one = run("1.a -> x\n 1.a <- return {}\n 2.b -> y\n 2.b <- return {}");
    let other = run("2.b -> y\n 2.b <- return {}\n 1.a -> x\n 1.a <- return {}");
    assert!(!compare(&one, &other).is_empty());
}

#[test]
fn the_run_state_is_held_to_its_place_where_one_step_is_alone() {
    let one = run("1.save -> snapshot-save\n run .. STOP\n run .. RESUME\n 1.save <- return {}");
    let other = run("1.save -> snapshot-save\n run .. STOP\n 1.save <- return {}\n run .. RESUME");
    assert_eq!(compare(&one, &other).len(), 1);
}

#[test]
fn a_job_that_fails_at_once_races_its_reply_only_beside_another_step() {
    let early = "1.a .. job j running\n 1.a <- return {}\n 1.a .. job j aborting\n 1.a .. job j concluded";
    let late = "1.a .. job j running\n 1.a .. job j aborting\n 1.a .. job j concluded\n 1.a <- return {}";
    let too_early =
        "1.a <- return {}\n 1.a .. job j running\n 1.a .. job j aborting\n 1.a .. job j concluded";
    let alone = |rest: &str| run(&format!("1.a -> blockdev-create\n {rest}"));
    let beside = |rest: &str| run(&format!("1.a -> blockdev-create\n 1.b -> blockdev-create\n {rest}"));
    assert_eq!(compare(&alone(early), &alone(late)).len(), 1);
    assert_eq!(compare(&beside(early), &beside(late)), []);
    assert_eq!(compare(&beside(early), &beside(too_early)).len(), 1);
}

#[test]
fn what_the_agent_is_asked_ahead_it_answers_at_any_time_before_it_is_asked_more() {
    const ASKED: &str = "agent -> guest-get-fsinfo";
    let at_once = format!(
        "{ASKED}\n fault ** error: guest-get-fsinfo\n agent <- no\n 2.a -> x\n 2.a <- return {{}}\n agent -> y\n agent <- z"
    );
    let late = format!(
        "{ASKED}\n 2.a -> x\n fault ** error: guest-get-fsinfo\n 2.a <- return {{}}\n agent <- no\n agent -> y\n agent <- z"
    );
    let not_before = format!(
        "2.a -> x\n {ASKED}\n fault ** error: guest-get-fsinfo\n agent <- no\n 2.a <- return {{}}\n agent -> y\n agent <- z"
    );
    assert_eq!(compare(&run(&at_once), &run(&late)), []);
    assert_ne!(compare(&run(&at_once), &run(&not_before)), [], "when it is asked is no matter of chance");
    let other = late.replace("agent <- z", "agent <- other");
    assert_ne!(compare(&run(&at_once), &run(&other)), []);
}

#[test]
fn a_throttled_event_may_come_late_but_not_be_missing() {
    let one = run("1.a -> x\n vserport_change .. open\n 1.a <- return {}\n 2.b -> y\n 2.b <- return {}");
    let late = run("1.a -> x\n 1.a <- return {}\n 2.b -> y\n vserport_change .. open\n 2.b <- return {}");
    let never = run("1.a -> x\n 1.a <- return {}\n 2.b -> y\n 2.b <- return {}");
    assert_eq!(compare(&one, &late), []);
    assert_eq!(compare(&one, &never).len(), 1);
}

#[test]
fn what_a_job_says_while_no_connection_stands_is_not_compared_what_it_says_afterwards_is() {
    let broken = "1.save -> snapshot-save\n monitor .. closed by QEMU\n monitor .. connected";
    let asked = "connect -> qmp_capabilities\n connect <- return {}\n 2.probe-save -> query-jobs";
    let lost = run(&format!("{broken}\n {asked}"));
    let heard = run(&format!("{broken}\n 1.save .. job j waiting\n {asked}"));
    let afterwards = run(&format!("{broken}\n {asked}\n 1.save .. job j null"));
    assert_eq!(compare(&lost, &heard), []);
    assert_eq!(compare(&lost, &afterwards).len(), 1);
}

#[test]
fn how_long_it_took_is_not_compared() {
    let one = run("1.a <- no reply to `x` within 5 s");
    let other = run("1.a <- no reply to `x` within 5.0012 s");
    assert_eq!(compare(&one, &other), []);
}

#[test]
fn a_commit_with_nothing_to_copy_is_ready_before_or_after_its_reply() {
    let begun = "1.a -> block-commit\n 1.a .. job j running";
    let ready = "1.a .. job j ready\n 1.a .. BLOCK_JOB_READY {}";
    let late = run(&format!("{begun}\n {ready}\n 1.a <- return {{}}"));
    let early = run(&format!("{begun}\n 1.a <- return {{}}\n {ready}"));
    let between =
        run(&format!("{begun}\n 1.a .. job j ready\n 1.a <- return {{}}\n 1.a .. BLOCK_JOB_READY {{}}"));
    assert_eq!(compare(&late, &early), []);
    assert_eq!(compare(&between, &early), []);
    let too_early = run(
        "1.a -> block-commit\n 1.a <- return {}\n 1.a .. job j running\n 1.a .. job j ready\n 1.a .. BLOCK_JOB_READY {}",
    );
    assert_eq!(compare(&too_early, &early).len(), 1);
}

#[test]
fn how_often_a_job_rests_is_left_open_but_not_what_a_command_of_the_scenarios_own_makes_of_it() {
    let rests =
        "1.a .. job j ready\n 2.b -> x\n 1.a .. job j standby\n 1.a .. job j ready\n 2.b <- return {}";
    let does_not = "1.a .. job j ready\n 2.b -> x\n 2.b <- return {}";
    assert_eq!(compare(&run(rests), &run(does_not)), []);
    let raw = |text: &str| run(&text.replace("1.a", "raw"));
    assert_eq!(compare(&raw(rests), &raw(does_not)), []);
    let before_the_reply = |text: &str| raw(&format!("1.a -> stop\n {text}\n 1.a <- return {{}}"));
    assert!(!compare(&before_the_reply(rests), &before_the_reply(does_not)).is_empty());
}

#[test]
fn a_question_that_is_asked_until_its_answer_changes_counts_with_its_last_answer() {
    let once = run("1.a -> query-status\n 1.a <- return paused");
    let twice = run("1.a -> query-status\n 1.a <- return busy\n 1.a -> query-status\n 1.a <- return paused");
    let other = run("1.a -> query-status\n 1.a <- return busy");
    let command = run("1.a -> stop\n 1.a <- return {}\n 1.a -> stop\n 1.a <- return {}");
    assert_eq!(compare(&once, &twice), []);
    assert_eq!(compare(&once, &other).len(), 1);
    assert_eq!(compare(&command, &run("1.a -> stop\n 1.a <- return {}")).len(), 1);
}

#[test]
fn a_guest_that_goes_on_by_itself_while_its_memory_is_written_may_do_so_at_any_time() {
    let begun = "1.memory -> migrate {}\n 1.memory <- return {}";
    let early =
        run("1.memory -> migrate {}\n run .. RESUME\n 1.memory <- return {}\n 1.memory -> query-status");
    let late = run(&format!("{begun}\n 1.memory -> query-status\n run .. RESUME"));
    assert_eq!(compare(&early, &late), []);
    let never = run(&format!("{begun}\n 1.memory -> query-status"));
    assert!(!compare(&early, &never).is_empty());
    let told = run(&format!("{begun}\n 1.memory -> cont\n run .. RESUME\n 1.memory <- return {{}}"));
    let untold = run(&format!("{begun}\n run .. RESUME\n 1.memory -> cont\n 1.memory <- return {{}}"));
    assert!(!compare(&told, &untold).is_empty());
}

#[test]
fn what_is_done_to_a_file_of_the_host_may_come_late_but_not_be_missing_or_in_another_order() {
    let file =
        |first: &str, then: &str| run(&format!("f :: {first}\n 1.a -> x\n 1.a <- return {{}}\n f :: {then}"));
    let late = run("1.a -> x\n 1.a <- return {}\n f :: create\n f :: remove");
    let never = run("1.a -> x\n 1.a <- return {}\n f :: create");
    assert_eq!(compare(&file("create", "remove"), &late), []);
    assert_eq!(compare(&file("create", "remove"), &file("remove", "create")).len(), 1);
    assert_eq!(compare(&late, &never).len(), 1);
}

#[test]
fn what_a_migration_says_in_a_step_in_which_a_connection_broke_is_not_compared() {
    let broken =
        "1.a -> migrate\n monitor .. closed by QEMU\n connect -> qmp_capabilities\n 2.b -> query-migrate\n";
    let said = run(&format!("{broken} migration .. MIGRATION completed\n 2.b <- return completed"));
    let unsaid = run(&format!("{broken} 2.b <- return completed"));
    assert_eq!(compare(&said, &unsaid), []);
    let whole = run("1.a -> migrate\n migration .. MIGRATION completed\n 1.a <- return {}");
    assert_eq!(compare(&whole, &run("1.a -> migrate\n 1.a <- return {}")).len(), 1);
}

#[test]
fn how_often_the_memory_is_gone_through_is_not_compared() {
    let passes = |passes: &str| {
        run(&format!("1.a -> migrate\n {passes} migration .. MIGRATION completed\n 1.a <- return {{}}"))
    };
    assert_eq!(compare(&passes(""), &passes("migration_pass .. MIGRATION_PASS 1\n")), []);
}
