use super::*;
use crate::{
    plan::Stage,
    step::{Freeze, Pause, Quit, Resume, SwitchOverlays, Thaw},
};

fn plan(steps: Vec<Step>) -> Plan {
    let stages: Vec<_> = steps.into_iter().map(|step| Stage { steps: vec![step] }).collect();
    let no_return = stages.len() - 1;
    Plan { title: "a plan".into(), disks: Vec::new(), manual: Vec::new(), stages, no_return }
}

fn written(marks: &str) -> Vec<u8> {
    let intent = Intent::new(&plan(vec![Pause {}.into(), Quit {}.into()]), None, false, 0);
    let mut bytes = serde_json::to_vec(&intent).unwrap();
    bytes.extend(format!("\n{marks}").bytes());
    bytes
}

fn read_back(marks: &str) -> Result<Option<Pending>, String> {
    parse("/state/vm/pending".into(), &written(marks))
}

#[test]
fn what_is_behind_the_last_mark_had_not_begun_and_what_is_before_it_was_done() {
    let of = |marks: &str| {
        let pending = read_back(marks).unwrap().unwrap();
        [pending.of(0, 0), pending.of(1, 1)]
    };
    assert_eq!(of(""), [Written::Ahead, Written::Ahead]);
    assert_eq!(of("{\"about\":[0,0]}\n"), [Written::InDoubt, Written::Ahead]);
    assert_eq!(of("{\"about\":[0,1]}\n"), [Written::InDoubt, Written::InDoubt]);
    let both = "{\"about\":[0,0]}\n{\"about\":[1,1]}\n";
    assert_eq!(of(both), [Written::Done, Written::InDoubt]);
    assert_eq!(of(&format!("{both}{{\"failed\":[0]}}\n")), [Written::InDoubt, Written::InDoubt]);
    assert_eq!(of(&format!("{both}{{\"undone\":[1]}}\n")), [Written::Done, Written::Undone]);
    assert_eq!(of(&format!("{both}{{\"done\":[1]}}\n")), [Written::Done, Written::Done]);
}

#[test]
fn a_torn_line_at_the_end_does_not_count_and_one_before_it_is_no_journal() {
    let pending = read_back("{\"about\":[0,0]}\n{\"abo").unwrap().unwrap();
    assert_eq!(pending.of(0, 0), Written::InDoubt);
    assert_eq!(pending.length, written("{\"about\":[0,0]}\n").len() as u64);
    assert!(read_back("{\"abo\n{\"about\":[0,0]}\n").is_err());
    assert_eq!(parse("p".into(), b"{\"version\":1").unwrap_err(), "its first line is not whole");
}

#[test]
fn what_is_over_is_not_pending_and_what_is_told_is() {
    assert_eq!(read_back("{\"about\":[0,0]}\n{\"over\":true}\n"), Ok(None));
    assert!(read_back("{\"told\":true}\n").unwrap().unwrap().is_told());
    assert!(!read_back("").unwrap().unwrap().is_told());
}

#[test]
fn the_journal_of_a_later_freezeframe_is_not_guessed_at() {
    let later = String::from_utf8(written("")).unwrap().replace("\"version\":1", "\"version\":2");
    let error = parse("p".into(), later.as_bytes()).unwrap_err();
    assert_eq!(error, "it is of the form 2, and this freezeframe knows 1");
}

#[test]
fn nothing_is_written_while_the_guest_stands_still_or_is_frozen() {
    let switch = || SwitchOverlays { switches: Vec::new(), with_memory: false };
    let frozen = plan(vec![
        switch().into(),
        Freeze::default().into(),
        switch().into(),
        Thaw::default().into(),
        Quit {}.into(),
    ]);
    assert_eq!((0..5).map(|stage| covered(&frozen, stage)).collect::<Vec<_>>(), [0, 3, 2, 3, 4]);
    let paused = plan(vec![Pause {}.into(), switch().into(), Resume::default().into(), Quit {}.into()]);
    assert_eq!(covered(&paused, 0), 2);
    let left_paused = plan(vec![Pause {}.into(), switch().into()]);
    assert_eq!(covered(&left_paused, 0), 1);
}
