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
