//! Invariants that hold after every step.

use super::{Call, Driver, Wire};
use mcp_local_provider_core::budget::ENTRY_CHARGE;
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::hub::Hub;
use mcp_local_provider_core::hub::sessions::Status;
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::link::ToAgent;
use std::collections::HashMap;
use std::time::Duration;

/// Longest time for which a deadline of the hub waits until agents were heard.
const HEARING: Duration = Duration::from_secs(1);

impl Driver {
    fn open_calls(&self) -> impl Iterator<Item = &Call> {
        let calls = self.open.iter().map(|at| &self.calls[*at]);
        calls.filter(|call| !call.is_over())
    }

    /// Checks every invariant that needs no knowledge of what the agents meant to say. Nobody may be about to be polled.
    pub fn check(&self) {
        assert!(self.ready.is_empty(), "somebody was woken");
        let told = self.open_calls().filter(|call| call.is_told()).count();
        let waiting = self.open_calls().filter(|call| call.is_waiting()).count();
        let answering = self.open_calls().filter(|call| call.is_answering()).count();
        let alive = self.wires.values().filter(|wire| wire.alive).count();
        let now = self.now();
        self.look(|hub| {
            let metrics = hub.metrics();
            let (open, queued) = (metrics.open, metrics.queued);
            // Those who were told to ask again may have a ticket each.
            let tickets = answering..=answering + told;
            assert!(tickets.contains(&open), "{open} open exchanges");
            let places = waiting - told..=waiting;
            assert!(places.contains(&queued), "{queued} waiting admissions");
            assert!(open + queued <= answering + waiting, "nobody's exchanges");
            assert_eq!(
                metrics.admitted,
                metrics.settled + u64::try_from(open).unwrap(),
                "each admitted exchange is settled once"
            );
            assert_eq!(
                metrics.settled,
                metrics.completed + metrics.failed + metrics.cancelled,
                "each settled exchange has one outcome"
            );
            assert_eq!(metrics.unsettled, 0, "a ticket was dropped");
            assert_eq!(metrics.links, alive, "the gauge of links");
            self.check_sessions(hub, told);
            let (open_before, queued_before) = self.before;
            let limits = &self.config.limits;
            assert!(
                open <= limits.exchanges.max(open_before),
                "limits.exchanges"
            );
            assert!(
                queued <= limits.queue_length.max(queued_before),
                "limits.queue_length"
            );
            assert_eq!(hub.is_draining(), self.is_draining(), "it drains");
            assert!(
                !self.is_draining() || queued == 0,
                "some wait while it drains"
            );
            let next = hub.poll_timeout().map(|timeout| timeout.at);
            let until = self.house.until;
            assert!(
                // What is due is served once agents were heard.
                until == self.hearing.filter(|until| *until <= now + HEARING)
                    || next.is_none_or(|next| until.is_some_and(|until| until <= next)),
                "the housekeeper oversleeps: {until:?} for {next:?}"
            );
        });
        self.check_open();
        for wire in self.wires.values().filter(|wire| wire.alive) {
            self.check_link(wire);
        }
        for call in self.open_calls() {
            self.check_call(call);
        }
    }

    /// Checks that each exchange is admitted once, is settled once and has one outcome, where upstreams answer all.
    pub fn check_accounts(&self) {
        assert!(self.ready.is_empty(), "somebody was woken");
        let metrics = self.look(Hub::metrics);
        let open = u64::try_from(metrics.open).unwrap();
        assert_eq!(metrics.admitted, metrics.settled + open, "settled once");
        let ended = metrics.completed + metrics.failed + metrics.cancelled;
        assert_eq!(metrics.settled, ended, "one outcome");
        assert_eq!(metrics.unsettled, 0, "a ticket was dropped");
        let answering = self.open_calls().filter(|call| call.is_answering()).count();
        assert!(metrics.open >= answering, "nobody's exchanges");
        for call in self.open_calls() {
            let waits = !call.eager || call.alarm.until.is_some() || call.is_waiting();
            assert!(waits, "{} may wait for ever", call.id);
        }
    }

