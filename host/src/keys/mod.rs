//! The key file: API keys that the program made, stored as digests.
//!
//! `data_dir/keys.json` (mode 0600) is a list of `{name, role, sha256, created_at, requests_per_minute?,
//! tokens_per_minute?, allow?, models?, servers?}`. A key's text is shown once, when it is made, and not stored, with two exceptions
//! for the same person's own commands. `data_dir/operator.token` (mode 0600) keeps the key `operator`, with which commands
//! such as `sessions` and `stop` ask the running program; `data_dir/client.key` (mode 0600) keeps the key `client`, for
//! requests (`auth.keep_client_key: false` keeps none). A first start makes both. A process that can read these
//! files can also replace `keys.json`, so they give it no further right.

mod start;

pub use start::{StartKeys, start_keys, strange_files};

use crate::config::{Area, Role, areas};
use crate::private_file;
use mcp_local_provider_core::config as core;
use mcp_local_provider_core::time::{Instant, WallClock};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the key file in the data directory.
pub const KEY_FILE: &str = "keys.json";
/// Name of the operator token's file in the data directory.
pub const OPERATOR_TOKEN_FILE: &str = "operator.token";
/// Name of the client key's file in the data directory.
pub const CLIENT_KEY_FILE: &str = "client.key";
/// Keys that a key file holds, at most.
const MAX_KEYS: usize = 10_000;
/// Size in bytes above which a key file is refused.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Requests a minute of the client key of a first start.
const FIRST_CLIENT_REQUESTS: u32 = 600;
/// Tokens a minute of the client key of a first start.
const FIRST_CLIENT_TOKENS: u32 = 10_000_000;
/// Characters after `mlp-`: 40 of an alphabet of 62 are 238 bits.
const KEY_CHARACTERS: usize = 40;

/// One key of the key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its name, which no other key has.
    pub name: String,
    /// Rights of its holder.
    pub role: Role,
    /// SHA-256 of its text, in the file as 64 hexadecimal digits.
    #[serde(serialize_with = "write_hex", deserialize_with = "read_hex")]
    pub sha256: [u8; 32],
    /// Time of its making, RFC 3339 in UTC.
    pub created_at: String,
    /// Limit of requests a minute for this key; the general one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Limit of tokens a minute for this key; the general one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// Areas that a key of the role `client` may use; models alone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Area>>,
    /// Models that it may ask; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// MCP servers that it may use; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

impl KeyRecord {
    /// Returns the names of the areas that it may use; none for another role than `client`, which areas do not bind.
    pub fn areas(&self) -> impl Iterator<Item = &'static str> {
        let is_client = self.role == Role::Client;
        let areas = areas(self.allow.as_deref()).into_iter();
        areas.filter(move |_| is_client).map(core::Area::as_str)
    }
}

impl From<&KeyRecord> for core::Key {
    fn from(record: &KeyRecord) -> Self {
        core::Key {
            name: record.name.clone(),
            sha256: record.sha256,
            role: record.role.into(),
            requests_per_minute: record.requests_per_minute,
            tokens_per_minute: record.tokens_per_minute,
            allow: areas(record.allow.as_deref()),
            models: record.models.clone(),
            servers: record.servers.clone(),
        }
    }
}

/// Rights and limits of a key that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Rights {
    /// Rights of the key
    #[arg(long, value_enum, default_value_t = Role::Client)]
    pub role: Role,
    /// Requests a minute, instead of limits.requests_per_minute
    #[arg(long, value_name = "N")]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, instead of limits.tokens_per_minute
    #[arg(long, value_name = "N")]
    pub tokens_per_minute: Option<u32>,
    /// Models that the key may ask, separated by commas; all when none is named
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Areas that a key of the role `client` may use, separated by commas; models alone when none is named
    #[arg(long, value_enum, value_name = "AREA", value_delimiter = ',')]
    pub allow: Option<Vec<Area>>,
    /// MCP servers that the key may use, separated by commas; all when none is named. It needs `mcp` in --allow
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// True when the key's text is kept, too, in the file of its role for the owner's commands.
    #[arg(skip)]
    pub kept: bool,
}

impl From<Role> for Rights {
    fn from(role: Role) -> Self {
        Rights {
            role,
            ..Rights::default()
        }
    }
}

