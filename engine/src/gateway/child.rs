//! Processes of MCP servers, as those see them who run them: orders and lines out, lines and ends in.
//!
//! A host gives the engine a [`Children`]. For each process that a server needs, the engine gives it a [`Child`]; the host
//! runs it on a thread of its own, as it runs an agent's process:
//!
//! ```text
//! loop { child.take(&waker, &mut work); carry out work.orders in order; write work.lines; wait until work.until; }
//! ```

use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// Runs the processes of MCP servers.
pub trait Children: Send + Sync + fmt::Debug {
    /// Runs `child` on a thread of its own, until [`Work::ended`].
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
    /// The next deadline: [`Child::take`] is to be called then, though nobody woke the thread.
    pub until: Option<Instant>,
    /// Nobody needs the process any more, and it has ended: the thread ends too.
    pub ended: bool,
}

/// The way in which a process of a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It could not be started.
    NotStarted,
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
    /// It closed its standard output.
    OutputClosed,
}

/// One process of a server, for the thread that runs it.
pub struct Child {
    server: Arc<str>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({})", self.server)
    }
}

impl Child {
    /// Name of the server.
    #[must_use]
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Serves the deadlines that are due, and moves the orders and lines that there are behind those in `work`. `waker` is
    /// woken when there are more.
    pub fn take(&self, waker: &Waker, work: &mut Work) {
        let _ = (waker, work);
    }

    /// The process was started.
    pub fn handle_started(&self) {}

    /// The process wrote a line to its standard output.
    pub fn handle_line(&self, line: Line<'_>) {
        let _ = line;
    }

    /// The process has ended, or could not be started: `why`, as a sentence for the log and for operators, begins with "it".
    /// Lines that it had not read are lost.
    pub fn handle_exited(&self, exit: Exit, why: &str) {
        let _ = (exit, why);
    }
}
