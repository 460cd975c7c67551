//! What recovery tells of a machine that is off, and that nothing else tells: which disks are in doubt, and which files are nobody's.

use std::time::Duration;

use freezeframe_driver::{
    commands::Cont,
    race::{First, race},
    recover::{Recovered, Turn},
};

use super::{killed::killed_while_it_is_deleted, *};

/// Whether one of these tells of a disk that in which of two images the guest went on is not known, and of what to do that does no harm.
fn names(recovered: Option<&Recovered>, disk: &str) -> bool {
    let is_told = |left: &String| {
        left.contains(&format!("disk `{disk}`:"))
            && left.contains("not known")
            && left.contains("Copy each as a whole first")
    };
    recovered.into_iter().flat_map(|recovered| &recovered.remains).any(is_told)
}

/// Recovery, a second one, and `--forget` name each disk for which the rest of the deletion is refused then; where a pivot was not begun the
/// guest is known to have stayed, and it is not refused.
#[rstest]
fn a_disk_in_doubt_for_which_a_deletion_is_refused_is_named_by_recovery_with_what_to_do(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let (mut refused, mut deleted) = (0, 0);
    for after in 1..=40 {
        let outcome = on(release, async |bench: &Bench| {
            killed_while_it_is_deleted(bench, after).await;
            let machine = bench.off().await;
            let first = machine.recover(WITHIN).await.unwrap();
            let begun = machine.forgotten().is_some();
            let again = machine.recover(WITHIN).await.unwrap().or_else(|| machine.forgotten());
            let done = machine.perform(&delete("s1")).await;
            machine.forget_pending().await.unwrap();
            let forgotten = machine.forgotten();
            for disk in ["vda", "vdb"] {
                let words = format!("disk `{disk}`: `");
                let is_refused = done.as_ref().is_err_and(|error| error.to_string().contains(&words));
                let named = [&first, &again, &forgotten].map(|told| names(told.as_ref(), disk));
                assert_eq!(named, [is_refused; 3], "{after} ms: {first:?} {again:?} {forgotten:?} {done:?}");
            }
            (begun, done.is_err())
        });
        refused += usize::from(outcome.1);
        deleted += usize::from(outcome == (true, false));
    }
    assert!(refused > 0 && deleted > 0, "{refused} {deleted}");
}

/// Performs it, and kills the driver that many milliseconds later.
async fn broken_off(bench: &Bench, machine: Machine<Env>, request: &Request, after: u64) {
    let env = bench.world.env().clone();
    let killed = env.sleep_until(env.now() + Duration::from_millis(after));
    if let First::Left(done) = race(machine.perform(request), killed).await {
        done.unwrap();
    }
}

/// What recovery tells where nobody knows whether the operation was decided, and what is told when it is given up then.
async fn given_up(machine: &Machine<Env>) -> Option<(Vec<String>, Vec<String>)> {
    let recovered = machine.recover(WITHIN).await.unwrap()?;
    if recovered.turn != Turn::Unknown {
        return None;
    }
    let pending = machine.forget_pending().await.unwrap().unwrap();
    Some((recovered.remains, machine.left_in_doubt(&pending).await))
}

/// No QEMU is there to be asked; and the way out that is told works.
#[rstest]
fn a_snapshot_with_memory_that_may_not_be_whole_is_told_with_a_way_out_when_qemu_is_gone(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(false, true)] goes_on: bool,
) {
    let mut met = 0;
    for after in (1..=200).step_by(3) {
        met += on(release, async |bench: &Bench| {
            let machine = bench.running().await;
            let env = bench.world.env().clone();
            machine.client().execute("test", &Cont {}, env.now() + WITHIN).await.unwrap();
            let Request::Create(mut mm) = create("mm", false) else { unreachable!() };
            mm.wish.memory.location = Some(Location::External);
            mm.wish.memory.file = Some("/images/vm.mm".into());
            broken_off(bench, machine, &Request::Create(mm), after).await;
            bench.world.kill_qemu().await;
            let machine = bench.off().await;
            let Some((remains, left)) = given_up(&machine).await else { return 0 };
            let text = remains.concat();
            assert!(!text.contains("query-") && !text.contains("migrate_cancel"), "{after} ms: {text}");
            let [left] = &*left else { panic!("{after} ms: {left:?}") };
            assert!(remains.contains(left) && left.contains("`snapshot delete mm --metadata`"), "{left}");
            let words = "write that into the description";
            assert_refused(machine.perform(&create("s2", true)).await, Code::OperationInvalid, words);
            if goes_on {
                assert!(
                    left.contains("write its overlays `/images/vda.mm`, `/images/vdb.mm` into"),
                    "{left}"
                );
                let overlays = ["vda", "vdb"].map(|disk| (disk, format!("/images/{disk}.mm")));
                let overlays = overlays.each_ref().map(|(disk, file)| (*disk, file.as_str().into(), "qcow2"));
                bench.describe(&document().with_sources(overlays)).await;
            } else {
                machine.perform(&forget("mm")).await.unwrap();
                for file in ["/images/vda.mm", "/images/vdb.mm", "/images/vm.mm"] {
                    env.remove_file(file.into()).await.unwrap();
                }
            }
            machine.perform(&create("s2", true)).await.unwrap();
            machine.perform(&delete("s2")).await.unwrap();
            1
        });
    }
    assert!(met > 0);
}

/// The overlay that the machine was in is named by no record then, and in the way.
#[rstest]
fn what_a_broken_off_revert_was_to_discard_is_told_and_once_it_is_away_the_revert_is_done_once_more(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let (mut met, mut refused) = (0, 0);
    for after in (1..=120).step_by(2) {
        let (is_met, is_refused) = off(release, async |bench: &Bench| {
            bench.describe(&document().with_disks(|target| target == "vda")).await;
            let machine = bench.off().await;
            machine.perform(&create("i1", false)).await.unwrap();
            machine.perform(&create("e1", true)).await.unwrap();
            let request = revert("i1", &[RevertFlag::Discard, RevertFlag::DeleteChildren]);
            broken_off(bench, machine, &request, after).await;
            let machine = bench.off().await;
            let Some((remains, left)) = given_up(&machine).await else { return (false, false) };
            let is_there = bench.files().await.contains(&"vda.e1".to_owned());
            let is_told = |left: &[String]| {
                left.iter().any(|left| left.starts_with("`/images/vda.e1` was to be removed, and is kept"))
            };
            assert_eq!(
                [is_told(&remains), is_told(&left)],
                [is_there; 2],
                "{after} ms: {remains:?} {left:?}"
            );
            let done = machine.perform(&request).await;
            if is_there && done.is_err() {
                assert_refused(
                    done,
                    Code::OperationUnsupported,
                    "An operation or `recover` may have kept it",
                );
                bench.world.env().remove_file("/images/vda.e1".into()).await.unwrap();
                machine.perform(&request).await.unwrap();
                assert_eq!(bench.chain("vda").await, ["/images/vda.qcow2"]);
                return (true, true);
            }
            done.unwrap();
            (true, false)
        });
        met += usize::from(is_met);
        refused += usize::from(is_refused);
    }
    assert!(met > 0 && refused > 0, "{met} {refused}");
}
