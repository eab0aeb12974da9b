//! Sessions in which no turn runs: conversations that may go on, and one empty session for the next conversation. How many are
//! kept, for how long, which go first, and what happens when the agent uses too much memory.

use super::session::Session;
use super::states::{Phase, State};
use super::{Agent, Context};
use crate::agents::acp::conversation::Setup;
use crate::agents::acp::deadlines::{SessionKey, Timer};
use crate::agents::acp::digest::Digest;
use crate::agents::acp::ports::{Event, Load, Out, SessionFigures, ToLink};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// New sessions whose setups are looked at to guess what the next one is wanted for.
const WANTED: usize = 8;

/// Wait before a measurement, so that it shows the effect of what was done.
const SOON: Duration = Duration::from_secs(2);

/// Between measurements while a turn runs.
const WHILE_RUNNING: Duration = Duration::from_secs(5);

/// Between measurements while nothing but kept conversations could grow.
const WHILE_KEPT: Duration = Duration::from_secs(30);

/// Use of the machine by one process of the agent, since its start.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// The first measurement, and the sessions that were open then.
    first: Option<(Load, usize)>,
    latest: Option<Load>,
    pressure: Pressure,
    /// An empty session was ended for want of memory, so that another one would be too.
    no_spare: bool,
    /// It has been asked something, so that a new process may need less than this one.
    pub(super) prompted: bool,
}

/// Consequence of the latest measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Pressure {
    /// Memory is within its bound.
    #[default]
    None,
    /// It is not, and sessions were ended. The next measurement tells whether that was enough.
    Relieved,
    /// It is not, and no session is left that could be ended.
    Exhausted,
}

impl Session {
    /// True when no turn runs in it, and none waits for it.
    fn is_idle(&self) -> bool {
        match self.state {
            State::Creating | State::Configuring | State::Empty | State::Kept { .. } => {
                self.turn.is_none()
            }
            State::Prompting | State::Parked | State::Stopping => false,
        }
    }
}

impl Agent {
    /// Counts its sessions, and returns the latest measurement.
    #[must_use]
    pub fn session_figures(&self) -> SessionFigures {
        let is_made =
            |session: &&Session| matches!(session.state, State::Empty | State::Kept { .. });
        SessionFigures {
            kept: self.sessions.values().filter(is_made).count(),
            running: self.sessions.len() - self.idle_sessions(),
            load: self.measured.latest,
            limits: self.config.sessions,
        }
    }

