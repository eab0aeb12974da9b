//! The sessions of an agent: made, set, leased to one turn at a time, closed.

use super::parked::Parked;
use super::states::{SESSION, State};
use super::{Agent, Ask, Context};
use crate::agents::acp::conversation::Setup;
use crate::agents::acp::deadlines::{SessionKey, Timer};
use crate::agents::acp::failure::{self, failure};
use crate::agents::acp::ports::Order;
use crate::agents::acp::profile::SystemPrompt;
use crate::agents::acp::tools::{self, SERVER};
use crate::agents::acp::update::{Choice, Choices, path, text};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::Failure;
use crate::rpc::{Json, RpcError};
use crate::text::JsonValue;
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Messages of earlier turns that are remembered, so that what comes late is not taken for the next answer.
const MESSAGES: usize = 16;

/// A choice of a session that is set before the first prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setting {
    Mode,
    Model,
    Effort,
}

impl Setting {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

pub(super) struct Session {
    /// The agent's id for it; empty until it is made.
    pub(super) name: String,
    pub(super) setup: Arc<Setup>,
    pub(super) state: State,
    /// The exchange that the session is leased to.
    pub(super) turn: Option<ExchangeId>,
    pub(super) choices: Choices,
    /// Settings that were made for this lease, as bits.
    tried: u8,
    /// Messages of turns that have ended.
    past: VecDeque<String>,
    /// Messages of the turn that is under way.
    writing: Vec<String>,
    /// Calls of the caller's tools that the agent has told of in this turn, by its own ids.
    own_calls: Vec<String>,
    /// Of its turn, while that is parked.
    pub(super) parked: Option<Parked>,
    /// Tokens of the turns before, where the agent counts them together.
    pub(super) counted: (u64, u64),
    /// The end of its last turn, or when it was made.
    pub(super) last_used: Instant,
    /// Time that it may be kept between turns.
    pub(super) lasts: Duration,
}

impl Session {
    /// A session that is being made for this setup, and for a turn or nobody yet. It may be kept for `lasts` between turns.
    pub(super) fn new(
        setup: Arc<Setup>,
        turn: Option<ExchangeId>,
        now: Instant,
        lasts: Duration,
    ) -> Self {
        Self {
            name: String::new(),
            setup,
            state: State::Creating,
            turn,
            choices: Choices::default(),
            tried: 0,
            past: VecDeque::new(),
            writing: Vec::new(),
            own_calls: Vec::new(),
            parked: None,
            counted: (0, 0),
            last_used: now,
            lasts,
        }
    }

    /// True when no turn runs in it, and none waits for it.
    pub(super) const fn is_idle(&self) -> bool {
        match self.state {
            State::Creating | State::Configuring | State::Empty | State::Kept { .. } => {
                self.turn.is_none()
            }
            State::Prompting | State::Parked | State::Stopping => false,
        }
    }

    /// Notes which message the agent is writing. False when it is one of a turn that is over.
    pub(super) fn goes_on(&mut self, message: &str) -> bool {
        if self.past.iter().any(|past| past == message) {
            return false;
        }
        if self.writing.len() < MESSAGES && !self.writing.iter().any(|known| known == message) {
            self.writing.push(message.into());
        }
        true
    }

    /// The agent tells of a call. Some ask for its permission by nothing but its id.
    pub(super) fn note_call(&mut self, call: JsonValue<'_>) {
        if self.own_calls.len() < MESSAGES
            && tools::is_own(Some(call), &self.setup.tools)
            && let Some(id) = text(path(Some(call), &["toolCallId"]))
        {
            self.own_calls.push(id.into_owned());
        }
    }

    /// True when a permission is asked for a tool of the caller, whose call only goes back to the caller: it decides.
    pub(super) fn is_own(&self, tool_call: Option<JsonValue<'_>>) -> bool {
        let says = |member| path(tool_call, &[member]).is_some();
        if says("title") || says("rawInput") {
            return tools::is_own(tool_call, &self.setup.tools);
        }
        let id = text(path(tool_call, &["toolCallId"]));
        id.is_some_and(|id| self.own_calls.iter().any(|known| *known == id))
    }

