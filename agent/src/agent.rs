//! An agent before it is served: what it says about itself, and who is told what happens to it.

use mcp_local_provider_core::agent::{Event, Times};
use mcp_local_provider_core::link::Registration;
use mcp_local_provider_core::{Capabilities, Scope, Supports};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// An agent that answers for one model, and what it says about itself when it registers.
///
/// It is served by [`Agent::serve`], or with the feature `smol` by `Agent::serve_async`.
pub struct Agent {
    pub(crate) registration: Registration,
    pub(crate) times: Times,
    pub(crate) observer: Box<dyn Fn(&Event) + Send + Sync>,
    pub(crate) stopper: Stopper,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({})", self.registration.agent_id)
    }
}

impl Agent {
    /// An agent for the model of this name, which is its own name too. It answers at most 16 questions at once.
    pub fn new(model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            registration: Registration {
                agent_id: model.clone(),
                models: vec![model],
                max_concurrency: Some(16),
                ..Registration::default()
            },
            times: Times::default(),
            observer: Box::new(|_| {}),
            stopper: Stopper::default(),
        }
    }

    /// Names the agent for people.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.registration.label = Some(label.into());
        self
    }

    /// Declares what the agent can do, so that clients offer it: tools, images, vectors, thinking.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.registration.supports = Supports::declared(Scope::Inference.into(), capabilities);
        self
    }

    /// Bounds the questions that are answered at once; at least 1. Others wait at the provider.
    #[must_use]
    pub fn max_concurrency(mut self, most: u32) -> Self {
        self.registration.max_concurrency = Some(u64::from(most.max(1)));
        self
    }

    /// Sets times other than the protocol's.
    #[must_use]
    pub const fn times(mut self, times: Times) -> Self {
        self.times = times;
        self
    }

    /// Calls `observer` with the news about connection and session, on the thread that serves the agent.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Returns a handle that ends the agent from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

/// Ends an agent: its session is given back, what it answers is cancelled, and `serve` returns.
#[derive(Clone, Debug, Default)]
pub struct Stopper(Arc<Stop>);

#[derive(Debug)]
struct Stop {
    asked: AtomicBool,
    waker: Mutex<Waker>,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            asked: AtomicBool::new(false),
            waker: Mutex::new(Waker::noop().clone()),
        }
    }
}

impl Stopper {
    /// Ends the agent, or the next one to be served with this handle.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        let waker = self.0.waker.lock();
        waker.unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }

    /// Returns true once it was called; else `waker` is woken then.
    pub(crate) fn poll_asked(&self, waker: &Waker) -> bool {
        let mut own = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone_from(waker);
        drop(own);
        self.0.asked.load(Ordering::SeqCst)
    }
}
