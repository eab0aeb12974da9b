//! Calls of the caller's tools: parked until the client's next request brings their results.

use super::answer::Answer;
use super::session::Session;
use super::states::State;
use super::turn::Turn;
use super::{Agent, Context};
use crate::agents::acp::conversation::{Brought, Conversation, Plan};
use crate::agents::acp::deadlines::{SessionKey, Timer};
use crate::agents::acp::digest::Digest;
use crate::agents::acp::tools::{self, Asked, CallId, Called, ToolAnswer, ToolRequest};
use crate::error::Code;
use crate::id::{Authority, ExchangeId};
use crate::invocation::{Delta, End, Finish, ToolCallDelta};
use crate::text::{JsonStr, JsonValue, escape_into, hex};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// Calls that may wait at once, for one agent.
const MAX_CALLS: usize = 256;

/// One parked `tools/call`.
pub(super) struct Call {
    session: SessionKey,
    /// The agent's JSON-RPC id.
    id: String,
    progress_token: Option<String>,
    /// As the client knows it.
    name: String,
    arguments: String,
    /// The id that the client was told, once it was.
    told: Option<String>,
    alive: u64,
}

/// A turn whose answer ended with tool calls, as far as it is remembered.
pub(super) struct Parked {
    /// The permission of the caller who began it. Nobody else resumes or ends it.
    caller: Authority,
    /// The conversation that it answers.
    told: Digest,
    /// Text that came while nobody listened, escaped.
    text: String,
}

/// An MCP server.
pub(super) struct Server {
    pub(super) session: SessionKey,
    bearer: String,
}

impl Agent {
    /// Makes the server for a session: where it is, and its bearer token.
    pub(super) fn make_server(&mut self, session: SessionKey, url: &str) -> (String, String) {
        self.minted += 1;
        let name = self.mint("server", 32);
        let bearer = self.mint("bearer", 64);
        let place = alloc::format!("{url}{name}");
        self.servers.insert(
            name,
            Server {
                session,
                bearer: bearer.clone(),
            },
        );
        (place, bearer)
    }

