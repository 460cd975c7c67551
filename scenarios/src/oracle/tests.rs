//! Each invariant finds a state that breaks it, and lets the same state pass where that is told.

use std::collections::BTreeMap;

use freezeframe_sim::host::Blocks;

use super::*;

mod left;
mod off;

const VDA: &str = "/images/vda.qcow2";
const OVERLAY: &str = "/images/vda.s1";
const TRANSIENT: &str = "/images/vda.qcow2.TRANSIENT-vm";

/// A guest that runs on one image.
fn machine() -> State {
    let mut state = State { guest: Some("running"), ..State::default() };
    add_image(&mut state, VDA, None);
    state.chains.insert("vda-device".into(), vec![VDA.into()]);
    state
}

/// The same with an overlay on top.
fn switched() -> State {
    let mut state = machine();
    add_image(&mut state, OVERLAY, Some(VDA));
    state.chains.insert("vda-device".into(), vec![OVERLAY.into(), VDA.into()]);
    state
}

fn add_image(state: &mut State, path: &str, backing: Option<&str>) {
    let image = ImageState { backing: backing.map(str::to_owned), tags: Vec::new() };
    state.images.insert(path.into(), image);
    state.data.insert(path.into(), Layer::default());
}

fn record(needs: &str) -> Record {
    Record {
        elsewhere: BTreeSet::new(),
        parent: None,
        needs: BTreeSet::from([needs.to_owned()]),
        overlays: BTreeSet::new(),
        inside: BTreeSet::new(),
        images: BTreeMap::from([("vda".to_owned(), needs.to_owned())]),
        being_deleted: false,
    }
}

fn told(stands: Stands, text: &str) -> Told {
    Told { stands, text: text.to_owned(), frozen: false, quiesced: None }
}

/// What is found, by invariant.
fn found(before: &State, after: &State, told: &Told) -> Vec<Invariant> {
    found_beside(before, after, told, None)
}

fn found_beside(
    before: &State,
    after: &State,
    told: &Told,
    usual: Option<(&Told, &State)>,
) -> Vec<Invariant> {
    found_knowing(before, after, told, usual, &Beside::default())
}

fn found_knowing(
    before: &State,
    after: &State,
    told: &Told,
    usual: Option<(&Told, &State)>,
    beside: &Beside,
) -> Vec<Invariant> {
    let last_tops = BTreeSet::new();
    let seen = Seen {
        before,
        after,
        told,
        usual,
        last_tops: &last_tops,
        killed: false,
        took: Duration::ZERO,
        within: Duration::ZERO,
        beside,
    };
    check(0, seen).into_iter().map(|violation| violation.invariant).collect()
}

#[test]
fn a_machine_that_is_as_before_is_well() {
    assert_eq!(found(&machine(), &machine(), &told(Stands::AsBefore, "no")), []);
    let done = told(Stands::Done, "taken");
    assert_eq!(found_beside(&machine(), &switched(), &done, Some((&done, &switched()))), []);
}

#[test]
fn a_snapshot_told_to_be_of_a_guest_at_rest_is_held_against_what_was_frozen_then() {
    let taken = |verdict, awake: &[&str]| {
        let awake = awake.iter().map(|disk| (*disk).to_owned()).collect();
        let told = Told { quiesced: verdict, ..told(Stands::Done, "taken; quiesced: yes, 1 file system") };
        found_knowing(&machine(), &switched(), &told, None, &Beside { awake, ..Beside::default() })
    };
    assert_eq!(taken(Some(Verdict::Yes), &["vdb"]), [Invariant::Quiesced]);
    assert_eq!(taken(Some(Verdict::Yes), &[]), []);
    assert_eq!(taken(Some(Verdict::No), &["vdb"]), []);
    assert_eq!(taken(Some(Verdict::Unknown), &["vdb"]), []);
}

