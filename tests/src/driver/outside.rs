//! The world outside of an engine: time that passes when it is told to.

use crate::memory_pipe::{self, FarEnd, Fault};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::Outside;
use mcp_local_provider_engine::pipe::{Endpoint, NeverOpen, Pipe};
use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Start of every run: 2026-01-01T00:00:00Z.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Clocks that are set by hand.
pub struct Virtual {
    now: AtomicU64,
    /// Times at which the calendar stepped, and microseconds since 1970 when `now` is zero, from then on.
    steps: Mutex<Vec<(Instant, u64)>>,
    network: Mutex<Network>,
}

/// Servers in memory, each at a port.
#[derive(Debug, Default)]
struct Network {
    /// Ports at which somebody listens.
    listening: BTreeSet<u16>,
    /// Connections that were opened and not taken.
    opened: Vec<(u16, FarEnd)>,
}

impl fmt::Debug for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Virtual({:?})", self.now())
    }
}

impl Virtual {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            steps: Mutex::new(vec![(Instant::ZERO, micros(EPOCH))]),
            network: Mutex::default(),
        }
    }

    /// A server takes connections at a port from now on, or refuses them.
    pub fn listen(&self, port: u16, listens: bool) {
        let listening = &mut self.network.lock().unwrap().listening;
        match listens {
            true => listening.insert(port),
            false => listening.remove(&port),
        };
    }

    /// Takes the connections that were opened, each with its port.
    pub fn accept(&self) -> Vec<(u16, FarEnd)> {
        std::mem::take(&mut self.network.lock().unwrap().opened)
    }

    /// Sets the monotonic clock, also back, as threads see it whose reading is old.
    pub fn set_now(&self, now: Instant) {
        self.now.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Moves the calendar, as its owner or NTP does, or a machine that has slept.
    pub fn step_calendar(&self, by_micros: i64) {
        let mut steps = self.steps.lock().unwrap();
        let (_, before) = *steps.last().expect("a calendar");
        steps.push((self.now(), before.saturating_add_signed(by_micros)));
    }

    /// Steps of the calendar so far.
    pub fn steps(&self) -> usize {
        self.steps.lock().unwrap().len()
    }

    /// What the calendar said at `at`.
    pub fn calendar(&self, at: Instant) -> Duration {
        let steps = self.steps.lock().unwrap();
        let mut steps = steps.iter().rev();
        let (_, unix) = steps.find(|(from, _)| *from <= at).expect("a calendar");
        Duration::from_micros(unix + at.as_micros())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

impl Outside for Virtual {
    fn now(&self) -> Instant {
        Instant::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn unix(&self) -> Duration {
        let (_, unix) = *self.steps.lock().unwrap().last().expect("a calendar");
        Duration::from_micros(unix + self.now.load(Ordering::Relaxed))
    }

    fn dial(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        let mut network = self.network.lock().unwrap();
        if !network.listening.contains(&endpoint.port) {
            return Box::new(NeverOpen::new(ErrorKind::ConnectionRefused));
        }
        let (near, far) = memory_pipe::pipe(Fault::None, &[]);
        network.opened.push((endpoint.port, far));
        Box::new(near)
    }
}
