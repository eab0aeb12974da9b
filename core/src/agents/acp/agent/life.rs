//! The process of an agent: what the machine of its life is told, and what the end of a process ends.

use super::idle::Measured;
use super::{Agent, Ask, Context};
use crate::agents::acp::deadlines::Timer;
use crate::agents::acp::failure::{self, failure};
use crate::agents::acp::ports::{Event, Order, Out};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::Failure;
use crate::link::{FromAgent, Id};
use crate::process::{self, Life, State, Then};
use crate::rpc::RpcError;
use crate::text::JsonValue;
use crate::time::{Instant, Timeout};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;

/// So many sessions whose cancelled turn never ends make a process useless.
const MAX_STUCK: u32 = 4;

impl Context<'_> {
    pub(super) fn fail(&mut self, exchange: ExchangeId, failure: Failure<'_>) {
        (self.link)(FromAgent::Error {
            id: Some(Id::Ours(exchange)),
            failure,
        });
    }
}

impl Agent {
    /// Tells the life of the process what has happened, and passes its orders on.
    pub(super) fn live(
        &mut self,
        now: Instant,
        out: &mut Out,
        call: impl FnOnce(&mut Life, Instant, &mut Vec<process::Order>),
    ) {
        let mut orders = Vec::new();
        call(&mut self.life, now, &mut orders);
        out.orders.extend(orders.into_iter().map(Order::from));
    }

    /// True when the process does not read; it is then done away with.
    pub(super) fn is_stuffed(&mut self, context: &mut Context<'_>) -> bool {
        let stuffed = context.out.lines.is_over();
        if stuffed && self.opening.phase().is_some() {
            self.misbehaved(context, "it does not read its standard input");
        }
        stuffed
    }

    pub(super) fn started(&mut self, context: &mut Context<'_>) {
        self.life.handle_started(context.now);
        if self.life.state() == State::Starting && self.opening.phase().is_none() {
            self.initialize(context);
        }
    }

    /// The process does not do what it must: everything under way fails, and it is killed.
    pub(super) fn misbehaved(&mut self, context: &mut Context<'_>, what: &'static str) {
        context.out.events.push(Event::Misbehaved { what });
        let message = format!("the agent was stopped, because {what}");
        self.fail_turns(context, Code::AgentLost, &message, |_| true);
        self.end_process(context, Life::handle_failed);
    }

    /// The process is to end, in the way that `how` tells its life.
    pub(super) fn end_process(
        &mut self,
        context: &mut Context<'_>,
        how: impl FnOnce(&mut Life, Instant, &mut Vec<process::Order>),
    ) {
        if matches!(self.life.state(), State::Starting | State::Running { .. }) {
            self.forget(context);
        }
        self.live(context.now, context.out, how);
    }

    /// Drops what is known of the process, which is not heard any more.
    fn forget(&mut self, context: &mut Context<'_>) {
        self.opening.end();
        for key in self.pool.end() {
            self.drop_calls(context, key);
        }
        self.tools.end_servers();
        self.deadlines.clear_all();
        self.asked.clear();
        self.measured = Measured::default();
        context.out.figures_changed = true;
    }

    pub(super) fn fail_turns(
        &mut self,
        context: &mut Context<'_>,
        code: Code,
        message: &str,
        which: impl Fn(&super::Turn) -> bool,
    ) {
        let failed: Vec<ExchangeId> = self
            .turns
            .iter()
            .filter(|(_, turn)| which(turn))
            .map(|(exchange, _)| *exchange)
            .collect();
        for exchange in failed {
            self.turns.remove(&exchange);
            context.fail(exchange, failure(code, message.to_owned()));
        }
    }

