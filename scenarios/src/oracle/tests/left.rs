//! What an earlier operation has left is told again, and is not what a later one has done.

use super::*;

const NODE: &str = "ff-1-0";

/// An overlay that an earlier operation has left open, and its journal says so.
fn with_left() -> State {
    let mut state = machine();
    add_image(&mut state, OVERLAY, None);
    state.loose.insert(NODE.into(), OVERLAY.into());
    state.pending = true;
    state
}

fn done_beside(before: &State, after: &State, text: &str) -> Vec<Invariant> {
    let done = told(Stands::Done, text);
    found_beside(before, after, &done, Some((&done, &machine())))
}

#[test]
fn what_was_left_before_is_none_of_what_was_done_if_it_is_named_again() {
    let all = [Invariant::Told; 3];
    assert_eq!(done_beside(&with_left(), &with_left(), "deleted; of earlier operations: `vda.s1`"), []);
    assert_eq!(done_beside(&with_left(), &with_left(), "deleted"), all, "it is not named");
}

#[test]
fn what_is_new_or_was_in_use_is_not_excused_by_its_name() {
    let named = "deleted; `vda.s1`";
    assert_eq!(done_beside(&machine(), &with_left(), named), [Invariant::Told; 3], "it was not there before");
    let used = State { pending: true, ..switched() };
    let unlinked_not = State { chains: machine().chains, ..used.clone() };
    assert!(done_beside(&used, &unlinked_not, named).contains(&Invariant::Told), "it was in use before");
}

#[test]
fn what_an_earlier_operation_had_left_may_be_closed_by_one_that_does_nothing_else() {
    let nothing = told(Stands::AsBefore, "all is as it was before");
    let closed = State { loose: Default::default(), ..with_left() };
    assert_eq!(found_beside(&with_left(), &closed, &nothing, None), []);
    let removed = State { pending: true, ..machine() };
    assert_eq!(found_beside(&with_left(), &removed, &nothing, None), []);
    let not_written = |state: State| State { pending: false, ..state };
    let found = found_beside(&not_written(with_left()), &not_written(closed), &nothing, None);
    assert_eq!(found, [Invariant::Told], "nobody had said that it was left");
    let used = State { pending: true, ..switched() };
    assert!(found_beside(&used, &removed, &nothing, None).contains(&Invariant::Told), "it was in use");
}

#[test]
fn what_is_closed_and_told_once_more_all_the_same_is_no_news() {
    let text = "taken; of earlier operations: nodes `ff-1-0` may still be open";
    let closed = State { pending: true, ..machine() };
    assert_eq!(done_beside(&with_left(), &closed, text), []);
    assert_eq!(done_beside(&machine(), &closed, text), [Invariant::Told], "nothing was written down before");
}

#[test]
fn what_is_usually_left_of_an_earlier_operation_may_be_closed_and_removed_too() {
    let done = told(Stands::Done, "taken");
    let found = |before: &State| found_beside(before, &machine(), &done, Some((&done, &with_left())));
    assert_eq!(found(&with_left()), []);
    assert_eq!(found(&machine()), [Invariant::Told; 2], "it is this operation that usually leaves it");
    let used = State { pending: true, ..switched() };
    assert!(found(&used).contains(&Invariant::Told), "it was in use before");
}

#[test]
fn an_image_that_a_killed_drivers_job_has_made_may_be_found_when_qemu_is_gone() {
    let gone = told(Stands::Untouched, "QEMU is gone");
    let mut before = with_left();
    before.jobs.insert("ff-1-create-0".into());
    let mut after = State { guest: None, pending: true, ..State::default() };
    after.images.clone_from(&before.images);
    after.data.clone_from(&before.data);
    after.images.get_mut(OVERLAY).unwrap().backing = Some(VDA.into());
    let found = |before: &State| found_beside(before, &after, &gone, None).contains(&Invariant::Told);
    assert!(!found(&before));
    before.jobs.clear();
    assert!(found(&before), "nobody was making it");
}