    /// The turn is over, and so are its messages.
    pub(super) fn turn_over(&mut self) {
        self.own_calls.clear();
        self.past.extend(self.writing.drain(..));
        let over = self.past.len().saturating_sub(MESSAGES);
        self.past.drain(..over);
    }
}

impl Agent {
    /// Moves a session. How long its new state may last begins now.
    pub(super) fn go(&mut self, context: &mut Context<'_>, key: SessionKey, state: State) {
        let Some(session) = self.pool.get_mut(key) else {
            return;
        };
        SESSION.step(session.state.name(), state.name());
        session.state = state;
        let kept = session.lasts;
        context.out.figures_changed = true;
        self.measure_soon(context);
        let lasts = match state {
            State::Parked => self.config.tool_timeout,
            State::Kept { .. } => kept,
            State::Stopping => self.config.cancel_timeout,
            State::Creating | State::Configuring | State::Empty | State::Prompting => {
                self.deadlines.clear(Timer::Session(key));
                return;
            }
        };
        self.deadlines.set(Timer::Session(key), context.now + lasts);
    }

    /// Makes a session, for a turn or to have one ready.
    pub(super) fn new_session(
        &mut self,
        context: &mut Context<'_>,
        setup: Arc<Setup>,
        turn: Option<ExchangeId>,
    ) -> SessionKey {
        let key = self.pool.next_key();
        let patience = if self.opening.is_trying() {
            self.config.process.start_timeout
        } else {
            self.config.request_timeout
        };
        let deadline = context.now + patience;
        let mut json = Json::request(
            self.asked.expect(Ask::NewSession(key), Some(deadline)),
            "session/new",
        );
        if self.config.session_directories {
            context.out.orders.push(Order::MakeDirectory(key.0));
            json.member("cwd")
                .string(&format!("{}/{}", self.config.cwd, key.0));
        } else {
            json.member("cwd").string(&self.config.cwd);
        }
        json.member("mcpServers").raw("[");
        let url = self.config.tools_url.clone();
        if let Some(url) = url.filter(|_| !setup.tools.is_empty()) {
            let (url, bearer) = self.tools.make_server(key, &url);
            json.raw("{\"type\":\"http\",\"name\":");
            json.string(SERVER);
            json.member("url").string(&url);
            json.raw(",\"headers\":[{\"name\":\"Authorization\",\"value\":");
            json.string(&alloc::format!("Bearer {bearer}"));
            json.raw("}]}");
        }
        json.raw("]");
        if let Some(system) = &setup.system {
            let mode = match self.profile.system {
                SystemPrompt::Override => "override",
                SystemPrompt::Append | SystemPrompt::Text => "append",
            };
            json.member("systemPrompt").raw("{");
            json.member("mode").string(mode);
            json.member("content").raw("[{\"type\":\"text\",\"text\":");
            json.escaped(system);
            json.raw("}]}");
        }
        if let Some(meta) = &self.profile.session_meta {
            json.member("_meta").raw(meta);
        }
        context.out.lines.push(json.end_params());
        let lasts = self.config.sessions.idle;
        let session = Session::new(setup, turn, context.now, lasts);
        self.pool.insert(key, session);
        context.out.figures_changed = true;
        key
    }

