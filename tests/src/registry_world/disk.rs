//! A disk in memory: changes that wait for it, are kept, are refused, or are lost with the machine.

use mcp_local_provider_registry::{Done, Key, Record, Rekeyed, Store, StoreError, Value};
use serde_json::Value as Json;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Mutex;

/// The store of one life of the program.
#[derive(Default)]
pub(super) struct Disk(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// All that is there after a loss of power.
    kept: BTreeMap<Key, Value>,
    waiting: VecDeque<(Vec<Record>, Done)>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} wait)", self.waiting())
    }
}

/// The mark of a definition: its description, which no other has.
pub(super) fn mark(json: &str) -> String {
    let json: Json = serde_json::from_str(json).expect("a definition is JSON");
    json["description"].as_str().expect("a mark").to_owned()
}

impl Disk {
    /// The disk of a program that starts again.
    pub(super) fn with(kept: BTreeMap<Key, Value>) -> Self {
        Self(Mutex::new(Inner {
            kept,
            waiting: VecDeque::new(),
        }))
    }

    /// Number of changes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().unwrap().waiting.len()
    }

    /// The mark of each entry, by its name.
    pub(super) fn marks(&self) -> BTreeMap<String, String> {
        let inner = self.0.lock().unwrap();
        let kept = inner.kept.iter();
        kept.map(|(key, value)| (key.name.to_string(), mark(&value.json)))
            .collect()
    }

    /// All entries.
    pub(super) fn records(&self) -> Vec<Record> {
        let inner = self.0.lock().unwrap();
        let kept = inner.kept.iter();
        let records = kept.map(|(key, value)| Record {
            key: key.clone(),
            value: Some(value.clone()),
        });
        records.collect()
    }

    /// Keeps the first change that waits, or refuses it, and says so. Returns the names and marks of what it has kept.
    pub(super) fn settle(&self, keeps: bool) -> Vec<(String, Option<String>)> {
        let mut inner = self.0.lock().unwrap();
        let Some((records, done)) = inner.waiting.pop_front() else {
            return Vec::new();
        };
        let kept = if keeps {
            inner.keep(records)
        } else {
            Vec::new()
        };
        drop(inner);
        done(match keeps {
            true => Ok(()),
            false => Err(StoreError {
                message: "the disk is full".to_owned(),
            }),
        });
        kept
    }

    /// The machine loses its power: of the changes that wait, the first `written` were kept before anybody was told. Returns
    /// what is there afterwards.
    pub(super) fn lose_power(&self, written: usize) -> BTreeMap<Key, Value> {
        let mut inner = self.0.lock().unwrap();
        for _ in 0..written {
            if let Some((records, _)) = inner.waiting.pop_front() {
                inner.keep(records);
            }
        }
        let lost = std::mem::take(&mut inner.waiting);
        let kept = inner.kept.clone();
        drop(inner);
        drop(lost);
        kept
    }
}

impl Inner {
    fn keep(&mut self, records: Vec<Record>) -> Vec<(String, Option<String>)> {
        let mut told = Vec::new();
        for Record { key, value } in records {
            told.push((
                key.name.to_string(),
                value.as_ref().map(|value| mark(&value.json)),
            ));
            match value {
                Some(value) => self.kept.insert(key, value),
                None => self.kept.remove(&key),
            };
        }
        told
    }
}

impl Store for Disk {
    fn commit(&self, records: Vec<Record>, done: Done) {
        self.0.lock().unwrap().waiting.push_back((records, done));
    }

    fn rekey(&self, _: Option<&str>, done: Rekeyed) {
        done(Ok(0));
    }

    fn bytes(&self) -> u64 {
        0
    }
}
