//! The process of an agent: how it starts, what it is asked first, when it is started anew.

use super::idle::Measured;
use super::states::{PROCESS, Phase, Then};
use super::{Agent, Ask, Context};
use crate::agents::acp::deadlines::Timer;
use crate::agents::acp::failure::{self, failure};
use crate::agents::acp::ports::{Event, Order};
use crate::agents::acp::update::Abilities;
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::Failure;
use crate::link::{FromAgent, Id};
use crate::process;
use crate::rpc::{Json, RpcError};
use crate::text::JsonValue;
use crate::time::Timeout;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A process that was ready for this long has shown that it works.
const PROVEN: Duration = Duration::from_secs(30);

/// Soonest start on demand after an end.
const SOONEST: Duration = Duration::from_secs(1);

/// Soonest replacement of a process that wants a login.
const SOONEST_LOGIN: Duration = Duration::from_secs(10);

/// Characters that are kept of a line that is no message.
const STRAY: usize = 200;

/// Time after which a process that has not answered `initialize` is named.
const SILENCE: Duration = Duration::from_secs(5);

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
    /// Moves by the table of what the process does.
    pub(super) fn enter_phase(&mut self, phase: Phase) {
        PROCESS.step(self.phase.name(), phase.name());
        self.phase = phase;
    }

    /// Queues a line for the process.
    pub(super) fn send(&mut self, context: &mut Context<'_>, line: String) {
        context.out.queued_bytes = context.out.queued_bytes.saturating_add(line.len());
        context.out.lines.push_back(line);
    }

    /// True when the process does not read; it is then done away with.
    pub(super) fn is_stuffed(&mut self, context: &mut Context<'_>) -> bool {
        let stuffed = context.out.queued_bytes > self.config.queue_bytes;
        if stuffed && self.phase.is_running() {
            self.misbehaved(context, "it does not read its standard input");
        }
        stuffed
    }

    pub(super) fn started(&mut self, context: &mut Context<'_>) {
        match self.phase {
            Phase::Starting => {}
            // It was told to go before it had come.
            Phase::Leaving { .. } => return context.out.orders.push(Order::CloseInput),
            Phase::Down { .. }
            | Phase::Initializing
            | Phase::Trying
            | Phase::Unable { .. }
            | Phase::Ready
            | Phase::Ended => return,
        }
        self.counters.starts += 1;
        self.enter_phase(Phase::Initializing);
        self.stray = None;
        self.deadlines.set(Timer::Silence, context.now + SILENCE);
        let deadline = context.now + self.config.start_timeout;
        let mut json = Json::request(
            self.asked.expect(Ask::Initialize, Some(deadline)),
            "initialize",
        );
        json.raw(concat!(
            "\"protocolVersion\":1,\"clientCapabilities\":{",
            "\"fs\":{\"readTextFile\":false,\"writeTextFile\":false},\"terminal\":false,",
            "\"session\":{\"notices\":{},\"configOptions\":{\"boolean\":{}}}},",
            "\"clientInfo\":{\"name\":\"mcp-local-provider\",\"title\":\"MCP Local Provider\",\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\"}"
        ));
        self.send(context, json.end_params());
    }

    pub(super) fn initialized(
        &mut self,
        context: &mut Context<'_>,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        self.stray = None;
        self.deadlines.clear(Timer::Silence);
        match outcome {
            Ok(result) => {
                self.abilities = Abilities::read(result);
                if self.abilities.version != 1 {
                    return self.misbehaved(context, "it does not speak version 1 of the protocol");
                }
                let agent = if self.abilities.agent.is_empty() {
                    self.profile.label.clone()
                } else {
                    self.abilities.agent.clone()
                };
                context.out.events.push(Event::Initialized { agent });
                self.try_session(context);
            }
            Err(_) => self.misbehaved(context, "it refused `initialize`"),
        }
    }

    /// Keeps the first line that is no message, for as long as the process has shown nothing else.
    pub(super) fn note_stray(&mut self, line: &[u8]) {
        if self.phase == Phase::Initializing && self.stray.is_none() {
            let line = String::from_utf8_lossy(line);
            let line = line.trim().chars().take(STRAY);
            let line: String = line.map(|c| if c.is_control() { ' ' } else { c }).collect();
            self.stray = (!line.is_empty()).then_some(line);
        }
    }

    /// Makes the session that shows whether the agent can be used.
    pub(super) fn try_session(&mut self, context: &mut Context<'_>) {
        self.enter_phase(Phase::Trying);
        let setup = self.pool.setup.clone();
        self.new_session(context, setup, None);
    }

    /// The agent can be used.
    pub(super) fn ready(&mut self, context: &mut Context<'_>) {
        self.enter_phase(Phase::Ready);
        self.ready_since = Some(context.now);
        self.logins = 0;
        self.deadlines.clear(Timer::LogIn);
        context.out.events.push(Event::Ready {
            models: self.models.len() + 1,
        });
        context.out.orders.push(Order::Measure);
        self.register(context);
        let waiting: Vec<ExchangeId> = self.waiting();
        for exchange in waiting {
            self.take_up(context, exchange);
        }
    }

    /// The agent makes no session, for now.
    pub(super) fn unable(&mut self, context: &mut Context<'_>, error: &RpcError<'_>) {
        let login = error.code == failure::AUTH_REQUIRED;
        self.enter_phase(Phase::Unable { login });
        let why = failure::of_rpc(error, &self.profile);
        if login {
            if self.deadlines.get(Timer::LogIn).is_none() {
                self.logins = self.logins.saturating_add(1);
                let wait = self.doubled(SOONEST_LOGIN, self.logins - 1);
                self.deadlines.set(Timer::LogIn, context.now + wait);
            }
            context.out.events.push(Event::LoginNeeded {
                advice: self.profile.login.clone(),
                methods: self.abilities.logins.clone(),
            });
        } else {
            context.out.events.push(Event::Unable {
                why: why.message.clone().into_owned(),
            });
        }
        // Clients are to hear what is wrong, so there must be a model that they can ask.
        self.register(context);
        for exchange in self.waiting() {
            self.turns.remove(&exchange);
            context.fail(exchange, why.clone());
        }
    }

    /// Invocations that wait for the process.
    pub(super) fn waiting(&self) -> Vec<ExchangeId> {
        self.turns
            .iter()
            .filter(|(_, turn)| turn.session.is_none())
            .map(|(exchange, _)| *exchange)
            .collect()
    }

    /// True when the caller's tools can be served to the agent.
    pub(super) fn serves_tools(&self) -> bool {
        self.profile.tools && self.abilities.mcp_http && self.config.tools_url.is_some()
    }

    pub(super) fn ask_authenticate(&mut self, context: &mut Context<'_>, method: &str) {
        let deadline = context.now + Duration::from_secs(600);
        let id = self.asked.expect(Ask::Authenticate, Some(deadline));
        let mut json = Json::request(id, "authenticate");
        json.member("methodId").string(method);
        self.send(context, json.end_params());
    }

    pub(super) fn authenticated(
        &mut self,
        context: &mut Context<'_>,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        match outcome {
            Ok(_) if matches!(self.phase, Phase::Unable { .. }) => self.try_session(context),
            Ok(_) => {}
            Err(_) => context.out.events.push(Event::LoginNeeded {
                advice: self.profile.login.clone(),
                methods: self.abilities.logins.clone(),
            }),
        }
    }

    /// The process does not do what it must: everything under way fails, and it is killed.
    pub(super) fn misbehaved(&mut self, context: &mut Context<'_>, what: &'static str) {
        context.out.events.push(Event::Misbehaved { what });
        let message = format!("the agent was stopped, because {what}");
        self.fail_turns(context, Code::AgentLost, &message, |_| true);
        self.forget(context);
        context.out.orders.push(Order::Kill);
        self.enter_phase(Phase::Leaving { then: Then::Retry });
    }

    /// The process is to end by itself, within the grace.
    pub(super) fn leave(&mut self, context: &mut Context<'_>, then: Then) {
        match &mut self.phase {
            Phase::Ended => return,
            Phase::Down { .. } => {
                if then == Then::End {
                    self.deadlines.clear(Timer::Start);
                    self.enter_phase(Phase::Ended);
                }
                return;
            }
            Phase::Leaving { then: before } => {
                *before = then;
                return;
            }
            Phase::Starting
            | Phase::Initializing
            | Phase::Trying
            | Phase::Unable { .. }
            | Phase::Ready => {}
        }
        self.forget(context);
        context.out.orders.push(Order::CloseInput);
        self.deadlines
            .set(Timer::Kill, context.now + self.config.exit_grace);
        self.enter_phase(Phase::Leaving { then });
    }

    /// Fails every turn that has a session, and drops what is known of the process.
    fn forget(&mut self, context: &mut Context<'_>) {
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
        let status = match self.stray.take() {
            Some(line) => format!("{status}; it printed `{line}`, which is not ACP"),
            None => status.to_owned(),
        };
        let then = match self.phase {
            Phase::Ended | Phase::Down { .. } => return,
            Phase::Leaving { then } => then,
            Phase::Starting
            | Phase::Initializing
            | Phase::Trying
            | Phase::Unable { .. }
            | Phase::Ready => Then::Retry,
        };
        let never_worked = matches!(
            self.phase,
            Phase::Starting | Phase::Initializing | Phase::Trying
        );
        let message = format!(
            "the agent {} ended ({})",
            self.profile.label,
            failure::cut(&status)
        );
        self.fail_turns(context, Code::AgentLost, &message, |turn| {
            never_worked || then == Then::End || turn.session.is_some()
        });
        self.forget(context);
        let now = context.now;
        if self
            .ready_since
            .take()
            .is_some_and(|since| now.since(since) >= PROVEN)
        {
            self.failures = 0;
        }
        let start_at = match then {
            Then::End => {
                self.enter_phase(Phase::Ended);
                None
            }
            Then::Start => Some(now),
            Then::Retry => {
                self.failures = self.failures.saturating_add(1);
                Some(now + self.wait())
            }
        };
        context.out.events.push(Event::Exited {
            status: failure::cut(&status).into(),
            restart: start_at,
        });
        if let Some(start_at) = start_at {
            self.enter_phase(Phase::Down { since: now });
            self.deadlines.set(Timer::Start, start_at);
            if !self.is_registered() {
                // As above: clients hear what is wrong from a model that they can ask.
                self.register(context);
            }
            self.demand(context);
        }
    }

    /// Nothing after the first failure, then 1 s, doubled each time.
    fn wait(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            more => self.doubled(SOONEST, more - 2),
        }
    }

    /// A wait that was doubled so many times, up to the longest before a start.
    pub(super) fn doubled(&self, first: Duration, times: u32) -> Duration {
        process::doubled(first, times, self.config.longest_restart)
    }

    /// Starts the process when its time has come; when somebody waits for it, that is soon.
    pub(super) fn demand(&mut self, context: &mut Context<'_>) {
        let Phase::Down { since } = self.phase else {
            return;
        };
        let mut start_at = self.deadlines.get(Timer::Start).unwrap_or(context.now);
        if !self.turns.is_empty() {
            start_at = start_at.min(since + SOONEST);
        }
        if start_at <= context.now {
            self.deadlines.clear(Timer::Start);
            self.enter_phase(Phase::Starting);
            context.out.orders.push(Order::Start);
        } else {
            self.deadlines.set(Timer::Start, start_at);
        }
    }

    /// Does the work between turns: replaces a process that has had its day, and makes an empty session for the next
    /// request.
    pub(super) fn tidy(&mut self, context: &mut Context<'_>) {
        if self.phase != Phase::Ready || self.is_stuffed(context) {
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
            return self.leave(context, Then::Start);
        }
        self.register(context);
        self.make_spare(context);
    }

    pub(super) fn due(&mut self, context: &mut Context<'_>) {
        // Each deadline is served once: what it sets anew is another call's.
        for _ in 0..self.deadlines.len() + self.asked.len() {
            let due = self.poll_timeout();
            let Some(Timeout { why, .. }) = due.filter(|due| due.at <= context.now) else {
                break;
            };
            self.deadlines.clear(why);
            match why {
                Timer::Kill => context.out.orders.push(Order::Kill),
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
                Timer::Start => self.demand(context),
                Timer::LogIn => self.look_for_login(context),
                Timer::Silence => context.out.events.push(Event::Silent {
                    printed: self.stray.clone(),
                }),
            }
        }
        self.tidy(context);
    }

    /// The person may have logged in meanwhile.
    fn look_for_login(&mut self, context: &mut Context<'_>) {
        if self.phase == (Phase::Unable { login: true }) {
            self.leave(context, Then::Start);
        }
    }

    fn unanswered(&mut self, context: &mut Context<'_>, ask: Ask) {
        match ask {
            Ask::Initialize => self.misbehaved(context, "it did not answer `initialize` in time"),
            Ask::NewSession(_) if self.phase == Phase::Trying => {
                self.misbehaved(context, "it did not answer `session/new` in time");
            }
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
            Ask::Authenticate => context.out.events.push(Event::LoginNeeded {
                advice: self.profile.login.clone(),
                methods: self.abilities.logins.clone(),
            }),
            Ask::Prompt(_) | Ask::Close => {}
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
