//! The audit file: one JSON line for each record, written by a thread of its own.
//!
//! Serving never waits for the disk, because the thread reads the engine's feed at its own pace. Records that the
//! thread was too slow for, and those whose write fails, are counted as lost, and the next record is tried again. The
//! writer begins a new file when the old one was moved away or deleted; records in a deleted file count as lost. It
//! also begins a new file when the old one would exceed its size, and renames the older ones to `audit.jsonl.1` (the
//! youngest), `audit.jsonl.2` and so on.
//!
//! Requests without a known key have a file of their own beside it, with less room: strangers may send any number of them,
//! and would rotate the records of all others away.

mod file;
mod strangers;
mod tail;

pub use tail::tail;

use crate::config::{Audit, Authentication};
use crate::writer_thread::{Ending, WriterThread};
use file::RotatingFile;
use mcp_local_provider_engine::audit::AuditFile;
use mcp_local_provider_engine::feed::{Events, Feed, Numbered, Reader};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use strangers::Strangers;

/// Bytes that may wait for the disk; beyond them records are lost.
const QUEUE_BYTES: usize = 8 << 20;
/// Bytes of strangers' records that may wait to be gathered: those of 100,000 requests a second for [`DELAY`], and fewer
/// records than the feed holds, so that they drive out nobody else's.
const STRANGERS_QUEUE_BYTES: usize = 4 << 20;
/// Part of `audit.max_bytes` that the file of strangers may have; one older one is kept.
const STRANGERS_PART: u64 = 8;
/// Bytes after which a batch goes to the disk; the records that were read together may exceed it.
const BATCH_BYTES: usize = 256 << 10;
/// Time after the first record of a batch, in which more are gathered.
const DELAY: Duration = Duration::from_millis(100);

/// Handle of the writing thread. Call [`finish`](AuditWriter::finish) when the program ends.
#[derive(Debug)]
pub struct AuditWriter(Option<Writing>);

#[derive(Debug)]
struct Writing {
    file: Arc<AuditFile>,
    thread: WriterThread,
}

/// Wakes the writing thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl AuditWriter {
    /// Starts to write the records that come through `feed` from now on, to the file of `config`. A file that cannot be
    /// written does not stop the program: [`AuditWriter::file`] shows the error.
    ///
    /// # Errors
    /// Fails when the file is a FIFO or a device, or no thread can be started.
    pub fn start(config: &Audit, feed: &Arc<Feed>) -> io::Result<AuditWriter> {
        let Some(path) = &config.file else {
            return Ok(AuditWriter(None));
        };
        if let Some(why) = file::unusable(path) {
            return Err(io::Error::other(why));
        }
        let known = Events::ALL.without(Events::STRANGERS);
        let readers = [
            feed.reader(known, QUEUE_BYTES, None),
            feed.reader(Events::STRANGERS, STRANGERS_QUEUE_BYTES, None),
        ];
        let file = Arc::new(AuditFile::new(readers.each_ref().map(Reader::backlog)));
        let max_bytes = config.max_bytes as u64;
        let beside = strangers_path(path);
        let mut logs = [
            RotatingFile::new(path, max_bytes, config.keep),
            RotatingFile::new(&beside, max_bytes / STRANGERS_PART, 1),
        ];
        // Opened at once, so that a wrong path shows before the first record.
        let [log, _] = &mut logs;
        if let Err(error) = log.open() {
            let error = log.describe(&error);
            tracing::error!("audit records are being lost: {error}");
            file.set_error(Some(error));
        }
        let own = file.clone();
        let all = config.authentication == Authentication::All;
        let thread = WriterThread::start("audit", move |ending| {
            write_all(readers, logs, all, &own, ending);
        })?;
        Ok(AuditWriter(Some(Writing { file, thread })))
    }

    /// Returns figures and error of the file; `None` when no file is written.
    #[must_use]
    pub fn file(&self) -> Option<Arc<AuditFile>> {
        self.0.as_ref().map(|writing| writing.file.clone())
    }

    /// Waits until everything that was pushed before is written, but no longer than `patience`. Later records are not
    /// written.
    pub fn finish(self, patience: Duration) {
        let Some(writing) = self.0 else { return };
        if !writing.thread.finish(patience) {
            tracing::warn!("the audit file took too long; its last records may be missing");
        }
    }
}

/// Returns the path of the strangers' file: `audit-strangers.jsonl` beside `audit.jsonl`.
fn strangers_path(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-strangers");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Writes records until the program ends; with `all`, a line more for each request with a known key.
fn write_all(
    readers: [Reader; 2],
    logs: [RotatingFile; 2],
    all: bool,
    file: &AuditFile,
    ending: &Ending,
) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let ([mut known, mut strange], [mut log, mut beside]) = (readers, logs);
    let (mut records, mut batch, mut count) = (Vec::new(), Vec::new(), 0);
    let mut strangers = Strangers::default();
    loop {
        // Read before the feed, so that records that were pushed before the end are in the feed then.
        let ends = ending.is_near();
        // The feed's backlog counts missed records.
        let mut missed = strange.drain(&waker, &mut records);
        let mut idle = records.is_empty();
        for Numbered { record, .. } in records.drain(..) {
            if !strangers.add(record) {
                file.count(0, 1);
            }
        }
        if strangers
            .until()
            .is_some_and(|until| (ends && idle) || until <= Instant::now())
        {
            let mut lines = Vec::new();
            let mut count = strangers.write(&strange.wall(), &mut lines);
            write_batch(&mut beside, &mut lines, &mut count, file);
        }
        missed += known.drain(&waker, &mut records);
        idle &= records.is_empty();
        if records.is_empty() || batch.len() >= BATCH_BYTES {
            write_batch(&mut log, &mut batch, &mut count, file);
        }
        if idle && missed == 0 {
            if ends {
                return;
            }
            match strangers.until() {
                Some(until) => {
                    thread::park_timeout(until.saturating_duration_since(Instant::now()));
                }
                None => thread::park(),
            }
            ending.gather(DELAY);
        }
        for Numbered { record, .. } in records.drain(..) {
            let start = batch.len();
            if all && record.write_authentication(&known.wall(), &mut batch) {
                batch.push(b'\n');
                count += 1;
            }
            record.write(&known.wall(), &mut batch);
            batch.push(b'\n');
            if !log.has_room(batch.len()) && start > 0 {
                let line = batch.split_off(start);
                write_batch(&mut log, &mut batch, &mut count, file);
                batch = line;
            }
            count += 1;
        }
    }
}

fn write_batch(log: &mut RotatingFile, batch: &mut Vec<u8>, count: &mut u64, file: &AuditFile) {
    if batch.is_empty() {
        return;
    }
    let (written, result) = log.append(batch, *count);
    let error = result.err().map(|error| log.describe(&error));
    // Set before the figures, so that a reader of new figures does not see the old error.
    let before = file.set_error(error.clone());
    file.count(written, count.saturating_sub(written) + log.take_deleted());
    batch.clear();
    *count = 0;
    if let (Some(error), None) = (error, before) {
        tracing::error!("audit records are being lost: {error}");
    }
}

#[cfg(test)]
mod tests;
