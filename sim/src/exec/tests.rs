use super::*;
use crate::oracle::Oracle;

/// Nothing happens by itself but at given times, and the oracle is the caller's.
#[derive(Default)]
struct Around {
    events: RefCell<Vec<Duration>>,
    oracle: RefCell<Oracle>,
}

impl Surroundings for Rc<Around> {
    fn next_event(&self) -> Option<Duration> {
        self.events.borrow().first().copied()
    }

    fn advance(&self, now: Duration) {
        self.events.borrow_mut().retain(|at| *at > now);
    }

    fn choose(&self, label: &'static str, n: usize) -> usize {
        self.oracle.borrow_mut().choose(label, n)
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

type Log = Rc<RefCell<Vec<&'static str>>>;

/// Runs tasks that each note their name at given times; gives what was noted, in order.
fn notes(oracle: Oracle, tasks: &[(&'static str, &[u64])]) -> Vec<&'static str> {
    let spawner = Spawner::default();
    let around = Rc::new(Around { oracle: RefCell::new(oracle), ..Around::default() });
    let executor = Executor::new(spawner.clone(), around);
    let log = Log::default();
    for (name, times) in tasks {
        let (spawner_, log, name, times) = (spawner.clone(), Rc::clone(&log), *name, times.to_vec());
        spawner.spawn_local(name, async move {
            for at in times {
                spawner_.sleep_until(ms(at)).await;
                log.borrow_mut().push(name);
            }
        });
    }
    executor.run(spawner.sleep_until(ms(1000))).unwrap();
    log.take()
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    let order = notes(Oracle::default_order(), &[("a", &[30]), ("b", &[10, 40]), ("c", &[20])]);
    assert_eq!(order, ["b", "c", "a", "b"]);
}

#[test]
fn equal_deadlines_fire_in_the_order_they_were_set_unless_the_oracle_says_otherwise() {
    let tasks: [(&str, &[u64]); 3] = [("a", &[10]), ("b", &[10]), ("c", &[10])];
    assert_eq!(notes(Oracle::default_order(), &tasks), ["a", "b", "c"]);
    assert_eq!(notes(Oracle::replay("instant#0=2".parse().unwrap()), &tasks), ["c", "a", "b"]);
}

#[test]
fn of_ready_tasks_the_oldest_goes_first_unless_the_oracle_says_otherwise() {
    let tasks: [(&str, &[u64]); 3] = [("a", &[0]), ("b", &[0]), ("c", &[0])];
    assert_eq!(notes(Oracle::default_order(), &tasks), ["a", "b", "c"]);
    // The main future, spawned last, is not among those that note anything.
    assert_eq!(notes(Oracle::replay("task#0=1".parse().unwrap()), &tasks), ["b", "a", "c"]);
}

#[test]
fn every_order_of_three_tasks_is_reached_by_some_seed() {
    let tasks: [(&str, &[u64]); 3] = [("a", &[10]), ("b", &[10]), ("c", &[10])];
    let orders: std::collections::BTreeSet<_> =
        (0..200).map(|seed| notes(Oracle::seeded(seed), &tasks)).collect();
    assert_eq!(orders.len(), 6);
}

#[test]
fn computation_takes_no_time_and_waiting_takes_exactly_as_long() {
    let spawner = Spawner::default();
    let executor = Executor::new(spawner.clone(), Rc::new(Around::default()));
    let waits = spawner.clone();
    let times = executor.run(async move {
        let start = waits.now();
        waits.sleep_until(Duration::from_nanos(1_500)).await;
        waits.sleep_until(Duration::ZERO).await;
        (start, waits.now())
    });
    assert_eq!(times, Ok((Duration::ZERO, Duration::from_nanos(1_500))));
}

#[test]
fn a_deadlock_names_the_tasks_that_wait() {
    let spawner = Spawner::default();
    let executor = Executor::new(spawner.clone(), Rc::new(Around::default()));
    spawner.spawn_local("reader", std::future::pending());
    spawner.spawn_local("done at once", async {});
    let waits = spawner.clone();
    let main = async move {
        waits.sleep_until(ms(7)).await;
        std::future::pending::<()>().await;
    };
    let deadlock = executor.run(main).unwrap_err();
    assert_eq!(deadlock, Deadlock { at: ms(7), waiting: vec!["main", "reader"] });
    assert_eq!(deadlock.to_string(), "deadlock at 7ms: waiting for nothing that will happen: main, reader");
}

#[test]
fn what_is_left_at_the_end_is_dropped_and_a_second_run_goes_on_in_time() {
    struct Noted(Rc<Cell<bool>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let spawner = Spawner::default();
    let executor = Executor::new(spawner.clone(), Rc::new(Around::default()));
    let dropped = Rc::new(Cell::new(false));
    let noted = Noted(Rc::clone(&dropped));
    spawner.spawn_local("left", async move {
        let _noted = noted;
        std::future::pending::<()>().await;
    });
    executor.run(spawner.sleep_until(ms(5))).unwrap();
    assert!(dropped.get());
    executor.run(spawner.sleep_until(ms(9))).unwrap();
    assert_eq!(spawner.now(), ms(9));
}

#[test]
fn a_timer_that_was_dropped_wakes_nobody_and_holds_up_nothing() {
    let spawner = Spawner::default();
    let executor = Executor::new(spawner.clone(), Rc::new(Around::default()));
    let waits = spawner.clone();
    let main = async move {
        let mut late = pin!(waits.sleep_until(ms(100)));
        let mut soon = pin!(waits.sleep_until(ms(10)));
        std::future::poll_fn(|cx| {
            let _ = late.as_mut().poll(cx);
            soon.as_mut().poll(cx)
        })
        .await;
    };
    executor.run(main).unwrap();
    assert_eq!(spawner.now(), ms(10));
    assert!(executor.run(std::future::pending::<()>()).is_err());
    assert_eq!(spawner.now(), ms(10), "the dropped timer at 100 ms is no event any more");
}

#[test]
fn the_surroundings_go_before_timers_of_the_same_instant_unless_the_oracle_says_otherwise() {
    let left_at_ten = |oracle| {
        let spawner = Spawner::default();
        let around = Rc::new(Around { events: RefCell::new(vec![ms(10)]), oracle: RefCell::new(oracle) });
        let executor = Executor::new(spawner.clone(), Rc::clone(&around));
        executor.run(spawner.sleep_until(ms(10))).unwrap();
        around.events.borrow().len()
    };
    assert_eq!(left_at_ten(Oracle::default_order()), 0);
    assert_eq!(left_at_ten(Oracle::replay("instant#0=1".parse().unwrap())), 1);
}
