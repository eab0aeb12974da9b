//! Processes of MCP servers, as those see them who run them: orders and lines out, lines and ends in.
//!
//! A host gives the engine a [`Children`]. For each process that a server needs, the engine gives it a [`Child`]; the host
//! runs it on a thread of its own, as it runs an agent's process, or, where the server is reached over HTTP, as background work
//! ([`Engine::spawn`]):
//!
//! ```text
//! loop { child.take(&waker, &mut work); carry out work.orders in order; write work.lines; wait until work.until; }
//! ```

use super::cell::ServerCell;
use crate::Engine;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::Instant;
pub use mcp_local_provider_mcp::refusal::{Exit, Refusal};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// Runs the processes of MCP servers.
pub trait Children: Send + Sync + fmt::Debug {
    /// Runs `child` on a thread of its own or as background work, until [`Work::ended`].
    ///
    /// # Errors
    /// The system gives no thread.
    fn run(&self, child: Child) -> io::Result<()>;
}

/// Orders and lines for one process.
#[derive(Debug, Default)]
pub struct Work {
    /// Orders, to be carried out in this order.
    pub orders: Vec<Order>,
    /// Lines for the process, each with its end. Those that were not written when the process ends are dropped.
    pub lines: VecDeque<String>,
    /// More lines wait: [`Child::take`] gives them when `lines` is empty.
    pub has_more: bool,
    /// The next deadline: [`Child::take`] is to be called then, though nobody woke the thread.
    pub until: Option<Instant>,
    /// There is no process any more, and none is to be started: the thread ends too. When one is needed again, the engine
    /// gives another [`Child`].
    pub ended: bool,
}

/// One process of a server, for the thread that runs it.
pub struct Child {
    engine: Arc<Engine>,
    cell: Arc<ServerCell>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({})", self.cell.name)
    }
}

impl Child {
    pub(super) const fn new(engine: Arc<Engine>, cell: Arc<ServerCell>) -> Self {
        Self { engine, cell }
    }

    /// Name of the server.
    #[must_use]
    pub fn server(&self) -> &Arc<str> {
        &self.cell.name
    }

    /// Serves the deadlines that are due, moves the orders that there are behind those in `work`, and the lines when `work` has
    /// none. `waker` is woken when there are more. Lines that are not moved are bounded: a process that does not read its input is
    /// ended.
    pub fn take(&self, waker: &Waker, work: &mut Work) {
        self.cell.serve_timers(&self.engine);
        self.cell.take(waker, work, || {
            self.engine.gateway().is_none_or(|gateway| {
                let most = gateway.config().processes.starts_at_once;
                gateway.starts.begin(most, waker)
            })
        });
        if work.ended
            && let Some(gateway) = self.engine.gateway()
        {
            gateway.process_ended(&self.cell);
        }
    }

    /// The process was started. `pid` is its id, or that of the process that supervises it; a server that is reached over HTTP has none.
    pub fn handle_started(&self, pid: Option<i32>) {
        self.cell.handle_started(&self.engine, pid);
    }

    /// The process wrote a line to its standard output.
    pub fn handle_line(&self, line: Line<'_>) {
        self.cell.call(&self.engine, |server, now, out, deliver| {
            server.handle_line(now, line, out, deliver);
        });
    }

    /// Who made the request of this number, with the rights that the keys give it now. `None` where it was taken back, is the
    /// gateway's own, or is of somebody who may not use the server any more.
    #[must_use]
    pub fn caller(&self, number: u64) -> Option<Caller> {
        let caller = self.cell.caller(number)?;
        let keys = self.engine.policy().keys;
        let may = keys.uphold_server(caller.authority, &self.cell.name);
        keys.renewed(&caller).filter(|_| may)
    }

    /// The server did not take this line, with the request of this number, and is about to end.
    pub fn handle_not_taken(&self, number: u64, line: &str) {
        self.cell.call(&self.engine, |server, _, _, _| {
            server.handle_not_taken(number, line);
        });
    }

    /// The line with the request of this number gets no answer.
    pub fn handle_unanswered(&self, number: u64, refusal: Refusal) {
        self.cell.call(&self.engine, |server, now, out, deliver| {
            server.handle_unanswered(now, number, refusal, out, deliver);
        });
    }

    /// The process has ended, or could not be started: `why`, as a sentence for the log and for callers, begins with "it". Lines
    /// that it had not read are lost.
    pub fn handle_exited(&self, exit: Exit, why: &str) {
        self.cell.call(&self.engine, |server, now, out, deliver| {
            server.handle_exited(now, exit, why, out, deliver);
        });
    }
}
