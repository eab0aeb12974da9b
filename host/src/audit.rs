//! The audit file: one JSON line a record, written by a thread of its own.
//!
//! Serving never waits for the disk: a record that finds the queue full, or whose write fails, is counted as lost, and
//! the next record tries again. A file that was moved away is begun anew; one that was deleted took its records along, and
//! they count as lost. A file is begun anew when it would grow beyond its size; the older ones are
//! `audit.jsonl.1` (the youngest), `audit.jsonl.2` and so on.

mod file;
mod tail;

pub use tail::tail;

use crate::config::Audit;
use file::RotatingFile;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Records that wait for the disk, at most.
const QUEUE_RECORDS: usize = 8192;
/// Bytes that wait for the disk, at most.
const QUEUE_BYTES: usize = 8 << 20;
/// Bytes that are handed to the disk in one write, about.
const BATCH_BYTES: usize = 256 << 10;

/// What health and metrics show of the audit file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditStatus {
    /// Records that reached the file.
    pub written: u64,
    /// Records that did not.
    pub lost: u64,
    /// Bytes of records that wait for the disk.
    pub queued_bytes: usize,
    /// Why the latest write failed; `None` as soon as one succeeds.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    queued_bytes: AtomicUsize,
    error: Mutex<Option<String>>,
}

impl Shared {
    fn set_error(&self, error: Option<String>) {
        *self
            .error
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = error;
    }
}

#[derive(Debug)]
enum Message {
    Record(Vec<u8>),
    End,
}

/// Takes records and hands them to the thread that writes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditSink {
    queue: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
}

impl AuditSink {
    /// A sink that keeps nothing and loses nothing.
    pub fn off() -> AuditSink {
        AuditSink {
            queue: None,
            shared: Arc::default(),
        }
    }

    /// Whether records are kept at all; where not, none need be made.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands over one record, a JSON object on one line; the line end is added. Never waits.
    pub fn record(&self, line: Vec<u8>) {
        let Some(queue) = &self.queue else { return };
        let bytes = line.len();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued.saturating_add(bytes) > QUEUE_BYTES
            || queue.try_send(Message::Record(line)).is_err()
        {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How the file is doing.
    pub fn status(&self) -> AuditStatus {
        AuditStatus {
            written: self.shared.written.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            queued_bytes: self.shared.queued_bytes.load(Ordering::Relaxed),
            error: self
                .shared
                .error
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .clone(),
        }
    }
}

/// The thread that writes. [`finish`](AuditWriter::finish) it when the program ends.
#[derive(Debug)]
pub struct AuditWriter {
    queue: Option<SyncSender<Message>>,
    finished: Receiver<()>,
}

impl AuditWriter {
    /// Starts writing as configured. A file that cannot be written does not stop the program: it shows in
    /// [`AuditSink::status`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(config: &Audit) -> io::Result<(AuditSink, AuditWriter)> {
        let (done, finished) = sync_channel(1);
        let Some(path) = &config.file else {
            return Ok((
                AuditSink::off(),
                AuditWriter {
                    queue: None,
                    finished,
                },
            ));
        };
        let (queue, records) = sync_channel(QUEUE_RECORDS);
        let shared = Arc::new(Shared::default());
        let mut log = RotatingFile::new(path, config.max_bytes as u64, config.keep);
        // Opened at once, so that a wrong path shows before the first record.
        if let Err(error) = log.open() {
            let error = log.describe(&error);
            tracing::error!("audit records are being lost: {error}");
            shared.set_error(Some(error));
        }
        let for_thread = shared.clone();
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                write_all(&records, &mut log, &for_thread);
                drop(done);
            })?;
        let writer = AuditWriter {
            queue: Some(queue.clone()),
            finished,
        };
        Ok((
            AuditSink {
                queue: Some(queue),
                shared,
            },
            writer,
        ))
    }

    /// Waits until everything that was recorded before is written, but no longer than `patience`. What is recorded
    /// later is lost.
    pub fn finish(self, patience: Duration) {
        let Some(queue) = self.queue else { return };
        let deadline = Instant::now() + patience;
        let mut patience = patience;
        while let Err(TrySendError::Full(_)) = queue.try_send(Message::End) {
            if patience.is_zero() {
                break;
            }
            // A full queue means a slow disk, which no shorter wait would make faster.
            thread::sleep(patience.min(Duration::from_millis(10)));
            patience = deadline.saturating_duration_since(Instant::now());
        }
        if let Err(RecvTimeoutError::Timeout) = self.finished.recv_timeout(patience) {
            tracing::warn!("the audit file took too long; its last records may be missing");
        }
    }
}

fn write_all(records: &Receiver<Message>, log: &mut RotatingFile, shared: &Shared) {
    let mut batch = Vec::new();
    while let Ok(first) = records.recv() {
        let mut next = Some(first);
        let mut count = 0;
        let mut ended = false;
        batch.clear();
        while let Some(message) = next.take() {
            let Message::Record(line) = message else {
                ended = true;
                break;
            };
            shared.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            if !log.has_room(batch.len() + line.len() + 1) && !batch.is_empty() {
                write_batch(log, &batch, count, shared);
                batch.clear();
                count = 0;
            }
            batch.extend_from_slice(&line);
            batch.push(b'\n');
            count += 1;
            if batch.len() < BATCH_BYTES {
                next = records.try_recv().ok();
            }
        }
        if count > 0 {
            write_batch(log, &batch, count, shared);
        }
        if ended {
            return;
        }
    }
}

fn write_batch(log: &mut RotatingFile, batch: &[u8], count: u64, shared: &Shared) {
    let (written, result) = log.append(batch);
    let lost = count.saturating_sub(written) + log.take_deleted();
    shared.written.fetch_add(written, Ordering::Relaxed);
    shared.lost.fetch_add(lost, Ordering::Relaxed);
    match result {
        Ok(()) => shared.set_error(None),
        Err(error) => {
            let error = log.describe(&error);
            if shared.error.lock().is_ok_and(|before| before.is_none()) {
                tracing::error!("audit records are being lost: {error}");
            }
            shared.set_error(Some(error));
        }
    }
}

#[cfg(test)]
mod tests;
