//! The tables of the registry's file, and how it is opened: one program at a time, checked, and repaired after a crash.

use super::key_file::{self, Unlocked};
use super::seal::{Header, SealingKey};
use super::{Inspection, REGISTRY_FILE, RegistryError, named, path};
use crate::config::RegistrySecret;
use crate::private_file;
use mcp_local_provider_registry::{Key, Kind, Record, Value};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, WriteTransaction,
};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Definitions, by kind and name.
const ENTRIES: TableDefinition<'_, (u8, &str), &str> = TableDefinition::new("entries");
/// Sealed secrets, by kind, name and field.
const SECRETS: TableDefinition<'_, (u8, &str, &str), &[u8]> = TableDefinition::new("secrets");
/// [`SCHEMA`] and the [`Header`] of the key.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Version of these tables.
const SCHEMA: u32 = 1;
/// Memory for pages of the file. Everything is read once, at the start.
const CACHE: usize = 4 << 20;

/// Number of a kind in the tables. One that was given stays.
const fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Tool => 1,
        Kind::Resource => 2,
        Kind::ResourceTemplate => 3,
        Kind::Prompt => 4,
        Kind::Integration => 5,
    }
}

fn kind(number: u8) -> Option<Kind> {
    let all = [
        Kind::Tool,
        Kind::Resource,
        Kind::ResourceTemplate,
        Kind::Prompt,
        Kind::Integration,
    ];
    all.into_iter().find(|kind| self::number(*kind) == number)
}

/// The file on the disk. It is locked for as long as it is open, also while the database is opened anew.
#[derive(Debug)]
struct Disk(File);

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// The registry's file, open and locked.
#[derive(Debug)]
pub(super) struct Tables {
    path: PathBuf,
    file: File,
    /// `None` after a write that failed. It is opened anew for the next one, which mends what the other has left.
    database: Option<Database>,
}

/// Everything in the tables.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) header: Option<Header>,
    /// By kind and name.
    entries: BTreeMap<(u8, String), Entry>,
}

/// An entry as it is in the tables.
#[derive(Debug)]
struct Entry {
    json: String,
    /// Sealed secrets by their fields.
    sealed: Vec<(String, Vec<u8>)>,
}

impl Stored {
    /// Number of sealed secrets.
    pub(super) fn sealed(&self) -> usize {
        let entries = self.entries.values();
        entries.map(|entry| entry.sealed.len()).sum()
    }

    /// Opens the secrets of all entries.
    pub(super) fn open(self, key: &SealingKey, file: &Path) -> Result<Vec<Record>, RegistryError> {
        let records = self.entries.into_iter().map(|((number, name), value)| {
            let Entry { json, sealed } = value;
            let kind = kind(number).ok_or_else(|| RegistryError::Newer(file.to_owned()))?;
            let entry = Key {
                kind,
                name: name.as_str().into(),
            };
            let secrets = sealed.into_iter().map(|(field, sealed)| {
                let secret = key.open((number, &name, &field), &sealed);
                let secret = secret.ok_or_else(|| RegistryError::Secret {
                    field: field.clone(),
                    entry: named(&entry),
                    path: file.to_owned(),
                })?;
                Ok((field.into(), secret))
            });
            let secrets = secrets.collect::<Result<_, RegistryError>>()?;
            Ok(Record {
                key: entry,
                value: Some(Value {
                    json: json.into(),
                    secrets,
                }),
            })
        });
        records.collect()
    }
}

