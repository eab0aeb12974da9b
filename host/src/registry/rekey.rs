//! Seals all secrets with another key.

use super::key_file::{KeyFile, of_passphrase, of_source};
use super::seal::{SealingKey, Source};
use super::tables::{Tables, apply, set_header};
use super::{RegistryError, path};
use crate::config::RegistrySecret;
use mcp_local_provider_registry::Record;
use std::path::Path;

/// Seals all secrets with a new key: of the same source, or of another one. Returns their number. `given` is the configuration's
/// `registry.secret`, `variable` looks up others.
///
/// It is whole or has not happened after a crash at any moment: the file of a new key is there before the one transaction that
/// seals with it, and takes its place after that; see [`open`](super::open), which finds the key that fits.
///
/// # Errors
/// When a program has the registry open, or the present key is missing or wrong. Nothing has changed then.
pub fn rekey(
    data_dir: &Path,
    given: &RegistrySecret,
    to: &RegistrySecret,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<usize, RegistryError> {
    let mut tables = Tables::make(data_dir)?;
    let keys = KeyFile::new(data_dir);
    let stored = tables.read()?;
    let sealed = stored.sealed();
    let records = match &stored.header {
        Some(header) if sealed > 0 => {
            let candidates = candidates(&keys, &header.source, given, variable)?;
            let is_there = !candidates.is_empty();
            let found = candidates.into_iter().find(|key| key.fits(header));
            let Some(key) = found else {
                return Err(missing(data_dir, &header.source, sealed, is_there));
            };
            // One whose place a crash kept it from taking does so before another new key is written.
            if header.source == Source::File && keys.next()?.is_some_and(|key| key.fits(header)) {
                keys.take_next()?;
            }
            stored.open(&key, tables.path())?
        }
        Some(_) | None if sealed == 0 => stored.open(&SealingKey::random()?, tables.path())?,
        Some(_) | None => {
            let reason = "it has secrets, and nothing about their key".to_owned();
            let path = path(data_dir);
            return Err(RegistryError::Damaged { path, reason });
        }
    };
    seal_anew(&mut tables, data_dir, &records, to, variable)?;
    Ok(sealed)
}

/// Seals the secrets of all records with a new key, and returns that.
pub(super) fn seal_anew(
    tables: &mut Tables,
    data_dir: &Path,
    records: &[Record],
    to: &RegistrySecret,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<SealingKey, RegistryError> {
    let keys = KeyFile::new(data_dir);
    let (key, source) = match to {
        RegistrySecret::File => {
            let key = SealingKey::random()?;
            keys.write_next(&key)?;
            (key, Source::File)
        }
        RegistrySecret::Passphrase {
            variable: name,
            passphrase,
        } => {
            let text = passphrase
                .text()
                .map(str::to_owned)
                .or_else(|| variable(name));
            let text = text.filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| RegistryError::NoPassphrase(name.clone()))?;
            of_passphrase(name, &text)?
        }
    };
    let header = key.header(source)?;
    tables.write(|transaction| {
        set_header(transaction, &header)?;
        apply(transaction, records, &key)
    })?;
    match to {
        RegistrySecret::File => keys.take_next()?,
        RegistrySecret::Passphrase { .. } => keys.forget()?,
    }
    // Pages that are free hold what the old key has sealed.
    tables.compact()?;
    Ok(key)
}

/// Keys that may be the present one.
fn candidates(
    keys: &KeyFile,
    source: &Source,
    given: &RegistrySecret,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<SealingKey>, RegistryError> {
    let Source::Passphrase { variable: name, .. } = source else {
        return Ok([keys.current()?, keys.next()?]
            .into_iter()
            .flatten()
            .collect());
    };
    let given = match given {
        RegistrySecret::Passphrase { passphrase, .. } => passphrase.text().map(str::to_owned),
        RegistrySecret::File => None,
    };
    let mut texts: Vec<String> = [given, variable(name)].into_iter().flatten().collect();
    texts.dedup();
    let keys = texts.iter().map(|text| of_source(source, text));
    let keys: Result<Vec<Option<SealingKey>>, RegistryError> = keys.collect();
    Ok(keys?.into_iter().flatten().collect())
}

fn missing(data_dir: &Path, source: &Source, sealed: usize, is_there: bool) -> RegistryError {
    match source {
        Source::File if !is_there => RegistryError::KeyMissing {
            secret: KeyFile::new(data_dir).path(),
            path: path(data_dir),
            sealed,
        },
        Source::Passphrase { variable, .. } if !is_there => {
            RegistryError::NoPassphrase(variable.clone())
        }
        Source::File | Source::Passphrase { .. } => RegistryError::WrongKey {
            given: source.to_string(),
            sealed: source.to_string(),
            path: path(data_dir),
        },
    }
}
