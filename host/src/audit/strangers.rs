//! Records of strangers: requests with no key or none that is known, of which there may be any number. Such as are alike
//! are gathered for a second, and become one line with their count.

use mcp_local_provider_core::hub::audit::{AuditEvent, AuditRecord, RequestKind};
use mcp_local_provider_core::time::WallClock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for which records are gathered.
const SECOND: Duration = Duration::from_secs(1);
/// Lines of one second, at most. What does not fit is counted as lost.
const LINES: usize = 4096;

/// Requests with the same of all this become one line. Of a failed authentication only the address counts.
type Alike = (IpAddr, Option<(&'static str, u16, Option<&'static str>)>);

/// The records of the second that runs.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// The first of each kind, in the order in which they came, and how many there were.
    gathered: Vec<(Arc<AuditRecord>, u64)>,
    places: HashMap<Alike, usize>,
    /// Time at which the second is over.
    until: Option<Instant>,
}

impl Strangers {
    /// Takes a record. Returns false when there is no room for it.
    pub(super) fn add(&mut self, record: Arc<AuditRecord>) -> bool {
        let AuditEvent::Request {
            info, kind, status, ..
        } = &record.event
        else {
            return false;
        };
        let failed = *kind == RequestKind::AuthenticationFailed;
        let alike = (
            info.address,
            (!failed).then_some((info.endpoint, *status, info.check)),
        );
        let place = self.places.get(&alike).copied();
        if let Some((_, count)) = place.and_then(|place| self.gathered.get_mut(place)) {
            *count += 1;
            return true;
        }
        if self.gathered.len() >= LINES {
            return false;
        }
        self.until.get_or_insert_with(|| Instant::now() + SECOND);
        self.places.insert(alike, self.gathered.len());
        self.gathered.push((record, 1));
        true
    }

    /// Time at which [`Strangers::write`] has something to write; `None` while there is nothing.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Ends the second: appends its lines, and returns their number.
    pub(super) fn write(&mut self, wall: &WallClock, out: &mut Vec<u8>) -> u64 {
        let lines = self.gathered.len() as u64;
        for (record, count) in self.gathered.drain(..) {
            record.write_counted(count, wall, out);
            out.push(b'\n');
        }
        self.places.clear();
        self.until = None;
        lines
    }
}