    pub(super) fn exited(&mut self, context: &mut Context<'_>, status: &str) {
        let never_worked = match self.life.state() {
            State::Stopped | State::Waiting { .. } | State::Failing { .. } => return,
            State::Starting => true,
            State::Running { .. } => self.opening.is_trying(),
            State::Stopping { .. } => false,
        };
        let status = match self.opening.stray() {
            Some(line) => format!("{status}; it printed `{line}`, which is not ACP"),
            None => status.to_owned(),
        };
        let status = failure::cut(&status);
        self.live(context.now, context.out, Life::handle_exited);
        let restart = match self.life.state() {
            State::Starting => Some(context.now),
            State::Waiting { .. } => self.life.next_start(),
            State::Running { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failing { .. } => None,
        };
        let message = format!("the agent {} ended ({status})", self.profile.label);
        // Who waits for a process that worked waits for the next one.
        self.fail_turns(context, Code::AgentLost, &message, |turn| {
            never_worked || restart.is_none() || turn.session.is_some()
        });
        self.forget(context);
        context.out.events.push(Event::Exited {
            status: status.into(),
            restart,
        });
        if restart.is_some() && !self.is_registered() {
            // Clients are to hear what is wrong, so there must be a model that they can ask.
            self.register(context);
        }
    }

    /// Starts the process for a turn that waits for it. False when it is not to run.
    pub(super) fn demand(&mut self, context: &mut Context<'_>) -> bool {
        let is_wanted = !matches!(
            self.life.state(),
            State::Stopped | State::Stopping { then: Then::Stop }
        );
        if is_wanted {
            self.live(context.now, context.out, Life::demand);
        }
        is_wanted && !matches!(self.life.state(), State::Failing { .. })
    }

    /// Does the work between turns: replaces a process that has had its day, and makes an empty session for the next
    /// request.
    pub(super) fn tidy(&mut self, context: &mut Context<'_>) {
        if !self.opening.is_ready() || self.is_stuffed(context) {
            return;
        }
        if self.pool.stuck >= MAX_STUCK {
            return self.misbehaved(context, "turns that were cancelled do not end");
        }
        if !self.turns.is_empty() {
            return;
        }
        let stuck = (self.pool.stuck > 0).then_some(Event::Misbehaved {
            what: "a turn that was cancelled did not end",
        });
        let worn = self.worn().map(|why| Event::Recycled { why });
        if let Some(event) = worn.or(stuck).filter(|_| !self.pool.has_parked()) {
            context.out.events.push(event);
            return self.end_process(context, Life::restart);
        }
        self.register(context);
        self.make_spare(context);
    }

    pub(super) fn due(&mut self, context: &mut Context<'_>) {
        // Each deadline is served once: what it sets anew is another call's.
        for _ in 0..self.deadlines.len() + self.asked.len() + 1 {
            let due = self.poll_timeout();
            let Some(Timeout { why, .. }) = due.filter(|due| due.at <= context.now) else {
                break;
            };
            self.deadlines.clear(why);
            match why {
                Timer::Process(process::Timer::Ready) => self.late(context),
                Timer::Process(
                    process::Timer::Terminate | process::Timer::Kill | process::Timer::Start,
                ) => self.live(context.now, context.out, Life::handle_timeout),
                Timer::Register => self.register(context),
                Timer::Request(id) => {
                    if let Some(ask) = self.asked.cancel(id) {
                        self.unanswered(context, ask);
                    }
                }
                Timer::Session(key) => self.session_over(context, key),
                Timer::Complaint(key) => self.gave_up(context, key),
                Timer::Gather(key) => self.gathered(context, key),
                Timer::ToolCall(id) => self.keep_alive(context, id),
                Timer::Measure => context.out.orders.push(Order::Measure),
                Timer::LogIn => self.look_for_login(context),
                Timer::Silence => context.out.events.push(Event::Silent {
                    printed: self.opening.stray().map(Into::into),
                }),
            }
        }
        self.tidy(context);
    }

    fn unanswered(&mut self, context: &mut Context<'_>, ask: Ask) {
        match ask {
            Ask::NewSession(_) if self.opening.is_trying() => self.late(context),
            Ask::NewSession(key) | Ask::Set(key, _) => {
                self.pool.stuck += 1;
                self.fail_session(
                    context,
                    key,
                    failure(
                        Code::AgentTimeout,
                        "the agent did not make a session in time",
                    ),
                );
            }
            Ask::Authenticate => self.tell_login(context),
            Ask::Initialize | Ask::Prompt(_) | Ask::Close => {}
        }
    }

    pub(super) fn answered(
        &mut self,
        context: &mut Context<'_>,
        ask: Ask,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        match ask {
            Ask::Initialize => self.initialized(context, outcome),
            Ask::Authenticate => self.authenticated(context, outcome),
            Ask::NewSession(key) => self.session_made(context, key, outcome),
            Ask::Set(key, setting) => self.setting_made(context, key, setting, outcome),
            Ask::Prompt(key) => self.prompt_ended(context, key, outcome),
            // A session that cannot be closed is forgotten all the same.
            Ask::Close => self.pool.left_open += u32::from(outcome.is_err()),
        }
        self.is_stuffed(context);
    }
}
