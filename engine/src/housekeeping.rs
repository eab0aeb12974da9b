//! Duties of a provider that nobody asks for: the hub's deadlines, lines of the log, memory after a crowd, idle pipes, and the
//! shutdown.

use super::engine::{Engine, Handle};
use super::hearing::{Heard, Hearing};
use crate::feed::{Events, Numbered, Reader};
use mcp_local_provider_core::hub::audit::AuditEvent;
use mcp_local_provider_core::link::{CloseCode, Command};
use mcp_local_provider_core::machine::{Move, OUTSIDE, Table};
use mcp_local_provider_core::time::Instant;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Time in which agents have to close their links once all answers are done.
const FAREWELL: Duration = Duration::from_secs(2);

/// Time from when most of a crowd has left until its memory is given back.
const EBB: Duration = Duration::from_secs(1);

/// Largest charge of the records that wait for the log, in bytes.
const LOG_BUDGET: usize = 1 << 20;

/// Keeps house for one provider. A driver makes it before it serves and gives it one task or thread.
#[derive(Debug)]
pub struct Housekeeper {
    engine: Arc<Engine>,
    log: Reader,
    records: Vec<Numbered>,
    phase: Phase,
    hearing: Hearing,
    /// Time at which memory is given back, because most of a crowd has left.
    giving_back: Option<Instant>,
}

/// The moves of a provider from its start to its end.
pub static PHASES: Table = Table::new(&[
    Move::new(OUTSIDE, "Serving", "start"),
    Move::new("Serving", "Answering", "shutdown, nothing new is admitted"),
    Move::new(
        "Answering",
        "Farewell",
        "all answers are done, or timeouts.drain is over, links are closed and other answers end",
    ),
    Move::new(
        "Farewell",
        "Stopped",
        "all sockets are closed, or 2 s are over",
    ),
]);

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nobody has asked for a shutdown.
    Serving,
    /// The answers under way have until then.
    Answering(Instant),
    /// The agents have until then to close, and the clients to get the end of their answers.
    Farewell(Instant),
    /// Nothing runs any more.
    Stopped,
}

impl Phase {
    /// The time at which it ends at the latest.
    const fn until(self) -> Option<Instant> {
        match self {
            Self::Serving | Self::Stopped => None,
            Self::Answering(until) | Self::Farewell(until) => Some(until),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Serving => "Serving",
            Self::Answering(_) => "Answering",
            Self::Farewell(_) => "Farewell",
            Self::Stopped => "Stopped",
        }
    }
}

/// Writes the line of an event that an owner wants to see without reading the audit. The line of a request is
/// its account's.
fn log(event: &AuditEvent) {
    match event {
        AuditEvent::Request { .. } => {}
        AuditEvent::Session {
            session,
            agent_id,
            what,
            status,
            key,
        } => {
            let session = session.as_str();
            let key = key.as_deref();
            tracing::info!(
                session,
                agent_id = &**agent_id,
                status,
                key,
                "session {what}"
            );
        }
        AuditEvent::Link {
            link,
            what,
            key,
            bridge,
            ..
        } => {
            let (key, bridge) = (key.as_deref(), bridge.as_deref());
            tracing::info!(link, key, agent = bridge, "link {what}");
        }
    }
}

