//! The outside of the registry in a program: its file with the keys that seal its secrets, the commands that it runs and the
//! files that it reads.
//!
//! [`open`] gives the [`Store`](mcp_local_provider_registry::Store) and all that is in it; [`export`], [`import`] and [`rekey`]
//! work on the file while no program has it open.

#[cfg(not(feature = "registry"))]
mod absent;
mod commands;
mod error;
mod files;
#[cfg(feature = "registry")]
mod key_file;
#[cfg(feature = "registry")]
mod rekey;
#[cfg(feature = "registry")]
mod seal;
#[cfg(feature = "registry")]
mod serving;
#[cfg(feature = "registry")]
mod store;
#[cfg(feature = "registry")]
mod tables;
#[cfg(all(test, feature = "registry"))]
mod tests;
#[cfg(feature = "registry")]
mod transfer;

#[cfg(not(feature = "registry"))]
pub(crate) use absent::Serving;
#[cfg(not(feature = "registry"))]
pub use absent::{export, import, inspect, rekey};
pub use commands::HostCommands;
pub use error::RegistryError;
pub use files::HostFiles;
#[cfg(feature = "registry")]
pub(crate) use serving::Serving;
#[cfg(feature = "registry")]
pub use {
    rekey::rekey,
    store::{RegistryFile, open},
    tables::inspect,
    transfer::{export, import},
};

use crate::config::{Config, GatewaySwitch};
use mcp_local_provider_registry::Limits;
use std::path::{Path, PathBuf};

/// Name of the registry's file in the data directory.
pub const REGISTRY_FILE: &str = "registry.redb";
/// Name of the file in the data directory with the key that seals secrets.
pub const SECRET_FILE: &str = "secret.key";

/// Figures of a registry's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Entries in it.
    pub entries: usize,
    /// Secrets of these entries.
    pub secrets: usize,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
}

/// Returns true when the program is to have a registry: `registry.enabled` says so, or with `auto` a key of the role `admin`
/// exists, something is stored, or something is listed that it may reach.
#[must_use]
pub fn is_wanted(config: &Config, has_admin: bool) -> bool {
    match config.registry.enabled {
        GatewaySwitch::Yes => true,
        GatewaySwitch::No => false,
        GatewaySwitch::Auto => {
            crate::config::REGISTRY_IS_BUILT_IN
                && (has_admin
                    || config.registry.lists_something()
                    || path(&config.data_dir).exists())
        }
    }
}

/// Returns the path of the registry's file.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(REGISTRY_FILE)
}

/// Names an entry in a sentence: ``tool `now` ``.
#[cfg(feature = "registry")]
fn named(key: &mcp_local_provider_registry::Key) -> String {
    let kind = mcp_local_provider_registry::name_of_kind(key.kind).replace('_', " ");
    let name: String = key.name.chars().take(200).collect();
    format!("{kind} `{}`", name.escape_debug())
}

/// Limits of the registry, as the configuration has them.
pub(crate) fn limits(config: &Config) -> Limits {
    let registry = &config.registry;
    Limits {
        tools: registry.tools,
        resources: registry.resources,
        prompts: registry.prompts,
        integrations: registry.integrations,
        executions: registry.executions,
        queue_length: usize::try_from(config.limits.queue.length).unwrap_or(usize::MAX),
        queue_wait: config.limits.queue.wait,
        resource_bytes: registry.resource_bytes,
        cache_bytes: registry.cache.bytes,
        cache_ttl: registry.cache.ttl,
        bytes: config.limits.memory,
    }
}
