//! The machine of one ACP agent. What its process, the opening of the protocol and its sessions go through is in the tables
//! [`process::STATES`](crate::process::STATES), [`OPENING`] and [`SESSION`].

mod answer;
mod calls;
mod complaint;
mod handshake;
mod idle;
mod life;
mod opening;
mod parked;
mod pool;
mod registration;
mod requests;
mod session;
mod states;
mod turn;

use super::deadlines::{Deadlines, SessionKey, Timer};
use super::digest::DigestKey;

use super::ports::{AgentCounters, Config, Out, ToLink};
use super::profile::Profile;

use super::scan;
use super::tools::{CallId, ToolAnswer, ToolRequest};
use super::update::SessionUpdate;
use crate::error::Code;
use crate::id::{Authority, ExchangeId};
use crate::link::{FromAgent, ToAgent};
use crate::process::{self, Life};
use crate::rpc::{Line, Message, NotAMessage, Peer, one_line};
use crate::text::JsonValue;
use crate::time::{Instant, Latest, Timeout};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use calls::ToolCalls;
use core::fmt;
use idle::Measured;
pub use opening::OPENING;
use opening::{Opening, Phase};
use pool::Pool;
use registration::Registered;
use session::Setting;
pub use states::SESSION;
use turn::Turn;

/// The time, the outputs and the link of one call of the machine.
struct Context<'c> {
    now: Instant,
    out: &'c mut Out,
    link: &'c mut ToLink<'c>,
}

/// A request of ours that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    Initialize,
    Authenticate,
    NewSession(SessionKey),
    Set(SessionKey, Setting),
    Prompt(SessionKey),
    Close,
}

