//! One turn: an invocation, from the link's message to the end of the answer.

use super::answer::Answer;
use super::complaint::Complaint;
use super::opening::Phase;
use super::states::State;
use super::{Agent, Ask, Context};
use crate::agents::acp::conversation::{Conversation, Plan};
use crate::agents::acp::deadlines::{SessionKey, Timer};
use crate::agents::acp::failure::{self, failure};
use crate::agents::acp::profile::{HiddenError, UsageRule};
use crate::agents::acp::update::{SessionUpdate, Update, path, text, tokens};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{Delta, End, Failure, Finish};
use crate::link::Invoke;
use crate::rpc::{Json, RpcError};
use crate::text::{JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// See the module's documentation.
pub(super) struct Turn {
    /// Until the agent has been told.
    invoke: Option<Box<Invoke>>,
    pub(super) plan: Option<Plan>,
    /// `None` while it waits for the process.
    pub(super) session: Option<SessionKey>,
    /// The session knows nothing of the conversation.
    fresh: bool,
    /// The agent has said something in it.
    pub(super) heard: bool,
    /// Complaints of the agent while it said nothing.
    pub(super) complaints: Vec<Complaint>,
    pub(super) answer: Answer,
}

impl Turn {
    pub(super) fn new(invoke: Box<Invoke>) -> Self {
        Self {
            invoke: Some(invoke),
            plan: None,
            session: None,
            fresh: true,
            heard: false,
            complaints: Vec::new(),
            answer: Answer::default(),
        }
    }
}

impl Agent {
    /// Brings an invocation as far as the process is.
    pub(super) fn take_up(&mut self, context: &mut Context<'_>, exchange: ExchangeId) {
        match self.opening.phase() {
            Some(Phase::Ready) => {
                if let Err(failure) = self.assign(context, exchange) {
                    self.turns.remove(&exchange);
                    context.fail(exchange, failure);
                }
            }
            Some(Phase::Unable { .. }) => self.try_session(context),
            Some(Phase::Initializing | Phase::Trying) => {}
            None if self.demand(context) => {}
            None => {
                self.turns.remove(&exchange);
                context.fail(
                    exchange,
                    failure(Code::AgentLost, "the agent is not running"),
                );
            }
        }
    }

    /// Finds the session for an invocation, or makes one.
    fn assign(
        &mut self,
        context: &mut Context<'_>,
        exchange: ExchangeId,
    ) -> Result<(), Failure<'static>> {
        let Some(turn) = self.turns.get_mut(&exchange) else {
            return Ok(());
        };
        let Some(invoke) = turn.invoke.take() else {
            return Ok(());
        };
        let caller = invoke.permit.caller();
        let conversation = Conversation::of(&invoke, &self.opening.abilities)?;
        let plan = conversation.plan(
            self.pool.digest_key,
            &invoke.model,
            &self.profile,
            &self.opening.abilities,
            self.serves_tools(),
            caller,
        );
        let brought = conversation.brought();
        if self.resume(context, exchange, &plan, &brought) {
            return Ok(());
        }
        self.leave_parked(context, caller, &conversation);
        let before = plan.before.filter(|_| self.config.reuse);
        let setup = plan.setup.clone();
        drop(brought);
        drop(conversation);
        if let Some(turn) = self.turns.get_mut(&exchange) {
            turn.plan = Some(plan);
            turn.invoke = Some(invoke);
        }
        let kept = before.and_then(|before| self.pool.kept(before));
        let (key, fresh) = match kept {
            Some(key) => (Some(key), false),
            None => (self.pool.spare(setup.digest), true),
        };
        if fresh {
            self.pool.note_setup(&setup);
        }
        let key = match key {
            Some(key) => {
                self.lease(context, key, exchange);
                if fresh {
                    self.counters.ready += 1;
                } else {
                    self.counters.reused += 1;
                }
                key
            }
            None if self.pool.is_full() => {
                return Err(failure(
                    Code::Overloaded,
                    "the agent has as many sessions as it may have; try again later",
                ));
            }
            None => self.new_session(context, setup, Some(exchange)),
        };
        if let Some(turn) = self.turns.get_mut(&exchange) {
            turn.session = Some(key);
            turn.fresh = fresh;
        }
        let made = self
            .pool
            .get(key)
            .is_some_and(|session| session.state != State::Creating);
        // One that was being set when it was leased goes on by itself.
        if made && !self.is_being_set(key) {
            self.configure(context, key);
        }
        Ok(())
    }

    pub(super) fn is_being_set(&self, key: SessionKey) -> bool {
        self.asked
            .iter()
            .any(|(_, ask)| matches!(ask, Ask::Set(set, _) if *set == key))
    }

    /// Asks the agent.
    pub(super) fn prompt(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        exchange: ExchangeId,
    ) {
        let id = self.asked.expect(Ask::Prompt(key), None);
        let (Some(session), Some(turn)) = (self.pool.get_mut(key), self.turns.get_mut(&exchange))
        else {
            return;
        };
        let Some(invoke) = turn.invoke.take() else {
            return;
        };
        let Ok(conversation) = Conversation::of(&invoke, &self.opening.abilities) else {
            return;
        };
        let blocks = if turn.fresh {
            conversation.whole(session.setup.system.is_some())
        } else {
            conversation.last_turn()
        };
        let mut json = Json::request(id, "session/prompt");
        json.member("sessionId").string(&session.name);
        blocks.write(json.member("prompt"));
        self.go(context, key, State::Prompting);
        self.counters.prompts += 1;
        self.measured.prompted = true;
        context.out.lines.push(json.end_params());
        self.is_stuffed(context);
    }

    /// One `session/update`.
    pub(super) fn update(&mut self, context: &mut Context<'_>, update: SessionUpdate<'_>) {
        let SessionUpdate { session, update } = update;
        match update {
            Update::Notice => return self.counters.notices += 1,
            Update::Unknown => return self.counters.unknown_updates += 1,
            Update::Other => return,
            Update::Message { .. }
            | Update::Thought(_)
            | Update::Call(_)
            | Update::Work
            | Update::Options(_)
            | Update::Mode(_)
            | Update::Info(_) => {}
        }
        let Some(key) = self.pool.named(&session) else {
            self.counters.late += 1;
            return;
        };
        // Whoever is next sets again what is not as it wants it, the fence before all.
        if let Some(session) = self.pool.get_mut(key) {
            match &update {
                Update::Options(options) => return session.choices.read_options(*options),
                Update::Mode(mode) => return session.choices.set_mode(mode),
                Update::Message { .. }
                | Update::Thought(_)
                | Update::Call(_)
                | Update::Work
                | Update::Info(_)
                | Update::Notice
                | Update::Other
                | Update::Unknown => {}
            }
        }
        let Some((session, listener)) = self.pool.get_mut(key).and_then(|session| {
            let listener = match session.state {
                State::Prompting => Some(session.turn?),
                State::Parked => None,
                State::Creating
                | State::Configuring
                | State::Empty
                | State::Kept { .. }
                | State::Stopping => return None,
            };
            Some((session, listener))
        }) else {
            self.counters.late += 1;
            return;
        };
        if let Update::Message {
            message: Some(message),
            ..
        } = &update
            && !session.goes_on(message)
        {
            self.counters.late += 1;
            return;
        }
        if let Update::Call(call) = update {
            session.note_call(call);
        }
        let Some(exchange) = listener else {
            if let Update::Message { text, .. } = update {
                self.overheard(key, text);
            }
            return;
        };
        if !matches!(update, Update::Info(_)) {
            self.heard(key, exchange);
        }
        let Some(turn) = self.turns.get_mut(&exchange) else {
            return;
        };
        match update {
            Update::Message { text, meta, .. } => {
                if !text.is_empty() {
                    self.text(context, exchange, text);
                } else if self.profile.usage == UsageRule::ChunkMeta
                    && let Some((input, output)) = path(meta, &["usage"]).and_then(tokens)
                {
                    let so_far = turn.answer.counted.unwrap_or_default();
                    turn.answer.counted = Some((
                        so_far.0.saturating_add(input),
                        so_far.1.saturating_add(output),
                    ));
                }
            }
            Update::Thought(text) => context.delta(
                exchange,
                Delta {
                    reasoning: text,
                    ..Delta::default()
                },
            ),
            Update::Call(_) | Update::Work => {
                turn.answer.worked = true;
                context.delta(exchange, Delta::default());
            }
            Update::Info(meta) => {
                if self.profile.hidden_error == HiddenError::ThreadStatus
                    && text(path(meta, &["codex", "threadStatus", "type"])).as_deref()
                        == Some("systemError")
                {
                    turn.answer.has_failed();
                }
            }
            Update::Options(_)
            | Update::Mode(_)
            | Update::Notice
            | Update::Other
            | Update::Unknown => {}
        }
    }

    /// More text of an answer.
    pub(super) fn text(
        &mut self,
        context: &mut Context<'_>,
        exchange: ExchangeId,
        text: JsonStr<'_>,
    ) {
        let Some(turn) = self.turns.get_mut(&exchange) else {
            return;
        };
        let pass = turn.answer.push(
            text,
            &self.profile.hidden_error,
            self.config.answer_bytes,
            &mut self.scratch,
        );
        if pass {
            let held = turn.answer.release();
            if !held.is_empty() {
                context.content(exchange, JsonStr::from_escaped(&held));
            }
            context.content(exchange, text);
        }
    }

    /// The answer to `session/prompt`.
    pub(super) fn prompt_ended(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        self.pool.spare_failed = false;
        let Some(session) = self.pool.get_mut(key) else {
            return;
        };
        session.turn_over();
        let calls = self.deadlines.clear(Timer::Gather(key));
        let turn = session.turn.take();
        let turn = turn.and_then(|exchange| Some((exchange, self.turns.remove(&exchange)?)));
        let Some((exchange, mut turn)) = turn.filter(|_| session.state == State::Prompting) else {
            // Cancelled, or the agent did not wait for the results of its calls.
            self.drop_session(context, key);
            return self.tidy(context);
        };
        match outcome.map_err(|error| failure::of_rpc(&error, &self.profile)) {
            Ok(result) => match finish(result, &turn.answer) {
                Ok(finish) => {
                    // The agent did not wait for the results of calls that the client knows of.
                    let finish = if calls { Finish::ToolCalls } else { finish };
                    let held = turn.answer.release();
                    if !held.is_empty() {
                        context.content(exchange, JsonStr::from_escaped(&held));
                    }
                    let usage = turn
                        .answer
                        .usage(self.profile.usage, result, &mut session.counted);
                    context.end(exchange, End { finish, usage });
                    let conversation = turn
                        .plan
                        .as_ref()
                        .filter(|_| self.config.reuse && finish == Finish::Stop)
                        .zip(turn.answer.whole())
                        .map(|(plan, answer)| (plan.after(answer), plan.goes_on));
                    match conversation {
                        Some((conversation, goes_on)) => {
                            self.keep(context, key, conversation, goes_on);
                        }
                        None => self.drop_session(context, key),
                    }
                }
                Err(failure) => {
                    self.drop_session(context, key);
                    context.fail(exchange, failure);
                }
            },
            Err(failure) => {
                self.drop_session(context, key);
                context.fail(exchange, failure);
            }
        }
        self.tidy(context);
    }

    /// `model_cancel`: nobody waits for the answer any more.
    pub(super) fn cancel(&mut self, context: &mut Context<'_>, exchange: ExchangeId) {
        let Some(turn) = self.turns.remove(&exchange) else {
            return;
        };
        if let Some(key) = turn.session {
            match self.pool.get_mut(key) {
                Some(session) if session.state == State::Creating => session.turn = None,
                Some(session) if session.state == State::Prompting => self.stop_turn(context, key),
                // Its settings are somebody's whom nobody knows.
                _ => self.drop_session(context, key),
            }
        }
        self.tidy(context);
    }

    /// Tells the agent to stop, and waits until it has.
    pub(super) fn stop_turn(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(session) = self.pool.get_mut(key) else {
            return;
        };
        session.turn = None;
        session.parked = None;
        let mut json = Json::notification("session/cancel");
        json.member("sessionId").string(&session.name);
        self.deadlines.clear(Timer::Gather(key));
        self.deadlines.clear(Timer::Complaint(key));
        self.go(context, key, State::Stopping);
        context.out.lines.push(json.end_params());
        self.drop_calls(context, key);
    }

    /// Something of the process's output was lost: every answer that is under way may have a hole.
    pub(super) fn fail_prompting(&mut self, context: &mut Context<'_>) {
        let prompting = self.pool.prompting();
        let prompting = prompting.filter_map(|(key, session)| Some((key, session.turn?)));
        let prompting: Vec<(SessionKey, ExchangeId)> = prompting.collect();
        for (key, exchange) in prompting {
            self.stop_turn(context, key);
            if self.turns.remove(&exchange).is_some() {
                context.fail(
                    exchange,
                    failure(
                        Code::AgentFault,
                        "the agent wrote a message that is cut, mixed with another, or too long; a part of its answer is lost",
                    ),
                );
            }
        }
    }
}

/// Returns the finish or the failure of a turn whose prompt the agent answered with a result.
fn finish(result: Option<JsonValue<'_>>, answer: &Answer) -> Result<Finish, Failure<'static>> {
    let reason = text(path(result, &["stopReason"])).unwrap_or(Cow::Borrowed("end_turn"));
    if let Some(error) = answer.error() {
        return Err(failure::hidden(error));
    }
    Ok(match &*reason {
        "max_tokens" | "max_turn_requests" => Finish::Length,
        "refusal" => Finish::ContentFilter,
        "cancelled" => {
            return Err(failure(
                Code::AgentError,
                "the agent says that its turn was cancelled; nobody here did so",
            ));
        }
        _ => Finish::Stop,
    })
}
