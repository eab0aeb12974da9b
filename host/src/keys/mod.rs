//! The key file: API keys that the program made, of which only digests are kept.
//!
//! `data_dir/keys.json` (mode 0600) is a list of `{name, role, sha256, created_at, requests_per_minute?,
//! tokens_per_minute?}`. A key's text is shown once, when it is made, and is nowhere afterwards, with one exception:
//! `data_dir/operator.token` (mode 0600) keeps the text of the operator key that is made on first start, because the
//! command line of the same person (`sessions`, `approve`, `revoke`) has to present it to the running program. Whoever
//! can read that file could also replace `keys.json`, so that it gives nothing away.

use crate::config::{Config, Role};
use crate::private_file;
use mcp_local_provider_core::config as core;
use mcp_local_provider_core::time::{Instant, WallClock};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The key file's name in the data directory.
pub const KEY_FILE: &str = "keys.json";
/// The name of the operator token's file in the data directory.
pub const OPERATOR_TOKEN_FILE: &str = "operator.token";
/// More keys than this are not kept.
const MAX_KEYS: usize = 10_000;
/// A key file larger than this is refused, in bytes.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Characters after `mlp-`; 40 of 62 are 238 bits.
const KEY_CHARACTERS: usize = 40;

/// One key of the key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its name, which no other key has.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its text, in the file as 64 hexadecimal digits.
    #[serde(serialize_with = "write_hex", deserialize_with = "read_hex")]
    pub sha256: [u8; 32],
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// Its own limit of requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Its own limit of tokens a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
}

impl From<&KeyRecord> for core::Key {
    fn from(record: &KeyRecord) -> Self {
        core::Key {
            name: record.name.clone(),
            sha256: record.sha256,
            role: record.role.into(),
            requests_per_minute: record.requests_per_minute,
            tokens_per_minute: record.tokens_per_minute,
        }
    }
}

/// A key that was made just now, with its text. `Debug` does not show the text.
#[derive(Clone, PartialEq, Eq)]
pub struct FreshKey {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its text, for its owner's eyes.
    pub text: String,
}

impl fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreshKey({}, {})", self.name, self.role.name())
    }
}

