//! What a driver that was killed leaves in the description of a machine that runs.

use std::time::Duration;

use freezeframe::language::GuestAct;
use freezeframe_driver::{
    commands::Cont,
    race::{First, race},
    recover::Turn,
};

use super::*;

impl Bench {
    /// The machine as one that runs, of which nobody says that its description is to be kept in step.
    async fn running_alone(&self) -> Machine<Env> {
        let domain = Domain::from(document());
        let (env, capabilities) = (self.world.env().clone(), Some(self.capabilities.clone()));
        let machine =
            Machine::connect(env.clone(), self.world.monitor(), domain, capabilities, Patience::default());
        let (store, _) = Store::open(env, STATE.into(), "vm").await.unwrap();
        machine.await.unwrap().with_records(store)
    }
}

/// Who recovers need not know that the operation was to keep the description in step: it is finished as it was begun.
#[rstest]
fn a_snapshot_that_was_broken_off_behind_its_switch_is_in_the_description_when_it_is_recovered(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut finished = 0;
    for after in 1..=15 {
        let turn = on(release, async |bench: &Bench| {
            let machine = bench.running().await;
            let env = bench.world.env().clone();
            let killed = env.sleep_until(env.now() + Duration::from_millis(after));
            let request = create("s1", true);
            if let First::Left(done) = race(machine.perform(&request), killed).await {
                done.unwrap();
            }
            drop(machine);
            let machine = bench.running_alone().await;
            let recovered = machine.recover(WITHIN).await.unwrap();
            let described = bench.described().await.disk("vda").unwrap().path().unwrap().to_owned();
            let is_in = machine.observe().await.unwrap().disk("vda").unwrap().file.clone();
            assert_eq!(described, is_in, "killed after {after} ms: {recovered:?}");
            recovered.map(|recovered| recovered.turn)
        });
        finished += usize::from(turn == Some(Turn::Forward));
    }
    assert!(finished > 0);
}

/// QEMU dies behind the driver, and what is written down alone tells in which images the guest went on: those are described then, or it is
/// told of which disk that is not known, and nothing is begun until somebody has said.
#[rstest]
fn a_deletion_that_was_broken_off_between_two_pivots_is_described_as_the_guest_went_on_or_told_as_in_doubt(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let (mut moved, mut doubtful) = (0, 0);
    for after in 1..=40 {
        let (has_moved, is_doubtful) = on(release, async |bench: &Bench| {
            let was_in = killed_while_it_is_deleted(bench, after).await;
            let old = bench.described().await;
            let machine = bench.off().await;
            let recovered = machine.recover(WITHIN).await.unwrap();
            let left = recovered.iter().flat_map(|recovered| &recovered.remains);
            let is_told = |disk: &str| {
                left.clone()
                    .any(|left| left.contains(&format!("disk `{disk}`:")) && left.contains("not known"))
            };
            let now = bench.described().await;
            let wrong = |(disk, file): &&(&str, Utf8PathBuf)| now.disk(disk).unwrap().path() != Some(&**file);
            let wrong: Vec<_> = was_in.iter().filter(wrong).collect();
            assert!(
                wrong.iter().all(|(disk, _)| is_told(disk)),
                "killed after {after} ms: {wrong:?} {recovered:?}"
            );
            if !wrong.is_empty() {
                let done = machine.perform(&create("s2", true)).await;
                assert_refused(done, Code::OperationInvalid, "the guest went on is not known");
            }
            (old != now, !wrong.is_empty())
        });
        moved += usize::from(has_moved);
        doubtful += usize::from(is_doubtful);
    }
    assert!(moved > 0 && doubtful > 0, "{moved} {doubtful}");
}

