//! The keys that a program starts with, and goes on with after a change of them.

use super::{FreshKey, KeyError, KeyFile, digest_of, first_keys, record_of};
use crate::config::{Area, Config, Role};
use crate::mode::Mode;
use crate::private_file;
use mcp_local_provider_core::config as core;
use std::path::PathBuf;

/// The keys that a program starts with.
#[derive(Debug, Clone, Default)]
pub struct StartKeys {
    /// All keys there are: those of the configuration and those of the key file.
    pub keys: Vec<core::Key>,
    /// Keys that were made just now, whose texts must be shown because they are not stored.
    pub fresh: Vec<FreshKey>,
    /// The file that keeps a client key which is among `keys`.
    pub client_key_file: Option<PathBuf>,
}

impl StartKeys {
    /// Returns the text of a key that was made just now, by its role.
    pub fn fresh_text(&self, role: Role) -> Option<&str> {
        self.fresh
            .iter()
            .find(|key| key.role == role)
            .map(|key| key.text.as_str())
    }

    /// Returns the keys that hold now, for a running program that takes over `config`. No key is made: after the last
    /// one was removed, nobody may call. Where no file keeps keys, those of the start stay.
    ///
    /// # Errors
    /// Returns the errors of the key file, and [`KeyError::Exists`] when a key of the configuration has the same name.
    pub fn again(&self, config: &Config, mode: Mode) -> Result<Vec<core::Key>, KeyError> {
        match mode {
            Mode::Configured => gather(config),
            Mode::Demo | Mode::OneServer => Ok(with_fresh(config, &self.fresh, mode)),
        }
    }
}

/// Joins the keys of the configuration and of the key file.
fn gather(config: &Config) -> Result<Vec<core::Key>, KeyError> {
    let mut keys = config.configured_keys();
    for record in &KeyFile::new(&config.data_dir).read()? {
        if keys.iter().any(|key| key.name == record.name) {
            return Err(KeyError::Exists(record.name.clone()));
        }
        keys.push(record.into());
    }
    Ok(keys)
}

/// Joins the keys of the configuration and those that were made for this run. One whose name a key of the configuration has
/// gets a number behind it.
fn with_fresh(config: &Config, fresh: &[FreshKey], mode: Mode) -> Vec<core::Key> {
    let mut keys = config.configured_keys();
    for fresh in fresh {
        let mut record = record_of(fresh);
        if mode == Mode::OneServer {
            record.allow = Some(vec![Area::Mcp]);
        }
        let is_free = |name: &String| keys.iter().all(|key| key.name != *name);
        let numbered = (2u32..).map(|number| format!("{}-{number}", fresh.name));
        let free = std::iter::once(fresh.name.clone())
            .chain(numbered)
            .find(is_free);
        record.name = free.unwrap_or_default();
        keys.push((&record).into());
    }
    keys
}

/// Gathers the keys that a program starts with. When keys are required and there is none, a client's, a bridge's and an
/// operator's key are made and stored in the key file.
///
/// In a [`Mode`] without files, keys are made for each run and kept in memory only; the key file is neither read nor written.
///
/// # Errors
/// Returns the errors of the key file, and [`KeyError::Exists`] when a key of the configuration has the same name.
pub fn start_keys(config: &Config, mode: Mode) -> Result<StartKeys, KeyError> {
    if !mode.keeps_files() {
        let mut fresh = first_keys()?;
        // Who serves one server has nothing else that a key is for.
        fresh.retain(|fresh| {
            let is_wanted = fresh.role == Role::Client && config.auth.required;
            mode == Mode::Demo || is_wanted
        });
        let keys = with_fresh(config, &fresh, mode);
        return Ok(StartKeys {
            keys,
            fresh,
            client_key_file: None,
        });
    }
    let file = KeyFile::new(&config.data_dir);
    for path in file.private_files() {
        if private_file::is_exposed(&path) {
            tracing::warn!(
                "{} can be read by others; chmod 600 makes it private",
                path.display()
            );
        }
    }
    let mut start = StartKeys {
        keys: gather(config)?,
        fresh: Vec::new(),
        client_key_file: None,
    };
    if config.auth.required && start.keys.is_empty() {
        start.fresh = file.make_first(config.auth.keep_client_key)?;
        start.keys = gather(config)?;
    }
    let path = file.client_key_path();
    if path.exists() && !config.auth.keep_client_key {
        tracing::warn!(
            "{} is there from an earlier start, and `auth.keep_client_key` is false; remove it if it is not wanted",
            path.display()
        );
    }
    start.client_key_file = file
        .client_key()?
        .filter(|text| is_among(&start.keys, text, core::Role::Client))
        .map(|_| path);
    Ok(start)
}

fn is_among(keys: &[core::Key], text: &str, role: core::Role) -> bool {
    let kept = digest_of(text);
    keys.iter()
        .any(|key| key.role == role && key.sha256 == kept)
}

/// Returns the files of the owner's own keys that hold none of the keys that there are.
///
/// # Errors
/// Returns the errors of [`start_keys`].
pub fn strange_files(config: &Config) -> Result<Vec<PathBuf>, KeyError> {
    let file = KeyFile::new(&config.data_dir);
    let keys = gather(config)?;
    let kept = [
        (
            file.operator_token()?,
            core::Role::Operator,
            file.operator_token_path(),
        ),
        (
            file.client_key()?,
            core::Role::Client,
            file.client_key_path(),
        ),
    ];
    let strange = kept.into_iter().filter_map(|(text, role, path)| {
        let text = text?;
        (!is_among(&keys, &text, role)).then_some(path)
    });
    Ok(strange.collect())
}