#[test]
fn a_guest_left_frozen_or_stopped_is_found_unless_that_is_told() {
    let left = |change: fn(&mut State), text: &str| {
        let mut after = machine();
        change(&mut after);
        found(&machine(), &after, &told(Stands::Left, text))
    };
    let left_frozen = |frozen, text: &str| {
        let mut after = machine();
        after.frozen.insert("vda".into());
        let told = Told { frozen, ..told(Stands::Done, text) };
        found(&machine(), &after, &told)
    };
    let frozen: fn(&mut State) = |state| _ = state.frozen.insert("vda".into());
    let paused: fn(&mut State) = |state| state.guest = Some("paused");
    let gone: fn(&mut State) = |state| state.guest = None;
    for change in [frozen, paused, gone] {
        assert_eq!(left(change, "it went wrong"), [Invariant::Guest]);
    }
    let says_so = "reverted to s1: vda; the guest's file systems may still be frozen";
    assert_eq!(
        left_frozen(true, "reverted to frozen: vda"),
        [Invariant::Guest],
        "a snapshot may be called so"
    );
    assert_eq!(left_frozen(false, says_so), [Invariant::Guest], "the driver itself does not know it");
    assert_eq!(left_frozen(true, says_so), []);
    assert_eq!(left(paused, "the guest may stand still"), []);
    assert_eq!(left(gone, "QEMU is gone"), []);
}

#[test]
fn a_job_or_a_node_that_is_left_is_found_unless_it_is_named() {
    let mut after = machine();
    after.jobs.insert("ff-1-create-0".into());
    after.loose.insert("ff-1-0".into(), OVERLAY.into());
    let silent = found(&machine(), &after, &told(Stands::Left, "it went wrong"));
    assert_eq!(silent, [Invariant::Leftovers, Invariant::Leftovers]);
    let named = told(Stands::Left, "job `ff-1-create-0` and node `ff-1-0` may be left");
    assert_eq!(found(&machine(), &after, &named), []);
}

#[test]
fn a_live_image_that_was_unlinked_is_found_whatever_is_told() {
    let mut after = switched();
    after.images.remove(VDA);
    let named = told(Stands::Left, "`/images/vda.qcow2` is gone");
    assert_eq!(found(&switched(), &after, &named), [Invariant::Chains]);
}

#[test]
fn a_record_that_cannot_be_gone_back_to_is_found() {
    let mut after = switched();
    after.records.insert("s1".into(), record("/images/lost.qcow2"));
    assert_eq!(found(&switched(), &after, &told(Stands::Unfinished, "done")), [Invariant::Records]);
    let mut inside = machine();
    inside.records.insert("s1".into(), Record { inside: BTreeSet::from([VDA.into()]), ..record(VDA) });
    assert_eq!(found(&machine(), &inside, &told(Stands::Unfinished, "done")), [Invariant::Records]);
    inside.images.get_mut(VDA).unwrap().tags.push("s1".into());
    assert_eq!(found(&machine(), &inside, &told(Stands::Unfinished, "done")), []);
}

#[test]
fn a_record_that_names_an_overlay_which_is_gone_is_found_unless_that_one_is_named_or_was_gone_before() {
    let record = Record { overlays: BTreeSet::from(["/images/vda.s1".into()]), ..record(VDA) };
    let mut after = machine();
    after.records.insert("s1".into(), record);
    assert_eq!(found(&machine(), &after, &told(Stands::Unfinished, "done")), [Invariant::Records]);
    assert_eq!(found(&machine(), &after, &told(Stands::Unfinished, "`/images/vda.s1` is gone")), []);
    assert_eq!(found(&after, &after, &told(Stands::Unfinished, "done")), []);
}

#[test]
fn a_file_that_nobody_uses_is_found_unless_it_is_named() {
    let mut after = machine();
    add_image(&mut after, OVERLAY, None);
    assert_eq!(found(&machine(), &after, &told(Stands::Left, "it went wrong")), [Invariant::Files]);
    assert_eq!(found(&machine(), &after, &told(Stands::Left, "the overlay `/images/vda.s1` is kept")), []);
}