/// A state of the key file, which differs after each change of it: inode, size in bytes, seconds and nanoseconds of the
/// last change. `None` without a file.
pub type Stamp = Option<(u64, u64, i64, i64)>;

/// A key that was made just now, with its text, which `Debug` omits.
#[derive(Clone, PartialEq, Eq)]
pub struct FreshKey {
    /// Its name.
    pub name: String,
    /// Rights of its holder.
    pub role: Role,
    /// Its text, to be shown to its owner once.
    pub text: String,
}

impl fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreshKey({}, {})", self.name, self.role.name())
    }
}

/// The reason for which a change of keys failed, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or directory cannot be read or written.
    #[error("{} cannot be {tried}: {error}; `data_dir` says where keys are kept", .path.display())]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// The operation that failed: `read` or `written`.
        tried: &'static str,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The content of the key file is wrong.
    #[error("{} is damaged ({message}); restore it, or remove it to have new keys made", .path.display())]
    Content {
        /// The key file.
        path: PathBuf,
        /// Description of the fault.
        message: String,
    },
    /// A key with this name exists already.
    #[error("a key named `{0}` is there already; remove it first or choose another name")]
    Exists(String),
    /// No key has this name.
    #[error("there is no key named `{0}` in the key file; `keys list` shows those that are")]
    Unknown(String),
    /// The text cannot be a key's name.
    #[error("`{}` is no name for a key; use 1 to 64 letters, digits, `-`, `_` and `.`", .0.escape_debug())]
    Name(String),
    /// Servers are named for a key that may use none.
    #[error(
        "`--servers` needs `mcp` among the areas of the key: add `--allow mcp`, or `--allow models,mcp`"
    )]
    ServersWithoutMcp,
    /// The key file is full.
    #[error("the key file has {MAX_KEYS} keys, which is the most; remove some")]
    Full,
    /// The operating system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// The key file of a data directory. Each change holds a lock on the directory, so that two programs never lose each
/// other's changes.
#[derive(Debug, Clone)]
pub struct KeyFile {
    directory: PathBuf,
}

impl KeyFile {
    /// Names the key file in `data_dir`, which need not exist yet.
    pub fn new(data_dir: impl Into<PathBuf>) -> KeyFile {
        KeyFile {
            directory: data_dir.into(),
        }
    }

