//! What recovery tells of a machine that is off, and that nothing else tells: which disks are in doubt, and which files are nobody's.

use freezeframe_driver::recover::Recovered;

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
