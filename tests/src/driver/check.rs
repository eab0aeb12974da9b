//! What must be true after every step.

use super::{Driver, Phase};
use mcp_local_provider_core::link::Frame;
use mcp_local_provider_core::mailbox::ENTRY_CHARGE;

impl Driver {
    /// Checks every invariant that needs no knowledge of what the agents meant to say.
    pub fn check(&self) {
        let metrics = self.hub.metrics();
        let admitted = |call: &&super::Call| matches!(call.phase, Phase::Admitted(_));
        let open = self.calls.iter().filter(admitted).count();
        let waiting = self
            .calls
            .iter()
            .filter(|call| matches!(call.phase, Phase::Waiting(_)))
            .count();
        assert_eq!(metrics.open, open, "the gauge of open exchanges");
        assert_eq!(metrics.queued, waiting, "the gauge of waiting admissions");
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
        let (open_before, waiting_before) = self.before;
        let most = self.config.limits.exchanges.max(open_before);
        assert!(open <= most, "limits.exchanges");
        let most = self.config.limits.queue_length.max(waiting_before);
        assert!(waiting <= most, "limits.queue_length");
        let alive = self.wires.values().filter(|wire| wire.alive).count();
        assert_eq!(metrics.links, alive, "the gauge of links");
        for session in self.hub.sessions().iter() {
            let in_flight = self
                .calls
                .iter()
                .filter(admitted)
                .filter(|call| call.session.as_ref() == Some(&session.id))
                .count();
            assert_eq!(session.in_flight, in_flight, "in flight of {}", session.id);
            assert!(in_flight <= session.max_concurrency, "max_concurrency");
            if let Some(link) = session.link {
                assert!(self.wires[&link].alive, "{} is on a dead link", session.id);
                assert!(!session.status.is_final(), "{} has ended", session.id);
            }
        }
        self.check_links();
        self.check_calls();
    }

    fn check_links(&self) {
        for (id, wire) in &self.wires {
            let open = self
                .calls
                .iter()
                .filter(|call| call.open && call.link == Some(*id))
                .count();
            assert_eq!(wire.link.open_exchanges(), open, "open on {id:?}");
            let config = wire.link.config();
            assert!(
                wire.link.tombstones() <= config.tombstones,
                "too many tombstones"
            );
            assert_eq!(
                wire.out.queued_bytes,
                wire.out.frames.iter().map(Frame::charge).sum::<usize>(),
                "the charge of a link's queue"
            );
            if !wire.alive {
                assert_eq!(wire.link.poll_timeout(), None, "a dead link waits");
                assert_eq!(wire.link.tombstones(), 0, "a dead link remembers");
            }
        }
    }

    fn check_calls(&self) {
        let limits = &self.config.limits;
        for call in &self.calls {
            // The one that crosses the line is taken, and so is a terminal one.
            let most = limits.mailbox_bytes + limits.agent_frame_bytes + 2 * ENTRY_CHARGE;
            assert!(call.mailbox.charged() <= most, "limits.mailbox_bytes");
            match call.phase {
                Phase::Over => {
                    assert_eq!(
                        call.exchange.poll_timeout(),
                        None,
                        "{} is over and waits",
                        call.id
                    );
                    assert!(!call.open, "{} is over and open at its agent", call.id);
                }
                Phase::Admitted(_) => assert!(
                    call.exchange.poll_timeout().is_some(),
                    "{} may wait for ever",
                    call.id
                ),
                Phase::Waiting(_) => {}
            }
        }
    }

    /// Everything is over: nothing is open, nothing is remembered, nothing waits.
    pub fn check_quiescent(&self) {
        self.check();
        for call in &self.calls {
            assert!(
                matches!(call.phase, Phase::Over),
                "{} has not ended",
                call.id
            );
            assert!(
                call.outcome.is_some() || call.refused.is_some() || call.gone || call.client.done,
                "{} has no end",
                call.id
            );
        }
        let metrics = self.hub.metrics();
        assert_eq!((metrics.open, metrics.queued), (0, 0), "gauges");
        for wire in self.wires.values() {
            assert_eq!(wire.link.open_exchanges(), 0, "open exchanges");
            assert_eq!(wire.link.tombstones(), 0, "tombstones");
        }
        assert!(self.commands.is_empty(), "commands on their way");
    }
}
