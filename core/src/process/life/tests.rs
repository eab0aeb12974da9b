//! Lives of children, by hand and by chance.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use alloc::vec;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

struct Child {
    life: Life,
    now: Instant,
    orders: Vec<Order>,
}

impl Child {
    fn new(rules: Rules) -> Self {
        Self {
            life: Life::new(rules),
            now: Instant::from_micros(1),
            orders: Vec::new(),
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Life, Instant, &mut Vec<Order>)) -> Vec<Order> {
        call(&mut self.life, self.now, &mut self.orders);
        core::mem::take(&mut self.orders)
    }

    fn after(&mut self, time: Duration) -> Vec<Order> {
        self.now = self.now + time;
        self.call(Life::handle_timeout)
    }

    /// Starts the process, and gets it ready.
    fn run(&mut self) {
        self.call(|life, now, _| {
            life.handle_started(now);
            life.handle_ready(now);
        });
        assert!(matches!(self.life.state(), State::Running { .. }));
    }
}

#[test]
fn a_child_that_ends_at_once_is_started_after_longer_and_longer_waits_and_given_up() {
    let mut child = Child::new(Rules {
        attempts: Some(4),
        ..Rules::default()
    });
    assert_eq!(child.call(Life::demand), [Order::Spawn]);
    for wait in [1, 2, 4] {
        assert_eq!(child.call(Life::handle_exited), []);
        assert!(matches!(child.life.state(), State::Waiting { .. }));
        let wait = SECOND * wait;
        assert_eq!(child.life.next_start(), Some(child.now + wait));
        assert_eq!(child.after(wait - Duration::from_micros(1)), []);
        assert_eq!(child.after(Duration::from_micros(1)), [Order::Spawn]);
    }
    assert_eq!(child.call(Life::handle_exited), []);
    assert!(matches!(child.life.state(), State::Failing { .. }));
    assert_eq!(child.life.poll_timeout(), None);
    // One try a minute for those who ask.
    assert_eq!(child.call(Life::demand), []);
    child.after(SECOND * 60);
    assert_eq!(child.call(Life::demand), [Order::Spawn]);
    assert_eq!(child.call(Life::handle_exited), []);
    assert!(matches!(child.life.state(), State::Failing { .. }));
    // The person knows better.
    assert_eq!(child.call(Life::start), [Order::Spawn]);
    assert_eq!(child.life.failures(), 0);
}

#[test]
fn a_child_that_has_worked_for_long_is_forgiven() {
    let mut child = Child::new(Rules {
        unpunished: 1,
        ..Rules::default()
    });
    child.call(Life::start);
    for _ in 0..5 {
        child.run();
        child.after(SECOND * 60);
        assert_eq!(child.call(Life::handle_exited), [Order::Spawn]);
        assert_eq!(child.life.failures(), 1);
    }
    // It is killed for what it did after a minute of work.
    child.run();
    child.after(SECOND * 60);
    assert_eq!(child.call(Life::handle_failed), [Order::Kill]);
    assert_eq!(child.call(Life::handle_exited), [Order::Spawn]);
    assert_eq!(child.call(Life::handle_exited), []);
    assert_eq!(child.life.next_start(), Some(child.now + SECOND));
}

#[test]
fn somebody_who_waits_brings_the_start_forward() {
    let mut child = Child::new(Rules {
        first_wait: SECOND * 30,
        ..Rules::default()
    });
    child.call(Life::start);
    child.call(Life::handle_exited);
    assert_eq!(child.call(Life::demand), []);
    assert_eq!(child.life.next_start(), Some(child.now + SECOND));
    assert_eq!(child.after(SECOND), [Order::Spawn]);
    // Or waits while it is being killed.
    child.run();
    child.call(Life::handle_failed);
    assert_eq!(child.call(Life::demand), []);
    child.call(Life::handle_exited);
    assert_eq!(child.life.next_start(), Some(child.now + SECOND));
}

