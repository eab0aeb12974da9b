//! The file of the registry in a build without the cargo feature `registry`: there is none, and each call says so.

use super::{Inspection, RegistryError};
use crate::config::RegistrySecret;
use mcp_local_provider_registry::{Done, Imported, Limits, Record, Rekeyed, Store};
use std::path::Path;
use std::sync::Arc;

/// The registry's file; this build makes none.
#[derive(Debug)]
pub enum RegistryFile {}

impl RegistryFile {
    /// Closes the file, which nobody has.
    pub fn close(&self) {
        match *self {}
    }
}

impl Store for RegistryFile {
    fn commit(&self, _: Vec<Record>, _: Done) {
        match *self {}
    }

    fn rekey(&self, _: Option<&str>, _: Rekeyed) {
        match *self {}
    }

    fn bytes(&self) -> u64 {
        match *self {}
    }
}

/// Refuses to open a file.
///
/// # Errors
/// Always.
pub fn open(
    _: &Path,
    _: &RegistrySecret,
) -> Result<(Arc<RegistryFile>, Vec<Record>), RegistryError> {
    Err(RegistryError::Absent)
}

/// Refuses to look into a file.
///
/// # Errors
/// Always.
pub fn inspect(_: &Path, _: &RegistrySecret) -> Result<Option<Inspection>, RegistryError> {
    Err(RegistryError::Absent)
}

/// Refuses to export.
///
/// # Errors
/// Always.
pub fn export(_: &Path, _: &RegistrySecret, _: bool) -> Result<String, RegistryError> {
    Err(RegistryError::Absent)
}

/// Refuses to import.
///
/// # Errors
/// Always.
pub fn import(
    _: &Path,
    _: &RegistrySecret,
    _: Limits,
    _: &str,
    _: bool,
) -> Result<Imported, RegistryError> {
    Err(RegistryError::Absent)
}

/// Refuses to seal anew.
///
/// # Errors
/// Always.
pub fn rekey(
    _: &Path,
    _: &RegistrySecret,
    _: &RegistrySecret,
    _: &dyn Fn(&str) -> Option<String>,
) -> Result<usize, RegistryError> {
    Err(RegistryError::Absent)
}