/// Somebody starts the machine from the description of before: what it went on in lies under what it sees.
#[rstest]
fn a_machine_that_is_started_in_an_overlay_that_was_merged_keeps_it_and_is_left_alone_until_the_record_is_forgotten(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(false, true)] recovers_first: bool,
) {
    let mut refused = 0;
    for after in 1..=40 {
        refused += on(release, async |bench: &Bench| {
            killed_while_it_is_deleted(bench, after).await;
            let old = bench.described().await;
            let overlays = ["vda", "vdb"].map(|disk| old.disk(disk).unwrap().path().unwrap().to_string());
            let off = bench.off().await;
            if recovers_first {
                off.recover(WITHIN).await.unwrap();
            }
            drop(off);
            let there = bench.files().await;
            if !overlays.iter().all(|overlay| there.iter().any(|file| overlay.ends_with(file.as_str()))) {
                return 0;
            }
            bench.start(&old).await;
            bench.describe(&old).await;
            let machine = bench.running_as(&old).await;
            let Err(error) = machine.perform(&create("s2", true)).await else { return 0 };
            assert!(error.to_string().contains("was started from an old description"), "{after} ms: {error}");
            for request in [delete("s1"), revert("s1", &[])] {
                machine.perform(&request).await.unwrap_err();
            }
            drop(machine);
            bench.world.kill_qemu().await;
            bench.off().await.recover(WITHIN).await.unwrap();
            let files = bench.files().await;
            assert!(there.iter().all(|file| files.contains(file)), "{after} ms: {there:?} {files:?}");
            bench.start(&old).await;
            let machine = bench.running_as(&old).await;
            machine.perform(&forget("s1")).await.unwrap();
            machine.perform(&create("s2", true)).await.unwrap();
            1
        });
    }
    assert!(refused > 0);
}

/// The machine may have been started from the description as it was: what it wrote then is in no other image.
#[test]
fn what_the_description_named_when_a_deletion_was_decided_is_kept_and_told() {
    let mut told = 0;
    for after in 1..=60 {
        told += on(Release::V10_0, async |bench: &Bench| {
            killed_while_it_is_deleted(bench, after).await;
            let old = bench.described().await;
            let machine = bench.off().await;
            let Some(recovered) = machine.recover(WITHIN).await.unwrap() else { return 0 };
            let files = bench.files().await;
            let is_named = |file: &Utf8Path| old.disks().any(|disk| disk.path() == Some(file));
            for kept in &recovered.kept {
                let name = kept.file.file_name().unwrap();
                assert!(is_named(&kept.file) && files.iter().any(|file| file == name), "{kept}");
                assert!(kept.to_string().contains("was started from an old description since"), "{kept}");
                let is_told_removed = recovered.deeds.contains(&format!("remove {name}"));
                assert!(!is_told_removed, "{after} ms: {recovered}");
            }
            recovered.kept.len()
        });
    }
    assert!(told > 0);
}

/// QEMU has outlived the driver, and is asked; then it ends. Nothing is in doubt, but what was told to it and not heard.
#[rstest]
fn what_qemu_was_asked_when_a_deletion_was_broken_off_is_known_when_it_has_ended(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(false, true)] writes_file: bool,
) {
    for after in 1..=40 {
        on(release, async |bench: &Bench| {
            broken_off(bench, after).await;
            let machine = match writes_file {
                true => bench.running_as(&bench.described().await).await,
                false => bench.running_alone().await,
            };
            machine.recover(WITHIN).await.unwrap();
            let observed = machine.observe().await.unwrap();
            drop(machine);
            bench.world.kill_qemu().await;
            let off = bench.off().await;
            off.recover(WITHIN).await.unwrap();
            let described = bench.described().await;
            for target in ["vda", "vdb"] {
                let (named, was_in) = (described.disk(target).unwrap(), &observed.disk(target).unwrap().file);
                assert_eq!(named.path(), Some(&**was_in), "{after} ms");
            }
        });
    }
}

