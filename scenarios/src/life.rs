//! The life of a driver's process, in a play where it may be killed.
//!
//! ```text
//! alive -- killed --> its tasks are dropped where they stand, its connections close, its files stay as they are
//! ```
//!
//! Everything that the driver does is bound to its life: once it is over, nothing of it is run any more, and what waited is
//! dropped. What it had sent before is on its way all the same, as it is from a process that is killed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

/// The life of one driver. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    over: Cell<bool>,
    next: Cell<u64>,
    /// Who waits, by the order in which they began.
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Life {
    /// Ends it, and wakes all that is bound to it.
    pub(crate) fn end(&self) {
        self.0.over.set(true);
        for (_, waker) in self.0.waiting.take() {
            waker.wake();
        }
    }

    /// Does something as long as it lasts; none if it ended first. Then the work is dropped where it stands.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let place = Place { life: self.clone(), number: self.0.next.get() };
        self.0.next.set(place.number + 1);
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.0.over.get() {
                return Poll::Ready(None);
            }
            // Only who waits is woken: what ends at once leaves nothing behind.
            let polled = work.as_mut().poll(cx);
            if self.0.over.get() {
                return Poll::Ready(None);
            }
            if polled.is_pending() {
                self.0.waiting.borrow_mut().insert(place.number, cx.waker().clone());
            }
            polled.map(Some)
        })
        .await
    }
}

/// A place among those who wait, until it is dropped.
struct Place {
    life: Life,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.life.0.waiting.borrow_mut().remove(&self.number);
    }
}