    /// Returns the path of the key file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(KEY_FILE)
    }

    /// Returns the path of the operator token, kept in plain text.
    pub fn operator_token_path(&self) -> PathBuf {
        self.directory.join(OPERATOR_TOKEN_FILE)
    }

    /// Returns the path of the client key of a first start, kept in plain text.
    pub fn client_key_path(&self) -> PathBuf {
        self.directory.join(CLIENT_KEY_FILE)
    }

    /// Returns the paths of all files that nobody else may read.
    pub fn private_files(&self) -> [PathBuf; 3] {
        [
            self.path(),
            self.operator_token_path(),
            self.client_key_path(),
        ]
    }

    /// Reads all keys; none when there is no file.
    ///
    /// # Errors
    /// Returns [`KeyError::File`] or [`KeyError::Content`].
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

    /// Returns the state of the key file, for which its content need not be read.
    pub fn stamp(&self) -> Stamp {
        let file = std::fs::metadata(self.path()).ok()?;
        Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
    }

    /// Returns the file that keeps the text of a key of that role, for the owner's commands.
    fn kept_in(&self, role: Role) -> Option<PathBuf> {
        match role {
            Role::Operator => Some(self.operator_token_path()),
            Role::Client => Some(self.client_key_path()),
            Role::Bridge | Role::Admin => None,
        }
    }

    fn keep(&self, key: &FreshKey) -> Result<(), KeyError> {
        self.kept_in(key.role).map_or(Ok(()), |path| {
            private_file::replace(&path, format!("{}\n", key.text).as_bytes())
                .map_err(written(&path))
        })
    }

    /// Makes a key and stores its digest. `name` is 1 to 64 letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// Returns [`KeyError::Exists`] when the name is taken, [`KeyError::Name`] when it is malformed,
    /// [`KeyError::ServersWithoutMcp`], [`KeyError::Full`], or an error of the file.
    pub fn add(&self, name: &str, rights: impl Into<Rights>) -> Result<FreshKey, KeyError> {
        let rights = rights.into();
        let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(proper) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let may_use_mcp = areas(rights.allow.as_deref()).contains(&core::Area::Mcp);
        if rights.role == Role::Client && !rights.servers.is_empty() && !may_use_mcp {
            return Err(KeyError::ServersWithoutMcp);
        }
        self.change(|records| {
            if records.iter().any(|record| record.name == name) {
                return Err(KeyError::Exists(name.to_owned()));
            }
            if records.len() >= MAX_KEYS {
                return Err(KeyError::Full);
            }
            let fresh = generate(name, rights.role)?;
            if rights.kept {
                self.keep(&fresh)?;
            }
            records.push(KeyRecord {
                requests_per_minute: rights.requests_per_minute,
                tokens_per_minute: rights.tokens_per_minute,
                allow: rights.allow,
                models: rights.models,
                servers: rights.servers,
                ..record_of(&fresh)
            });
            Ok(fresh)
        })
    }

    /// Removes a key, and the file that keeps it.
    ///
    /// # Errors
    /// Returns [`KeyError::Unknown`] when no key has that name, or an error of the file.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        let removed = self.change(|records| {
            let place = records.iter().position(|record| record.name == name);
            let place = place.ok_or_else(|| KeyError::Unknown(name.to_owned()))?;
            Ok(records.remove(place))
        })?;
        for path in [self.operator_token_path(), self.client_key_path()] {
            let kept = read_text(&path)?;
            if kept.is_some_and(|kept| digest_of(&kept) == removed.sha256) {
                std::fs::remove_file(&path).map_err(written(&path))?;
            }
        }
        Ok(())
    }

    /// Reads the token that the command line presents to the running program; `None` when there is none.
    ///
    /// # Errors
    /// Returns [`KeyError::File`].
    pub fn operator_token(&self) -> Result<Option<String>, KeyError> {
        read_text(&self.operator_token_path())
    }

    /// Reads the client key that a first start has kept; `None` when there is none.
    ///
    /// # Errors
    /// Returns [`KeyError::File`].
    pub fn client_key(&self) -> Result<Option<String>, KeyError> {
        read_text(&self.client_key_path())
    }

    /// Makes a client's, a bridge's and an operator's key for a first start, unless there are keys.
    fn make_first(&self, keep_client_key: bool) -> Result<Vec<FreshKey>, KeyError> {
        self.change(|records| {
            if !records.is_empty() {
                return Ok(Vec::new());
            }
            let fresh = first_keys()?;
            for key in &fresh {
                if key.role != Role::Client || keep_client_key {
                    // Before the key file: if the program ends in between, the next start makes all again.
                    self.keep(key)?;
                }
            }
            records.extend(fresh.iter().map(first_record));
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

/// Reads a file that holds one key; `None` when it is empty or there is none.
fn read_text(path: &Path) -> Result<Option<String>, KeyError> {
    let text = read_bounded(path)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(text.filter(|text| !text.is_empty()))
}

fn digest_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
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
        sha256: digest_of(&fresh.text),
        created_at: WallClock::new(Instant::ZERO, unix).rfc3339(Instant::ZERO),
        requests_per_minute: None,
        tokens_per_minute: None,
        allow: None,
        models: Vec::new(),
        servers: Vec::new(),
    }
}

/// Returns the record of a key of a first start. The client's is the person's own: coding agents need more than what is
/// right for a key that is given away.
fn first_record(fresh: &FreshKey) -> KeyRecord {
    let record = record_of(fresh);
    if fresh.role != Role::Client {
        return record;
    }
    KeyRecord {
        requests_per_minute: Some(FIRST_CLIENT_REQUESTS),
        tokens_per_minute: Some(FIRST_CLIENT_TOKENS),
        allow: Some(vec![Area::Models, Area::Mcp, Area::Registry]),
        ..record
    }
}

/// Makes a key of 40 random letters and digits after `mlp-`.
fn generate(name: &str, role: Role) -> Result<FreshKey, KeyError> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::from("mlp-");
    let mut random = [0_u8; 64];
    while text.len() < 4 + KEY_CHARACTERS {
        getrandom::fill(&mut random).map_err(KeyError::Random)?;
        // 248 is four times 62; larger bytes are skipped, because they would make the first letters likelier.
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