/// Recovery meets a QEMU that was started from the description of before, and is told so: what that one is in stays, and is described.
#[rstest]
fn recovery_under_another_qemu_keeps_what_that_one_is_in(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut met = 0;
    for after in 1..=40 {
        met += on(release, async |bench: &Bench| {
            killed_while_it_is_deleted(bench, after).await;
            let old = bench.described().await;
            let (there, images) = (bench.files().await, ["vda", "vdb"].map(|disk| old.disk(disk).unwrap()));
            let images = images.map(|disk| disk.path().unwrap().file_name().unwrap().to_owned());
            if !images.iter().all(|image| there.contains(image)) {
                return 0;
            }
            bench.start(&old).await;
            let machine = bench.running_as(&old).await;
            let recovered = machine.recover(WITHIN).await.unwrap();
            let described = bench.described().await;
            for disk in &machine.observe().await.unwrap().disks {
                let named = described.disk(&disk.target).unwrap();
                assert_eq!(named.path(), Some(&*disk.file), "{after} ms: {recovered:?}");
            }
            drop(machine);
            bench.world.kill_qemu().await;
            let off = bench.off().await;
            off.recover(WITHIN).await.unwrap();
            let files = bench.files().await;
            assert!(images.iter().all(|image| files.contains(image)), "{after} ms: {files:?} {recovered:?}");
            let left = recovered.iter().flat_map(|recovered| &recovered.remains);
            usize::from(left.into_iter().any(|left| left.contains("out of which it was taken")))
        });
    }
    assert!(met > 0);
}

/// The guest has written to the overlays, and somebody starts the machine from the description of before: it says nothing of where the guest was.
#[rstest]
fn an_overlay_that_the_guest_has_written_to_is_kept_whatever_another_qemu_stands_in(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut written = 0;
    for after in 1..=20 {
        written += on(release, async |bench: &Bench| {
            let old = bench.described().await;
            let machine = bench.running_alone().await;
            let env = bench.world.env().clone();
            machine.client().execute("test", &Cont {}, env.now() + WITHIN).await.unwrap();
            let killed = env.sleep_until(env.now() + Duration::from_millis(after));
            let request = create("s1", true);
            if let First::Left(done) = race(machine.perform(&request), killed).await {
                done.unwrap();
            }
            drop(machine);
            env.sleep_until(env.now() + Duration::from_millis(100)).await;
            bench.world.in_guest(GuestAct::Write).await.unwrap();
            let was_in =
                bench.running_alone().await.observe().await.unwrap().disk("vda").unwrap().file.clone();
            bench.world.kill_qemu().await;
            bench.start(&old).await;
            let machine = bench.running_alone().await;
            let recovered = machine.recover(WITHIN).await.unwrap();
            drop(machine);
            bench.world.kill_qemu().await;
            bench.off().await.recover(WITHIN).await.unwrap();
            assert!(
                bench.files().await.iter().any(|file| was_in.ends_with(file)),
                "{after} ms: {recovered:?}"
            );
            usize::from(was_in.ends_with("vda.s1"))
        });
    }
    assert!(written > 0);
}

/// Takes a snapshot and deletes it, kills the driver that many milliseconds later, and QEMU when all that it had been told is done. The
/// images that QEMU had the disks in then.
pub(super) async fn killed_while_it_is_deleted(
    bench: &Bench,
    after: u64,
) -> [(&'static str, Utf8PathBuf); 2] {
    broken_off(bench, after).await;
    let env = bench.world.env().clone();
    env.sleep_until(env.now() + Duration::from_millis(100)).await;
    let observed = bench.running_alone().await.observe().await.unwrap();
    let is_in = ["vda", "vdb"].map(|disk| (disk, observed.disk(disk).unwrap().file.clone()));
    bench.world.kill_qemu().await;
    is_in
}

/// Takes a snapshot and deletes it, and kills the driver that many milliseconds later.
async fn broken_off(bench: &Bench, after: u64) {
    let machine = bench.running().await;
    machine.perform(&create("s1", true)).await.unwrap();
    let env = bench.world.env().clone();
    let killed = env.sleep_until(env.now() + Duration::from_millis(after));
    let request = delete("s1");
    if let First::Left(done) = race(machine.perform(&request), killed).await {
        done.unwrap();
    }
}
