//! A trace without what is not needed for what it shows: ten thousand answers of a seed become a few that can be read.
//!
//! After "Simplifying and isolating failure-inducing input" (delta debugging; Zeller and Hildebrandt, 2002): halves are left out,
//! then quarters, and in the end each answer by itself.

use freezeframe_sim::oracle::{Deviation, Trace};

/// The trace with fewer answers, of which none can be left out by itself, so that it still shows what `shows` looks for. One
/// that does not show it when it is played is left as it is.
pub(super) fn shrink(trace: &Trace, mut shows: impl FnMut(Trace) -> bool) -> Trace {
    let mut kept: Vec<Deviation> = trace.deviations().to_vec();
    let mut size = kept.len();
    while size > 0 {
        let mut start = 0;
        let mut is_smaller = false;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let without: Vec<_> = kept[..start].iter().chain(&kept[end..]).cloned().collect();
            if shows(without.iter().cloned().collect()) {
                kept = without;
                is_smaller = true;
            } else {
                start = end;
            }
        }
        // What could not go before may go without what went since.
        if size > 1 || !is_smaller {
            size /= 2;
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_kept_and_nothing_else() {
        let long: Trace =
            (0..500).map(|i| Deviation { label: "task".into(), occurrence: i, value: 1 }).collect();
        let mut plays = 0;
        let short = shrink(&long, |trace| {
            plays += 1;
            [7, 400].iter().all(|wanted| trace.deviations().iter().any(|one| one.occurrence == *wanted))
        });
        assert_eq!(short.to_string(), "task#7=1 task#400=1");
        assert!(plays < 200, "{plays} plays");
    }
}
