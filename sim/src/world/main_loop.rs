//! What QEMU's main loop has before it: timers, and when it is free to handle the next thing.
//!
//! It keeps the order; what a turn does is for [`super::World`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// A timer: when it fires, and its place among all that happens.
pub(super) type TimerKey = (Duration, u64);

/// One thing that waits to be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) due: Duration,
    pub(super) sequence: u64,
    pub(super) what: What,
}

/// What there is to handle. Numbers are those of monitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Accept(usize),
    Request(usize),
    OutOfBand(usize),
    Timer(TimerKey),
    HeldEvent,
    Agent(AgentTurn),
}

/// What there is to handle at the guest agent's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentTurn {
    Accept,
    Input,
    Guest,
}

/// Timers of type `T`, and the loop's own state.
#[derive(Debug)]
pub(super) struct MainLoop<T> {
    timers: BTreeMap<TimerKey, T>,
    /// Timers without delay: they run behind the turn that asked for them, before anything else.
    at_once: VecDeque<T>,
    /// The end of the last turn.
    free_at: Duration,
    /// The last turn has stalled, and what it said at its end has not gone out.
    stalled: bool,
    sequence: u64,
}

impl<T> Default for MainLoop<T> {
    fn default() -> Self {
        Self {
            timers: BTreeMap::new(),
            at_once: VecDeque::new(),
            free_at: Duration::ZERO,
            stalled: false,
            sequence: 0,
        }
    }
}

impl<T> MainLoop<T> {
    /// An idle loop that takes the place of another, whose turns came before all of its own.
    pub(super) fn continuing(other: &mut Self) -> Self {
        Self { sequence: other.next_sequence(), ..Self::default() }
    }

    /// The place of the next thing among all that happens.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Ends a turn that began at `at`, stood still until `end`, and asked for timers.
    pub(super) fn end_turn(&mut self, at: Duration, end: Duration, timers: Vec<(Duration, T)>) {
        self.free_at = end;
        self.stalled = end > at;
        for (due, timer) in timers {
            if due <= end {
                self.at_once.push_back(timer);
            } else {
                self.schedule(due, timer);
            }
        }
    }

    /// Lets a timer fire at `due`.
    pub(super) fn schedule(&mut self, due: Duration, timer: T) {
        let sequence = self.next_sequence();
        self.timers.insert((due, sequence), timer);
    }

    /// When the loop has to go on, whatever else waits: the end of a stall, or a timer without delay.
    pub(super) fn must_at(&self) -> Option<Duration> {
        (self.stalled || !self.at_once.is_empty()).then_some(self.free_at)
    }

    /// The end of a stall, if there is one.
    pub(super) fn stalled_until(&self) -> Option<Duration> {
        self.stalled.then_some(self.free_at)
    }

    /// When something that is due is handled: not while the loop is busy.
    pub(super) fn not_before(&self, due: Duration) -> Duration {
        due.max(self.free_at)
    }

    /// Whether a stall has to be ended before anything else; it is ended by asking.
    pub(super) fn stall_is_over(&mut self) -> bool {
        std::mem::take(&mut self.stalled)
    }

    /// The next timer without delay.
    pub(super) fn next_at_once(&mut self) -> Option<T> {
        self.at_once.pop_front()
    }

    /// The timers that fire next: all those of the earliest time.
    pub(super) fn first_timers(&self) -> impl Iterator<Item = Turn> {
        let first = self.timers.keys().next().map(|(due, _)| *due);
        let keys = self.timers.keys().take_while(move |(due, _)| Some(*due) == first);
        keys.map(|&(due, sequence)| Turn { due, sequence, what: What::Timer((due, sequence)) })
    }

    pub(super) fn take_timer(&mut self, key: TimerKey) -> Option<T> {
        self.timers.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn timers_without_delay_run_first_and_in_order() {
        let mut main_loop = MainLoop::default();
        main_loop.end_turn(ms(5), ms(5), vec![(ms(7), "late"), (ms(5), "first"), (ms(5), "second")]);
        assert_eq!(main_loop.must_at(), Some(ms(5)));
        assert_eq!(main_loop.next_at_once(), Some("first"));
        assert_eq!(main_loop.next_at_once(), Some("second"));
        assert_eq!(main_loop.must_at(), None);
        assert_eq!(main_loop.first_timers().map(|turn| turn.due).collect::<Vec<_>>(), [ms(7)]);
    }

    #[test]
    fn a_stall_keeps_everything_waiting_until_its_end() {
        let mut main_loop = MainLoop::default();
        main_loop.end_turn(ms(5), ms(14), vec![(ms(5), "soon")]);
        assert_eq!(main_loop.must_at(), Some(ms(14)));
        assert_eq!(main_loop.not_before(ms(6)), ms(14));
        assert!(main_loop.stall_is_over());
        assert!(!main_loop.stall_is_over());
        assert_eq!(main_loop.must_at(), Some(ms(14)), "the timer without delay");
    }

    #[test]
    fn timers_of_the_same_instant_are_all_offered_and_later_ones_are_not() {
        let mut main_loop = MainLoop::default();
        main_loop.end_turn(ms(0), ms(0), vec![(ms(3), "a"), (ms(2), "b"), (ms(2), "c")]);
        let offered: Vec<_> = main_loop.first_timers().collect();
        assert_eq!(offered.len(), 2);
        let timers = offered.iter().map(|turn| match turn.what {
            What::Timer(key) => main_loop.timers[&key],
            _ => unreachable!("only timers were put in"),
        });
        assert_eq!(timers.collect::<Vec<_>>(), ["b", "c"]);
    }
}
