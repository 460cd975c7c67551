//! Plays many cases at the same time, one thread each, and hands the results over in the order of the cases.
//!
//! No two cases share anything, so the order in which they are played cannot be seen in any result.
#![allow(
    clippy::disallowed_methods,
    reason = "threads of the runner; each case is single-threaded in itself"
)]

use std::{
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// Calls `play` for each item, on `jobs` threads, and `each` with every result, in the order of the items, until it
/// fails: then no more items are begun. `start` makes what one thread needs for all its items.
///
/// # Errors
/// The first error of `each`.
pub(super) fn each<I: Sync, S, R: Send, E>(
    items: &[I],
    jobs: Option<NonZeroUsize>,
    start: impl Fn() -> S + Sync,
    play: impl Fn(&mut S, &I) -> R + Sync,
    mut each: impl FnMut(&I, R) -> Result<(), E>,
) -> Result<(), E> {
    let jobs = threads(jobs, items.len());
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, start, play) = (sender.clone(), &next, &start, &play);
            scope.spawn(move || {
                let mut state = start();
                while let Some((index, item)) = take(items, next) {
                    if sender.send((index, play(&mut state, item))).is_err() {
                        return; // nobody wants results any more
                    }
                }
            });
        }
        drop(sender);
        let mut early: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let mut due = 0;
        for (index, result) in receiver {
            early[index] = Some(result);
            while let Some(result) = early.get_mut(due).and_then(Option::take) {
                if let Err(error) = each(&items[due], result) {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
                due += 1;
            }
        }
        Ok(())
    })
}

/// How many threads there are for so many items.
pub(super) fn threads(jobs: Option<NonZeroUsize>, items: usize) -> usize {
    jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get).min(items)
}

fn take<'i, I>(items: &'i [I], next: &AtomicUsize) -> Option<(usize, &'i I)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}