/// What went wrong with keys, as a sentence that says what to do.
#[derive(Debug)]
pub enum KeyError {
    /// A file or directory cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What was tried: `read` or `written`.
        tried: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The key file is not what it should be.
    Content {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A key of this name is there already.
    Exists(String),
    /// No key of this name is there.
    Unknown(String),
    /// What was given is no name for a key.
    Name(String),
    /// The key file is full.
    Full,
    /// The operating system gives no random bytes.
    Random(getrandom::Error),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::File { path, tried, error } => {
                write!(
                    f,
                    "{} cannot be {tried}: {error}; `data_dir` says where keys are kept",
                    path.display()
                )
            }
            KeyError::Content { path, message } => {
                write!(
                    f,
                    "{} is damaged ({message}); restore it, or remove it to have new keys made",
                    path.display()
                )
            }
            KeyError::Exists(name) => write!(
                f,
                "a key named `{name}` is there already; remove it first or choose another name"
            ),
            KeyError::Unknown(name) => write!(
                f,
                "there is no key named `{name}` in the key file; `keys list` shows those that are"
            ),
            KeyError::Name(name) => {
                write!(
                    f,
                    "`{}` is no name for a key; use 1 to 64 letters, digits, `-`, `_` and `.`",
                    name.escape_debug()
                )
            }
            KeyError::Full => write!(
                f,
                "the key file has {MAX_KEYS} keys, which is the most; remove some"
            ),
            KeyError::Random(error) => write!(f, "the system gives no random bytes: {error}"),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KeyError::File { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The key file of a data directory. Each change is made under a lock on the directory, so that two programs never
/// lose each other's.
#[derive(Debug, Clone)]
pub struct KeyFile {
    directory: PathBuf,
}

impl KeyFile {
    /// The key file in `data_dir`, which need not be there yet.
    pub fn new(data_dir: impl Into<PathBuf>) -> KeyFile {
        KeyFile {
            directory: data_dir.into(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(KEY_FILE)
    }

    /// Where the operator's token is kept in plain text.
    pub fn operator_token_path(&self) -> PathBuf {
        self.directory.join(OPERATOR_TOKEN_FILE)
    }

    /// All keys; none when there is no file.
    ///
    /// # Errors
    /// [`KeyError::File`] and [`KeyError::Content`].
    pub fn read(&self) -> Result<Vec<KeyRecord>, KeyError> {
        let path = self.path();
        let Some(bytes) = read_bounded(&path)? else {
            return Ok(Vec::new());
        };
        let records: Vec<KeyRecord> =
            serde_json::from_slice(&bytes).map_err(|error| KeyError::Content {
                path: path.clone(),
                message: error.to_string(),
            })?;
        let mut names = std::collections::BTreeSet::new();
        if let Some(twice) = records
            .iter()
            .find(|record| !names.insert(record.name.as_str()))
        {
            return Err(KeyError::Content {
                path,
                message: format!("two keys are named `{}`", twice.name),
            });
        }
        Ok(records)
    }

    /// Makes a key and keeps its digest.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when the name is taken, [`KeyError::Name`] when it is none, and those of the file.
    pub fn add(&self, name: &str, role: Role) -> Result<FreshKey, KeyError> {
        let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(proper) {
            return Err(KeyError::Name(name.to_owned()));
        }
        self.change(|records| {
            if records.iter().any(|record| record.name == name) {
                return Err(KeyError::Exists(name.to_owned()));
            }
            if records.len() >= MAX_KEYS {
                return Err(KeyError::Full);
            }
            let fresh = generate(name, role)?;
            records.push(record_of(&fresh));
            Ok(fresh)
        })
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// [`KeyError::Unknown`] when there is none of that name, and those of the file.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        self.change(|records| {
            let before = records.len();
            records.retain(|record| record.name != name);
            if records.len() == before {
                Err(KeyError::Unknown(name.to_owned()))
            } else {
                Ok(())
            }
        })
    }

    /// The token that the command line presents to the running program, when there is one.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn operator_token(&self) -> Result<Option<String>, KeyError> {
        let text = read_bounded(&self.operator_token_path())?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// Makes the keys of a first start, unless there are keys: a client's, a bridge's and an operator's.
    fn make_first(&self) -> Result<Vec<FreshKey>, KeyError> {
        self.change(|records| {
            if !records.is_empty() {
                return Ok(Vec::new());
            }
            let fresh = first_keys()?;
            if let Some(operator) = fresh.iter().find(|key| key.role == Role::Operator) {
                // Before the key file: should the program end in between, the next start makes both again.
                let path = self.operator_token_path();
                private_file::replace(&path, format!("{}\n", operator.text).as_bytes())
                    .map_err(written(&path))?;
            }
            records.extend(fresh.iter().map(record_of));
            Ok(fresh)
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        private_file::make_directory(&self.directory).map_err(written(&self.directory))?;
        let _lock =
            private_file::lock_directory(&self.directory).map_err(written(&self.directory))?;
        let mut records = self.read()?;
        let before = records.clone();
        let outcome = change(&mut records)?;
        if records != before {
            let path = self.path();
            let content = |message: String| KeyError::Content {
                path: path.clone(),
                message,
            };
            let mut text =
                serde_json::to_vec_pretty(&records).map_err(|error| content(error.to_string()))?;
            text.push(b'\n');
            private_file::replace(&path, &text).map_err(written(&path))?;
        }
        Ok(outcome)
    }
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    move |error| KeyError::File {
        path: path.to_owned(),
        tried: "written",
        error,
    }
}

fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    use std::io::Read;
    let refuse = |error: io::Error| KeyError::File {
        path: path.to_owned(),
        tried: "read",
        error,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(refuse)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("it is larger than {MAX_FILE_BYTES} bytes");
        return Err(KeyError::Content {
            path: path.to_owned(),
            message,
        });
    }
    Ok(Some(bytes))
}

/// The keys that a program starts with.
#[derive(Debug, Clone, Default)]
pub struct StartKeys {
    /// All keys there are: those of the configuration and those of the key file.
    pub keys: Vec<core::Key>,
    /// Those that were made just now, whose text must be shown because it is kept nowhere.
    pub fresh: Vec<FreshKey>,
}

impl StartKeys {
    /// The text of a key that was made just now, by its role.
    pub fn fresh_text(&self, role: Role) -> Option<&str> {
        self.fresh
            .iter()
            .find(|key| key.role == role)
            .map(|key| key.text.as_str())
    }

    /// The keys there are now, for a program that serves and takes `config` over. None is made: where the last one was
    /// removed nobody may call any more. In a demo the keys of its start stay.
    ///
    /// # Errors
    /// Those of the key file, and [`KeyError::Exists`] when it and the configuration use one name.
    pub fn again(&self, config: &Config, demo: bool) -> Result<Vec<core::Key>, KeyError> {
        if demo {
            Ok(with_fresh(config, &self.fresh))
        } else {
            gather(config)
        }
    }
}

/// The keys of the configuration and of the key file.
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

/// The keys of the configuration and those that were made for a demo.
fn with_fresh(config: &Config, fresh: &[FreshKey]) -> Vec<core::Key> {
    let mut keys = config.configured_keys();
    let named = |keys: &[core::Key], name: &str| keys.iter().any(|key| key.name == name);
    for fresh in fresh {
        if !named(&keys, &fresh.name) {
            keys.push((&record_of(fresh)).into());
        }
    }
    keys
}

/// Gathers the keys that a program starts with. When keys are required and there is none anywhere, a client's, a
/// bridge's and an operator's are made and kept in the key file.
///
/// With `demo`, keys are made whatever there is, live in memory only, and the key file is neither read nor written.
///
/// # Errors
/// Those of the key file, and [`KeyError::Exists`] when it and the configuration use one name.
pub fn start_keys(config: &Config, demo: bool) -> Result<StartKeys, KeyError> {
    if demo {
        let configured = config.configured_keys();
        let mut fresh = first_keys()?;
        fresh.retain(|fresh| configured.iter().all(|key| key.name != fresh.name));
        let keys = with_fresh(config, &fresh);
        return Ok(StartKeys { keys, fresh });
    }
    let file = KeyFile::new(&config.data_dir);
    for path in [file.path(), file.operator_token_path()] {
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
    };
    if config.auth.required && start.keys.is_empty() {
        start.fresh = file.make_first()?;
        start.keys = gather(config)?;
    }
    Ok(start)
}

fn first_keys() -> Result<Vec<FreshKey>, KeyError> {
    [Role::Client, Role::Bridge, Role::Operator]
        .into_iter()
        .map(|role| generate(role.name(), role))
        .collect()
}

fn record_of(fresh: &FreshKey) -> KeyRecord {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    KeyRecord {
        name: fresh.name.clone(),
        role: fresh.role,
        sha256: Sha256::digest(fresh.text.as_bytes()).into(),
        created_at: WallClock::new(Instant::ZERO, unix).rfc3339(Instant::ZERO),
        requests_per_minute: None,
        tokens_per_minute: None,
    }
}

/// A key of 40 random letters and digits after `mlp-`.
fn generate(name: &str, role: Role) -> Result<FreshKey, KeyError> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::from("mlp-");
    let mut random = [0_u8; 64];
    while text.len() < 4 + KEY_CHARACTERS {
        getrandom::fill(&mut random).map_err(KeyError::Random)?;
        // 248 is four times 62: what is above would make the first letters likelier.
        let letters = random
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        let missing = (4 + KEY_CHARACTERS).saturating_sub(text.len());
        text.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    Ok(FreshKey {
        name: name.to_owned(),
        role,
        text,
    })
}

fn write_hex<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    use fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    serializer.serialize_str(&hex)
}

fn read_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::config::parse_hex(&text)
        .ok_or_else(|| de::Error::custom("`sha256` is not 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests;
