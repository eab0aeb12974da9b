//! Calls of the caller's tools: parked until the client's next request brings their results.

use super::answer::Answer;
use super::calls::Call;
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
use crate::text::{JsonStr, escape_into};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// A turn whose answer ended with tool calls, as far as it is remembered.
pub(super) struct Parked {
    /// The permission of the caller who began it. Nobody else resumes or ends it.
    caller: Authority,
    /// The conversation that it answers.
    told: Digest,
    /// Text that came while nobody listened, escaped.
    text: String,
}

impl Agent {
    pub(super) fn tool_request(
        &mut self,
        context: &mut Context<'_>,
        request: &ToolRequest<'_>,
    ) -> ToolAnswer {
        let key = match self.tools.session_of(request) {
            Ok(key) => key,
            Err(code) => return ToolAnswer::Refused(code),
        };
        let Some(setup) = self.pool.get(key).map(|session| session.setup.clone()) else {
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
        let id = self.tools.next_id();
        let listens = self
            .pool
            .get(key)
            .is_some_and(|session| matches!(session.state, State::Prompting | State::Parked));
        if !listens || self.tools.is_full() {
            context
                .out
                .tool_replies
                .push((id, tools::ended(called.id, Err(tools::NOBODY))));
            return ToolAnswer::Stream(id);
        }
        self.counters.tool_calls += 1;
        self.tools.insert(id, key, called);
        self.deadlines
            .set(Timer::ToolCall(id), context.now + self.config.tool_progress);
        self.tell_calls(context, key);
        ToolAnswer::Stream(id)
    }

    /// A call waits no longer.
    fn take_call(&mut self, id: CallId) -> Option<Call> {
        self.deadlines.clear(Timer::ToolCall(id));
        self.tools.remove(id)
    }

    /// Tells the client of a session's turn the calls that it does not know yet.
    pub(super) fn tell_calls(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(session) = self
            .pool
            .get_mut(key)
            .filter(|session| session.state == State::Prompting)
        else {
            return;
        };
        let Some(exchange) = session.turn else {
            return;
        };
        let told_before = self.tools.of(key).filter(|(_, call)| call.told.is_some());
        let mut index = u32::try_from(told_before.count()).unwrap_or(u32::MAX);
        let mut told = false;
        for (id, call) in self.tools.untold(key) {
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
        let Some(session) = self.pool.get_mut(key) else {
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
        if !self.has_calls(key) {
            // The agent has not waited.
            self.stop_turn(context, key);
        }
    }

    /// Text that an agent writes while its turn is parked is kept for the next listener.
    pub(super) fn overheard(&mut self, key: SessionKey, text: JsonStr<'_>) {
        let limit = self.config.answer_bytes;
        if let Some(parked) = self
            .pool
            .get_mut(key)
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
        let key = self.tools.iter().find_map(|(_, call)| {
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
        let Some(session) = self.pool.get_mut(key) else {
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
        let answered = self.tools.of(key).filter(|(_, call)| call.told.is_some());
        let answered: Vec<CallId> = answered.map(|(id, _)| id).collect();
        let result_of = |call: &Call| {
            let told = call.told.as_deref()?;
            results.iter().find(|result| result.id == told)
        };
        let with_result = self
            .tools
            .of(key)
            .filter(|(_, call)| result_of(call).is_some());
        let last = with_result.last().map(|(id, _)| id);
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
                    .push((id, tools::ended(call.id(), outcome)));
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
        self.pool.get(key).is_some_and(|session| {
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
        let left = |call: &Call| {
            let told = call.told.as_deref();
            told.is_some_and(|told| conversation.has_call(told))
        };
        let left = self.tools.iter().filter(|(_, call)| left(call));
        let left: Vec<SessionKey> = left.map(|(_, call)| call.session).collect();
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
        let lost = self.pool.iter().filter(|(_, session)| lost(session));
        let lost: Vec<SessionKey> = lost.map(|(key, _)| key).collect();
        for key in lost {
            self.stop_turn(context, key);
        }
    }

    /// Nobody will bring results for the calls of a session any more.
    pub(super) fn drop_calls(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let ids: Vec<CallId> = self.tools.of(key).map(|(id, _)| id).collect();
        for id in ids {
            if let Some(call) = self.take_call(id) {
                context
                    .out
                    .tool_replies
                    .push((id, tools::ended(call.id(), Err(tools::NOBODY))));
            }
        }
    }

    pub(super) fn has_calls(&self, key: SessionKey) -> bool {
        self.tools.of(key).next().is_some()
    }

    /// The agent's HTTP request is gone: it does not wait for the result.
    pub(super) fn tool_gone(&mut self, context: &mut Context<'_>, id: CallId) {
        let Some(call) = self.take_call(id) else {
            return;
        };
        let parked = self
            .pool
            .get(call.session)
            .is_some_and(|session| session.state == State::Parked);
        if parked && !self.has_calls(call.session) {
            self.stop_turn(context, call.session);
        }
    }

    /// Shows the agent that its call is not forgotten.
    pub(super) fn keep_alive(&mut self, context: &mut Context<'_>, id: CallId) {
        let Some(call) = self.tools.get_mut(id) else {
            return;
        };
        call.alive += 1;
        let sign = tools::alive(call.progress_token(), call.alive);
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
