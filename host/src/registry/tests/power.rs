//! The file of a machine that loses its power: what was written and not yet synchronized is there whole, by sectors, or not at all.

use super::super::seal::SealingKey;
use super::super::tables::{Tables, apply, open_with_key};
use super::*;
use proptest::prelude::*;
use redb::StorageBackend;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Mutex;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Work of the database on its file.
#[derive(Clone, Debug)]
enum Done {
    Wrote(u64, Vec<u8>),
    SetLength(u64),
    Synchronized,
}

/// A file whose work is noted.
#[derive(Clone, Debug)]
struct Noted {
    file: Arc<File>,
    journal: Arc<Mutex<Vec<Done>>>,
}

impl Noted {
    fn note(&self, done: Done) {
        self.journal.lock().unwrap().push(done);
    }
}

impl StorageBackend for Noted {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Done::SetLength(length));
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Done::Synchronized);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Done::Wrote(offset, data.to_vec()));
        self.file.write_all_at(data, offset)
    }
}

/// Draws what a disk has done with the work that was not synchronized, once for each piece of it.
struct Fates(u64);

impl Fates {
    fn draw(&mut self, below: u64) -> u64 {
        super::kills::random(&mut self.0, below)
    }
}

/// The file when the power was lost behind `journal`.
fn left(mut image: Vec<u8>, journal: &[Done], fates: &mut Fates) -> Vec<u8> {
    let is_synchronized = |done: &Done| matches!(done, Done::Synchronized);
    let safe = journal.iter().rposition(is_synchronized).unwrap_or(0);
    for (at, done) in journal.iter().enumerate() {
        let fate = if at < safe { 0 } else { fates.draw(4) };
        match done {
            Done::Synchronized => {}
            Done::SetLength(length) if fate < 3 => {
                image.resize(usize::try_from(*length).unwrap(), 0);
            }
            Done::SetLength(_) => {}
            Done::Wrote(offset, data) => {
                for (sector, bytes) in data.chunks(SECTOR).enumerate() {
                    let is_there = match fate {
                        0 | 1 => true,
                        2 => false,
                        _ => fates.draw(2) == 0,
                    };
                    let from = usize::try_from(*offset).unwrap() + sector * SECTOR;
                    if is_there {
                        image.resize(image.len().max(from + bytes.len()), 0);
                        image[from..from + bytes.len()].copy_from_slice(bytes);
                    }
                }
            }
        }
    }
    image
}

/// Changes of a few names: entries of any size with secrets, and the end of entries.
fn changes() -> impl Strategy<Value = Vec<Vec<Record>>> {
    let record =
        (0..6u8, 0..4000usize, 0..3usize, 0..5u8).prop_map(|(name, size, secrets, ends)| {
            let json = format!("{{\"size\":{size},\"text\":\"{}\"}}", "x".repeat(size));
            let secrets = &[("/a", "one"), ("/b", "two")][..secrets];
            let mut record = entry(Kind::Tool, &format!("t{name}"), &json, secrets);
            if ends == 0 {
                record.value = None;
            }
            record
        });
    proptest::collection::vec(proptest::collection::vec(record, 1..4), 1..10)
}

/// Everything that is stored after some changes, in the order of names.
fn after(changes: &[Vec<Record>]) -> Vec<Record> {
    let mut all = std::collections::BTreeMap::new();
    for record in changes.iter().flatten() {
        all.insert(record.key.clone(), record.clone());
    }
    let stored = all.into_values().filter(|record| record.value.is_some());
    stored.collect()
}

fn write_private(directory: &Directory, name: &str, bytes: &[u8]) {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(directory.0.join(name)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_is_there_and_no_change_by_half(
        changes in changes(),
        losses in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 8),
    ) {
        let directory = Directory::new();
        let tables = Tables::make(&directory.0).unwrap();
        let (mut tables, key, _): (Tables, SealingKey, _) =
            open_with_key(tables, &directory.0, &RegistrySecret::File).unwrap();
        let path = directory.0.join(REGISTRY_FILE);
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let noted = Noted { file: Arc::new(file), journal: Arc::default() };
        tables.go_on_with(noted.clone()).unwrap();
        let before = std::fs::read(&path).unwrap();
        noted.journal.lock().unwrap().clear();
        // Length of the journal when each change was acknowledged.
        let mut told = Vec::new();
        for change in &changes {
            tables.write(|transaction| apply(transaction, change, &key)).unwrap();
            told.push(noted.journal.lock().unwrap().len());
        }
        let journal = noted.journal.lock().unwrap().clone();
        drop(tables);
        let secret = std::fs::read(directory.0.join(SECRET_FILE)).unwrap();
        for (cut, seed) in losses {
            let cut = cut.index(journal.len() + 1);
            let image = left(before.clone(), &journal[..cut], &mut Fates(seed));
            let found = Directory::new();
            write_private(&found, REGISTRY_FILE, &image);
            write_private(&found, SECRET_FILE, &secret);
            let (store, there) = open(&found.0, &RegistrySecret::File).unwrap();
            store.close();
            let acknowledged = told.iter().filter(|told| **told <= cut).count();
            let begun = (acknowledged + 1).min(changes.len());
            let is_one = (acknowledged..=begun).any(|count| there == after(&changes[..count]));
            prop_assert!(is_one, "{} entries after {acknowledged} changes, at {cut}", there.len());
            let (_store, again) = open(&found.0, &RegistrySecret::File).unwrap();
            prop_assert_eq!(again, there, "the second start");
        }
    }
}