    /// Takes the measurement that [`Order::Measure`](super::super::Order::Measure) asked for. A system that tells nothing has
    /// none. Memory over its bound ends idle sessions, those that were used least recently first; when there are none and no turn
    /// runs, the process is started anew.
    pub fn handle_load<'c>(
        &mut self,
        now: Instant,
        load: Load,
        out: &'c mut Out,
        link: &'c mut ToLink<'c>,
    ) {
        self.enter(now, out, link, |agent, context| {
            if agent.phase == Phase::Ready {
                agent.weighed(context, load);
            }
        });
    }

    fn weighed(&mut self, context: &mut Context<'_>, load: Load) {
        let limit = self.config.sessions.memory;
        if self.measured.first.is_none() {
            self.measured.first = Some((load, self.open_sessions()));
            if load.memory > limit {
                context.out.events.push(Event::OverMemory {
                    used: load.memory,
                    limit,
                });
            }
        }
        self.measured.latest = Some(load);
        context.out.figures_changed = true;
        self.measured.pressure = if load.memory <= limit {
            Pressure::None
        } else {
            self.relieve(context, load.memory, limit)
        };
        self.tidy(context);
        if self.phase != Phase::Ready {
            return;
        }
        let rests = |session: &Session| session.state == State::Empty;
        let next = if self.measured.pressure == Pressure::Relieved {
            SOON
        } else if !self.turns.is_empty() {
            WHILE_RUNNING
        } else if !self.sessions.values().all(rests) {
            WHILE_KEPT
        } else {
            return;
        };
        self.deadlines.set(Timer::Measure, context.now + next);
    }

    /// Ends as many idle sessions as should bring the memory down to its bound.
    fn relieve(&mut self, context: &mut Context<'_>, memory: u64, limit: u64) -> Pressure {
        let mut pressure = Pressure::Exhausted;
        if !self.abilities.close {
            // Its sessions give their memory back when the process ends, and not before.
            return pressure;
        }
        let sessions = u64::try_from(self.sessions.len()).unwrap_or(u64::MAX);
        let share = memory / sessions.max(1);
        let mut left = memory;
        while left > limit
            && let Some(key) = self.next_to_end()
        {
            let state = self.sessions.get(&key).map(|session| session.state);
            self.measured.no_spare |= state == Some(State::Empty);
            self.drop_session(context, key);
            left = left.saturating_sub(share.max(1));
            pressure = Pressure::Relieved;
        }
        pressure
    }

    /// Something has changed that a measurement would show.
    pub(super) fn measure_soon(&mut self, context: &Context<'_>) {
        let soon = context.now + SOON;
        let is_later = |at: Instant| at > soon;
        if self.phase == Phase::Ready && self.deadlines.get(Timer::Measure).is_none_or(is_later) {
            self.deadlines.set(Timer::Measure, soon);
        }
    }

    /// The reason for which a process that does nothing wrong is replaced once no turn runs.
    pub(super) fn worn(&self) -> Option<&'static str> {
        let Measured {
            first,
            latest,
            pressure,
            prompted,
            ..
        } = &self.measured;
        if self.left_open >= self.config.sessions_per_process {
            return Some("it has many sessions and cannot close them");
        }
        let (Some((first, at_first)), Some(latest)) = (first, latest) else {
            return None;
        };
        let open = self.open_sessions();
        let more = open.saturating_sub(*at_first);
        if self.left_open > 0
            && open > self.config.sessions.keep
            && more > 0
            && latest.processes >= first.processes + more
        {
            return Some(
                "it has a process for each session, cannot close them, and has more than agents[].sessions.keep",
            );
        }
        let helps = *prompted && first.memory <= self.config.sessions.memory;
        (*pressure == Pressure::Exhausted && helps)
            .then_some("it uses more memory than agents[].sessions.memory allows")
    }

    /// Sessions of the process, those that cannot be closed included.
    fn open_sessions(&self) -> usize {
        let left_open = usize::try_from(self.left_open).unwrap_or(usize::MAX);
        self.sessions.len().saturating_add(left_open)
    }

    /// Keeps a session for the next request of its conversation. `goes_on` is true for a conversation of more than one request.
    pub(super) fn keep(
        &mut self,
        context: &mut Context<'_>,
        key: SessionKey,
        conversation: Digest,
        goes_on: bool,
    ) {
        let limits = self.config.sessions;
        if limits.keep == 0 || self.measured.pressure != Pressure::None {
            return self.drop_session(context, key);
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            session.turn = None;
            session.last_used = context.now;
            session.lasts = if goes_on {
                limits.idle
            } else {
                limits.idle.min(self.config.one_shot)
            };
            self.go(context, key, State::Kept { conversation });
        }
        self.make_room(context, 0);
    }

    /// Ends idle sessions until there are places for so many more.
    pub(super) fn make_room(&mut self, context: &mut Context<'_>, places: usize) {
        while self.idle_sessions() + places > self.config.sessions.keep
            && let Some(key) = self.next_to_end()
        {
            self.drop_session(context, key);
        }
    }

    /// Sessions in which no turn runs, those that are being made included.
    fn idle_sessions(&self) -> usize {
        let sessions = self.sessions.values();
        sessions.filter(|session| session.is_idle()).count()
    }

    /// The idle session that goes first: an empty one beside another, then the conversation that was used least recently, then
    /// the last empty one. One that is being made goes when it is.
    fn next_to_end(&self) -> Option<SessionKey> {
        let is_empty = |session: &&Session| session.state == State::Empty;
        let beside = self.sessions.values().filter(is_empty).count() > 1;
        let rank = |(key, session): (&SessionKey, &Session)| match session.state {
            State::Empty if beside => Some((0, session.last_used, *key)),
            State::Kept { .. } => Some((1, session.last_used, *key)),
            State::Empty => Some((2, session.last_used, *key)),
            State::Creating
            | State::Configuring
            | State::Prompting
            | State::Parked
            | State::Stopping => None,
        };
        let (_, _, key) = self.sessions.iter().filter_map(rank).min()?;
        Some(key)
    }

    /// A session that was made for this setup and is nobody's.
    pub(super) fn spare(&self, setup: &Digest) -> Option<SessionKey> {
        self.sessions
            .iter()
            .find(|(_, session)| {
                session.turn.is_none()
                    && matches!(
                        session.state,
                        State::Empty | State::Creating | State::Configuring
                    )
                    && session.setup.digest == *setup
            })
            .map(|(key, _)| *key)
    }

    /// The session that has had this conversation, if one is kept.
    pub(super) fn kept(&self, wanted: &Digest) -> Option<SessionKey> {
        self.sessions
            .iter()
            .find(|(_, session)| {
                matches!(&session.state, State::Kept { conversation } if conversation == wanted)
            })
            .map(|(key, _)| *key)
    }

    /// Notes what a new session is wanted for. The empty session is made for what is wanted most often of late, so that
    /// instructions which are new each time cost no session that nobody will use.
    pub(super) fn note_setup(&mut self, setup: &Arc<Setup>) {
        if self.wanted.len() >= WANTED {
            self.wanted.pop_front();
        }
        self.wanted.push_back(setup.digest);
        let times = |setup: &Arc<Setup>| {
            self.wanted
                .iter()
                .filter(|wanted| **wanted == setup.digest)
                .count()
        };
        if times(setup) >= 2 && times(setup) > times(&self.setup) {
            self.setup = setup.clone();
        }
    }

    /// Sees to it that one empty session waits for the next request that begins a conversation, where one may be kept.
    pub(super) fn make_spare(&mut self, context: &mut Context<'_>) {
        let mut found = false;
        let mut wrong = Vec::new();
        for (key, session) in &self.sessions {
            if session.turn.is_none() {
                match session.state {
                    State::Creating | State::Configuring => found = true,
                    State::Empty if session.setup.digest == self.setup.digest && !found => {
                        found = true;
                    }
                    State::Empty => wrong.push(*key),
                    State::Prompting | State::Parked | State::Kept { .. } | State::Stopping => {}
                }
            }
        }
        for key in wrong {
            self.drop_session(context, key);
        }
        let measured = &self.measured;
        let fits = !measured.no_spare && measured.pressure == Pressure::None;
        let may = fits && self.config.sessions.keep > 0;
        if may && !found && !self.spare_failed && !Self::is_full(self.sessions.len()) {
            self.make_room(context, 1);
            let setup = self.setup.clone();
            self.new_session(context, setup, None);
        }
    }
}
