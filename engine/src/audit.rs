//! The audit file, as far as the engine knows of it: the feed that it reads, and how it does; and the log's latest lines.

use crate::feed::{Backlog, Feed};
use crate::log_lines::LogLines;
use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::api::status::AuditFigures;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Destination of audit records and of the log.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Feed of all events, for any reader.
    pub feed: Arc<Feed>,
    /// The file that is written from it, for health and metrics; `None` when none is.
    pub file: Option<Arc<AuditFile>>,
    /// The latest lines of the log, which the program hands in.
    pub log: Arc<LogLines>,
}

impl Audit {
    /// A feed that nobody reads yet, and no file.
    #[must_use]
    pub fn off() -> Self {
        Self {
            feed: Feed::new(),
            file: None,
            log: Arc::default(),
        }
    }
}

/// State of an audit file, as its writer notes it.
#[derive(Debug)]
pub struct AuditFile {
    backlogs: [Arc<Backlog>; 2],
    written: AtomicU64,
    lost: AtomicU64,
    error: Ranked<Option<String>, LEAF>,
}

impl AuditFile {
    /// A file that is written from the readers with these backlogs.
    #[must_use]
    pub const fn new(backlogs: [Arc<Backlog>; 2]) -> Self {
        Self {
            backlogs,
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            error: Ranked::new(None),
        }
    }

    /// Counts records that reached the file, and such that did not or are not there any more.
    pub fn count(&self, written: u64, lost: u64) {
        self.written.fetch_add(written, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// Notes why the latest write failed, `None` when it did not, and gives what was noted before.
    pub fn set_error(&self, error: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.error.lock(), error)
    }

    /// Figures for health and metrics. Lost are records that did not reach the file and such that its writer was too
    /// slow for.
    #[must_use]
    pub fn figures(&self) -> AuditFigures {
        let [known, strangers] = &self.backlogs;
        AuditFigures {
            written: self.written.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed) + known.missed() + strangers.missed(),
            queued_records: known.records() + strangers.records(),
            queued_bytes: known.bytes() + strangers.bytes(),
            error: self.error.lock().clone(),
        }
    }
}