/// See the module's documentation.
pub struct Agent {
    profile: Profile,
    config: Config,
    latest: Latest,
    /// Its process.
    life: Life,
    /// The opening of the protocol with the process that runs.
    opening: Opening,
    registered: Registered,
    /// Requests of ours that wait for their answers; at most a few for each session.
    asked: Peer<Ask>,
    deadlines: Deadlines,
    pool: Pool,
    turns: BTreeMap<ExchangeId, Turn>,
    /// Use of the machine by this process.
    measured: Measured,
    counters: AgentCounters,
    scratch: Vec<u8>,
    tools: ToolCalls,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.profile.name)
            .field("process", &self.life.state())
            .field("opening", &self.opening.phase())
            .field("sessions", &self.pool.len())
            .field("turns", &self.turns.len())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that is not running. `seed` makes the names of its tool servers, which nobody may guess.
    #[must_use]
    pub fn new(mut profile: Profile, config: Config, seed: [u8; 32]) -> Self {
        profile.concurrency = profile.concurrency.max(1);
        profile.session_meta = profile
            .session_meta
            .filter(|meta| JsonValue::read(meta).is_some_and(|meta| meta.get().starts_with('{')))
            .map(|meta| one_line(&meta));
        Self {
            life: Life::new(config.process),
            profile,
            config,
            latest: Latest::default(),
            opening: Opening::default(),
            registered: Registered::default(),
            asked: Peer::new(),
            deadlines: Deadlines::default(),
            pool: Pool::new(DigestKey::new(&seed)),
            turns: BTreeMap::new(),
            measured: Measured::default(),
            counters: AgentCounters::default(),
            scratch: Vec::new(),
            tools: ToolCalls::new(seed),
        }
    }

    /// Returns the profile that the agent was made with.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Returns the counts of events since the machine was made.
    #[must_use]
    pub const fn counters(&self) -> &AgentCounters {
        &self.counters
    }

    /// Invocations that it has not answered.
    #[must_use]
    pub fn open_turns(&self) -> usize {
        self.turns.len()
    }

    /// Sessions that its process has, as far as they are of use.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.pool.len()
    }

    /// True when it can be asked at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.opening.is_ready()
    }

    /// True when it was told to stop and its process has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.life.state() == process::State::Stopped
    }

    /// The process is to run from now on. Changes nothing when it does.
    pub fn start(&mut self, now: Instant, out: &mut Out) {
        let now = self.latest.clamp(now);
        self.live(now, out, Life::start);
    }

    /// The process runs; its lines follow.
    pub fn handle_started<'c>(&mut self, now: Instant, out: &'c mut Out, link: &'c mut ToLink<'c>) {
        self.enter(now, out, link, Self::started);
    }

    /// The process has ended, or could not be started. No line of it may follow.
    pub fn handle_exited<'c>(
        &mut self,
        now: Instant,
        status: &str,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            agent.exited(context, status);
        });
    }

    /// One line of the process's standard output, as [`Lines`](crate::rpc::Lines) cut it.
    pub fn handle_line<'c>(
        &mut self,
        now: Instant,
        line: Line<'_>,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            agent.line(context, line);
        });
    }

    /// One message that the link has for the agent.
    pub fn handle_message<'c>(
        &mut self,
        now: Instant,
        message: ToAgent,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            agent.told(context, message);
        });
    }

    /// The process has written a line about an error to its standard error. A client whose turn is silent for some seconds after
    /// it hears of it.
    pub fn handle_complaint<'c>(
        &mut self,
        now: Instant,
        line: &str,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            agent.complained(context, line);
        });
    }

    /// Does what is due at `now`.
    pub fn handle_timeout<'c>(&mut self, now: Instant, out: &'c mut Out, link: &'c mut ToLink<'c>) {
        self.enter(now, out, link, Self::due);
    }

    /// Returns the time at which [`Agent::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        let process = self.life.poll_timeout().map(|Timeout { at, why }| Timeout {
            at,
            why: Timer::Process(why),
        });
        let asked = self.asked.poll_timeout().map(|(at, id)| Timeout {
            at,
            why: Timer::Request(id),
        });
        let timeouts = [process, asked, self.deadlines.next()];
        let timeouts = timeouts.into_iter().flatten();
        timeouts.min_by_key(|timeout| (timeout.at, timeout.why))
    }

    /// True when an MCP server of this agent has this name.
    #[must_use]
    pub fn serves_at(&self, server: &str) -> bool {
        self.tools.serves_at(server)
    }

    /// An HTTP request of the agent to an MCP server of the caller's tools.
    pub fn handle_tool_request<'c>(
        &mut self,
        now: Instant,
        request: &ToolRequest<'_>,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) -> ToolAnswer {
        self.enter(now, out, link, |agent, context| {
            agent.tool_request(context, request)
        })
    }

    /// The connection of a call was lost before its answer had ended. Changes nothing for one that is over.
    pub fn handle_tool_gone<'c>(
        &mut self,
        now: Instant,
        call: CallId,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            agent.tool_gone(context, call);
        });
    }

    /// The keys of callers have changed: turns that are parked for a caller whose permission is not upheld any more are
    /// cancelled, as nobody may bring their results.
    pub fn handle_keys<'c>(
        &mut self,
        now: Instant,
        upheld: &dyn Fn(Authority) -> bool,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            agent.leave_withdrawn(context, upheld);
        });
    }

    /// Asks the agent to log the person in with one of its methods. Only a person may order this: an agent may open a
    /// browser. False when the agent is not there to be asked.
    pub fn authenticate<'c>(
        &mut self,
        now: Instant,
        method: &str,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) -> bool {
        let able = matches!(
            self.opening.phase(),
            Some(Phase::Ready | Phase::Unable { .. } | Phase::Trying)
        );
        if able {
            self.enter(now, out, link, |agent, context| {
                agent.ask_authenticate(context, method);
            });
        }
        able
    }

    /// The process is to end, and not to be started again. What it was asked fails.
    pub fn stop<'c>(&mut self, now: Instant, out: &'c mut Out, link: &'c mut ToLink<'c>) {
        self.enter(now, out, link, |agent, context| {
            agent.fail_turns(
                context,
                Code::AgentLost,
                "the agent is being stopped",
                |_| true,
            );
            agent.end_process(context, Life::stop);
        });
    }

    fn enter<'c, R>(
        &mut self,
        now: Instant,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
        call: impl FnOnce(&mut Self, &mut Context<'c>) -> R,
    ) -> R {
        let now = self.latest.clamp(now);
        let mut context = Context { now, out, link };
        call(self, &mut context)
    }

    fn line(&mut self, context: &mut Context<'_>, line: Line<'_>) {
        if self.opening.phase().is_none() {
            return;
        }
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => return self.damaged(context),
        };
        let text = core::str::from_utf8(line);
        if let Some(update) = text.ok().and_then(scan::chunk) {
            return self.update(context, update);
        }
        let message = match text {
            Ok(text) => Message::read(text),
            Err(_) => Err(NotAMessage::of(line)),
        };
        match message {
            Ok(Message::Notification(call)) => {
                if call.method == "session/update" {
                    match call.params.and_then(SessionUpdate::read) {
                        Some(update) => self.update(context, update),
                        None => self.counters.unknown_updates += 1,
                    }
                }
            }
            Ok(Message::Request { id, call }) => {
                self.asked(context, id, &call.method, call.params);
            }
            Ok(Message::Response { id, outcome }) => match self.asked.take(id) {
                Some(ask) => self.answered(context, ask, outcome),
                None => self.counters.late += 1,
            },
            Err(NotAMessage::Noise) => {
                self.counters.noise += 1;
                self.opening.note_stray(line);
            }
            Err(NotAMessage::Damaged) => self.damaged(context),
        }
    }

    /// Nobody can tell whose piece was lost, so no answer that is under way is whole.
    fn damaged(&mut self, context: &mut Context<'_>) {
        self.counters.damaged += 1;
        self.fail_prompting(context);
    }

    fn told(&mut self, context: &mut Context<'_>, message: ToAgent) {
        match message {
            ToAgent::Invoke { invoke, .. } => {
                let exchange = invoke.id;
                self.turns.insert(exchange, Turn::new(invoke));
                self.take_up(context, exchange);
            }
            ToAgent::Cancel(exchange, _) => self.cancel(context, exchange),
            ToAgent::Registered(told) => self.session_given(context, told.session, told.status),
            ToAgent::SessionStatus(told) => self.session_moved(context, &told),
            // It answers a registration. A session that is given back may have ended by itself just before.
            ToAgent::Error {
                id: None,
                code,
                message,
            } if code != "session_not_found" => self.registration_refused(context, &message),
            ToAgent::Error { .. } | ToAgent::Pong { .. } => {}
            // The link asks whether anybody is there; whether the process is, its supervisor knows.
            ToAgent::Ping => (context.link)(FromAgent::Pong),
        }
    }
}
