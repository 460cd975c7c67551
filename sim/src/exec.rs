//! Runs a client's futures under virtual time, one at a time, in an order that the oracle decides.
//!
//! ```text
//!   a task is ready ------------> the oracle picks one (by default the oldest) --> it is polled
//!   none is ready --------------> the clock jumps to the next timer or event of the surroundings; of those
//!                                 of that instant the oracle picks one (by default the surroundings, then
//!                                 timers in the order they were set) --> it wakes tasks
//!   nothing will ever happen ---> deadlock: the waiting tasks are named
//! ```
//!
//! Time passes only while no task is ready, so a computation takes none. The clock counts nanoseconds, though
//! all durations of the simulator are whole milliseconds. There is one thread, no `unsafe`, and no I/O: what
//! is waited for is a timer, another task, or the surroundings ([`Surroundings`]).

mod task;
mod timer;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use task::{MAIN, Tasks};
use timer::Timers;

pub use timer::Sleep;

/// What happens around the tasks by itself, and what decides in which order.
pub trait Surroundings {
    /// When something happens next by itself.
    fn next_event(&self) -> Option<Duration>;

    /// Lets happen what is due by `now`.
    fn advance(&self, now: Duration);

    /// Which of `n` ways something goes; 0 is usual.
    fn choose(&self, label: &'static str, n: usize) -> usize;
}

/// All tasks wait, and nothing will ever wake one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("deadlock at {at:?}: waiting for nothing that will happen: {}", .waiting.join(", "))]
pub struct Deadlock {
    /// The virtual time at which the world stood still.
    pub at: Duration,
    /// The names of the tasks that wait, oldest first.
    pub waiting: Vec<&'static str>,
}

/// The clock and the task list: what tasks reach of their executor. Cheap to clone.
#[derive(Clone, Default)]
pub struct Spawner {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    now: Cell<Duration>,
    timers: RefCell<Timers>,
    tasks: RefCell<Tasks>,
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Spawner {
    /// The virtual time.
    pub fn now(&self) -> Duration {
        self.shared.now.get()
    }

    /// Waits until the virtual time is `deadline`.
    pub fn sleep_until(&self, deadline: Duration) -> Sleep {
        Sleep::new(Rc::clone(&self.shared), deadline)
    }

    /// Starts a task. It ends with the run, wherever it stands then.
    pub fn spawn_local(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.shared.tasks.borrow_mut().add(name, Box::pin(task));
    }
}

/// Runs tasks in given surroundings.
#[derive(Debug)]
pub struct Executor<S> {
    spawner: Spawner,
    surroundings: S,
}

impl<S: Surroundings> Executor<S> {
    /// An executor whose clock stands at 0 and may already be known to others by its spawner.
    pub fn new(spawner: Spawner, surroundings: S) -> Self {
        Self { spawner, surroundings }
    }

    /// Runs a future, and the tasks that it starts, until it is complete. Then all other tasks are dropped.
    /// May be called again: time goes on from where it was.
    ///
    /// # Errors
    /// [`Deadlock`] if it can never complete.
    pub fn run<F: Future>(&self, main: F) -> Result<F::Output, Deadlock> {
        let mut main = pin!(main);
        let waker = self.tasks(Tasks::main_waker);
        waker.wake_by_ref();
        let mut cx = Context::from_waker(&waker);
        let result = loop {
            let Some(id) = self.pick_ready() else {
                if self.let_time_pass() {
                    continue;
                }
                break Err(self.deadlock());
            };
            if id == MAIN {
                self.tasks(Tasks::main_started);
                if let Poll::Ready(output) = main.as_mut().poll(&mut cx) {
                    break Ok(output);
                }
            } else {
                self.poll(id);
            }
        };
        self.drop_tasks();
        result
    }

    fn tasks<T>(&self, with: impl FnOnce(&mut Tasks) -> T) -> T {
        with(&mut self.spawner.shared.tasks.borrow_mut())
    }

    fn pick_ready(&self) -> Option<usize> {
        let ready = self.tasks(|tasks| tasks.ready_count());
        if ready == 0 {
            return None;
        }
        let pick = self.surroundings.choose("task", ready);
        self.tasks(|tasks| tasks.take_ready(pick))
    }

    /// Polls one task. It is out of the list meanwhile, since it may start others.
    fn poll(&self, id: usize) {
        let Some(mut task) = self.tasks(|tasks| tasks.take(id)) else { return };
        let waker = task.waker();
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks(|tasks| tasks.put_back(id, task));
        }
    }

    /// Moves the clock to the next thing that happens, and lets one happen. False if there is none.
    fn let_time_pass(&self) -> bool {
        let shared = &self.spawner.shared;
        let event = self.surroundings.next_event();
        let timer = shared.timers.borrow().first();
        let Some(at) = event.into_iter().chain(timer).min() else { return false };
        shared.now.set(shared.now.get().max(at));

        let events = usize::from(event == Some(at));
        let timers = if timer == Some(at) { shared.timers.borrow().count_at(at) } else { 0 };
        let pick = self.surroundings.choose("instant", events + timers);
        if pick < events {
            self.surroundings.advance(self.spawner.now());
        } else {
            let waker = shared.timers.borrow_mut().take(pick - events);
            waker.wake();
        }
        true
    }

    fn deadlock(&self) -> Deadlock {
        Deadlock { at: self.spawner.now(), waiting: self.tasks(|tasks| tasks.names()) }
    }

    /// Drops all tasks. What they drop may wake or even start others: those go as well.
    fn drop_tasks(&self) {
        loop {
            let dropped = self.tasks(Tasks::take_all);
            if dropped.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
