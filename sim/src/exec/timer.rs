//! Timers in the order of (deadline, when they were set), and the future that waits for one.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::Shared;

/// When a timer fires, and the number under which it was set.
type Key = (Duration, u64);

#[derive(Default)]
pub(super) struct Timers {
    wakers: BTreeMap<Key, Waker>,
    set: u64,
}

impl Timers {
    /// When the next timer fires.
    pub(super) fn first(&self) -> Option<Duration> {
        self.wakers.keys().next().map(|(deadline, _)| *deadline)
    }

    /// How many fire at that time.
    pub(super) fn count_at(&self, deadline: Duration) -> usize {
        self.wakers.range((deadline, 0)..=(deadline, u64::MAX)).count()
    }

    /// Takes out one of the timers that fire first, counted from the one set first.
    pub(super) fn take(&mut self, pick: usize) -> Waker {
        let key = *self.wakers.keys().nth(pick).expect("picked among those that there are");
        self.wakers.remove(&key).expect("it was just looked up")
    }

    fn set(&mut self, deadline: Duration, waker: &Waker) -> Key {
        self.set += 1;
        self.wakers.insert((deadline, self.set), waker.clone());
        (deadline, self.set)
    }
}

/// Waits for a moment in virtual time. Dropped, it no longer wakes anybody.
#[must_use = "a future does nothing until it is awaited"]
pub struct Sleep {
    shared: Rc<Shared>,
    deadline: Duration,
    key: Option<Key>,
}

impl Sleep {
    pub(super) fn new(shared: Rc<Shared>, deadline: Duration) -> Self {
        Self { shared, deadline, key: None }
    }

    fn unset(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared.timers.borrow_mut().wakers.remove(&key);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let fired = self.key.is_some_and(|key| !self.shared.timers.borrow().wakers.contains_key(&key));
        if fired || self.deadline <= self.shared.now.get() && self.key.is_none() {
            self.key = None;
            return Poll::Ready(());
        }
        let shared = Rc::clone(&self.shared);
        let mut timers = shared.timers.borrow_mut();
        match self.key {
            // Polled for another reason: it keeps its place among the timers of its instant.
            Some(key) => {
                timers.wakers.insert(key, cx.waker().clone());
            }
            None => self.key = Some(timers.set(self.deadline, cx.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unset();
    }
}
