//! The registry of a running provider: its file, commands and files, given to the engine.

use super::{HostCommands, HostFiles, RegistryFile, is_wanted, limits, open};
use crate::config::{Config, Role};
use mcp_local_provider_engine::{Engine, RegistryBuiltIn, RegistrySetup};
use std::error::Error;
use std::sync::Arc;

/// The outside of a registry that is there.
#[derive(Debug)]
pub(crate) struct Serving {
    engine: Arc<Engine>,
    file: Arc<RegistryFile>,
    commands: Arc<HostCommands>,
    files: Arc<HostFiles>,
}

impl Serving {
    /// Gives the engine a registry where the configuration wants one.
    ///
    /// # Errors
    /// Fails when its file cannot be opened, or this program cannot be found, which supervises commands.
    pub(crate) fn open(
        engine: &Arc<Engine>,
        config: &Config,
    ) -> Result<Option<Self>, Box<dyn Error>> {
        let keys = engine.config();
        let has_admin = keys.keys.iter().any(|key| key.role == Role::Admin.into());
        if !is_wanted(config, has_admin) {
            return Ok(None);
        }
        let registry = &config.registry;
        let (file, records) = open(&config.data_dir, &registry.secret)?;
        let budget = Some(engine.budget().clone());
        let commands = HostCommands::new(&registry.commands, budget.clone())?;
        let files = HostFiles::new(&registry.files, &config.data_dir, budget);
        engine.open_registry(RegistrySetup {
            built_in: RegistryBuiltIn,
            limits: limits(config),
            hosts: registry.permits(),
            records,
            store: file.clone(),
            commands: commands.clone(),
            files: files.clone(),
        });
        Ok(Some(Self {
            engine: engine.clone(),
            file,
            commands,
            files,
        }))
    }

    /// Takes another configuration over.
    pub(crate) fn take_over(&self, config: &Config) {
        let registry = &config.registry;
        self.commands.take_over(&registry.commands);
        self.files.take_over(&registry.files);
        self.engine
            .reload_registry(&limits(config), registry.permits());
    }

    /// Writes what waits, and closes the file.
    pub(crate) fn close(&self) {
        self.file.close();
    }
}
