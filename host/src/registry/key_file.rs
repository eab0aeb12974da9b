//! The file of the key that seals secrets, and the key that opens a registry.
//!
//! A new key is in a file beside it, `secret.key.new`, before the registry is sealed with it in one transaction; the file takes
//! the other's place after that. After a crash at any moment the key that fits is in one of the two, and [`unlock`] finds it.

use super::seal::{Header, SealingKey, Source};
use super::{RegistryError, SECRET_FILE, path};
use crate::config::RegistrySecret;
use crate::private_file;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a key's file that are read at most.
const MOST: u64 = 4096;

/// The two places of a key in a data directory.
pub(super) struct KeyFile {
    data_dir: PathBuf,
}

impl KeyFile {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.data_dir.join(SECRET_FILE)
    }

    fn next_path(&self) -> PathBuf {
        self.data_dir.join(format!("{SECRET_FILE}.new"))
    }

    /// Reads the key; `None` without the file, or where it holds none.
    pub(super) fn current(&self) -> Result<Option<SealingKey>, RegistryError> {
        read(self.path())
    }

    /// Reads the key that was to take the place of the other.
    pub(super) fn next(&self) -> Result<Option<SealingKey>, RegistryError> {
        read(self.next_path())
    }

    /// Writes the key where there is none yet.
    pub(super) fn make(&self, key: &SealingKey) -> Result<(), RegistryError> {
        let path = self.path();
        if path.symlink_metadata().is_ok() {
            let message =
                "it holds no key of 64 hexadecimal digits; remove it, and a new one is made";
            let error = io::Error::new(io::ErrorKind::InvalidData, message);
            return Err(RegistryError::Io { path, error });
        }
        private_file::replace(&path, key.text().as_bytes()).map_err(failed(&path))
    }

    /// Writes the key that is to take the place of the other.
    pub(super) fn write_next(&self, key: &SealingKey) -> Result<(), RegistryError> {
        let path = self.next_path();
        private_file::replace(&path, key.text().as_bytes()).map_err(failed(&path))
    }

    /// Has the new key take the place of the other.
    pub(super) fn take_next(&self) -> Result<(), RegistryError> {
        let path = self.path();
        std::fs::rename(self.next_path(), &path)
            .and_then(|()| File::open(&self.data_dir)?.sync_all())
            .map_err(failed(&path))
    }

    /// Removes a new key that was not used.
    pub(super) fn forget_next(&self) {
        // One that is left does no harm: the registry is not sealed with it.
        let _ = std::fs::remove_file(self.next_path());
    }

    /// Removes the key, when the registry is sealed with another.
    pub(super) fn forget(&self) -> Result<(), RegistryError> {
        let path = self.path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RegistryError {
    move |error| RegistryError::Io {
        path: path.to_owned(),
        error,
    }
}

fn read(path: PathBuf) -> Result<Option<SealingKey>, RegistryError> {
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(SealingKey::read(&String::from_utf8_lossy(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RegistryError::Io { path, error }),
    }
}

/// Key of a registry.
#[derive(Debug)]
pub(super) struct Unlocked {
    pub(super) key: SealingKey,
    /// Header to be stored in the place of the one that is there.
    pub(super) fresh: Option<Header>,
}

/// Finds the key of a registry with so many sealed secrets. While nothing is sealed any key will do, and one is made where there
/// is none.
pub(super) fn unlock(
    data_dir: &Path,
    given: &RegistrySecret,
    header: Option<Header>,
    sealed: usize,
) -> Result<Unlocked, RegistryError> {
    let keys = KeyFile::new(data_dir);
    let header = match header {
        Some(header) if sealed > 0 => header,
        None if sealed > 0 => {
            let reason = "it has secrets, and nothing about their key".to_owned();
            let path = path(data_dir);
            return Err(RegistryError::Damaged { path, reason });
        }
        header => return begin(&keys, given, header),
    };
    match (&header.source, given) {
        (Source::File, RegistrySecret::File) => {
            let current = keys.current()?;
            if let Some(key) = current.clone().filter(|key| key.fits(&header)) {
                keys.forget_next();
                return Ok(Unlocked { key, fresh: None });
            }
            if let Some(key) = keys.next()?.filter(|key| key.fits(&header)) {
                keys.take_next()?;
                return Ok(Unlocked { key, fresh: None });
            }
            Err(match current {
                Some(_) => RegistryError::WrongKey {
                    given: "file".to_owned(),
                    sealed: "file".to_owned(),
                    path: path(data_dir),
                },
                None => RegistryError::KeyMissing {
                    secret: keys.path(),
                    path: path(data_dir),
                    sealed,
                },
            })
        }
        (
            source @ Source::Passphrase { .. },
            RegistrySecret::Passphrase {
                variable,
                passphrase,
            },
        ) => {
            let text = passphrase.text();
            let text = text.ok_or_else(|| RegistryError::NoPassphrase(variable.clone()))?;
            match of_source(source, text)?.filter(|key| key.fits(&header)) {
                Some(key) => Ok(Unlocked { key, fresh: None }),
                None => Err(RegistryError::WrongKey {
                    given: given.to_string(),
                    sealed: source.to_string(),
                    path: path(data_dir),
                }),
            }
        }
        (source, given) => Err(RegistryError::OtherSource {
            given: given.to_string(),
            sealed: source.to_string(),
            path: path(data_dir),
        }),
    }
}

/// Finds or makes the key of a registry in which nothing is sealed.
fn begin(
    keys: &KeyFile,
    given: &RegistrySecret,
    header: Option<Header>,
) -> Result<Unlocked, RegistryError> {
    let (key, source) = match given {
        RegistrySecret::File => {
            keys.forget_next();
            let key = match keys.current()? {
                Some(key) => key,
                None => {
                    let key = SealingKey::random()?;
                    keys.make(&key)?;
                    key
                }
            };
            (key, Source::File)
        }
        RegistrySecret::Passphrase {
            variable,
            passphrase,
        } => {
            let text = passphrase.text();
            let text = text.ok_or_else(|| RegistryError::NoPassphrase(variable.clone()))?;
            let known = header.as_ref().map(|header| &header.source);
            let known = known.filter(|source| matches!(source, Source::Passphrase { .. }));
            let known = known
                .cloned()
                .map(|source| Ok((of_source(&source, text)?, source)));
            match known.transpose()? {
                Some((Some(key), source)) if header.as_ref().is_some_and(|it| key.fits(it)) => {
                    (key, source)
                }
                Some(_) | None => of_passphrase(variable, text)?,
            }
        }
    };
    let fits = |header: &Header| header.source == source && key.fits(header);
    let fresh = match header {
        Some(header) if fits(&header) => None,
        Some(_) | None => Some(key.header(source)?),
    };
    Ok(Unlocked { key, fresh })
}

/// Makes the key of a passphrase anew.
pub(super) fn of_passphrase(
    variable: &str,
    text: &str,
) -> Result<(SealingKey, Source), RegistryError> {
    let source = Source::of_variable(variable)?;
    let key = of_source(&source, text)?;
    let key = key.ok_or_else(|| RegistryError::NoPassphrase(variable.to_owned()))?;
    Ok((key, source))
}

/// Makes the key of a passphrase as a header says; `None` where that says nothing that can be.
pub(super) fn of_source(source: &Source, text: &str) -> Result<Option<SealingKey>, RegistryError> {
    match source {
        Source::File => Ok(None),
        Source::Passphrase {
            variable: _,
            salt,
            memory_kib,
            passes,
        } => SealingKey::of_passphrase(text, salt, *memory_kib, *passes).transpose(),
    }
}