#[test]
fn what_is_told_is_held_against_what_is() {
    let rolled_back = told(Stands::AsBefore, "all is as it was before");
    assert_eq!(found(&machine(), &switched(), &rolled_back), [Invariant::Told, Invariant::Told]);
    let done = told(Stands::Done, "taken");
    let not_done = found_beside(&machine(), &machine(), &done, Some((&done, &switched())));
    assert_eq!(not_done, [Invariant::Told, Invariant::Told]);
    let gone = told(Stands::Gone, "QEMU is gone");
    assert_eq!(found(&machine(), &machine(), &gone), [Invariant::Told]);
}

#[test]
fn an_operation_without_end_is_found() {
    let (state, told, last_tops) = (machine(), told(Stands::AsBefore, "no"), BTreeSet::new());
    let seen = Seen {
        before: &state,
        after: &state,
        told: &told,
        usual: None,
        last_tops: &last_tops,
        killed: false,
        took: BEYOND + Duration::from_secs(2),
        within: Duration::from_secs(1),
        beside: &Beside::default(),
    };
    assert_eq!(
        check(0, seen).into_iter().map(|found| found.invariant).collect::<Vec<_>>(),
        [Invariant::Bound]
    );
}

/// The guest has written 1 to block 0, before the operation, and 2 to block 1 since.
fn written() -> (State, Data) {
    let mut state = machine();
    let mut data = Data::default();
    data.begins(&state);
    let mut write = |data: &mut Data, block| {
        let number = data.write("vda", block);
        state.data.get_mut(VDA).unwrap().blocks.insert(block, number);
    };
    write(&mut data, 0);
    data.begins(&machine());
    write(&mut data, 1);
    (state, data)
}

fn data_found(data: &mut Data, deed: Deed<'_>, state: &State) -> Vec<Invariant> {
    let found = data.ended(deed, &told(Stands::Done, "done"), &machine(), state);
    found.into_iter().map(|(invariant, _)| invariant).collect()
}

#[test]
fn a_write_that_is_lost_is_found() {
    let (mut state, mut data) = written();
    assert_eq!(data_found(&mut data.clone(), Deed::Nothing, &state), []);
    state.data.get_mut(VDA).unwrap().blocks.remove(&1);
    assert_eq!(data_found(&mut data, Deed::Nothing, &state), [Invariant::Writes]);
}

#[test]
fn a_snapshot_of_no_moment_is_found() {
    let (written, data) = written();
    let taken = |blocks: &[(u64, u64)]| {
        let mut state = written.clone();
        add_image(&mut state, OVERLAY, Some(VDA));
        state.chains.insert("vda-device".into(), vec![OVERLAY.into(), VDA.into()]);
        let all = std::mem::take(&mut state.data.get_mut(VDA).unwrap().blocks);
        state.data.get_mut(OVERLAY).unwrap().blocks = all;
        state.data.get_mut(VDA).unwrap().blocks = blocks.iter().copied().collect();
        data_found(&mut data.clone(), Deed::Take("s1"), &state)
    };
    assert_eq!(taken(&[(0, 1)]), [], "before the second write");
    assert_eq!(taken(&[(0, 1), (1, 2)]), [], "behind it");
    assert_eq!(taken(&[(1, 2)]), [Invariant::PointInTime], "the first write is missing, the second is there");
}