    /// Nothing is open and nothing is held, where upstreams answer all.
    pub fn check_nothing_left(&self) {
        self.check_accounts();
        for call in &self.calls {
            assert!(call.is_over(), "{} has not ended", call.id);
            assert!(call.gone || call.client.done, "{} has no end", call.id);
        }
        let metrics = self.look(Hub::metrics);
        assert_eq!((metrics.open, metrics.queued), (0, 0), "gauges");
        assert_eq!(self.engine.budget().taken(), 0, "shares of limits.memory");
    }

    fn check_sessions(&self, hub: &Hub, told: usize) {
        let mut in_flight = 0;
        for session in hub.sessions().iter() {
            let busy = session.activity.in_flight();
            in_flight += busy;
            if busy > 0 {
                let answers = |call: &&Call| {
                    let answers = call.answers();
                    answers.is_some_and(|(_, of)| *of == session.id)
                };
                let own = self.open_calls().filter(answers).count();
                let tickets = own..=own + told;
                assert!(tickets.contains(&busy), "in flight of {}", session.id);
                assert!(busy <= session.max_concurrency, "max_concurrency");
            }
            let held = session.link.is_some() && self.config.sessions.renew_while_connected;
            assert_eq!(
                session.expires_at.is_some(),
                !held && !session.status.is_final(),
                "the end of {}",
                session.id
            );
            let made = session.created_at;
            assert_eq!(hub.wall().unix(made), self.outside.calendar(made));
            if let Some(link) = session.link {
                assert!(self.wires[&link].alive, "{} is on a dead link", session.id);
                assert!(!session.status.is_final(), "{} has ended", session.id);
            }
        }
        assert_eq!(in_flight, hub.metrics().open, "exchanges in flight");
    }

    /// No session works that may not, nor on a link that does not carry it, once the links have heard.
    fn check_open(&self) {
        if self.holds_commands() {
            return;
        }
        for call in self.open_calls() {
            let Some((link, session)) = call.answers() else {
                continue;
            };
            if self.wires[&link].look(|link, _| link.is_open(call.id)) {
                let carried = self.look(|hub| {
                    let slot = hub.sessions().find(session.as_str())?;
                    let session = hub.sessions().get(slot)?;
                    Some((session.status, session.link))
                });
                let carries = Some((Status::Active, Some(link)));
                assert_eq!(carried, carries, "{} is open", call.id);
            }
        }
    }

    fn check_link(&self, wire: &Wire) {
        let id = wire.id();
        let on_it = |call: &&Call| call.answers().is_some_and(|(link, _)| link == id);
        wire.look(|link, out| {
            if link.open_exchanges() > 0 {
                let answered = self.open_calls().filter(on_it).count();
                assert!(
                    link.open_exchanges() <= answered,
                    "open on {id:?} for nobody"
                );
            }
            assert!(
                link.tombstones() <= self.link_config.tombstones,
                "too many tombstones"
            );
            assert_eq!(
                out.queued_bytes,
                out.messages.iter().map(ToAgent::charge).sum::<usize>(),
                "the charge of a link's queue"
            );
            assert!(out.notices.is_empty(), "the hub was not told");
            assert_eq!(out.close, None, "the writer was not woken");
            let written = wire.writing.is_empty();
            assert!(!written || out.messages.is_empty(), "messages lie about");
            let taken = if written { 0 } else { wire.taken_bytes };
            assert_eq!(
                out.held_bytes(),
                out.queued_bytes + taken,
                "what {id:?} holds of limits.memory"
            );
            let (next, until) = (link.poll_timeout(), wire.alarm.until);
            assert!(
                next.is_none_or(|next| until.is_some_and(|until| until <= next.at)),
                "the writer of {id:?} oversleeps: {until:?} for {next:?}"
            );
            if out.messages.is_empty() {
                let counters = link.counters();
                let (opened, cancelled) = wire.written();
                assert_eq!(counters.opened, opened as u64, "invocations");
                assert_eq!(counters.cancels, cancelled as u64, "cancels");
            }
        });
    }

