//! The registry as a server of the gateway: it takes lines and says them as a process does, and has none. Each run is its caller's,
//! whose rights are looked up whenever the run goes on.

use crate::Engine;
use crate::background::Background;
use crate::gateway::{Child, Exit, Work};
use crate::registry_handle::RegistryHandle;
use crate::registry_hearing::Hearing;
use crate::registry_work::RunningWork;
use event_listener::EventListener;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::rpc::{Line, Message};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::Failure;
use mcp_local_provider_registry::server::{Asked, Served};
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The registry for one [`Child`], with which it ends.
pub struct RegistryServer {
    child: Child,
    engine: Arc<Engine>,
    cell: RegistryHandle,
    work: Work,
    /// There while it is started.
    open: Option<Open>,
    stop: EventListener,
}

impl fmt::Debug for RegistryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.open.as_ref().map_or(0, |open| open.runs.len());
        write!(f, "RegistryServer({runs} runs)")
    }
}

/// All that ends when it is told to end.
struct Open {
    hearing: Hearing,
    /// Runs by the ids of their requests, as JSON.
    runs: BTreeMap<String, Run>,
}

/// A run for a request.
struct Run {
    running: RunningWork,
    asked: Asked,
    /// The gateway's number of the request.
    number: u64,
}

impl Background for RegistryServer {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let cx = &mut Context::from_waker(waker);
        if self.engine.is_stopped() || Pin::new(&mut self.stop).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            self.child.take(waker, &mut self.work);
            let orders = mem::take(&mut self.work.orders);
            let lines = mem::take(&mut self.work.lines);
            let mut moves = !orders.is_empty() || !lines.is_empty();
            for order in orders {
                self.obey(order);
            }
            for line in lines {
                self.take_line(line.trim_end());
            }
            moves |= self.tell(waker);
            if self.work.ended {
                return Poll::Ready(());
            }
            if !moves {
                return Poll::Pending;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let now = self.engine.clock();
        let runs = self.open.iter().flat_map(|open| open.runs.values());
        let of_runs = runs.filter_map(|run| run.running.poll_timeout(now));
        of_runs.chain(self.work.until).min()
    }
}

impl RegistryServer {
    /// The registry for `child`, if the engine has one.
    #[must_use]
    pub fn new(child: Child, engine: Arc<Engine>) -> Option<Self> {
        let cell = engine.registry()?.clone();
        Some(Self {
            stop: engine.listen_for_stop(),
            child,
            cell,
            engine,
            work: Work::default(),
            open: None,
        })
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Spawn => {
                let hearing = Hearing::new(&self.engine, &self.cell);
                hearing.listen();
                let runs = BTreeMap::new();
                self.open = Some(Open { hearing, runs });
                self.child.handle_started(None);
            }
            Order::CloseInput | Order::Terminate | Order::Kill => {
                if self.open.take().is_some() {
                    let why = "it was told to end";
                    self.child.handle_exited(Exit::Disconnected, why);
                }
            }
        }
    }

    fn take_line(&mut self, line: &str) {
        let (Some(open), Ok(message)) = (&mut self.open, Message::read(line)) else {
            return;
        };
        let answer = match open.hearing.serve(&message) {
            Served::Nothing => return,
            Served::Answer(answer) => answer,
            Served::Cancel(id) => {
                open.runs.remove(&id);
                return;
            }
            Served::Run(work, asked) => match RunningWork::begin(&self.engine, &self.cell, work) {
                Ok(running) => {
                    let number = asked.id().parse().unwrap_or_default();
                    let id = asked.id().to_owned();
                    let run = Run {
                        running,
                        asked,
                        number,
                    };
                    open.runs.insert(id, run);
                    return;
                }
                Err(failure) => asked.answer(Err(failure)),
            },
        };
        self.child.handle_line(Line::Whole(answer.as_bytes()));
    }

    /// Goes on with the runs, and tells what there is to be told. True when something was.
    fn tell(&mut self, waker: &Waker) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let now = self.engine.clock();
        let mut lines = Vec::new();
        open.runs.retain(|_, run| {
            let answer = run.poll(&self.child, now, waker);
            let goes_on = answer.is_none();
            lines.extend(answer);
            goes_on
        });
        lines.extend(open.hearing.news(waker).notifications());
        for line in &lines {
            self.child.handle_line(Line::Whole(line.as_bytes()));
        }
        !lines.is_empty()
    }
}

impl Run {
    /// Goes on with it. Returns the message that answers, once it has ended.
    fn poll(&mut self, child: &Child, now: Instant, waker: &Waker) -> Option<String> {
        let ended = match child.caller(self.number) {
            None => Err(Failure::wrong("the key may not use the registry any more")),
            Some(caller) => match self.running.poll(&caller, now, waker) {
                Poll::Pending => return None,
                Poll::Ready(ended) => ended,
            },
        };
        Some(self.asked.answer(ended))
    }
}