#[test]
fn going_back_brings_back_what_was_held_and_nothing_else() {
    let (mut state, mut data) = written();
    state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::from([(0, 1)]));
    state.records.insert("s1".into(), Record { inside: BTreeSet::from([VDA.into()]), ..record(VDA) });
    assert_eq!(data_found(&mut data, Deed::Take("s1"), &state), []);
    data.begins(&state);
    assert_eq!(data_found(&mut data.clone(), Deed::GoBack("s1"), &state), [Invariant::Writes]);
    state.data.get_mut(VDA).unwrap().blocks = Blocks::from([(0, 1)]);
    assert_eq!(data_found(&mut data.clone(), Deed::GoBack("s1"), &state), []);
    state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::new());
    assert_eq!(data_found(&mut data, Deed::Nothing, &state), [Invariant::Writes, Invariant::Writes]);
}

#[test]
fn what_was_written_to_an_overlay_that_goes_with_its_machine_is_held_as_long_as_that_runs() {
    let mut state = machine();
    add_image(&mut state, TRANSIENT, Some(VDA));
    state.chains.insert("vda-device".into(), vec![TRANSIENT.into(), VDA.into()]);
    let (anew, mut data) = (state.clone(), Data::default());
    data.begins(&state);
    data.write("vda", 0);
    state.data.get_mut(TRANSIENT).unwrap().blocks.insert(0, 1);
    assert_eq!(data_found(&mut data.clone(), Deed::Nothing, &state), []);
    assert_eq!(data_found(&mut data.clone(), Deed::Nothing, &anew), [Invariant::Writes], "it runs on");
    assert_eq!(data_found(&mut data.clone(), Deed::GoBack("s1"), &anew), [], "another was started");
    let off = State { guest: None, chains: BTreeMap::new(), ..machine() };
    assert_eq!(data_found(&mut data, Deed::Take("s1"), &off), [], "it has ended, and the overlay with it");
}

#[test]
fn what_was_not_done_must_be_done_the_second_time() {
    let wrong = |first: &Told, second: &Told| converges(first, second, true, &Beside::default()).is_some();
    let (refused, left) = (told(Stands::Untouched, "no"), told(Stands::Left, "the node `ff-1-0` is left"));
    let as_before = told(Stands::AsBefore, "All is as it was before.");
    assert!(!wrong(&as_before, &told(Stands::Done, "taken")));
    assert!(wrong(&as_before, &refused) && wrong(&as_before, &as_before) && wrong(&refused, &refused));
    assert!(!wrong(&left, &refused), "what was left may be in the way");
    assert!(wrong(&left, &left), "but nothing more is left each time");
    let partly = told(Stands::Partly, "deleted was s1, and then not s2");
    assert!(
        !wrong(&left, &partly) && wrong(&as_before, &partly),
        "what was left may be in the way of a part"
    );
    assert_eq!(
        converges(&as_before, &refused, false, &Beside::default()),
        None,
        "there is no machine any more"
    );
}

#[test]
fn a_state_that_has_left_is_refused_only_where_that_was_told_and_for_that_alone() {
    let wrong = |first: &Told, second: &Told| converges(first, second, true, &Beside::default()).is_some();
    let saved = told(Stands::AsBefore, "All is as it was before, but that QEMU is in `postmigrate`: wait");
    let has_left = "the machine's memory has been saved or sent already and its guest has not gone on since";
    let refused = told(Stands::Untouched, has_left);
    assert!(!wrong(&saved, &refused));
    assert!(wrong(&told(Stands::AsBefore, "All is as it was before."), &refused), "it was not told");
    assert!(wrong(&saved, &told(Stands::Untouched, "no")), "that is another refusal");
}

