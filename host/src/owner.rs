//! The owner of a running provider: reloads it on SIGHUP and on an operator's order, and stops it.

use crate::config::{Config, Environment, Listen, Loaded, load};
use crate::keys::{KeyFile, Stamp};
use crate::mode::Mode;
use crate::program::Prepared;
use crate::registry::Serving;
use crate::servers::Servers;
use mcp_local_provider_core::api::status::DiskFigures;
use mcp_local_provider_engine::{Handle, Owner};
use signal_hook::consts::SIGTERM;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Owner of the provider of a program.
pub(crate) struct ProgramOwner {
    prepared: Arc<Prepared>,
    handle: Handle,
    servers: Arc<Servers>,
    registry: Option<Arc<Serving>>,
    /// Held while something is taken over, so that two changes do not mix.
    held: Mutex<Held>,
}

/// Values that hold now.
struct Held {
    config: Config,
    /// The key file's state when it was read last.
    keys: Stamp,
}

impl fmt::Debug for ProgramOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProgramOwner({:?})", self.handle)
    }
}

impl ProgramOwner {
    pub(crate) fn new(
        prepared: Arc<Prepared>,
        handle: Handle,
        servers: Arc<Servers>,
        registry: Option<Arc<Serving>>,
    ) -> Self {
        let held = Mutex::new(Held {
            config: prepared.config.clone(),
            keys: prepared.key_stamp,
        });
        Self {
            prepared,
            handle,
            servers,
            registry,
            held,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key_file(&self) -> KeyFile {
        KeyFile::new(&self.prepared.config.data_dir)
    }
}

impl Owner for ProgramOwner {
    fn reload(&self) -> Result<(), String> {
        let mut held = self.held();
        let prepared = &self.prepared;
        let loaded = load(&prepared.overrides, &Environment::of_process());
        let Loaded {
            mut config,
            warnings,
            ..
        } = loaded.map_err(|error| error.to_string())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let restart = needs_restart(&prepared.config, &config, prepared.mode);
        config.data_dir.clone_from(&prepared.config.data_dir);
        let stamp = self.key_file().stamp();
        let keys = prepared.keys.again(&config, prepared.mode);
        let keys = keys.map_err(|error| error.to_string())?;
        let count = keys.len();
        self.handle.reload(config.hub_config(keys));
        self.servers.take_over(&config);
        if let Some(registry) = &self.registry {
            registry.take_over(&config);
        }
        prepared.log.set(config.log.level);
        *held = Held {
            config,
            keys: stamp,
        };
        tracing::info!(
            keys = count,
            "took the configuration over: auth, listen.trusted_proxies, listen.ollama_auth, limits, timeouts, sessions, models, fallbacks, mcpServers, gateway, registry and the log's level"
        );
        if !restart.is_empty() {
            tracing::warn!(
                "what has changed of {} holds from the next start on",
                restart.join(", ")
            );
        }
        Ok(())
    }

    /// Reads the key file when it has changed since it was read last: to ask for that costs less than to refuse a key.
    fn reload_keys(&self) -> Result<bool, String> {
        if !self.prepared.mode.keeps_files() {
            return Ok(false);
        }
        let mut held = self.held();
        let stamp = self.key_file().stamp();
        if stamp == held.keys {
            return Ok(false);
        }
        // A damaged file is read again when it changes, and not for each request.
        held.keys = stamp;
        let keys = self.prepared.keys.again(&held.config, self.prepared.mode);
        let keys = keys.map_err(|error| error.to_string())?;
        tracing::info!(keys = keys.len(), "took the keys over");
        self.handle.reload(held.config.hub_config(keys));
        Ok(true)
    }

    fn stop(&self) -> Result<(), String> {
        signal_hook::low_level::raise(SIGTERM).map_err(|error| error.to_string())
    }

    fn disk(&self) -> Option<DiskFigures> {
        let disk = rustix::fs::statvfs(&self.prepared.config.data_dir).ok()?;
        Some(DiskFigures {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

fn needs_restart(now: &Config, new: &Config, mode: Mode) -> Vec<&'static str> {
    // The Hub's configuration has these, and holds at once.
    let listen = Listen {
        ollama_auth: now.listen.ollama_auth,
        trusted_proxies: now.listen.trusted_proxies.clone(),
        ..new.listen.clone()
    };
    let mut new = new.clone();
    for (new, now) in new.agents.iter_mut().zip(&now.agents) {
        new.fallback.clone_from(&now.fallback);
    }
    for (new, now) in new.bridges.iter_mut().zip(&now.bridges) {
        new.fallback.clone_from(&now.fallback);
    }
    for (new, now) in new.upstreams.iter_mut().zip(&now.upstreams) {
        new.fallback.clone_from(&now.fallback);
    }
    [
        ("listen", now.listen != listen),
        ("bridges", now.bridges != new.bridges),
        ("tls", now.tls != new.tls),
        ("agents", now.agents != new.agents),
        ("upstreams", now.upstreams != new.upstreams),
        ("audit", mode.keeps_files() && now.audit != new.audit),
        ("log.format", now.log.format != new.log.format),
        ("log.file", now.log.file != new.log.file),
        ("data_dir", now.data_dir != new.data_dir),
        ("runtime", now.runtime != new.runtime),
    ]
    .into_iter()
    .filter_map(|(section, changed)| changed.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::load_text;

    #[test]
    fn an_upstream_is_changed_by_a_start_and_fallbacks_at_once() {
        let read = |text: &str| {
            let text = format!("data_dir: /d\n{text}");
            load_text("c.yaml", &text, &Environment::new([]))
                .unwrap()
                .config
        };
        let now =
            read("agents: [claude]\nbridges: [{ name: b, url: 'ws://b' }]\nupstreams: [ollama]\n");
        let fallbacks = read(
            "agents: [{ preset: claude, fallback: [b] }]\nbridges: [{ name: b, url: 'ws://b', fallback: [claude] }]\n\
             upstreams: [{ kind: ollama, fallback: [claude] }]\n",
        );
        let none: [&str; 0] = [];
        assert_eq!(needs_restart(&now, &fallbacks, Mode::Configured), none);
        let url = read(
            "agents: [claude]\nbridges: [{ name: b, url: 'ws://b' }]\nupstreams: ['ollama=http://h:1']\n",
        );
        assert_eq!(needs_restart(&now, &url, Mode::Configured), ["upstreams"]);
        let fewer = read("agents: [claude]\nbridges: [{ name: b, url: 'ws://b' }]\n");
        assert_eq!(needs_restart(&now, &fewer, Mode::Configured), ["upstreams"]);
    }
}
