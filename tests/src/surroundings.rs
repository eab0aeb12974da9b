//! Surroundings of the engine of a simulated gateway or registry: time, servers in memory, work in the background and processes of
//! servers.

use crate::driver::Virtual;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::Outside;
use mcp_local_provider_engine::background::Background;
use mcp_local_provider_engine::gateway::{Child, Children};
use mcp_local_provider_engine::pipe::{Endpoint, Pipe};
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The clocks, and who runs what the engine gives away.
pub(crate) struct Surroundings {
    pub(crate) clock: Virtual,
    work: Mutex<Vec<Box<dyn Background>>>,
    children: Mutex<Vec<Child>>,
    /// The system gives no more threads.
    pub(crate) is_exhausted: AtomicBool,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Surroundings({:?})", self.clock)
    }
}

impl Surroundings {
    pub(crate) fn new() -> Self {
        Self {
            clock: Virtual::new(),
            work: Mutex::default(),
            children: Mutex::default(),
            is_exhausted: AtomicBool::new(false),
        }
    }

    pub(crate) fn new_work(&self) -> Vec<Box<dyn Background>> {
        std::mem::take(&mut self.work.lock().unwrap())
    }

    pub(crate) fn new_children(&self) -> Vec<Child> {
        std::mem::take(&mut self.children.lock().unwrap())
    }
}

impl Outside for Surroundings {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn unix(&self) -> Duration {
        self.clock.unix()
    }

    fn spawn(&self, work: Box<dyn Background>) {
        self.work.lock().unwrap().push(work);
    }

    fn dial(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        self.clock.dial(endpoint)
    }
}

impl Children for Surroundings {
    fn run(&self, child: Child) -> io::Result<()> {
        if self.is_exhausted.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        self.children.lock().unwrap().push(child);
        Ok(())
    }
}