#[test]
fn a_freeze_that_was_told_of_before_is_no_news_where_none_was_begun() {
    let mut frozen = machine();
    frozen.frozen.insert("vda".into());
    let (told_of, untold) = (Beside { frozen_told: true, ..Beside::default() }, Beside::default());
    let found = |stands, beside| found_knowing(&machine(), &frozen, &told(stands, "no"), None, beside);
    assert_eq!(found(Stands::Untouched, &told_of), []);
    assert_eq!(found(Stands::Untouched, &untold), [Invariant::Guest], "nobody has told");
    assert_eq!(found(Stands::AsBefore, &told_of), [Invariant::Guest], "it may have frozen it itself");
    let met = told(Stands::Done, "taken; quiesced: no, somebody else has frozen the guest");
    let found_met = |beside| found_knowing(&machine(), &frozen, &met, None, beside);
    assert_eq!(found_met(&told_of), [], "it was struck late, by what the one before had sent");
    assert_eq!(found_met(&untold), [Invariant::Guest], "nobody has told that it may strike yet");
    let first = told(Stands::Untouched, "no agent");
    let refused = told(Stands::Untouched, "somebody else has frozen the guest");
    assert_eq!(converges(&first, &refused, true, &told_of), None);
    assert!(converges(&first, &refused, true, &Beside::default()).is_some());
}

#[test]
fn what_somebody_else_has_done_to_the_guest_is_not_the_operations() {
    let mut paused = machine();
    paused.guest = Some("paused");
    let found = |stirred| {
        let beside = Beside { stirred, ..Beside::default() };
        found_knowing(&machine(), &paused, &told(Stands::AsBefore, "no"), None, &beside)
    };
    assert_eq!(found(Some("paused")), []);
    assert_eq!(found(Some("running")), [Invariant::Guest], "it was let go on, and was stopped again");
}

#[test]
fn of_a_driver_that_was_killed_nothing_is_asked_but_whole_chains() {
    let mut after = switched();
    after.jobs.insert("ff-1-commit-0".into());
    let killed = told(Stands::Killed, "killed");
    assert_eq!(found(&machine(), &after, &killed), []);
    after.images.remove(VDA);
    assert_eq!(found(&machine(), &after, &killed), [Invariant::Chains]);
}

#[test]
fn an_image_into_which_was_copied_what_lies_below_it_is_as_before_if_it_shows_the_same() {
    let as_before = told(Stands::AsBefore, "All is as it was before.");
    let mut before = machine();
    add_image(&mut before, OVERLAY, Some(VDA));
    before.records.insert("s1".into(), record(OVERLAY));
    before.data.get_mut(VDA).unwrap().blocks.insert(0, 1);
    let mut after = before.clone();
    after.images.get_mut(OVERLAY).unwrap().backing = None;
    assert_eq!(found(&before, &after, &as_before), [Invariant::Told], "block 0 is not in it");
    after.data.get_mut(OVERLAY).unwrap().blocks.insert(0, 1);
    assert_eq!(found(&before, &after, &as_before), []);
    assert_eq!(found(&after, &before, &as_before), [Invariant::Told], "it stands on more than before");
}

#[test]
fn what_was_asked_for_is_no_leftover_once_it_is_done() {
    let memory = "/images/vm.mem";
    let mut after = switched();
    add_image(&mut after, memory, None);
    add_image(&mut after, "/images@s1/vda.qcow2", None);
    let takes = Some(("s1".to_owned(), Some("vm.mem".to_owned())));
    let (beside, untold) = (Beside { takes, ..Beside::default() }, Beside::default());
    let found =
        |stands, text: &str, beside| found_knowing(&machine(), &after, &told(stands, text), None, beside);
    assert_eq!(found(Stands::Unfinished, "taken, but", &beside), []);
    assert_eq!(found(Stands::Unfinished, "taken, but", &untold), [Invariant::Files; 2]);
    assert_eq!(found(Stands::Left, "no", &beside), [Invariant::Files; 2]);
    assert_eq!(found(Stands::Left, "`/images@s1` and `vm.mem` are left", &beside), [], "a folder is named");
}

