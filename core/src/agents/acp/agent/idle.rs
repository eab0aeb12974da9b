//! Sessions in which no turn runs: conversations that may go on, and one empty session for the next conversation. How many are
//! kept, for how long, which go first, and what happens when the agent uses too much memory.

use super::states::State;
use super::{Agent, Context};
use crate::agents::acp::deadlines::{SessionKey, Timer};
use crate::agents::acp::digest::Digest;
use crate::agents::acp::ports::{Event, Load, Out, SessionFigures, ToLink};
use crate::time::Instant;
use core::time::Duration;

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

impl Agent {
    /// Counts its sessions, and returns the latest measurement.
    #[must_use]
    pub fn session_figures(&self) -> SessionFigures {
        SessionFigures {
            kept: self.pool.at_rest(),
            running: self.pool.len() - self.pool.idle(),
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
            if agent.opening.is_ready() {
                agent.weighed(context, load);
            }
        });
    }

    fn weighed(&mut self, context: &mut Context<'_>, load: Load) {
        let limit = self.config.sessions.memory;
        if self.measured.first.is_none() {
            self.measured.first = Some((load, self.pool.open()));
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
        if !self.opening.is_ready() {
            return;
        }
        let next = if self.measured.pressure == Pressure::Relieved {
            SOON
        } else if !self.turns.is_empty() {
            WHILE_RUNNING
        } else if !self.pool.rests() {
            WHILE_KEPT
        } else {
            return;
        };
        self.deadlines.set(Timer::Measure, context.now + next);
    }

    /// Ends as many idle sessions as should bring the memory down to its bound.
    fn relieve(&mut self, context: &mut Context<'_>, memory: u64, limit: u64) -> Pressure {
        let mut pressure = Pressure::Exhausted;
        if !self.opening.abilities.close {
            // Its sessions give their memory back when the process ends, and not before.
            return pressure;
        }
        let sessions = u64::try_from(self.pool.len()).unwrap_or(u64::MAX);
        let share = memory / sessions.max(1);
        let mut left = memory;
        while left > limit
            && let Some(key) = self.pool.next_to_end()
        {
            let state = self.pool.get(key).map(|session| session.state);
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
        if self.opening.is_ready() && self.deadlines.get(Timer::Measure).is_none_or(is_later) {
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
        if self.pool.left_open >= self.config.sessions_per_process {
            return Some("it has many sessions and cannot close them");
        }
        let (Some((first, at_first)), Some(latest)) = (first, latest) else {
            return None;
        };
        let open = self.pool.open();
        let more = open.saturating_sub(*at_first);
        if self.pool.left_open > 0
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
        if let Some(session) = self.pool.get_mut(key) {
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
        while self.pool.idle() + places > self.config.sessions.keep
            && let Some(key) = self.pool.next_to_end()
        {
            self.drop_session(context, key);
        }
    }

    /// Sees to it that one empty session waits for the next request that begins a conversation, where one may be kept.
    pub(super) fn make_spare(&mut self, context: &mut Context<'_>) {
        let (wrong, found) = self.pool.spares();
        for key in wrong {
            self.drop_session(context, key);
        }
        let measured = &self.measured;
        let fits = !measured.no_spare && measured.pressure == Pressure::None;
        let may = fits && self.config.sessions.keep > 0;
        if may && !found && !self.pool.spare_failed && !self.pool.is_full() {
            self.make_room(context, 1);
            let setup = self.pool.setup.clone();
            self.new_session(context, setup, None);
        }
    }
}