    /// True for a call that a session answers which may do so, on the link that carries it.
    #[must_use]
    pub fn is_answered(&self, id: ExchangeId) -> bool {
        let Some((link, session)) = self.call(id).and_then(Call::answers) else {
            return false;
        };
        self.look(|hub| {
            let slot = hub.sessions().find(session.as_str());
            let session = slot.and_then(|slot| hub.sessions().get(slot));
            session.is_some_and(|one| one.status == Status::Active && one.link == Some(link))
        })
    }

    /// True when `limits.memory` is used up.
    pub fn lacks_memory(&self) -> bool {
        self.engine.budget().is_used_up()
    }

    /// After a turn of reading, whoever holds much has been cut if the memory does not suffice.
    pub(super) fn check_memory(&self) {
        if !self.lacks_memory() {
            return;
        }
        for wire in self.wires.values() {
            wire.look(|link, _| {
                for (id, inbox) in link.recipients() {
                    let unread = inbox.unread_of_open();
                    assert!(unread <= STEP, "{id} holds {unread} bytes of limits.memory");
                }
            });
        }
    }

    fn check_call(&self, call: &Call) {
        let Some(unread) = call.unread() else {
            return;
        };
        // The one that crosses the line is taken, and so is a terminal one.
        let limits = &self.config.limits;
        let budget = if call.streams {
            limits.mailbox_bytes
        } else {
            limits.answer_bytes
        };
        let most = budget + limits.agent_frame_bytes + 2 * ENTRY_CHARGE;
        assert!(unread <= most, "limits.mailbox_bytes");
        // A wait in the queue is the hub's to end.
        let waits = !call.eager || call.alarm.until.is_some() || call.is_waiting();
        assert!(waits, "{} may wait for ever", call.id);
        if unread > 0 {
            assert!(call.alarm.is_woken(), "{} was not woken", call.id);
            assert!(!call.eager, "{} was not polled", call.id);
        }
    }

    /// Everything is over: nothing is open, nothing is remembered, nothing waits.
    pub fn check_quiescent(&self) {
        self.check();
        for call in &self.calls {
            assert!(call.is_over(), "{} has not ended", call.id);
            assert!(call.gone || call.client.done, "{} has no end", call.id);
        }
        let metrics = self.look(Hub::metrics);
        assert_eq!((metrics.open, metrics.queued), (0, 0), "gauges");
        for wire in self.wires.values() {
            wire.look(|link, _| {
                assert_eq!(link.open_exchanges(), 0, "open exchanges");
                assert_eq!(link.tombstones(), 0, "tombstones");
            });
        }
        assert_eq!(self.engine.held_commands(), 0, "commands on their way");
        assert_eq!(self.engine.budget().taken(), 0, "shares of limits.memory");
    }

    /// Every request is in the audit, once, as its client saw it, and every link.
    pub fn check_audit(&self) {
        self.audit.check(&self.outside);
        let mut up = HashMap::new();
        for (link, came) in self.audit.links() {
            let before = up.insert(link, came);
            assert_eq!(before.is_some(), !came, "{link:?} in the audit");
        }
        for wire in self.wires.values() {
            assert_eq!(up.get(&wire.id()), Some(&wire.alive), "{:?}", wire.id());
        }
        let mut lines = HashMap::new();
        for line in self.audited() {
            let id = line.id;
            assert!(lines.insert(id, line).is_none(), "{id} is audited twice");
        }
        assert_eq!(lines.len() as u64, self.begun, "requests in the audit");
        for (id, line) in &lines {
            let Some(call) = self.call(*id) else {
                continue;
            };
            assert_eq!(line.outcome == "ok", call.completed(), "{line:?}");
            // One that fails as soon as it is admitted is not seen in between.
            let was = call.admitted || call.gone || call.client.error.is_some();
            assert!(!line.admitted || was, "{line:?}");
            let left = line.outcome == "client_disconnected";
            assert_eq!(left, call.gone, "{line:?}");
            if let Some(head) = &call.head {
                assert_eq!(line.status, head.status(), "the status of {id}");
            }
            if line.admitted {
                let sent = u64::try_from(call.sent.len()).unwrap();
                assert_eq!(line.bytes_out, sent, "the bytes of {id}");
            }
        }
    }
}