#[test]
fn what_lvm_keeps_is_asked_for_or_told_by_its_volume_and_its_name() {
    let mut after = machine();
    add_image(&mut after, "/dev/vg/vda.s1", None);
    let takes = Some(("s1".to_owned(), None));
    let (beside, untold) = (Beside { takes, ..Beside::default() }, Beside::default());
    let found =
        |stands, text: &str, beside| found_knowing(&machine(), &after, &told(stands, text), None, beside);
    assert_eq!(found(Stands::Unfinished, "taken, but", &beside), []);
    assert_eq!(found(Stands::Unfinished, "taken, but", &untold), [Invariant::Files]);
    assert_eq!(found(Stands::Left, "vg/vda may have the snapshot `s1`", &untold), []);
    assert_eq!(found(Stands::Left, "the snapshot `s1` of vg/vda: `lvs` refused", &untold), []);
    for another in ["vg/vda may have the snapshot `s2`", "vg/vdb may have the snapshot `s1`"] {
        assert_eq!(found(Stands::Left, another, &untold), [Invariant::Files], "{another}");
    }
}

#[test]
fn a_journal_that_nobody_needs_any_more_may_go_and_must_not_come() {
    let as_before = told(Stands::AsBefore, "All is as it was before.");
    let written = State { pending: true, ..machine() };
    assert_eq!(found(&written, &machine(), &as_before), []);
    assert_eq!(found(&machine(), &written, &as_before), [Invariant::Told]);
}

#[test]
fn a_snapshot_that_is_not_recorded_is_not_taken_for_the_recorded_one_of_its_name() {
    let (mut state, mut data) = written();
    state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::from([(0, 1)]));
    state.records.insert("s1".into(), Record { inside: BTreeSet::from([VDA.into()]), ..record(VDA) });
    assert_eq!(data_found(&mut data, Deed::Take("s1"), &state), []);
    data.begins(&state);
    let again = data.ended(Deed::Take("s1"), &told(Stands::Done, "done"), &state, &state);
    assert_eq!(again, [], "the record is the same, and so is what it must hold");
    state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::new());
    assert_eq!(data_found(&mut data, Deed::Nothing, &state), [Invariant::Writes]);
}

#[test]
fn what_was_done_to_a_snapshot_past_the_driver_is_believed_and_nothing_behind_it() {
    let (mut state, mut data) = written();
    state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::from([(0, 1)]));
    state.records.insert("s1".into(), Record { inside: BTreeSet::from([VDA.into()]), ..record(VDA) });
    assert_eq!(data_found(&mut data, Deed::Take("s1"), &state), []);
    let change = |state: &mut State, held| state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), held);
    change(&mut state, Blocks::from([(0, 2)]));
    assert_eq!(data_found(&mut data.clone(), Deed::Nothing, &state), [Invariant::Writes], "by the driver");
    assert_eq!(data_found(&mut data, Deed::Raw, &state), []);
    assert_eq!(data_found(&mut data, Deed::Nothing, &state), [], "it holds what it was given");
    change(&mut state, Blocks::from([(0, 1)]));
    assert_eq!(data_found(&mut data, Deed::Nothing, &state), [Invariant::Writes], "and must go on to");
}

#[test]
fn a_job_that_was_begun_past_the_driver_may_write_to_a_snapshot_as_long_as_it_is_there() {
    let (mut state, mut data) = written();
    state.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::from([(0, 1)]));
    state.records.insert("s1".into(), Record { inside: BTreeSet::from([VDA.into()]), ..record(VDA) });
    let done = told(Stands::Done, "done");
    let mut ended = |deed: Deed<'_>, before: &State, after: &State| data.ended(deed, &done, before, after);
    assert_eq!(ended(Deed::Take("s1"), &machine(), &state), []);
    let mut works = state.clone();
    works.jobs.insert("mine".into());
    assert_eq!(ended(Deed::Raw, &state, &works), []);
    let mut wrote = state.clone();
    wrote.data.get_mut(VDA).unwrap().inside.insert("s1".into(), Blocks::from([(0, 2)]));
    assert_eq!(ended(Deed::Nothing, &works, &wrote), [], "its last write");
    assert_eq!(ended(Deed::Nothing, &state, &state).len(), 1, "it has ended");
}

