//! The section `registry`: tools, resources, prompts and integrations of one's own, and what they may reach.

use super::check::{Report, at_most_a_week, duration};
use super::gateway::GatewaySwitch;
use super::secret::Secret;
use super::sections::Config;
use super::units;
use mcp_local_provider_engine::registry_permits::{HostEntry, Permits};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// True where the registry is built in: the cargo feature `registry`.
pub const IS_BUILT_IN: bool = cfg!(feature = "registry");

/// The registry.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Default auto: it is there when a key of the role `admin` is, or something is stored or listed.
    pub enabled: GatewaySwitch,
    /// Source of the key that seals its secrets. Default `file`.
    pub secret: RegistrySecret,
    /// Hosts that its tools and resources may ask: names or addresses, each with a port or for any. Default none.
    pub http: Vec<String>,
    /// Programs that its tools may run, as absolute paths. Default none.
    pub commands: Vec<PathBuf>,
    /// Folders whose files its resources may read. Default none.
    pub files: Vec<PathBuf>,
    /// Tools, at most. Default 1000.
    pub tools: usize,
    /// Resources and templates of resources, at most. Default 10 000.
    pub resources: usize,
    /// Prompts, at most. Default 1000.
    pub prompts: usize,
    /// Integrations, at most. Default 100.
    pub integrations: usize,
    /// Tools that run at once. Default 100.
    pub executions: usize,
    /// Largest content of a resource. Default 4 MiB.
    #[serde(with = "units::size")]
    pub resource_bytes: usize,
    /// Copies of what resources hold elsewhere.
    pub cache: RegistryCache,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            enabled: GatewaySwitch::Auto,
            secret: RegistrySecret::File,
            http: Vec::new(),
            commands: Vec::new(),
            files: Vec::new(),
            tools: 1000,
            resources: 10_000,
            prompts: 1000,
            integrations: 100,
            executions: 100,
            resource_bytes: 4 << 20,
            cache: RegistryCache::default(),
        }
    }
}

/// Copies of what resources hold elsewhere.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryCache {
    /// Their bytes, at most; the least recently used goes first. 0 keeps none. Default 64 MiB.
    #[serde(with = "units::size")]
    pub bytes: usize,
    /// Time for which one holds whose resource does not say how long. Default 300 s.
    #[serde(with = "units::duration")]
    pub ttl: Duration,
}

impl Default for RegistryCache {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            ttl: Duration::from_secs(300),
        }
    }
}

/// Source of the key that seals the registry's secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistrySecret {
    /// `data_dir/secret.key`, which is made once.
    File,
    /// A passphrase in a variable of the environment.
    Passphrase {
        /// Name of the variable.
        variable: String,
        /// The passphrase.
        passphrase: Secret,
    },
}

impl fmt::Debug for RegistrySecret {
    /// Without the passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistrySecret({self})")
    }
}

impl fmt::Display for RegistrySecret {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Passphrase { variable, .. } => write!(f, "env:{variable}"),
        }
    }
}

impl std::str::FromStr for RegistrySecret {
    type Err = &'static str;

    /// Reads `file` or `env:NAME`. The passphrase is looked up later.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "it must be `file`, or `env:NAME` for a passphrase in a variable";
        if text == "file" {
            return Ok(Self::File);
        }
        let variable = text.strip_prefix("env:").ok_or(FORM)?.trim();
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if variable.is_empty() || !variable.bytes().all(is_name) {
            return Err(FORM);
        }
        Ok(Self::Passphrase {
            variable: variable.to_owned(),
            passphrase: Secret::of_variable(variable),
        })
    }
}

impl Serialize for RegistrySecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RegistrySecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What stands there in its place may be the passphrase itself, so it is not quoted.
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Registry {
    /// Returns the hosts that may be asked. The check has refused what is none.
    #[must_use]
    pub fn permits(&self) -> Permits {
        let entries = self.http.iter();
        entries
            .filter_map(|entry| entry.parse::<HostEntry>().ok())
            .collect()
    }

    /// Returns true when something is listed that it may reach.
    #[must_use]
    pub fn lists_something(&self) -> bool {
        !self.http.is_empty() || !self.commands.is_empty() || !self.files.is_empty()
    }
}

