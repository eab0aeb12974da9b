//! Secrets of a configuration: their sources, and forms that never show them.

use super::environment::Environment;
use super::keyring;
use super::paths::Folders;
use super::tree::Origin;
use serde::de::{self, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Size in bytes above which a secret file is refused.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// A secret as a configuration names it. `Debug` shows neither its text nor its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    source: Source,
    value: Option<SecretValue>,
}

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Environment(String),
    File(PathBuf),
    Keyring(keyring::Entry),
    Digest,
    Literal,
}

/// A secret that was looked up.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// The text, which can be sent and compared.
    Text(String),
    /// The SHA-256 digest of the text, which can only be compared.
    Digest([u8; 32]),
}

impl SecretValue {
    /// Returns the SHA-256 digest of the secret's text (FIPS 180-4).
    pub fn digest(&self) -> [u8; 32] {
        match self {
            SecretValue::Text(text) => sha256(text),
            SecretValue::Digest(digest) => *digest,
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(hidden)")
    }
}

impl Secret {
    /// Makes a secret of its text.
    pub fn literal(text: impl Into<String>) -> Secret {
        Secret {
            source: Source::Literal,
            value: Some(SecretValue::Text(text.into())),
        }
    }

    /// Makes a secret of the name of its variable, which is looked up later.
    pub(crate) fn of_variable(name: &str) -> Secret {
        Secret {
            source: Source::Environment(name.to_owned()),
            value: None,
        }
    }

    /// Returns true when the configuration contains the text itself, which draws a warning.
    pub fn is_literal(&self) -> bool {
        matches!(self.source, Source::Literal)
    }

    /// Returns the secret; `None` until [`load`](super::load) has looked it up.
    pub fn value(&self) -> Option<&SecretValue> {
        self.value.as_ref()
    }

    /// Returns the text; `None` for a digest or before the look-up.
    pub fn text(&self) -> Option<&str> {
        match self.value() {
            Some(SecretValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the place of the secret as a configuration names it, and never the secret or its digest.
    pub(crate) fn place(&self) -> String {
        match &self.source {
            Source::Environment(name) => format!("env:{name}"),
            Source::File(path) => format!("file:{}", path.display()),
            Source::Keyring(entry) => entry.to_string(),
            Source::Digest => format!("sha256:{HIDDEN}"),
            Source::Literal => HIDDEN.to_owned(),
        }
    }

    /// Looks up the secret, which was written at `origin`. The error is a sentence that never contains the secret.
    pub(crate) fn resolve(
        &mut self,
        environment: &Environment,
        folders: &Folders,
        origin: Option<&Origin>,
    ) -> Result<(), String> {
        let text = match &self.source {
            Source::Literal | Source::Digest => match self.value() {
                Some(SecretValue::Text(text)) if text.is_empty() => {
                    return Err("the secret is empty".to_owned());
                }
                _ => return Ok(()),
            },
            Source::Environment(name) => match environment.get(name) {
                Some(text) => text.to_owned(),
                None => return Err(format!("the environment variable `{name}` is not set")),
            },
            Source::File(path) => read(&folders.absolute(path, origin)?)?,
            Source::Keyring(entry) => entry.read()?,
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(match &self.source {
                Source::Environment(name) => format!("the environment variable `{name}` is empty"),
                Source::File(path) => format!("the file `{}` is empty", path.display()),
                Source::Literal | Source::Digest | Source::Keyring(_) => {
                    "the secret is empty".to_owned()
                }
            });
        }
        self.value = Some(SecretValue::Text(text.to_owned()));
        Ok(())
    }

    fn parse(text: &str) -> Result<Secret, String> {
        if let Some(name) = text.strip_prefix("env:") {
            return match name.trim() {
                "" => Err(
                    "`env:` needs the name of an environment variable, as in `env:EDITOR_KEY`"
                        .to_owned(),
                ),
                name => Ok(Secret {
                    source: Source::Environment(name.to_owned()),
                    value: None,
                }),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path.trim() {
                "" => Err("`file:` needs a path, as in `file:./bridge.token`".to_owned()),
                path => Ok(Secret {
                    source: Source::File(PathBuf::from(path)),
                    value: None,
                }),
            };
        }
        if let Some(hex) = text.strip_prefix("sha256:") {
            return match parse_hex(hex.trim()) {
                Some(digest) => Ok(Secret {
                    source: Source::Digest,
                    value: Some(SecretValue::Digest(digest)),
                }),
                None => Err(
                    "`sha256:` needs 64 hexadecimal digits (printf %s KEY | sha256sum)".to_owned(),
                ),
            };
        }
        if let Some(entry) = text.strip_prefix("keyring:") {
            return Ok(Secret {
                source: Source::Keyring(keyring::Entry::parse(entry)?),
                value: None,
            });
        }
        Ok(Secret::literal(text))
    }
}

/// Returns the SHA-256 digest of a text.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Decodes 64 hexadecimal digits.
pub(crate) fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let mut value = 0;
        for digit in pair {
            value = value * 16 + char::from(*digit).to_digit(16)?;
        }
        *byte = u8::try_from(value).ok()?;
    }
    Some(bytes)
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let refuse = |why: String| format!("the file `{}` cannot be read: {why}", path.display());
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(MAX_FILE_BYTES as u64 + 1)
                .read_to_string(&mut text)
        })
        .map_err(|error| refuse(error.to_string()))?;
    if text.len() > MAX_FILE_BYTES {
        return Err(refuse(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Environment(name) => write!(f, "Secret(env:{name})"),
            Source::File(path) => write!(f, "Secret(file:{})", path.display()),
            Source::Keyring(entry) => write!(f, "Secret({entry})"),
            Source::Digest => f.write_str("Secret(sha256)"),
            Source::Literal => f.write_str("Secret(literal)"),
        }
    }
}

impl Serialize for Secret {
    /// Writes where the secret is found, and never the secret or its digest.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.place())
    }
}

/// Text in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// Serializes the names of variables alone: their values may be secrets.
pub(crate) fn hide_values<S: Serializer>(
    variables: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(variables.keys().map(|name| (name, HIDDEN)))
}

/// Serializes an address without its query, which may hold a token.
pub(crate) fn hide_query<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match url.split_once(['?', '#']) {
        Some((address, _)) => serializer.collect_str(&format_args!("{address}?{HIDDEN}")),
        None => serializer.serialize_str(url),
    }
}

impl<'de> de::Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        impl Visitor<'_> for SecretVisitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret: `env:NAME`, `file:PATH`, `keyring:SERVICE/USER`, `sha256:DIGEST` or the text itself")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Secret::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(SecretVisitor)
    }
}
