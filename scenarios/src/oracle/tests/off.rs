//! Of a machine that is off, and one that is started for a while.

use super::*;

/// Off, on an image that holds write 1 in block 0, and a snapshot of that on record; the guest goes on in an overlay of it.
fn off() -> State {
    let mut state = State { guest: None, chains: BTreeMap::new(), ..machine() };
    state.data.get_mut(VDA).unwrap().blocks.insert(0, 1);
    add_image(&mut state, OVERLAY, Some(VDA));
    state.records.insert("s1".into(), record(VDA));
    state
}

fn running_on(state: &State, top: &str) -> State {
    let mut state = State { guest: Some("running"), ..state.clone() };
    state.chains.insert("vda-device".into(), vec![top.into(), VDA.into()]);
    state
}

fn ended(
    data: &mut Data,
    deed: Deed<'_>,
    stands: Stands,
    (before, after): (&State, &State),
) -> Vec<Invariant> {
    let found = data.ended(deed, &told(stands, "told"), before, after);
    found.into_iter().map(|(invariant, _)| invariant).collect()
}

/// What is found of going back to a snapshot that was taken while the machine was off, if the new overlay holds this.
fn gone_back(blocks: &[(u64, u64)]) -> Vec<Invariant> {
    let before = State { records: BTreeMap::new(), ..off() };
    let mut data = Data::default();
    data.begins(&before);
    assert_eq!(ended(&mut data, Deed::Take("s1"), Stands::Done, (&before, &off())), []);
    let mut runs = running_on(&off(), OVERLAY);
    data.begins(&runs);
    let number = data.write("vda", 0);
    runs.data.get_mut(OVERLAY).unwrap().blocks.insert(0, number);
    assert_eq!(ended(&mut data, Deed::Nothing, Stands::Done, (&runs, &runs)), []);
    data.begins(&runs);
    let mut anew = running_on(&off(), OVERLAY);
    anew.data.get_mut(OVERLAY).unwrap().blocks = blocks.iter().copied().collect();
    ended(&mut data, Deed::GoBack("s1"), Stands::Done, (&runs, &anew))
}

#[test]
fn what_a_deleted_snapshot_held_is_not_asked_of_the_next_of_its_name() {
    let before = State { records: BTreeMap::new(), ..off() };
    let mut data = Data::default();
    data.begins(&before);
    assert_eq!(ended(&mut data, Deed::Take("s1"), Stands::Done, (&before, &off())), []);
    let mut written = off();
    written.data.get_mut(VDA).unwrap().blocks.insert(0, 2);
    let found = ended(&mut data.clone(), Deed::Nothing, Stands::Done, (&off(), &written));
    assert_eq!(found, [Invariant::Writes], "as long as it is recorded");
    assert_eq!(ended(&mut data, Deed::Nothing, Stands::Done, (&off(), &before)), [], "it is deleted");
    assert_eq!(ended(&mut data, Deed::Take("s1"), Stands::Unknown, (&before, &written)), []);
}

#[test]
fn going_back_to_a_snapshot_of_a_machine_that_was_off_brings_back_what_its_images_held() {
    assert_eq!(gone_back(&[]), []);
    assert_eq!(gone_back(&[(0, 7)]), [Invariant::Writes], "it does not");
}

#[test]
fn what_a_guest_wrote_that_was_let_run_and_put_off_again_has_never_been() {
    let before = off();
    let told_so = |stands| {
        let mut data = Data::default();
        data.begins(&running_on(&off(), OVERLAY));
        data.begins(&before);
        data.see(&running_on(&off(), "/images/vda.s1-2"));
        data.write("vda", 1);
        ended(&mut data, Deed::Nothing, stands, (&before, &before))
    };
    assert_eq!(told_so(Stands::AsBefore), []);
    assert_eq!(told_so(Stands::Left), [Invariant::Writes], "nobody has put it back");
}