    /// The answer to `session/new`.
    pub(super) fn session_made(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        let nameless = RpcError::default();
        let made = outcome.and_then(|result| {
            text(path(result, &["sessionId"]))
                .filter(|name| !name.is_empty())
                .map(|name| (name.into_owned(), result))
                .ok_or(nameless)
        });
        let (name, result) = match made {
            Ok(made) => made,
            Err(error) if self.opening.is_trying() => {
                self.drop_session(context, key);
                return self.unable(context, &error);
            }
            Err(error) => {
                let failure = failure::of_rpc(&error, &self.profile);
                return self.fail_session(context, key, failure);
            }
        };
        if !self.pool.name(key, &name) {
            // Two conversations in one session would hear of each other.
            return self.misbehaved(context, "it gave two sessions one name");
        }
        self.counters.sessions += 1;
        let choices = Choices::read(result);
        let Some(session) = self.pool.get_mut(key) else {
            // It came too late for whoever wanted it.
            return self.close(context, &name);
        };
        if let Some(model) = &choices.model {
            self.opening.models.clone_from(&model.values);
        }
        session.choices = choices;
        self.go(context, key, State::Configuring);
        if self.opening.is_trying() {
            self.ready(context);
        }
        // A turn that had waited may have taken the session up just now.
        let idle = |session: &Session| session.state == State::Configuring;
        if self.pool.get(key).is_some_and(idle) && !self.is_being_set(key) {
            self.configure(context, key);
        }
        self.tidy(context);
    }

    /// Makes the next setting that the session's turn wants; when there is none, the session can be prompted.
    pub(super) fn configure(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(session) = self.pool.get(key) else {
            return;
        };
        match self.next_setting(session) {
            Err(failure) => self.fail_session(context, key, failure),
            Ok(Some((setting, value))) => self.set(context, key, setting, &value),
            Ok(None) => match session.turn {
                Some(exchange) => self.prompt(context, key, exchange),
                None => {
                    self.go(context, key, State::Empty);
                    self.make_room(context, 0);
                }
            },
        }
    }

    fn next_setting(
        &self,
        session: &Session,
    ) -> Result<Option<(Setting, String)>, Failure<'static>> {
        let plan = session
            .turn
            .and_then(|exchange| self.turns.get(&exchange))
            .and_then(|turn| turn.plan.as_ref());
        let model = match plan {
            Some(plan) => plan.model.as_deref(),
            None => self.profile.model.as_deref(),
        };
        let effort = plan.and_then(|plan| plan.effort.as_deref());
        let choices = &session.choices;
        for (setting, value, choice) in [
            (Setting::Mode, self.profile.mode.as_deref(), &choices.mode),
            (Setting::Model, model, &choices.model),
            (Setting::Effort, effort, &choices.effort),
        ] {
            let Some(value) = value else { continue };
            let current = choice.as_ref().and_then(|choice| choice.current.as_deref());
            if current == Some(value) {
                continue;
            }
            let offered = choice.as_ref().is_some_and(|choice| {
                choice.values.is_empty() || choice.values.iter().any(|offered| offered == value)
            });
            if session.tried & setting.bit() != 0 {
                // A model may be told by another name than the one that was asked for; a fence that does not hold is none.
                if setting == Setting::Mode {
                    return Err(failure(
                        Code::AgentError,
                        format!(
                            "the agent did not stay in the mode `{value}`, which its preset needs"
                        ),
                    ));
                }
                continue;
            }
            if offered {
                return Ok(Some((setting, value.into())));
            }
            match setting {
                Setting::Mode => {
                    return Err(failure(
                        Code::AgentError,
                        format!("the agent offers no mode `{value}`, which its preset needs"),
                    ));
                }
                Setting::Model => {
                    return Err(failure(
                        Code::InvalidRequest,
                        format!("model: the agent offers no model `{value}` now"),
                    ));
                }
                // A mode is a fence and a model is what was asked for; an effort is a wish.
                Setting::Effort => {}
            }
        }
        Ok(None)
    }