impl Tables {
    /// Opens the file. Makes it where it is not there.
    pub(super) fn make(data_dir: &Path) -> Result<Self, RegistryError> {
        let path = path(data_dir);
        let failed = |error| RegistryError::Io {
            path: path.clone(),
            error,
        };
        private_file::make_directory(data_dir).map_err(failed)?;
        // Programs that start at once make one file.
        let lock = private_file::lock_directory(data_dir).map_err(failed)?;
        if let Some(tables) = Self::open(data_dir)? {
            return Ok(tables);
        }
        // A crash leaves a whole file, or none of this name.
        let new = data_dir.join(format!("{REGISTRY_FILE}.new"));
        let _ = std::fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&new).map_err(failed)?;
        file.try_lock().map_err(|error| locked(&path, error))?;
        let mut tables = Self {
            path: path.clone(),
            file,
            database: None,
        };
        tables.write(|transaction| {
            transaction.open_table(ENTRIES)?;
            transaction.open_table(SECRETS)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("schema", SCHEMA.to_be_bytes().as_slice())?;
            Ok(())
        })?;
        std::fs::rename(&new, &path)
            .and_then(|()| File::open(data_dir)?.sync_all())
            .map_err(failed)?;
        drop(lock);
        Ok(tables)
    }

    /// Opens the file, and checks all of it; `None` where it is not there.
    pub(super) fn open(data_dir: &Path) -> Result<Option<Self>, RegistryError> {
        let path = path(data_dir);
        let failed = |error| RegistryError::Io {
            path: path.clone(),
            error,
        };
        // A FIFO in its place would wait for a writer.
        let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(at_once);
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        file.try_lock().map_err(|error| locked(&path, error))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let private = Permissions::from_mode(0o600);
            file.set_permissions(private).map_err(failed)?;
        }
        if metadata.len() == 0 {
            // An empty one would be taken for a new one.
            let reason = "it is empty".to_owned();
            return Err(RegistryError::Damaged { path, reason });
        }
        let mut tables = Self {
            path,
            file,
            database: None,
        };
        tables.database()?;
        tables.check_schema()?;
        Ok(Some(tables))
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that it takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    fn database(&mut self) -> Result<&mut Database, RegistryError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let file = self.file.try_clone().map_err(|error| RegistryError::Io {
                    path: self.path.clone(),
                    error,
                })?;
                open_on(Disk(file)).map_err(|error| self.failed(error))?
            }
        };
        Ok(self.database.insert(database))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> RegistryError {
        let path = self.path.clone();
        let damaged = |reason: String| RegistryError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let error = error.into();
        let is_damage = matches!(
            error,
            redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TypeDefinitionChanged { .. }
                | redb::Error::UpgradeRequired(_)
                | redb::Error::RepairAborted
        );
        if is_damage {
            return damaged(error.to_string());
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the errors of redb are many, and more may come"
        )]
        let error = match error {
            redb::Error::Corrupted(reason) => return damaged(reason),
            redb::Error::DatabaseAlreadyOpen => return RegistryError::InUse(path),
            redb::Error::Io(error) => error,
            other => io::Error::other(other.to_string()),
        };
        if matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ) {
            return damaged("it is no file of a registry, or a part of it is missing".to_owned());
        }
        RegistryError::Io { path, error }
    }

    fn check_schema(&mut self) -> Result<(), RegistryError> {
        let read = (|| -> Result<Option<Vec<u8>>, redb::Error> {
            let Some(database) = &self.database else {
                return Ok(None);
            };
            let transaction = database.begin_read()?;
            let meta = transaction.open_table(META)?;
            Ok(meta.get("schema")?.map(|schema| schema.value().to_vec()))
        })();
        let schema = read.map_err(|error| self.failed(error))?;
        let schema = schema.and_then(|schema| Some(u32::from_be_bytes(schema.try_into().ok()?)));
        match schema {
            Some(SCHEMA) => Ok(()),
            Some(later) if later > SCHEMA => Err(RegistryError::Newer(self.path.clone())),
            Some(_) | None => Err(RegistryError::Damaged {
                path: self.path.clone(),
                reason: "it has no version".to_owned(),
            }),
        }
    }

    /// Reads everything.
    pub(super) fn read(&mut self) -> Result<Stored, RegistryError> {
        let database = self.database()?;
        let read = (|| -> Result<Stored, redb::Error> {
            let transaction = database.begin_read()?;
            let mut stored = Stored::default();
            for entry in transaction.open_table(ENTRIES)?.iter()? {
                let (key, json) = entry?;
                let (number, name) = key.value();
                let place = (number, name.to_owned());
                let entry = Entry {
                    json: json.value().to_owned(),
                    sealed: Vec::new(),
                };
                stored.entries.insert(place, entry);
            }
            for secret in transaction.open_table(SECRETS)?.iter()? {
                let (key, sealed) = secret?;
                let (number, name, field) = key.value();
                let Some(entry) = stored.entries.get_mut(&(number, name.to_owned())) else {
                    let reason = format!("a secret of `{}` has no entry", name.escape_debug());
                    return Err(redb::Error::Corrupted(reason));
                };
                let sealed = sealed.value().to_vec();
                entry.sealed.push((field.to_owned(), sealed));
            }
            if let Some(header) = transaction.open_table(META)?.get("key")? {
                let header = serde_json::from_slice(header.value());
                let header = header
                    .map_err(|_| redb::Error::Corrupted("the header of its key".to_owned()))?;
                stored.header = Some(header);
            }
            Ok(stored)
        })();
        read.map_err(|error| self.failed(error))
    }

    /// Makes changes in one transaction, which is durable when this returns.
    pub(super) fn write(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), Unwritten>,
    ) -> Result<(), RegistryError> {
        let database = self.database()?;
        let written = (|| -> Result<(), Unwritten> {
            let transaction = database.begin_write().map_err(redb::Error::from)?;
            work(&transaction)?;
            Ok(transaction.commit()?)
        })();
        written.map_err(|error| {
            self.database = None;
            match error {
                Unwritten::Database(error) => self.failed(*error),
                Unwritten::Other(error) => error,
            }
        })
    }

    /// Makes the file small again, and removes what is left in it of earlier content.
    pub(super) fn compact(&mut self) -> Result<(), RegistryError> {
        let compacted = self.database()?.compact();
        compacted.map(drop).map_err(|error| self.failed(error))
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.database = None;
        // A child that is being started has this descriptor too, until it runs its program.
        let _ = self.file.unlock();
    }
}

