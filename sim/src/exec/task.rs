//! Tasks: futures with a name, and the queue of those that can go on.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

/// The future that [`run`](super::Executor::run) was given. It is on the stack of that call, not in the list.
pub(super) const MAIN: usize = 0;

pub(super) struct Task {
    name: &'static str,
    pub(super) future: Pin<Box<dyn Future<Output = ()>>>,
    alarm: Arc<Alarm>,
}

impl Task {
    pub(super) fn waker(&self) -> Waker {
        Arc::clone(&self.alarm).into()
    }
}

impl Drop for Task {
    /// A waker may outlive its task; it rings no more.
    fn drop(&mut self) {
        self.alarm.rung.store(true, Ordering::Relaxed);
    }
}

/// What wakes one task. A waker has to be `Send` by its type, hence a lock that nobody contends for.
struct Alarm {
    id: usize,
    /// It is in the queue already, or it has ended.
    rung: AtomicBool,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

impl Ready {
    fn queue(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            self.ready.queue().push_back(self.id);
        }
    }
}

/// All tasks that have not ended, and those of them that can go on.
pub(super) struct Tasks {
    /// By id, from 1; nothing where a task is being polled or has ended.
    slots: Vec<Option<Task>>,
    main: Arc<Alarm>,
    ready: Arc<Ready>,
}

impl Default for Tasks {
    fn default() -> Self {
        let ready = Arc::new(Ready::default());
        let main = Alarm { id: MAIN, rung: AtomicBool::new(false), ready: Arc::clone(&ready) };
        Self { slots: Vec::new(), main: Arc::new(main), ready }
    }
}

impl Tasks {
    /// Adds a task. It can go on at once.
    pub(super) fn add(&mut self, name: &'static str, future: Pin<Box<dyn Future<Output = ()>>>) {
        let id = self.slots.len() + 1;
        let alarm = Arc::new(Alarm { id, rung: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        alarm.wake_by_ref();
        self.slots.push(Some(Task { name, future, alarm }));
    }

    pub(super) fn main_waker(&mut self) -> Waker {
        Arc::clone(&self.main).into()
    }

    /// The main future is being polled: from now on it can be woken again.
    pub(super) fn main_started(&mut self) {
        self.main.rung.store(false, Ordering::Relaxed);
    }

    pub(super) fn ready_count(&self) -> usize {
        self.ready.queue().len()
    }

    /// Takes one of those that can go on out of their queue, counted from the oldest.
    pub(super) fn take_ready(&mut self, pick: usize) -> Option<usize> {
        self.ready.queue().remove(pick)
    }

    /// Takes a task out, to be polled. From now on it can be woken again.
    pub(super) fn take(&mut self, id: usize) -> Option<Task> {
        let task = self.slots.get_mut(id - 1)?.take()?;
        task.alarm.rung.store(false, Ordering::Relaxed);
        Some(task)
    }

    pub(super) fn put_back(&mut self, id: usize, task: Task) {
        self.slots[id - 1] = Some(task);
    }

    /// The names of all that have not ended.
    pub(super) fn names(&self) -> Vec<&'static str> {
        ["main"].into_iter().chain(self.slots.iter().flatten().map(|task| task.name)).collect()
    }

    /// Takes everything out. Ids are never used again: a waker may live on.
    pub(super) fn take_all(&mut self) -> Vec<Task> {
        self.main.rung.store(false, Ordering::Relaxed);
        self.ready.queue().clear();
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}