    fn set(&mut self, context: &mut Context<'_>, key: SessionKey, setting: Setting, value: &str) {
        let Some(session) = self.pool.get_mut(key) else {
            return;
        };
        session.tried |= setting.bit();
        let name = session.name.clone();
        let mut option = None;
        // Taken for granted; a refusal is told and ends the session.
        if let Some(choice) = session.choices.of(setting) {
            choice.current = Some(value.into());
            option.clone_from(&choice.option);
        }
        let deadline = context.now + self.config.request_timeout;
        let id = self.asked.expect(Ask::Set(key, setting), Some(deadline));
        let method = match (&option, setting) {
            (Some(_), _) => "session/set_config_option",
            (None, Setting::Mode) => "session/set_mode",
            (None, Setting::Model | Setting::Effort) => "session/set_model",
        };
        let mut json = Json::request(id, method);
        json.member("sessionId").string(&name);
        match (&option, setting) {
            (Some(option), _) => {
                json.member("configId").string(option);
                json.member("value").string(value);
            }
            (None, Setting::Mode) => json.member("modeId").string(value),
            (None, Setting::Model | Setting::Effort) => json.member("modelId").string(value),
        }
        context.out.lines.push(json.end_params());
    }

    pub(super) fn setting_made(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        setting: Setting,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        let Some(session) = self.pool.get_mut(key) else {
            return;
        };
        match outcome {
            Ok(result) => {
                session
                    .choices
                    .read_options(path(result, &["configOptions"]));
                self.configure(context, key);
            }
            Err(_) if setting == Setting::Effort => self.configure(context, key),
            Err(error) => {
                let failure = failure::of_rpc(&error, &self.profile);
                self.fail_session(context, key, failure);
            }
        }
        self.tidy(context);
    }

    /// Leases an idle session to a turn.
    pub(super) fn lease(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        exchange: ExchangeId,
    ) {
        if let Some(session) = self.pool.get_mut(key) {
            session.turn = Some(exchange);
            session.tried = 0;
            if session.state != State::Creating {
                self.go(context, key, State::Configuring);
            }
        }
    }

    /// Forgets a session and closes it.
    pub(super) fn drop_session(&mut self, context: &mut Context<'_>, key: SessionKey) {
        self.drop_calls(context, key);
        self.tools.end_server(key);
        self.deadlines.clear(Timer::Session(key));
        self.deadlines.clear(Timer::Gather(key));
        let Some(session) = self.pool.remove(key) else {
            return;
        };
        context.out.figures_changed = true;
        self.measure_soon(context);
        if !session.name.is_empty() {
            self.close(context, &session.name);
        }
        if self.config.session_directories {
            context.out.orders.push(Order::RemoveDirectory(key.0));
        }
    }

    fn close(&mut self, context: &mut Context<'_>, name: &str) {
        if !self.opening.abilities.close {
            self.pool.left_open += 1;
            return;
        }
        let deadline = context.now + self.config.request_timeout;
        let id = self.asked.expect(Ask::Close, Some(deadline));
        let mut json = Json::request(id, "session/close");
        json.member("sessionId").string(name);
        context.out.lines.push(json.end_params());
    }

    /// A session is of no use; its turn fails.
    pub(super) fn fail_session(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        failure: Failure<'static>,
    ) {
        let turn = self.pool.get(key).and_then(|session| session.turn);
        self.pool.spare_failed = true;
        self.drop_session(context, key);
        if let Some(exchange) = turn
            && self.turns.remove(&exchange).is_some()
        {
            context.fail(exchange, failure);
        }
    }

    /// The time of a session's state is over.
    pub(super) fn session_over(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(session) = self.pool.get(key) else {
            return;
        };
        match session.state {
            State::Stopping => {
                self.pool.stuck += 1;
                self.drop_session(context, key);
            }
            State::Parked => self.stop_turn(context, key),
            State::Kept { .. } => self.drop_session(context, key),
            // They end by an answer of the agent, whose deadline is that of the request.
            State::Creating | State::Configuring | State::Empty | State::Prompting => {}
        }
    }
}

impl Choices {
    fn of(&mut self, setting: Setting) -> Option<&mut Choice> {
        match setting {
            Setting::Mode => self.mode.as_mut(),
            Setting::Model => self.model.as_mut(),
            Setting::Effort => self.effort.as_mut(),
        }
    }
}