fn open_on(backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    // A file that something else has changed is an error then, and else might be a panic.
    builder.set_check_integrity_on_open(true);
    builder.create_with_backend(backend)
}

#[cfg(test)]
impl Tables {
    /// Closes the database, and goes on with one on another backend.
    pub(super) fn go_on_with(&mut self, backend: impl StorageBackend) -> Result<(), RegistryError> {
        self.database = None;
        let database = open_on(backend).map_err(|error| self.failed(error))?;
        self.database = Some(database);
        Ok(())
    }
}

/// Reason for which a transaction was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    #[error(transparent)]
    Database(Box<redb::Error>),
    #[error(transparent)]
    Other(#[from] RegistryError),
}

impl<E: Into<redb::Error>> From<E> for Unwritten {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

fn locked(path: &Path, error: TryLockError) -> RegistryError {
    let path = path.to_owned();
    match error {
        TryLockError::WouldBlock => RegistryError::InUse(path),
        TryLockError::Error(error) => RegistryError::Io { path, error },
    }
}

/// Makes a change of each record: entries are put in the place of what is there, with their secrets, or deleted.
pub(super) fn apply<'r>(
    transaction: &WriteTransaction,
    records: impl IntoIterator<Item = &'r Record>,
    key: &SealingKey,
) -> Result<(), Unwritten> {
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut secrets = transaction.open_table(SECRETS)?;
    for Record { key: entry, value } in records {
        let (number, name) = (number(entry.kind), &*entry.name);
        let mut old = Vec::new();
        for secret in secrets.range((number, name, "")..)? {
            let (place, _) = secret?;
            let (other, of, field) = place.value();
            if (other, of) != (number, name) {
                break;
            }
            old.push(field.to_owned());
        }
        for field in old {
            secrets.remove((number, name, field.as_str()))?;
        }
        match value {
            None => {
                entries.remove((number, name))?;
            }
            Some(value) => {
                entries.insert((number, name), &*value.json)?;
                for (field, secret) in &value.secrets {
                    let sealed = key.seal((number, name, field), secret)?;
                    secrets.insert((number, name, &**field), sealed.as_slice())?;
                }
            }
        }
    }
    Ok(())
}

/// Stores the header of the key.
pub(super) fn set_header(transaction: &WriteTransaction, header: &Header) -> Result<(), Unwritten> {
    let text = serde_json::to_vec(header).map_err(io::Error::from);
    let text = text.map_err(StorageError::Io)?;
    transaction
        .open_table(META)?
        .insert("key", text.as_slice())?;
    Ok(())
}

/// Opens the file with its key, and reads it.
pub(super) fn open_with_key(
    mut tables: Tables,
    data_dir: &Path,
    secret: &RegistrySecret,
) -> Result<(Tables, SealingKey, Vec<Record>), RegistryError> {
    let mut stored = tables.read()?;
    let sealed = stored.sealed();
    let Unlocked { key, fresh } = key_file::unlock(data_dir, secret, stored.header.take(), sealed)?;
    if let Some(header) = fresh {
        tables.write(|transaction| set_header(transaction, &header))?;
    }
    let records = stored.open(&key, tables.path())?;
    Ok((tables, key, records))
}

/// Looks into the registry's file; `None` where there is none. Nothing is made and nothing changed, but what a crash has left is
/// mended.
///
/// # Errors
/// Those of [`open`](super::open).
pub fn inspect(
    data_dir: &Path,
    secret: &RegistrySecret,
) -> Result<Option<Inspection>, RegistryError> {
    let Some(mut tables) = Tables::open(data_dir)? else {
        return Ok(None);
    };
    let bytes = tables.bytes();
    let mut stored = tables.read()?;
    let (entries, secrets) = (stored.entries.len(), stored.sealed());
    if secrets > 0 {
        let unlocked = key_file::unlock(data_dir, secret, stored.header.take(), secrets)?;
        stored.open(&unlocked.key, tables.path())?;
    }
    Ok(Some(Inspection {
        entries,
        secrets,
        bytes,
    }))
}

/// Writes another version into a file.
#[cfg(test)]
pub(super) fn set_schema(data_dir: &Path, version: u32) {
    let tables = Tables::open(data_dir).ok().flatten();
    let written = tables.map(|mut tables| {
        tables.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert("schema", version.to_be_bytes().as_slice())?;
            Ok(())
        })
    });
    assert!(written.is_some_and(|written| written.is_ok()));
}