#[test]
fn images_whose_names_differ_in_their_numbers_alone_are_not_taken_for_one_another() {
    let done = told(Stands::Done, "taken");
    let ended = |first: &str, second: &str, tagged: &[&str]| {
        let mut state = machine();
        for path in [first, second] {
            add_image(&mut state, path, Some(VDA));
            let needed = Record { images: BTreeMap::new(), ..record(path) };
            state.records.entry("all".into()).or_insert(needed).needs.extend([first.into(), second.into()]);
        }
        for path in tagged {
            state.images.get_mut(*path).unwrap().tags.push("i1".into());
        }
        state
    };
    let usual = ended("/images/vda.s1-9", "/images/vda.s1-10", &["/images/vda.s1-10"]);
    let found = |state: &State| found_beside(&usual, state, &done, Some((&done, &usual)));
    let same = ended("/images/vda.s1-10", "/images/vda.s1-11", &["/images/vda.s1-11"]);
    assert_eq!(found(&same), []);
    let other = ended("/images/vda.s1-10", "/images/vda.s1-11", &["/images/vda.s1-10"]);
    assert_eq!(found(&other), [Invariant::Told, Invariant::Told], "the tag is in the other one");
}

#[test]
fn a_job_that_waits_for_its_client_is_no_harm_where_that_one_was_killed() {
    let mut after = switched();
    after.broken.insert("job ff-1-commit-0 rests in pending".into());
    let found = |stands| found(&switched(), &after, &told(stands, "it went wrong"));
    assert_eq!(found(Stands::Killed), []);
    assert_eq!(found(Stands::Left), [Invariant::Chains], "who lives must end it, or name it");
    after.broken = BTreeSet::from(["the file of node ff-1-0 was unlinked".into()]);
    assert_eq!(self::found(&switched(), &after, &told(Stands::Killed, "killed")), [Invariant::Chains]);
}

#[test]
fn a_recovery_may_leave_what_nobody_can_find_out_of_a_machine_that_is_gone() {
    let (first, left) = (told(Stands::Untouched, "no monitor"), told(Stands::Left, "the overlays are kept"));
    let recovery = Beside { recovers: true, ..Beside::default() };
    assert_eq!(converges(&first, &left, false, &recovery), None);
    assert!(converges(&first, &left, true, &recovery).is_some(), "the machine can be asked");
    assert!(converges(&first, &left, false, &Beside::default()).is_some(), "it was to be done or refused");
}

#[test]
fn a_machine_whose_state_goes_out_for_a_killed_driver_comes_to_the_end_of_that_by_itself() {
    let before = State { pending: true, ..machine() };
    let left = |guest| State { guest: Some(guest), ..before.clone() };
    let untouched = told(Stands::Untouched, "it said nothing");
    assert_eq!(found(&before, &left("postmigrate"), &untouched), []);
    assert_eq!(found(&before, &left("paused"), &untouched), [Invariant::Guest]);
    assert_eq!(
        found(&machine(), &State { guest: Some("postmigrate"), ..machine() }, &untouched),
        [Invariant::Guest]
    );
}

#[test]
fn an_image_that_a_killed_drivers_job_still_makes_is_nobodys_deed() {
    let untouched = told(Stands::Untouched, "it said nothing");
    let mut before = State { pending: true, ..machine() };
    add_image(&mut before, OVERLAY, None);
    before.loose.insert("ff-1-0-file".into(), OVERLAY.into());
    before.jobs.insert("ff-1-create-0".into());
    let mut after = before.clone();
    after.images.get_mut(OVERLAY).unwrap().backing = Some(VDA.into());
    assert_eq!(found(&before, &after, &untouched), []);
    before.pending = false;
    assert_eq!(found(&before, &after, &untouched), [Invariant::Told, Invariant::Told], "nobody was killed");
}
