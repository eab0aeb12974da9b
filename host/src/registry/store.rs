//! The store of a running program: a thread that writes changes, those that wait in one transaction.

use super::RegistryError;
use super::seal::SealingKey;
use super::tables::{Tables, apply, open_with_key};
use crate::config::RegistrySecret;
use mcp_local_provider_registry::{Done, Record, Store, StoreError, Value};
use std::collections::VecDeque;
use std::path::Path;
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
    waiting: VecDeque<Change>,
    /// Bytes of these.
    bytes: usize,
    is_closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} changes wait)", self.waiting.len())
    }
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
        queue.waiting.push_back(Change {
            records: has_room.then_some(records),
            done,
        });
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
    key: SealingKey,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        while let Some(changes) = self.wait() {
            let (changes, refused): (Vec<_>, Vec<_>) = changes
                .into_iter()
                .partition(|change| change.records.is_some());
            for change in refused {
                let message = "too many changes wait for the disk; try again later";
                (change.done)(Err(failure(message)));
            }
            self.write(changes);
            self.shared
                .bytes
                .store(self.tables.bytes(), Ordering::Relaxed);
        }
    }

    /// Waits for changes, and takes all that wait; `None` once the file is closed and nothing waits.
    fn wait(&self) -> Option<VecDeque<Change>> {
        let mut queue = self.shared.queue();
        while queue.waiting.is_empty() && !queue.is_closed {
            let woken = self.shared.changed.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
        queue.bytes = 0;
        Some(std::mem::take(&mut queue.waiting)).filter(|changes| !changes.is_empty())
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