#[test]
fn a_child_has_its_grace_to_end() {
    let mut child = Child::new(Rules::default());
    child.call(Life::start);
    child.run();
    assert_eq!(child.call(Life::stop), [Order::CloseInput]);
    let grace = Grace::default();
    assert_eq!(child.after(grace.before_terminate), [Order::Terminate]);
    assert_eq!(child.after(grace.before_kill), [Order::Kill]);
    assert_eq!(child.life.poll_timeout(), None);
    assert_eq!(child.call(Life::handle_exited), []);
    assert_eq!(child.life.state(), State::Stopped);
    // The grace may be cut short, once.
    child.call(Life::start);
    child.run();
    child.call(Life::restart);
    assert_eq!(child.call(Life::handle_failed), [Order::Kill]);
    assert_eq!(child.call(Life::handle_failed), []);
    assert_eq!(child.call(Life::handle_exited), [Order::Spawn]);
}

#[test]
fn a_child_that_is_not_ready_in_time_is_killed() {
    let mut child = Child::new(Rules::default());
    child.call(Life::start);
    child.call(|life, now, _| life.handle_started(now));
    assert_eq!(child.after(SECOND * 30), [Order::Kill]);
    child.call(Life::handle_exited);
    assert_eq!(child.life.failures(), 1);
    assert_eq!(child.life.starts(), 1);
}

/// A process as its orders leave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Process {
    None,
    Runs { told: usize },
}

impl Process {
    /// Orders come for the process that is there, and the end comes step by step.
    fn obey(&mut self, order: Order) {
        const STEPS: [Order; 3] = [Order::CloseInput, Order::Terminate, Order::Kill];
        *self = match (order, *self) {
            (Order::Spawn, Self::None) => Self::Runs { told: 0 },
            (Order::CloseInput | Order::Terminate | Order::Kill, Self::Runs { told }) => {
                let step = STEPS.iter().position(|step| *step == order).unwrap() + 1;
                assert!(step > told, "{order:?} twice, or late");
                Self::Runs { told: step }
            }
            (order, process) => panic!("{order:?} for {process:?}"),
        };
    }
}

proptest! {
    #[test]
    fn whatever_happens_there_is_one_process_and_every_stop_ends_it(
        inputs in proptest::collection::vec((0..9_u8, 0..5_u64), 0..60),
        attempts in proptest::option::of(0..4_u32),
    ) {
        let mut child = Child::new(Rules { attempts, unpunished: 1, ..Rules::default() });
        let mut process = Process::None;
        for (input, seconds) in inputs {
            let orders = match input {
                0 => child.call(Life::start),
                1 => child.call(Life::demand),
                2 => child.call(Life::restart),
                3 => child.call(Life::stop),
                4 => child.call(|life, now, _| life.handle_started(now)),
                5 => child.call(|life, now, _| life.handle_ready(now)),
                6 => child.call(Life::handle_failed),
                7 => {
                    process = Process::None;
                    child.call(Life::handle_exited)
                }
                _ => child.after(SECOND * u32::try_from(seconds * seconds * 5).unwrap()),
            };
            orders.into_iter().for_each(|order| process.obey(order));
            let state = child.life.state();
            prop_assert_eq!(
                process == Process::None,
                matches!(state, State::Stopped | State::Waiting { .. } | State::Failing { .. })
            );
            if let Some(timeout) = child.life.poll_timeout().filter(|timeout| timeout.at <= child.now) {
                let orders = child.call(Life::handle_timeout);
                prop_assert!(!orders.is_empty(), "{:?} does nothing", timeout);
                orders.into_iter().for_each(|order| process.obey(order));
                prop_assert!(child.life.poll_timeout().is_none_or(|next| next.at > child.now));
            }
        }
        let mut orders = child.call(Life::stop);
        let grace = Grace::default();
        for wait in [grace.before_terminate, grace.before_kill] {
            orders.extend(child.after(wait));
        }
        orders.into_iter().for_each(|order| process.obey(order));
        let is_over = matches!(process, Process::None | Process::Runs { told: 3 });
        prop_assert!(is_over, "{:?}", process);
        prop_assert_eq!(child.call(Life::handle_exited), vec![]);
        prop_assert_eq!(child.life.state(), State::Stopped);
        prop_assert_eq!(child.after(SECOND * 1000), vec![]);
    }
}
