//! Export and import of the registry's file, while no program has it open.

use super::tables::{Tables, apply, open_with_key};
use super::{Conflict, Imported, RegistryError, named};
use crate::config::RegistrySecret;
use mcp_local_provider_engine::registry::{read_export, write_export};
use mcp_local_provider_registry::{Key, Record, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes all entries as JSON lines, with their secrets where `secrets` is true. See
/// [`write_export`](mcp_local_provider_engine::registry::write_export) for the form.
///
/// # Errors
/// Those of [`open`](super::open).
pub fn export(
    data_dir: &Path,
    secret: &RegistrySecret,
    secrets: bool,
) -> Result<String, RegistryError> {
    let Some(tables) = Tables::open(data_dir)? else {
        return Ok(write_export(&[], secrets));
    };
    let (_, _, records) = open_with_key(tables, data_dir, secret)?;
    Ok(write_export(&records, secrets))
}

/// Takes the entries of an export in, all of them or none. `check` says what is wrong with a definition. Entries that exist are
/// replaced where `replace` is true; secrets that were not exported stay as they are then.
///
/// # Errors
/// Beside those of [`open`](super::open): when the text is no export, an entry is wrong, or one exists already.
pub fn import(
    data_dir: &Path,
    secret: &RegistrySecret,
    text: &str,
    replace: bool,
    check: &dyn Fn(&Record) -> Result<(), String>,
) -> Result<Imported, RegistryError> {
    let entries = read_export(text).map_err(|error| RegistryError::Import(error.to_string()))?;
    for entry in &entries {
        check(&entry.record).map_err(|why| {
            let (line, entry) = (entry.line, named(&entry.record.key));
            RegistryError::Import(format!("line {line}: the {entry}: {why}"))
        })?;
    }
    let (mut tables, key, there) = open_with_key(Tables::make(data_dir)?, data_dir, secret)?;
    let there = there.into_iter();
    let there = there.filter_map(|record| Some((record.key, record.value?)));
    let there: BTreeMap<Key, Value> = there.collect();
    let exists = entries
        .iter()
        .filter(|entry| there.contains_key(&entry.record.key));
    let names: Vec<String> = exists.map(|entry| named(&entry.record.key)).collect();
    if !names.is_empty() && !replace {
        return Err(RegistryError::Conflicts(Conflict(names)));
    }
    let imported = Imported {
        added: entries.len() - names.len(),
        replaced: names.len(),
    };
    let records = entries.into_iter().map(|entry| {
        let value = there.get(&entry.record.key);
        entry.onto(value)
    });
    let records: Vec<Record> = records.collect();
    tables.write(|transaction| apply(transaction, &records, &key))?;
    Ok(imported)
}