impl Housekeeper {
    /// The one of a provider.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        let logged = Events::SESSIONS | Events::LINKS;
        PHASES.step(OUTSIDE, Phase::Serving.name());
        Self {
            log: engine.audit().feed.reader(logged, LOG_BUDGET, None),
            engine,
            records: Vec::new(),
            phase: Phase::Serving,
            hearing: Hearing::default(),
            giving_back: None,
        }
    }

    /// Does what is due. To be called again when `waker` was woken, at the time that is returned at the latest. Once
    /// [`Engine::is_stopped`] nothing is left to do.
    pub fn poll(&mut self, waker: &Waker) -> Option<Instant> {
        loop {
            let now = self.engine.now();
            let heard = self.hear(now, waker);
            if heard.is_none() {
                self.hearing.end();
                self.serve_hub(now);
            }
            self.write_log(waker);
            self.give_back(now);
            let idle = self.engine.pool().poll(now, waker);
            let next = self
                .engine
                .hub_cell(|cell| cell.wait(waker, heard.map(|heard| heard.settled)));
            if self.is_over(now, heard.is_some()) {
                self.go_on(now);
                continue;
            }
            // While agents are heard, what is due waits for that.
            let times = [next, self.phase.until()].into_iter().flatten();
            let times = times.filter(|at| heard.is_none() || *at > now);
            return times
                .chain(heard.map(|heard| heard.until))
                .chain(self.giving_back)
                .chain(idle)
                .min();
        }
    }

    /// Hears agents first when a deadline of the hub or of the drain has passed. `None` when none has, or they were heard.
    fn hear(&mut self, now: Instant, waker: &Waker) -> Option<Heard> {
        let drain = match self.phase {
            Phase::Answering(until) => Some(until),
            Phase::Serving | Phase::Farewell(_) | Phase::Stopped => None,
        };
        let hub = self.engine.hub_cell(|cell| cell.hub.poll_timeout());
        let deadlines = [drain, hub.map(|timeout| timeout.at)];
        let is_due = deadlines.into_iter().flatten().any(|at| at <= now);
        is_due
            .then(|| self.hearing.wait(&self.engine, now, waker))
            .flatten()
    }

    fn serve_hub(&mut self, now: Instant) {
        let due = self.engine.hub_cell(|cell| {
            let timeout = cell.hub.poll_timeout();
            timeout.is_some_and(|timeout| timeout.at <= now)
        });
        if due {
            self.engine
                .hub(|hub, now, out| hub.handle_timeout(now, out));
        }
    }

    /// Gives back the memory of a crowd that has left, once the rest of it has had time to leave too.
    fn give_back(&mut self, now: Instant) {
        let connections = self.engine.client_connections();
        if !connections.has_thinned() {
            self.giving_back = None;
        } else if *self.giving_back.get_or_insert(now + EBB) <= now {
            connections.begin_anew();
            self.giving_back = None;
            self.engine.outside().give_back();
        }
    }

    fn write_log(&mut self, waker: &Waker) {
        loop {
            let missed = self.log.drain(waker, &mut self.records);
            if missed > 0 {
                tracing::warn!(missed, "more happened than the log could take");
            } else if self.records.is_empty() {
                return;
            }
            for Numbered { record, .. } in self.records.drain(..) {
                log(&record.event);
            }
        }
    }

    /// True when the phase of now has come to its end. `hears` while agents are heard whose answers may be in time.
    fn is_over(&self, now: Instant, hears: bool) -> bool {
        match self.phase {
            Phase::Serving => self.engine.is_draining(),
            Phase::Answering(until) => now >= until && !hears || self.engine.connections() == 0,
            // Clients too: what their agents said in time may be still to write.
            Phase::Farewell(until) => {
                now >= until || self.engine.open_sockets() == 0 && self.engine.connections() == 0
            }
            Phase::Stopped => false,
        }
    }

    fn go_on(&mut self, now: Instant) {
        let next = match self.phase {
            Phase::Serving => Phase::Answering(now + self.engine.config().timeouts.drain),
            Phase::Answering(_) => {
                for link in self.engine.all_links().0 {
                    link.command(now, Command::Close(CloseCode::GoingAway));
                }
                self.engine.farewell.raise();
                self.engine.upstreams().tell();
                Phase::Farewell(now + FAREWELL)
            }
            Phase::Farewell(_) | Phase::Stopped => {
                Handle::new(self.engine.clone()).stop();
                Phase::Stopped
            }
        };
        PHASES.step(self.phase.name(), next.name());
        self.phase = next;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::audit::Audit;
    use crate::outside::Outside;
    use mcp_local_provider_core::config::HubConfig;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that is set by hand, and the number of times that memory was given back.
    #[derive(Default)]
    struct Hand {
        seconds: AtomicU64,
        given_back: AtomicU64,
    }

    impl Outside for Hand {
        fn now(&self) -> Instant {
            Instant::from_micros(1 + self.seconds.load(Ordering::Relaxed) * 1_000_000)
        }

        fn unix(&self) -> Duration {
            Duration::from_secs(1_767_225_600)
        }

        fn give_back(&self) {
            self.given_back.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn memory_is_given_back_once_most_of_a_crowd_has_left() {
        let hand = Arc::new(Hand::default());
        let hub = HubConfig::default();
        let engine = Engine::new(hub, [7; 32], hand.clone(), Audit::off());
        let mut housekeeper = Housekeeper::new(engine.clone());
        let waker = Waker::noop();
        let given_back = |housekeeper: &mut Housekeeper| {
            let next = housekeeper.poll(waker);
            (hand.given_back.load(Ordering::Relaxed), next)
        };
        let mut crowd: Vec<_> = (0..1000).map(|_| engine.connect().unwrap()).collect();
        crowd.truncate(600);
        assert_eq!(given_back(&mut housekeeper), (0, None), "most of them stay");
        crowd.truncate(400);
        let (times, next) = given_back(&mut housekeeper);
        assert_eq!(times, 0, "the rest may leave too");
        hand.seconds.store(1, Ordering::Relaxed);
        assert_eq!(next, Some(engine.now()));
        assert_eq!(given_back(&mut housekeeper), (1, None));
        assert_eq!(given_back(&mut housekeeper), (1, None), "once a crowd");
        crowd.clear();
        given_back(&mut housekeeper);
        hand.seconds.store(2, Ordering::Relaxed);
        assert_eq!(given_back(&mut housekeeper), (2, None), "the rest");
    }

    #[test]
    fn clients_get_their_last_answers_after_the_end_of_a_drain() {
        let hand = Arc::new(Hand::default());
        let mut hub = HubConfig::default();
        hub.timeouts.drain = Duration::from_secs(1);
        let engine = Engine::new(hub, [7; 32], hand.clone(), Audit::off());
        let mut housekeeper = Housekeeper::new(engine.clone());
        let clients = [engine.connect().unwrap(), engine.connect().unwrap()];
        Handle::new(engine.clone()).shutdown();
        let mut ends_at = |seconds| {
            hand.seconds.store(seconds, Ordering::Relaxed);
            housekeeper.poll(Waker::noop());
            engine.is_stopped()
        };
        assert!(!ends_at(0), "they have the time of the drain");
        assert!(!ends_at(1), "what is answered is still to write");
        let [first, second] = clients;
        drop(first);
        assert!(!ends_at(1), "the other one waits too");
        drop(second);
        assert!(ends_at(1), "nobody waits any more");
    }

    #[test]
    fn a_client_that_reads_nothing_does_not_hold_up_the_end() {
        let hand = Arc::new(Hand::default());
        let mut hub = HubConfig::default();
        hub.timeouts.drain = Duration::from_secs(1);
        let engine = Engine::new(hub, [7; 32], hand.clone(), Audit::off());
        let mut housekeeper = Housekeeper::new(engine.clone());
        let _client = engine.connect().unwrap();
        Handle::new(engine.clone()).shutdown();
        for (seconds, is_over) in [(0, false), (1, false), (2, false), (3, true)] {
            hand.seconds.store(seconds, Ordering::Relaxed);
            housekeeper.poll(Waker::noop());
            assert_eq!(engine.is_stopped(), is_over, "after {seconds} s");
        }
    }
}
