//! The file of the registry in a build without the cargo feature `registry`: there is none, and each call says so.

use super::{Inspection, RegistryError, is_wanted};
use crate::config::{Config, RegistrySecret};
use mcp_local_provider_engine::Engine;
use mcp_local_provider_registry::{Imported, Limits};
use std::path::Path;
use std::sync::Arc;

/// The outside of a registry, which this build has none of.
#[derive(Debug)]
pub(crate) enum Serving {}

impl Serving {
    /// Gives the engine nothing.
    ///
    /// # Errors
    /// Fails when the configuration wants a registry.
    pub(crate) fn open(_: &Arc<Engine>, config: &Config) -> Result<Option<Self>, RegistryError> {
        if is_wanted(config, false) {
            return Err(RegistryError::Absent);
        }
        Ok(None)
    }

    /// Takes nothing over.
    pub(crate) fn take_over(&self, _: &Config) {
        match *self {}
    }

    /// Closes nothing.
    pub(crate) fn close(&self) {
        match *self {}
    }
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