    /// Hexadecimal digits that nobody can guess: a pseudo-random function of the seed and a counter.
    fn mint(&self, purpose: &str, digits: usize) -> String {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(purpose.as_bytes());
        hash.update(self.minted.to_be_bytes());
        let mut text = Vec::with_capacity(64);
        hex(&mut text, &hash.finalize());
        text.truncate(digits);
        String::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn tool_request(
        &mut self,
        context: &mut Context<'_>,
        request: &ToolRequest<'_>,
    ) -> ToolAnswer {
        let Some(server) = self.servers.get(request.server) else {
            return ToolAnswer::Refused(Code::NotFound);
        };
        let shown = request
            .authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        if !bool::from(shown.as_bytes().ct_eq(server.bearer.as_bytes())) {
            return ToolAnswer::Refused(Code::InvalidKey);
        }
        if request.method != "POST" {
            // No stream of the server's own, no session to end.
            return ToolAnswer::Refused(Code::MethodNotAllowed);
        }
        let key = server.session;
        let Some(setup) = self.sessions.get(&key).map(|session| session.setup.clone()) else {
            return ToolAnswer::Refused(Code::NotFound);
        };
        match tools::read(request.body, &setup.tools) {
            Asked::Answer(answer) => answer,
            Asked::Call(called) => self.park(context, key, &called),
        }
    }

    /// Takes a call, and tells it to the client who listens.
    fn park(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        called: &Called<'_>,
    ) -> ToolAnswer {
        self.last_call += 1;
        let id = CallId(self.last_call);
        let listens = self
            .sessions
            .get(&key)
            .is_some_and(|session| matches!(session.state, State::Prompting | State::Parked));
        if !listens || self.calls.len() >= MAX_CALLS {
            context
                .out
                .tool_replies
                .push((id, tools::ended(called.id, Err(tools::NOBODY))));
            return ToolAnswer::Stream(id);
        }
        self.counters.tool_calls += 1;
        self.calls.insert(
            id,
            Call {
                session: key,
                id: called.id.get().into(),
                progress_token: called.progress_token.map(|token| token.get().into()),
                name: called.name.clone().into_owned(),
                arguments: called.arguments.into(),
                told: None,
                alive: 0,
            },
        );
        self.deadlines
            .set(Timer::ToolCall(id), context.now + self.config.tool_progress);
        self.tell_calls(context, key);
        ToolAnswer::Stream(id)
    }

    /// A call waits no longer.
    fn take_call(&mut self, id: CallId) -> Option<Call> {
        self.deadlines.clear(Timer::ToolCall(id));
        self.calls.remove(&id)
    }

    /// Tells the client of a session's turn the calls that it does not know yet.
    pub(super) fn tell_calls(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(session) = self
            .sessions
            .get_mut(&key)
            .filter(|session| session.state == State::Prompting)
        else {
            return;
        };
        let Some(exchange) = session.turn else {
            return;
        };
        let mut index = u32::try_from(
            self.calls
                .values()
                .filter(|call| call.session == key && call.told.is_some())
                .count(),
        )
        .unwrap_or(u32::MAX);
        let mut told = false;
        for (id, call) in &mut self.calls {
            if call.session != key || call.told.is_some() {
                continue;
            }
            // The exchange makes it unique beyond this process, the call within it.
            let name = alloc::format!("call_{exchange}_{:x}", id.0);
            let (mut tool, mut arguments) = (Vec::new(), Vec::new());
            escape_into(&mut tool, &call.name);
            escape_into(&mut arguments, &call.arguments);
            let piece = ToolCallDelta {
                index,
                id: JsonStr::from_escaped(&name),
                name: JsonStr::from_escaped(core::str::from_utf8(&tool).unwrap_or_default()),
                arguments: JsonStr::from_escaped(
                    core::str::from_utf8(&arguments).unwrap_or_default(),
                ),
            };
            context.delta(
                exchange,
                Delta {
                    tool_calls: Vec::from([piece]),
                    ..Delta::default()
                },
            );
            call.told = Some(name);
            index = index.saturating_add(1);
            told = true;
        }
        if told {
            self.deadlines
                .set(Timer::Gather(key), context.now + self.config.tool_gather);
        }
    }

    /// All calls that come together have come: the client's answer ends, and its turn is parked.
    pub(super) fn gathered(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(exchange) = session.turn.take() else {
            return;
        };
        let Some(mut turn) = self.turns.remove(&exchange) else {
            return;
        };
        let held = turn.answer.release();
        session.parked = turn.plan.map(|plan| Parked {
            caller: plan.caller,
            told: plan.told(),
            text: String::new(),
        });
        self.go(context, key, State::Parked);
        if !held.is_empty() {
            context.content(exchange, JsonStr::from_escaped(&held));
        }
        context.end(
            exchange,
            End {
                finish: Finish::ToolCalls,
                usage: None,
            },
        );
        if !self.calls.values().any(|call| call.session == key) {
            // The agent has not waited.
            self.stop_turn(context, key);
        }
    }

    /// Text that an agent writes while its turn is parked is kept for the next listener.
    pub(super) fn overheard(&mut self, key: SessionKey, text: JsonStr<'_>) {
        let limit = self.config.answer_bytes;
        if let Some(parked) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.parked.as_mut())
            && parked.text.len() + text.len() <= limit
        {
            parked.text.push_str(text.as_escaped());
        }
    }

