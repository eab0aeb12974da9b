//! The store of a running program: a thread that writes changes, those that wait in one transaction.

use super::RegistryError;
use super::rekey::seal_anew;
use super::seal::SealingKey;
use super::tables::{Tables, apply, open_with_key};
use crate::config::RegistrySecret;
use mcp_local_provider_registry::{Done, Record, Rekeyed, Store, StoreError, Value};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Bytes of changes that may wait. A caller waits for its change, so that seldom more than one of each does.
const WAITING_BYTES: usize = 64 << 20;
/// Counted for each record beside its texts.
const RECORD_BYTES: usize = 256;

/// Opens the registry's file in a data directory, makes it where it is not there, and returns all that is in it, in the order
/// of kinds and names.
///
/// # Errors
/// When another program has it open, when it is damaged, or when the key of its secrets is missing or another one.
pub fn open(
    data_dir: &Path,
    secret: &RegistrySecret,
) -> Result<(Arc<RegistryFile>, Vec<Record>), RegistryError> {
    let tables = Tables::make(data_dir)?;
    let (tables, key, records) = open_with_key(tables, data_dir, secret)?;
    let shared = Arc::new(Shared {
        bytes: AtomicU64::new(tables.bytes()),
        queue: Mutex::default(),
        changed: Condvar::new(),
    });
    let writer = Writer {
        tables,
        data_dir: data_dir.to_owned(),
        secret: secret.clone(),
        key,
        shared: shared.clone(),
    };
    let thread = std::thread::Builder::new().name("registry".to_owned());
    let thread = thread.spawn(move || writer.run());
    let thread = thread.map_err(|error| RegistryError::System {
        what: "thread",
        error: error.to_string(),
    })?;
    let file = RegistryFile {
        shared,
        thread: Mutex::new(Some(thread)),
    };
    Ok((Arc::new(file), records))
}

/// The registry's file of a running program. Dropping it writes what waits, closes it and waits for that.
#[derive(Debug)]
pub struct RegistryFile {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Bytes of the changes among these.
    bytes: usize,
    is_closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} wait)", self.waiting.len())
    }
}

/// Work for the thread.
enum Job {
    Change(Change),
    /// Seal with a new key, of this source or the present one.
    Rekey(Option<String>, Rekeyed),
}

struct Change {
    /// `None` for one that there was no room for.
    records: Option<Vec<Record>>,
    done: Done,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistryFile {
    /// Writes what waits and closes the file, so that another program can open it. Changes are refused from now on.
    pub fn close(&self) {
        self.shared.queue().is_closed = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has reported so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for RegistryFile {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for RegistryFile {
    fn commit(&self, records: Vec<Record>, done: Done) {
        let mut queue = self.shared.queue();
        if queue.is_closed {
            drop(queue);
            return done(Err(failure("the registry is closed, as the program ends")));
        }
        let bytes = records.iter().map(size).sum::<usize>();
        let has_room =
            queue.waiting.is_empty() || queue.bytes.saturating_add(bytes) <= WAITING_BYTES;
        if has_room {
            queue.bytes = queue.bytes.saturating_add(bytes);
        }
        queue.waiting.push_back(Job::Change(Change {
            records: has_room.then_some(records),
            done,
        }));
        drop(queue);
        self.shared.changed.notify_one();
    }

    fn rekey(&self, to: Option<&str>, done: Rekeyed) {
        let mut queue = self.shared.queue();
        if queue.is_closed {
            drop(queue);
            return done(Err(failure("the registry is closed, as the program ends")));
        }
        let to = to.map(str::to_owned);
        queue.waiting.push_back(Job::Rekey(to, done));
        drop(queue);
        self.shared.changed.notify_one();
    }

    fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

fn size(record: &Record) -> usize {
    let value = |value: &Value| {
        let secrets = value.secrets.iter();
        let secrets = secrets.map(|(field, secret)| field.len() + secret.reveal().len());
        value.json.len() + secrets.sum::<usize>()
    };
    RECORD_BYTES + record.key.name.len() + record.value.as_ref().map_or(0, value)
}

fn failure(message: &str) -> StoreError {
    StoreError {
        message: message.to_owned(),
    }
}

/// The thread.
struct Writer {
    tables: Tables,
    data_dir: PathBuf,
    /// Source of the key.
    secret: RegistrySecret,
    key: SealingKey,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        while let Some(jobs) = self.wait() {
            let mut changes = Vec::new();
            for job in jobs {
                match job {
                    Job::Change(change) if change.records.is_some() => changes.push(change),
                    Job::Change(change) => {
                        let message = "too many changes wait for the disk; try again later";
                        (change.done)(Err(failure(message)));
                    }
                    Job::Rekey(to, done) => {
                        self.write(std::mem::take(&mut changes));
                        let sealed = self.rekey(to.as_deref());
                        done(sealed.map_err(|message| StoreError { message }));
                    }
                }
            }
            self.write(changes);
            self.shared
                .bytes
                .store(self.tables.bytes(), Ordering::Relaxed);
        }
    }

    /// Seals all secrets with a new key. Returns their number.
    fn rekey(&mut self, to: Option<&str>) -> Result<usize, String> {
        let to = match to {
            None => self.secret.clone(),
            Some(to) => to.parse().map_err(|why| format!("`to`: {why}"))?,
        };
        let told = |error: RegistryError| error.to_string();
        let stored = self.tables.read().map_err(told)?;
        let sealed = stored.sealed();
        let records = stored.open(&self.key, self.tables.path()).map_err(told)?;
        let variable = |name: &str| std::env::var(name).ok();
        let key = seal_anew(&mut self.tables, &self.data_dir, &records, &to, &variable);
        self.key = key.map_err(told)?;
        self.secret = to;
        Ok(sealed)
    }

    /// Waits for jobs, and takes all that wait; `None` once the file is closed and nothing waits.
    fn wait(&self) -> Option<VecDeque<Job>> {
        let mut queue = self.shared.queue();
        while queue.waiting.is_empty() && !queue.is_closed {
            let woken = self.shared.changed.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
        queue.bytes = 0;
        Some(std::mem::take(&mut queue.waiting)).filter(|jobs| !jobs.is_empty())
    }

    /// Writes changes in one transaction, or each in one of its own where that fails: one that the disk has no room for does not
    /// keep the others from being written.
    fn write(&mut self, mut changes: Vec<Change>) {
        let records = changes.iter().filter_map(|change| change.records.as_ref());
        let records: Vec<&Record> = records.flatten().collect();
        if records.is_empty() {
            changes.into_iter().for_each(|change| (change.done)(Ok(())));
            return;
        }
        let written = self
            .tables
            .write(|transaction| apply(transaction, records, &self.key));
        match written {
            Ok(()) => changes.into_iter().for_each(|change| (change.done)(Ok(()))),
            Err(_) if changes.len() > 1 => {
                for change in changes {
                    self.write(vec![change]);
                }
            }
            Err(error) => {
                tracing::error!("a change of the registry was not stored: {error}");
                let message = format!("the change was not stored: {error}");
                if let Some(change) = changes.pop() {
                    (change.done)(Err(StoreError { message }));
                }
            }
        }
    }
}
