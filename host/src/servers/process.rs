//! Runs one process of a server: carries out the orders for it, writes its lines, and passes on what it writes.

use super::Plans;
use super::error_lines::ErrorLines;
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::wire::lines::Line;
use mcp_local_provider_engine::gateway::{Child, Exit, Work};
use mcp_local_provider_engine::{Engine, run_queue};
use mcp_local_provider_process::{Ending, Event, Process, ProcessWaker};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// Receives what a process does, and says what is to be done with it; see [`Child`].
pub(super) trait Owner {
    fn server(&self) -> &str;
    fn take(&self, waker: &Waker, work: &mut Work);
    fn handle_started(&self, pid: i32);
    fn handle_line(&self, line: Line<'_>);
    fn handle_exited(&self, exit: Exit, why: &str);
}

impl Owner for Child {
    fn server(&self) -> &str {
        Child::server(self)
    }

    fn take(&self, waker: &Waker, work: &mut Work) {
        Child::take(self, waker, work);
    }

    fn handle_started(&self, pid: i32) {
        Child::handle_started(self, Some(pid));
    }

    fn handle_line(&self, line: Line<'_>) {
        Child::handle_line(self, line);
    }

    fn handle_exited(&self, exit: Exit, why: &str) {
        Child::handle_exited(self, exit, why);
    }
}

/// Things that starts of processes need.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The servers as they are configured now.
    pub(super) plans: Plans,
    /// Variables of this program.
    pub(super) variables: Vec<(OsString, OsString)>,
    /// Program that supervises a process; see [`Launch::supervisor`](mcp_local_provider_process::Launch::supervisor).
    pub(super) supervisor: Option<PathBuf>,
}

/// The thread of one process, with all the runs of it.
pub(super) struct Runner<O> {
    owner: O,
    engine: Arc<Engine>,
    surroundings: Arc<Surroundings>,
    process: Option<Process>,
    /// The process was told to end.
    ending: bool,
    process_waker: Arc<ProcessWaker>,
    waker: Waker,
    work: Work,
    /// Memory of the lines that wait in `work`.
    share: Share,
    error_lines: ErrorLines,
}

impl<O: Owner> Runner<O> {
    /// # Errors
    /// Fails when the system gives no file.
    pub(super) fn new(
        owner: O,
        engine: Arc<Engine>,
        surroundings: Arc<Surroundings>,
    ) -> io::Result<Self> {
        let process_waker = ProcessWaker::new()?;
        Ok(Self {
            owner,
            surroundings,
            process: None,
            ending: false,
            waker: Waker::from(process_waker.clone()),
            process_waker,
            work: Work::default(),
            share: engine.budget().share(),
            error_lines: ErrorLines::new(Instant::now()),
            engine,
        })
    }

    /// Runs until nobody needs the process any more.
    pub(super) fn run(mut self) {
        loop {
            self.owner.take(&self.waker, &mut self.work);
            let orders = std::mem::take(&mut self.work.orders);
            let obeyed = !orders.is_empty();
            for order in orders {
                self.obey(order);
            }
            self.write();
            if self.work.ended {
                return;
            }
            // A start has been reported meanwhile, and may have left work; and who has taken all lines can take more.
            let takes_more = self.work.has_more && self.work.lines.is_empty();
            if !obeyed && !takes_more {
                self.wait();
            }
        }
    }

    fn obey(&mut self, order: Order) {
        if order == Order::CloseInput {
            // The lines that came with the order are before the end.
            self.write();
        }
        self.ending = order != Order::Spawn;
        match (order, &mut self.process) {
            (Order::Spawn, _) => self.start(),
            (Order::CloseInput, Some(process)) => process.close_input(),
            (Order::Terminate, Some(process)) => process.terminate(),
            (Order::Kill, Some(process)) => process.kill(),
            (Order::CloseInput | Order::Terminate | Order::Kill, None) => {}
        }
    }

    /// Gives the process as many lines as it has room for.
    fn write(&mut self) {
        match &mut self.process {
            Some(process) => {
                while process.has_room()
                    && let Some(line) = self.work.lines.pop_front()
                {
                    let _taken = process.push_line(line.as_bytes());
                }
            }
            None => self.work.lines.clear(),
        }
        let waiting = self.work.lines.iter().map(String::len).sum();
        // What is beyond the budget is for those who hold most of it to give back.
        let _within = self.share.hold(waiting);
    }

    fn start(&mut self) {
        let server = self.owner.server();
        let surroundings = &self.surroundings;
        let started = match surroundings.plans.get(server) {
            Some(plan) => plan
                .launch(
                    &surroundings.variables,
                    surroundings.supervisor.as_deref(),
                    Some(self.engine.budget().clone()),
                )
                .and_then(|launch| Process::start(&launch)),
            None => Err(io::Error::other(
                "the configuration has no such server any more",
            )),
        };
        match started {
            Ok(process) => {
                tracing::debug!(server, pid = process.id(), "started a process");
                let pid = process.id();
                self.process = Some(process);
                self.owner.handle_started(pid);
            }
            Err(error) => {
                self.work.lines.clear();
                let why = format!("it cannot be started: {error}");
                tracing::warn!(server, "a process is missing: {why}");
                self.owner.handle_exited(Exit::NotStarted, &why);
            }
        }
    }

    /// Waits until something happens, and passes on what the process wrote.
    fn wait(&mut self) {
        let until = self.work.until;
        let until = until.map(|until| Instant::now() + until.since(self.engine.clock()));
        let Some(mut process) = self.process.take() else {
            self.process_waker.wait(until);
            return;
        };
        let mut ending = None;
        let owner = &self.owner;
        let turn = run_queue::enter(|| {
            process.turn(&self.process_waker, until, |event| match event {
                Event::Line(line) => owner.handle_line(line),
                // It is cut into lines.
                Event::Bytes(_) => {}
                Event::Ended(how) => ending = Some(how),
            })
        });
        self.tell(process.take_error_lines());
        let (exit, why) = match (ending, turn) {
            (Some(ending), _) => (exit(ending), ending.to_string()),
            (None, Err(error)) => (
                Exit::OutputClosed,
                format!("it cannot be waited for: {error}"),
            ),
            (None, Ok(())) => {
                self.process = Some(process);
                return;
            }
        };
        drop(process);
        let server = self.owner.server();
        tell_missed(server, self.error_lines.take_missed());
        if self.ending {
            tracing::debug!(server, "a process has ended as it was told: {why}");
        } else {
            tracing::warn!(server, "a process has ended: {why}");
        }
        self.work.lines.clear();
        self.owner.handle_exited(exit, &why);
    }

    /// Writes lines of standard error to the log.
    fn tell(&mut self, lines: Vec<String>) {
        let server = self.owner.server();
        for line in lines {
            if let Some(missed) = self.error_lines.pass(Instant::now()) {
                tell_missed(server, missed);
                tracing::info!(server, "{line}");
            }
        }
    }
}

fn tell_missed(server: &str, missed: u64) {
    if missed > 0 {
        tracing::info!(
            server,
            "wrote {missed} more lines to standard error, which are left out"
        );
    }
}

pub(crate) const fn exit(ending: Ending) -> Exit {
    match ending {
        Ending::Code(code) => Exit::Code(code),
        Ending::Signal(signal) => Exit::Signal(signal),
        Ending::OutputClosed => Exit::OutputClosed,
    }
}