impl Config {
    /// Returns the passphrase of the registry with its path.
    pub(super) fn passphrase_of_the_registry(&mut self) -> Option<(String, &mut Secret)> {
        match &mut self.registry.secret {
            RegistrySecret::File => None,
            RegistrySecret::Passphrase { passphrase, .. } => {
                Some(("registry.secret".to_owned(), passphrase))
            }
        }
    }
}

/// Checks the section. `memory` is `limits.memory`, in bytes.
pub(super) fn check(registry: &Registry, memory: usize, report: &mut Report<'_>) {
    let usual = Registry::default();
    if !IS_BUILT_IN && registry.enabled == GatewaySwitch::Yes {
        report.problem(
            "registry.enabled",
            "this build has no registry (it was built without the cargo feature `registry`); leave it out",
        );
    } else if !IS_BUILT_IN && *registry != usual {
        report.problem(
            "registry",
            "the section does nothing: this build has no registry (it was built without the cargo feature `registry`); leave it out",
        );
    }
    for (index, entry) in registry.http.iter().enumerate() {
        if let Err(why) = entry.parse::<HostEntry>() {
            let message = format!(
                "`{}` is no host; {why}. Write `api.example.com`, `api.example.com:8443` or `10.0.0.5:80`",
                entry.escape_debug()
            );
            report.problem(&format!("registry.http[{index}]"), message);
        }
    }
    for (index, program) in registry.commands.iter().enumerate() {
        let is_path = program.to_str().is_some_and(|it| it.contains('/'));
        if !is_path || program.file_name().is_none() {
            let message = format!(
                "`{}` is no path of a program; write it whole, such as `/usr/bin/date`",
                program.display()
            );
            report.problem(&format!("registry.commands[{index}]"), message);
        }
    }
    for (index, folder) in registry.files.iter().enumerate() {
        if folder.as_os_str().is_empty() {
            report.problem(&format!("registry.files[{index}]"), "the path is empty");
        }
    }
    let why = "everything would be refused; leave it out for the default";
    for (name, value) in [
        ("tools", registry.tools),
        ("resources", registry.resources),
        ("prompts", registry.prompts),
        ("integrations", registry.integrations),
        ("executions", registry.executions),
        ("resource_bytes", registry.resource_bytes),
    ] {
        report.at_least(&format!("registry.{name}"), value, 1, why);
    }
    for (name, value, most) in [
        ("tools", registry.tools, 100_000),
        ("resources", registry.resources, 1_000_000),
        ("prompts", registry.prompts, 100_000),
        ("integrations", registry.integrations, 10_000),
        ("executions", registry.executions, 10_000),
    ] {
        if value > most {
            report.problem(
                &format!("registry.{name}"),
                format!("must be at most {most}, not {value}"),
            );
        }
    }
    for (name, value, usual) in [
        (
            "resource_bytes",
            registry.resource_bytes,
            usual.resource_bytes,
        ),
        ("cache.bytes", registry.cache.bytes, usual.cache.bytes),
    ] {
        if value > memory && value != usual {
            let message = format!(
                "must be at most `limits.memory`, which is {}",
                units::show_size(memory)
            );
            report.problem(&format!("registry.{name}"), message);
        }
    }
    let ttl = registry.cache.ttl;
    if ttl.is_zero() {
        at_most_a_week(report, "registry.cache.ttl", ttl);
    } else {
        duration(report, "registry.cache.ttl", ttl);
    }
}

/// Checks the paths once they are absolute: a folder that holds the program's own keys is named.
pub(super) fn check_paths(registry: &Registry, data_dir: &Path, report: &mut Report<'_>) {
    for (index, folder) in registry.files.iter().enumerate() {
        if folder.starts_with(data_dir) && !data_dir.as_os_str().is_empty() {
            let message = format!(
                "`{}` is in `data_dir`, whose files hold keys and are never read; name another folder",
                folder.display()
            );
            report.problem(&format!("registry.files[{index}]"), message);
        }
    }
}
