//! What the engine holds of its registry, and what shows that this build has one.

use super::registry_cell::{RegistryCell, Setup};
use std::ops::Deref;
use std::sync::Arc;

/// Shows that the registry is part of this build, which the cargo feature `registry` says. Without it there is no such value,
/// so that the compiler leaves out all that a registry alone needs.
#[cfg(feature = "registry")]
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn;

/// Shows that the registry is part of this build, which the cargo feature `registry` says. Without it there is no such value,
/// so that the compiler leaves out all that a registry alone needs.
#[cfg(not(feature = "registry"))]
#[derive(Debug, Clone, Copy)]
pub enum BuiltIn {}

/// The registry of an engine, shared by its tasks.
#[derive(Debug, Clone)]
pub(crate) struct RegistryHandle {
    cell: Arc<RegistryCell>,
    _built_in: BuiltIn,
}

impl RegistryHandle {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            _built_in: setup.built_in,
            cell: Arc::new(RegistryCell::new(setup)),
        }
    }
}

impl Deref for RegistryHandle {
    type Target = RegistryCell;

    fn deref(&self) -> &RegistryCell {
        &self.cell
    }
}
