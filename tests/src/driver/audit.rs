//! A reader of the feed that misses nothing, as the audit file is.

use super::Virtual;
use super::ready::{Alarm, Ready, Who};
use mcp_local_provider_core::hub::audit::AuditEvent;
use mcp_local_provider_core::id::{ExchangeId, LinkId};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::feed::{Events, Feed, Numbered, Reader};
use std::sync::Arc;

/// One record about a request.
#[derive(Clone, Copy, Debug)]
pub struct Audited {
    /// The request.
    pub id: ExchangeId,
    /// HTTP status.
    pub status: u16,
    /// `ok`, or the code of the error that ended it.
    pub outcome: &'static str,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// True when a session answered it.
    pub admitted: bool,
    /// Time of its end.
    pub at: Instant,
    /// Tokens that were to be reserved, once its body was read.
    pub estimated_tokens: Option<u64>,
    /// Tokens that it used, if a session answered it.
    pub used_tokens: Option<u64>,
}

/// Everything that was recorded.
#[derive(Debug)]
pub(super) struct Audit {
    pub(super) alarm: Alarm,
    reader: Reader,
    records: Vec<Numbered>,
}

impl Audit {
    pub(super) fn new(feed: &Arc<Feed>, ready: &Arc<Ready>) -> Self {
        Self {
            alarm: Alarm::new(Who::Audit, ready),
            reader: feed.reader(Events::ALL, usize::MAX, None),
            records: Vec::new(),
        }
    }

    /// Takes what has come.
    pub(super) fn poll(&mut self) {
        let waker = self.alarm.reset();
        loop {
            let before = self.records.len();
            let missed = self.reader.drain(waker, &mut self.records);
            assert_eq!(missed, 0, "a reader without a limit misses records");
            if self.records.len() == before {
                return;
            }
        }
    }

    /// Looks although nobody has woken it: there must be nothing.
    pub(super) fn prod(&mut self) {
        let before = self.records.len();
        self.reader.drain(self.alarm.waker(), &mut self.records);
        assert_eq!(self.records.len(), before, "the audit was not woken");
    }

    /// The records about requests, in order.
    pub(super) fn requests(&self) -> impl Iterator<Item = Audited> {
        self.records.iter().filter_map(|numbered| {
            let AuditEvent::Request {
                info,
                session,
                status,
                outcome,
                bytes_out,
                usage,
                ..
            } = &numbered.record.event
            else {
                return None;
            };
            Some(Audited {
                id: info.exchange,
                status: *status,
                outcome,
                bytes_out: *bytes_out,
                admitted: session.is_some(),
                at: numbered.record.at,
                estimated_tokens: info.estimated_tokens,
                used_tokens: usage.map(|usage| usage.total_tokens()),
            })
        })
    }

    /// Links that came and went, in order: true for one that came.
    pub(super) fn links(&self) -> impl Iterator<Item = (LinkId, bool)> {
        self.records.iter().filter_map(|numbered| {
            let AuditEvent::Link { link, what, .. } = &numbered.record.event else {
                return None;
            };
            Some((LinkId(*link), *what == "up"))
        })
    }

    /// The numbers of the records leave none out, and each has the time of its calendar.
    pub(super) fn check(&self, outside: &Virtual) {
        let wall = self.reader.wall();
        for Numbered { record, .. } in &self.records {
            assert_eq!(
                wall.unix(record.at),
                outside.calendar(record.at),
                "{record:?}"
            );
        }
        let mut numbers = self.records.iter().map(|numbered| numbered.number);
        let first = numbers.next().unwrap_or_default();
        for (number, expected) in numbers.zip(first + 1..) {
            assert_eq!(number, expected, "the number of a record");
        }
    }
}
