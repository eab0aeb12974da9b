//! The audit file: one JSON line a record, written by a thread of its own.
//!
//! Serving never waits for the disk: a record that finds the queue full, or whose write fails, is counted as lost, and
//! the next record tries again. A file is begun anew when it would grow beyond its size; the older ones are
//! `audit.jsonl.1` (the youngest), `audit.jsonl.2` and so on.

use crate::config::Audit;
use crate::private_file;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
    match log.append(batch) {
        Ok(()) => {
            shared.written.fetch_add(count, Ordering::Relaxed);
            shared.set_error(None);
        }
        Err(error) => {
            shared.lost.fetch_add(count, Ordering::Relaxed);
            let error = log.describe(&error);
            if shared.error.lock().is_ok_and(|before| before.is_none()) {
                tracing::error!("audit records are being lost: {error}");
            }
            shared.set_error(Some(error));
        }
    }
}

/// A file that is appended to, and begun anew when it would grow too large.
#[derive(Debug)]
struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: Option<File>,
    /// Bytes in the file that are whole records.
    bytes: u64,
}

impl RotatingFile {
    fn new(path: &Path, max_bytes: u64, keep: u32) -> RotatingFile {
        RotatingFile {
            path: path.to_owned(),
            max_bytes,
            keep,
            file: None,
            bytes: 0,
        }
    }

    fn describe(&self, error: &io::Error) -> String {
        format!("{} cannot be written: {error}", self.path.display())
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes as u64 <= self.max_bytes
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        if let Some(directory) = self
            .path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            private_file::make_directory(directory)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        self.open()?;
        if self.bytes > 0 && !self.has_room(batch.len()) {
            // A file that cannot be put aside still takes records: too long is better than lost.
            if let Err(error) = self.rotate() {
                tracing::warn!(
                    "the audit file {} cannot be put aside: {error}",
                    self.path.display()
                );
            }
            self.open()?;
        }
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match file.write_all(batch) {
            Ok(()) => {
                self.bytes += batch.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a record would spoil the next one's line. Devices cannot be cut, and need not be.
                let _ = file.set_len(self.bytes);
                // Opened anew the next time: the disk may have come back as another one.
                self.file = None;
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.keep == 0 {
            if let Some(file) = &self.file {
                file.set_len(0)?;
            }
            self.bytes = 0;
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            match std::fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, older(1))?;
        self.file = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;
    use std::os::unix::fs::PermissionsExt;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn audit(file: PathBuf, max_bytes: usize, keep: u32) -> Audit {
        Audit {
            file: Some(file),
            max_bytes,
            keep,
        }
    }

    /// Writes the records and waits for the thread.
    fn write(config: &Audit, records: impl Iterator<Item = String>) -> AuditStatus {
        let (sink, writer) = AuditWriter::start(config).unwrap();
        records.for_each(|record| sink.record(record.into_bytes()));
        writer.finish(PATIENCE);
        sink.status()
    }

    #[test]
    fn records_are_lines_in_order_in_a_private_file_that_grows_over_starts() {
        let directory = Directory::new();
        let path = directory.0.join("logs/audit.jsonl");
        let config = audit(path.clone(), 1 << 20, 5);
        for start in 0..2 {
            let status = write(
                &config,
                (0..1000).map(|number| format!("{{\"n\":{}}}", start * 1000 + number)),
            );
            assert_eq!(
                status,
                AuditStatus {
                    written: 1000,
                    lost: 0,
                    ..AuditStatus::default()
                }
            );
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: String = (0..2000)
            .map(|number| format!("{{\"n\":{number}}}\n"))
            .collect();
        assert_eq!(text, expected);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn files_are_put_aside_by_size_and_the_oldest_is_dropped() {
        let directory = Directory::new();
        let path = directory.0.join("audit.jsonl");
        // Ten bytes a line, five lines a file.
        let status = write(
            &audit(path.clone(), 50, 2),
            (0..23).map(|number| format!("{number:09}")),
        );
        assert_eq!(status.written, 23);
        let lines = |name: &str| {
            let text = std::fs::read_to_string(directory.0.join(name)).unwrap();
            text.lines()
                .map(|line| line.parse::<u32>().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines("audit.jsonl"), [20, 21, 22]);
        assert_eq!(lines("audit.jsonl.1"), [15, 16, 17, 18, 19]);
        assert_eq!(lines("audit.jsonl.2"), [10, 11, 12, 13, 14]);
        assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 3);

        let alone = directory.0.join("alone");
        write(
            &audit(alone.join("a"), 50, 0),
            (0..7).map(|number| format!("{number:09}")),
        );
        assert_eq!(
            std::fs::read_to_string(alone.join("a")).unwrap(),
            "000000005\n000000006\n"
        );
        assert_eq!(std::fs::read_dir(&alone).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_costs_records_and_nothing_else() {
        let status = write(
            &audit(PathBuf::from("/dev/full"), 1 << 20, 5),
            (0..100).map(|number| number.to_string()),
        );
        assert_eq!((status.written, status.lost), (0, 100));
        assert_eq!(
            status.error.unwrap(),
            "/dev/full cannot be written: No space left on device (os error 28)"
        );
    }

    #[test]
    fn writing_goes_on_when_the_disk_comes_back() {
        let directory = Directory::new();
        let blocked = directory.file("logs", "a file where the directory should be");
        let (sink, writer) =
            AuditWriter::start(&audit(blocked.join("audit.jsonl"), 1 << 20, 5)).unwrap();
        assert!(sink.status().error.is_some());
        sink.record(b"lost".to_vec());
        while sink.status().lost == 0 {
            thread::yield_now();
        }
        std::fs::remove_file(&blocked).unwrap();
        sink.record(b"kept".to_vec());
        while sink.status().written == 0 {
            thread::yield_now();
        }
        assert_eq!(
            sink.status(),
            AuditStatus {
                written: 1,
                lost: 1,
                ..AuditStatus::default()
            }
        );
        writer.finish(PATIENCE);
        assert_eq!(
            std::fs::read_to_string(blocked.join("audit.jsonl")).unwrap(),
            "kept\n"
        );
    }

    #[test]
    fn a_queue_that_is_full_loses_records_and_never_waits() {
        let (queue, records) = sync_channel(2);
        let sink = AuditSink {
            queue: Some(queue),
            shared: Arc::default(),
        };
        (0..5).for_each(|_| sink.record(vec![b'x'; 10]));
        assert_eq!(sink.status().lost, 3);
        assert_eq!(sink.shared.queued_bytes.load(Ordering::Relaxed), 20);
        records.try_recv().unwrap();
        sink.record(vec![b'x'; QUEUE_BYTES]);
        assert_eq!(sink.status().lost, 4);
        drop(records);
        sink.record(b"x".to_vec());
        assert_eq!(sink.status().lost, 5);
        assert_eq!(AuditSink::off().status(), AuditStatus::default());
    }
}
