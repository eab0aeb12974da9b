//! A server that a command starts for itself. It is asked on the thread of the command, and ended again.

use super::{NoResult, Server, hello, request, result_of};
use crate::servers::{ServerPlan, exit};
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::rpc::{Json, METHOD_NOT_FOUND, Message};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Gateway;
use mcp_local_provider_mcp::refusal::Exit;
use mcp_local_provider_mcp::server::{self, Delivery, Out};
use mcp_local_provider_process::{Event, Launch, Process, ProcessWaker};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

/// A server that runs for one command.
pub(crate) struct StartedServer {
    machine: server::Server<()>,
    out: Out,
    heard: Heard,
    launch: io::Result<Launch>,
    process: Option<Process>,
    waker: Arc<ProcessWaker>,
    began: Clock,
}

/// Messages of the server that matter here.
#[derive(Default)]
struct Heard {
    /// The result of `initialize`.
    greeting: Option<String>,
    answer: Option<String>,
    /// The reason for which no answer will come.
    refusal: Option<String>,
    /// Answers to its own questions.
    replies: Vec<String>,
}

impl Heard {
    fn take(&mut self, delivery: &Delivery<'_, ()>) {
        match delivery {
            Delivery::Ready { result, .. } => self.greeting = Some((*result).to_owned()),
            Delivery::NotReady(refusal) | Delivery::Failed { refusal, .. } => {
                self.refusal = Some(refusal.message.clone());
            }
            Delivery::Answer { text, .. } => self.answer = Some((*text).to_owned()),
            Delivery::Asked { id, .. } => {
                let why = "this client answers no questions";
                let reply = Json::error(*id, METHOD_NOT_FOUND, why);
                self.replies.push(reply);
            }
            Delivery::Progress { .. }
            | Delivery::Withdrawn { .. }
            | Delivery::Notified { .. }
            | Delivery::Gone { .. } => {}
        }
    }
}

impl StartedServer {
    /// Starts the server of `plan` with the times of `config`. `variables` is the environment of this program; for `supervisor`
    /// see [`Launch`].
    ///
    /// # Errors
    /// Fails when the system gives no file. A server that cannot be started is told by the first question.
    pub(crate) fn start(
        plan: &ServerPlan,
        variables: &[(OsString, OsString)],
        supervisor: Option<&Path>,
        config: &Gateway,
    ) -> io::Result<Self> {
        let mut config = config.clone();
        config.restart.enabled = false;
        let name = plan.name.as_str().into();
        let mut started = Self {
            machine: server::Server::new(name, &hello().to_string(), &config),
            out: Out::default(),
            heard: Heard::default(),
            launch: plan.launch(variables, supervisor, None),
            process: None,
            waker: ProcessWaker::new()?,
            began: Clock::now(),
        };
        started.machine.start(started.now(), &mut started.out);
        Ok(started)
    }

    fn now(&self) -> Instant {
        since(self.began)
    }

    /// Waits for the end of the handshake, and returns the result of `initialize`.
    ///
    /// # Errors
    /// The server cannot be started, or does not answer in time.
    pub(crate) fn greet(&mut self) -> Result<String, NoResult> {
        self.wait_for(|heard| heard.greeting.clone())
    }

    fn wait_for<T>(&mut self, found: impl Fn(&mut Heard) -> Option<T>) -> Result<T, NoResult> {
        loop {
            if let Some(found) = found(&mut self.heard) {
                return Ok(found);
            }
            if let Some(refusal) = self.heard.refusal.take() {
                return Err(NoResult::NoAnswer(refusal));
            }
            self.step()?;
        }
    }

    /// Carries out what is to be done, and waits for the next thing that happens.
    fn step(&mut self) -> io::Result<()> {
        for order in std::mem::take(&mut self.out.orders) {
            self.obey(order);
        }
        for reply in self.heard.replies.drain(..) {
            self.out.lines.push(reply);
        }
        self.write();
        let until = self.machine.poll_timeout();
        let until = until.map(|until| self.began + Duration::from_micros(until.at.as_micros()));
        let Some(process) = &mut self.process else {
            return match self.heard.refusal {
                Some(_) => Ok(()),
                None => Err(io::Error::other("its process has ended")),
            };
        };
        let Self {
            machine,
            out,
            heard,
            began,
            ..
        } = self;
        let mut ending = None;
        process.turn(&self.waker, until, |event| match event {
            Event::Line(line) => {
                machine.handle_line(since(*began), line, out, &mut |delivery| {
                    heard.take(&delivery);
                });
            }
            // It is cut into lines.
            Event::Bytes(_) => {}
            Event::Ended(how) => ending = Some(how),
        })?;
        let now = since(*began);
        match ending {
            Some(ending) => {
                let words = process.last_words().told();
                let why = match &*words {
                    "" => ending.to_string(),
                    words => format!("{ending}; its last words: {words}"),
                };
                self.process = None;
                self.end_of_process(now, exit(ending), &why);
            }
            None => machine.handle_timeout(now, out, &mut |delivery| heard.take(&delivery)),
        }
        Ok(())
    }

    fn end_of_process(&mut self, now: Instant, exit: Exit, why: &str) {
        let Self {
            machine,
            out,
            heard,
            ..
        } = self;
        machine.handle_exited(now, exit, why, out, &mut |delivery| heard.take(&delivery));
    }

    fn obey(&mut self, order: Order) {
        if order == Order::CloseInput {
            // The lines that came before the order are before the end.
            self.write();
        }
        match (order, &mut self.process) {
            (Order::Spawn, _) => {
                let now = self.now();
                let failed = match &self.launch {
                    Ok(launch) => match Process::start(launch) {
                        Ok(process) => {
                            self.process = Some(process);
                            self.machine.handle_started(now, &mut self.out);
                            return;
                        }
                        Err(error) => error.to_string(),
                    },
                    Err(error) => error.to_string(),
                };
                let why = format!("it cannot be started: {failed}");
                self.end_of_process(now, Exit::NotStarted, &why);
            }
            (Order::CloseInput, Some(process)) => process.close_input(),
            (Order::Terminate, Some(process)) => process.terminate(),
            (Order::Kill, Some(process)) => process.kill(),
            (Order::CloseInput | Order::Terminate | Order::Kill, None) => {}
        }
    }

    /// Gives the process as many lines as it has room for.
    fn write(&mut self) {
        let Some(process) = &mut self.process else {
            return self.out.lines.clear();
        };
        while process.has_room()
            && let Some(line) = self.out.lines.pop()
        {
            let _taken = process.push_line(line.as_bytes());
        }
    }

    /// Ends the server within its grace.
    pub(crate) fn end(mut self) {
        self.machine.stop(self.now(), &mut self.out);
        while self.process.is_some() && self.step().is_ok() {}
    }
}

impl Server for StartedServer {
    fn ask(&mut self, method: &str, params: &str) -> Result<String, NoResult> {
        let text = request(1, method, params);
        let Ok(Message::Request { id, call }) = Message::read(&text) else {
            let message = "the parameters are no JSON object";
            return Err(NoResult::NoAnswer(message.to_owned()));
        };
        let now = self.now();
        let sent = self
            .machine
            .request(now, &text, id, &call, (), &mut self.out);
        sent.map_err(|(refusal, ())| NoResult::NoAnswer(refusal.message))?;
        let answer = self.wait_for(|heard| heard.answer.take())?;
        result_of(&answer)
    }
}

fn since(began: Clock) -> Instant {
    let elapsed = began.elapsed().as_micros();
    Instant::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
}
