//! The messages by which the protocol is opened: `initialize`, the first session, the login.

use super::opening::Phase;
use super::{Agent, Ask, Context};
use crate::agents::acp::deadlines::Timer;
use crate::agents::acp::failure;
use crate::agents::acp::ports::{Event, Order};
use crate::agents::acp::update::Abilities;
use crate::id::ExchangeId;
use crate::process::{self, Life};
use crate::rpc::{Json, RpcError};
use crate::text::JsonValue;
use alloc::vec::Vec;
use core::time::Duration;

/// Soonest replacement of a process that wants a login.
const SOONEST_LOGIN: Duration = Duration::from_secs(10);

/// Longest time that a person takes to log in.
const LOGIN: Duration = Duration::from_secs(600);

/// Time after which a process that has not answered `initialize` is named.
const SILENCE: Duration = Duration::from_secs(5);

impl Agent {
    /// Asks the process what it can do.
    pub(super) fn initialize(&mut self, context: &mut Context<'_>) {
        self.opening.begin();
        self.deadlines.set(Timer::Silence, context.now + SILENCE);
        // The life of the process has the deadline, see `late`.
        let mut json = Json::request(self.asked.expect(Ask::Initialize, None), "initialize");
        json.raw(concat!(
            "\"protocolVersion\":1,\"clientCapabilities\":{",
            "\"fs\":{\"readTextFile\":false,\"writeTextFile\":false},\"terminal\":false,",
            "\"session\":{\"notices\":{},\"configOptions\":{\"boolean\":{}}}},",
            "\"clientInfo\":{\"name\":\"mcp-local-provider\",\"title\":\"MCP Local Provider\",\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\"}"
        ));
        context.out.lines.push(json.end_params());
    }

    pub(super) fn initialized(
        &mut self,
        context: &mut Context<'_>,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        self.opening.answered();
        self.deadlines.clear(Timer::Silence);
        let Ok(result) = outcome else {
            return self.misbehaved(context, "it refused `initialize`");
        };
        let abilities = Abilities::read(result);
        let is_known = abilities.version == 1;
        let agent = if abilities.agent.is_empty() {
            self.profile.label.clone()
        } else {
            abilities.agent.clone()
        };
        self.opening.abilities = abilities;
        if !is_known {
            return self.misbehaved(context, "it does not speak version 1 of the protocol");
        }
        context.out.events.push(Event::Initialized { agent });
        self.try_session(context);
    }

    /// Makes the session that shows whether the agent can be used.
    pub(super) fn try_session(&mut self, context: &mut Context<'_>) {
        self.opening.attempt();
        let setup = self.pool.setup.clone();
        self.new_session(context, setup, None);
    }

    /// The opening was not over by the end of the process's start.
    pub(super) fn late(&mut self, context: &mut Context<'_>) {
        self.misbehaved(
            context,
            if self.opening.is_trying() {
                "it did not answer `session/new` in time"
            } else {
                "it did not answer `initialize` in time"
            },
        );
    }

    /// The agent can be used.
    pub(super) fn ready(&mut self, context: &mut Context<'_>) {
        self.opening.succeed();
        self.life.handle_ready(context.now);
        self.deadlines.clear(Timer::LogIn);
        context.out.events.push(Event::Ready {
            models: self.opening.models.len() + 1,
        });
        context.out.orders.push(Order::Measure);
        self.register(context);
        for exchange in self.waiting() {
            self.take_up(context, exchange);
        }
    }

    /// The agent makes no session, for now. Its process has started all the same, and is not replaced for being late.
    pub(super) fn unable(&mut self, context: &mut Context<'_>, error: &RpcError<'_>) {
        let login = error.code == failure::AUTH_REQUIRED;
        self.opening.fail(login);
        self.life.handle_ready(context.now);
        let why = failure::of_rpc(error, &self.profile);
        if login {
            if self.deadlines.get(Timer::LogIn).is_none() {
                let before = self.opening.count_login();
                let wait = self.doubled(SOONEST_LOGIN, before);
                self.deadlines.set(Timer::LogIn, context.now + wait);
            }
            self.tell_login(context);
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

    /// Invocations that wait for the opening.
    fn waiting(&self) -> Vec<ExchangeId> {
        self.turns
            .iter()
            .filter(|(_, turn)| turn.session.is_none())
            .map(|(exchange, _)| *exchange)
            .collect()
    }

    /// True when the caller's tools can be served to the agent.
    pub(super) fn serves_tools(&self) -> bool {
        let may = self.opening.abilities.mcp_http && self.config.tools_url.is_some();
        self.profile.tools && may
    }

    pub(super) fn ask_authenticate(&mut self, context: &mut Context<'_>, method: &str) {
        let id = self
            .asked
            .expect(Ask::Authenticate, Some(context.now + LOGIN));
        let mut json = Json::request(id, "authenticate");
        json.member("methodId").string(method);
        context.out.lines.push(json.end_params());
    }

    pub(super) fn authenticated(
        &mut self,
        context: &mut Context<'_>,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        match outcome {
            Ok(_) if matches!(self.opening.phase(), Some(Phase::Unable { .. })) => {
                self.try_session(context);
            }
            Ok(_) => {}
            Err(_) => self.tell_login(context),
        }
    }

    pub(super) fn tell_login(&self, context: &mut Context<'_>) {
        context.out.events.push(Event::LoginNeeded {
            advice: self.profile.login.clone(),
            methods: self.opening.abilities.logins.clone(),
        });
    }

    /// The person may have logged in meanwhile.
    pub(super) fn look_for_login(&mut self, context: &mut Context<'_>) {
        if self.opening.phase() == Some(Phase::Unable { login: true }) {
            self.end_process(context, Life::restart);
        }
    }

    /// Returns a wait that was doubled so many times, up to the longest before a start.
    pub(super) fn doubled(&self, first: Duration, times: u32) -> Duration {
        process::doubled(first, times, self.config.process.longest_wait)
    }
}
