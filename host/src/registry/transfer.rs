//! Export and import of the registry's file, while no program has it open.

use super::RegistryError;
use super::tables::{Tables, apply, open_with_key};
use crate::config::RegistrySecret;
use mcp_local_provider_registry::{
    Anything, Imported, Limits, Registry, read_export, write_export,
};
use std::path::Path;

/// Writes all entries as JSON lines, with their secrets where `secrets` is true. See
/// [`write_export`](mcp_local_provider_registry::write_export) for the form.
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

/// Takes the entries of an export in, all of them or none. Entries that exist are replaced where `replace` is true; secrets that were
/// not exported stay as they are then. What the configuration lists is looked at when an entry is used.
///
/// # Errors
/// Beside those of [`open`](super::open): when the text is no export, an entry is wrong, or one exists already.
pub fn import(
    data_dir: &Path,
    secret: &RegistrySecret,
    limits: Limits,
    text: &str,
    replace: bool,
) -> Result<Imported, RegistryError> {
    let entries = read_export(text).map_err(|error| RegistryError::Import(error.to_string()))?;
    let (mut tables, key, there) = open_with_key(Tables::make(data_dir)?, data_dir, secret)?;
    let mut registry = Registry::new(limits);
    // Those that cannot be read stay as they are.
    let _ = registry.restore(there);
    let imported = registry.import(entries, replace, &Anything);
    let (changed, imported) = imported.map_err(|failure| {
        let place = failure.param.map(|place| format!("{place}: "));
        let place = place.unwrap_or_default();
        RegistryError::Import(format!("{place}{}", failure.message))
    })?;
    tables.write(|transaction| apply(transaction, &changed.records, &key))?;
    Ok(imported)
}