    /// Resumes the turn whose calls these are the results of. The agent reads what is said beside them behind the last result, as
    /// nothing else can be told to it within a turn. False when there is none, it was another conversation's, or something cannot
    /// be told so.
    pub(super) fn resume(
        &mut self,
        context: &mut Context<'_>,
        exchange: ExchangeId,
        plan: &Plan,
        brought: &Brought<'_>,
    ) -> bool {
        let results = &*brought.results;
        if !brought.is_text {
            return false;
        }
        let key = self.calls.values().find_map(|call| {
            let told = call.told.as_deref()?;
            results
                .iter()
                .any(|result| result.id == told)
                .then_some(call.session)
                .filter(|key| self.is_parked_for(*key, plan.caller))
        });
        let Some(key) = key else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return false;
        };
        let parked = session.parked.take();
        let Some(parked) = parked.filter(|parked| parked.told == plan.before_calls) else {
            // The caller's transcript is not what the agent remembers.
            self.stop_turn(context, key);
            return false;
        };
        session.turn = Some(exchange);
        self.go(context, key, State::Prompting);
        if let Some(turn) = self.turns.get_mut(&exchange) {
            turn.take_over(plan.clone(), key);
        }
        self.counters.reused += 1;
        let answered: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.session == key && call.told.is_some())
            .map(|(id, _)| *id)
            .collect();
        let result_of = |call: &Call| {
            let told = call.told.as_deref()?;
            results.iter().find(|result| result.id == told)
        };
        let has_result = |id: &&CallId| self.calls.get(*id).and_then(result_of).is_some();
        let last = answered.iter().rev().find(has_result).copied();
        for id in answered {
            if let Some(call) = self.take_call(id) {
                let text = result_of(&call).map(|result| match &*brought.beside {
                    beside if Some(id) == last && !beside.is_empty() => {
                        Cow::Owned(alloc::format!("{}\\n\\n{beside}", result.text))
                    }
                    _ => Cow::Borrowed(&*result.text),
                });
                let outcome = text.as_deref().ok_or("the caller gave no result");
                context
                    .out
                    .tool_replies
                    .push((id, tools::ended(JsonValue::skipped(&call.id), outcome)));
            }
        }
        if !parked.text.is_empty() {
            self.text(context, exchange, JsonStr::from_escaped(&parked.text));
        }
        self.tell_calls(context, key);
        true
    }

    /// True for a session whose turn is parked for a caller with this permission. The ids of its calls can be guessed, so they prove
    /// nothing.
    fn is_parked_for(&self, key: SessionKey, caller: Authority) -> bool {
        self.sessions.get(&key).is_some_and(|session| {
            let parked = session.parked.as_ref();
            session.state == State::Parked && parked.is_some_and(|parked| parked.caller == caller)
        })
    }

    /// A conversation goes on without the parked turns whose calls are in it: nobody will bring their results, so they are
    /// cancelled.
    pub(super) fn leave_parked(
        &mut self,
        context: &mut Context<'_>,
        caller: Authority,
        conversation: &Conversation<'_>,
    ) {
        let left = |call: &&Call| {
            let told = call.told.as_deref();
            told.is_some_and(|told| conversation.has_call(told))
        };
        let left = self.calls.values().filter(left).map(|call| call.session);
        let left: Vec<SessionKey> = left.collect();
        for key in left {
            if self.is_parked_for(key, caller) {
                self.stop_turn(context, key);
            }
        }
    }

    /// Cancels the turns that are parked for callers whose permission is gone.
    pub(super) fn leave_withdrawn(
        &mut self,
        context: &mut Context<'_>,
        upheld: &dyn Fn(Authority) -> bool,
    ) {
        let lost = |session: &Session| {
            let parked = session.parked.as_ref();
            session.state == State::Parked && parked.is_some_and(|parked| !upheld(parked.caller))
        };
        let lost = self.sessions.iter().filter(|(_, session)| lost(session));
        let lost: Vec<SessionKey> = lost.map(|(key, _)| *key).collect();
        for key in lost {
            self.stop_turn(context, key);
        }
    }

    /// Nobody will bring results for the calls of a session any more.
    pub(super) fn drop_calls(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let ids: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.session == key)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(call) = self.take_call(id) {
                context.out.tool_replies.push((
                    id,
                    tools::ended(JsonValue::skipped(&call.id), Err(tools::NOBODY)),
                ));
            }
        }
    }

    pub(super) fn has_calls(&self, key: SessionKey) -> bool {
        self.calls.values().any(|call| call.session == key)
    }

    /// The agent's HTTP request is gone: it does not wait for the result.
    pub(super) fn tool_gone(&mut self, context: &mut Context<'_>, id: CallId) {
        let Some(call) = self.take_call(id) else {
            return;
        };
        let parked = self
            .sessions
            .get(&call.session)
            .is_some_and(|session| session.state == State::Parked);
        if parked && !self.has_calls(call.session) {
            self.stop_turn(context, call.session);
        }
    }

    /// Shows the agent that its call is not forgotten.
    pub(super) fn keep_alive(&mut self, context: &mut Context<'_>, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.alive += 1;
        let sign = tools::alive(
            call.progress_token.as_deref().map(JsonValue::skipped),
            call.alive,
        );
        context.out.tool_replies.push((id, sign));
        self.deadlines
            .set(Timer::ToolCall(id), context.now + self.config.tool_progress);
    }
}

impl Turn {
    /// The turn goes on in a session that was parked.
    fn take_over(&mut self, plan: Plan, key: SessionKey) {
        self.plan = Some(plan);
        self.session = Some(key);
        self.answer = Answer::default();
    }
}
