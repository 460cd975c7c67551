//! The time of one served machine.
//!
//! At `1x` it is the host's. At `max` nobody waits for it: whenever all that is ready has been done, the clock is set
//! forward to the next moment that something waits for; while nothing does, it goes on as the host's. It knows
//! nothing of the world whose time it is.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell between the host's time and a served machine's"
)]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    rc::Rc,
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task,
    time::{Instant, sleep_until},
};

use crate::world::sim::Time;

/// How often others get their turn before the clock is set forward: more often than one line is handed on.
const TURNS: usize = 8;

/// How fast a served machine's time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// As the host's.
    Real,
    /// As fast as it goes.
    Max,
}

/// The time of one machine. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    speed: Speed,
    /// By how much it has been set forward.
    skipped: Cell<Duration>,
    /// Who waits, and until when; the number tells two of the same moment apart.
    waiting: RefCell<BTreeMap<(Duration, u64), oneshot::Sender<()>>>,
    waited: Cell<u64>,
    more: Notify,
}

impl Clock {
    /// A clock that shows 0 now.
    pub fn start(speed: Speed) -> Self {
        let shared = Shared {
            start: Instant::now(),
            speed,
            skipped: Cell::default(),
            waiting: RefCell::default(),
            waited: Cell::default(),
            more: Notify::new(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// The time since it was started.
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed() + self.shared.skipped.get()
    }

    /// Waits until it shows `deadline`. At `max` somebody has to [`Clock::run`] it.
    pub fn wait_until(&self, deadline: Duration) -> impl Future<Output = ()> + use<> {
        let shared = Rc::clone(&self.shared);
        async move {
            match shared.speed {
                Speed::Real => sleep_until(shared.start + deadline).await,
                Speed::Max => {
                    let (reached, wait) = oneshot::channel();
                    let number = shared.waited.get();
                    shared.waited.set(number + 1);
                    shared.waiting.borrow_mut().insert((deadline, number), reached);
                    shared.more.notify_one();
                    // The sender is dropped unused only with the clock itself.
                    let _ = wait.await;
                }
            }
        }
    }

    /// Sets the clock forward whenever somebody waits. Never ends.
    pub async fn run(&self) {
        loop {
            for _ in 0..TURNS {
                task::yield_now().await;
            }
            let next = self.shared.waiting.borrow_mut().pop_first();
            match next {
                None => self.shared.more.notified().await,
                // Who waited has left: no reason to set the clock.
                Some((_, reached)) if reached.is_closed() => {}
                Some(((deadline, _), reached)) => {
                    let ahead = deadline.saturating_sub(self.now());
                    self.shared.skipped.set(self.shared.skipped.get() + ahead);
                    let _ = reached.send(());
                }
            }
        }
    }
}

impl Time for Clock {
    fn now(&self) -> Duration {
        Clock::now(self)
    }

    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static {
        self.wait_until(deadline)
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        task::spawn_local(task);
    }
}
