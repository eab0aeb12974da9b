//! Seals secrets: XChaCha20-Poly1305, with the entry and the field as associated data and a fresh random nonce for each.

use super::RegistryError;
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use mcp_local_provider_registry as registry;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// Memory and passes of Argon2id.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// Most that a file may ask for, so that a damaged one does not use up the machine.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 100;
/// Sealed under each key, by which a wrong one is known.
const CHECK: &str = "mcp-local-provider registry";

/// A key that seals. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct SealingKey([u8; KEY_BYTES]);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

/// What is stored about a key: by what it is made again, and how it is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) source: Source,
    /// [`CHECK`], sealed.
    check: String,
}

/// Source of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The file of the key.
    File,
    /// A passphrase.
    Passphrase {
        /// Name of the variable that had it.
        variable: String,
        salt: String,
        memory_kib: u32,
        passes: u32,
    },
}

impl fmt::Display for Source {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Passphrase { variable, .. } => write!(f, "env:{variable}"),
        }
    }
}

impl Source {
    /// A passphrase in a variable, with a fresh salt.
    pub(super) fn of_variable(variable: &str) -> Result<Self, RegistryError> {
        Ok(Self::Passphrase {
            variable: variable.to_owned(),
            salt: hex(&random::<SALT_BYTES>()?),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
        })
    }
}

impl SealingKey {
    /// Makes a random key.
    pub(super) fn random() -> Result<Self, RegistryError> {
        Ok(Self(random()?))
    }

    /// Reads the text of a key's file.
    pub(super) fn read(text: &str) -> Option<Self> {
        unhex(text.trim())?.try_into().ok().map(Self)
    }

    /// Writes the text of a key's file.
    pub(super) fn text(&self) -> String {
        format!("{}\n", hex(&self.0))
    }

    /// Makes the key of a passphrase (Argon2id, RFC 9106). `None` where the parameters are none.
    pub(super) fn of_passphrase(
        passphrase: &str,
        salt: &str,
        memory_kib: u32,
        passes: u32,
    ) -> Option<Result<Self, RegistryError>> {
        let salt = unhex(salt)?;
        if memory_kib > MOST_MEMORY_KIB || passes > MOST_PASSES {
            return None;
        }
        let params = Params::new(memory_kib, passes, 1, Some(KEY_BYTES)).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = [0; KEY_BYTES];
        let made = argon2.hash_password_into(passphrase.as_bytes(), &salt, &mut key);
        Some(
            made.map(|()| Self(key))
                .map_err(|error| RegistryError::System {
                    what: "memory for the key of the passphrase",
                    error: error.to_string(),
                }),
        )
    }

    /// Makes the header of this key.
    pub(super) fn header(&self, source: Source) -> Result<Header, RegistryError> {
        let check = self.seal_bytes(CHECK.as_bytes(), CHECK.as_bytes())?;
        Ok(Header {
            source,
            check: hex(&check),
        })
    }

    /// True when this is the key of a header.
    pub(super) fn fits(&self, header: &Header) -> bool {
        let check =
            unhex(&header.check).and_then(|check| self.open_bytes(CHECK.as_bytes(), &check));
        check.is_some_and(|check| check == CHECK.as_bytes())
    }

    /// Seals the secret of a field.
    pub(super) fn seal(
        &self,
        (kind, name, field): (u8, &str, &str),
        secret: &registry::Secret,
    ) -> Result<Vec<u8>, RegistryError> {
        self.seal_bytes(&place(kind, name, field), secret.reveal().as_bytes())
    }

    /// Opens the secret of a field; `None` when it is another's, damaged, or sealed with another key.
    pub(super) fn open(
        &self,
        (kind, name, field): (u8, &str, &str),
        sealed: &[u8],
    ) -> Option<registry::Secret> {
        let secret = self.open_bytes(&place(kind, name, field), sealed)?;
        String::from_utf8(secret).ok().map(registry::Secret::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(self.0))
    }

    fn seal_bytes(&self, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: bytes,
            aad: place,
        };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| RegistryError::System {
            what: "room for a secret of this length",
            error: format!("{} bytes", bytes.len()),
        })?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open_bytes(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: place,
        };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

/// Associated data of a secret, of which no other place has the same.
fn place(kind: u8, name: &str, field: &str) -> Vec<u8> {
    let mut place = vec![kind];
    place.extend((name.len() as u64).to_be_bytes());
    place.extend(name.as_bytes());
    place.extend(field.as_bytes());
    place
}

fn random<const N: usize>() -> Result<[u8; N], RegistryError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| RegistryError::System {
        what: "randomness",
        error: error.to_string(),
    })?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_opens_in_its_place_alone_and_twice_sealed_it_differs() {
        let key = SealingKey::random().unwrap();
        let secret = registry::Secret::new("sk-1");
        let at = (4, "i", "/model/api_key");
        let sealed = key.seal(at, &secret).unwrap();
        assert_ne!(sealed, key.seal(at, &secret).unwrap());
        assert!(!String::from_utf8_lossy(&sealed).contains("sk-1"));
        assert_eq!(key.open(at, &sealed), Some(secret));
        for other in [
            (3, "i", "/model/api_key"),
            (4, "j", "/model/api_key"),
            (4, "i", "/model/api_kez"),
            (4, "i/", "model/api_key"),
        ] {
            assert_eq!(key.open(other, &sealed), None);
        }
        assert_eq!(SealingKey::random().unwrap().open(at, &sealed), None);
        for at_byte in 0..sealed.len() {
            let mut damaged = sealed.clone();
            *damaged.get_mut(at_byte).unwrap() ^= 1;
            assert_eq!(key.open(at, &damaged), None);
        }
        assert_eq!(key.open(at, &[]), None);
        assert_eq!(format!("{key:?}"), "SealingKey");
    }

    #[test]
    fn a_key_is_read_from_its_file_and_made_of_its_passphrase() {
        let key = SealingKey::random().unwrap();
        let read = SealingKey::read(&key.text()).unwrap();
        assert!(read.fits(&key.header(Source::File).unwrap()));
        assert!(SealingKey::read("").is_none() && SealingKey::read(&"é".repeat(32)).is_none());
        let Source::Passphrase { salt, .. } = Source::of_variable("A").unwrap() else {
            return;
        };
        let made = |passphrase: &str| {
            SealingKey::of_passphrase(passphrase, &salt, 64, 1)
                .unwrap()
                .unwrap()
        };
        let header = made("one").header(Source::File).unwrap();
        assert!(made("one").fits(&header) && !made("two").fits(&header));
        assert!(SealingKey::of_passphrase("one", &salt, u32::MAX, 3).is_none());
        assert!(SealingKey::of_passphrase("one", "xy", 64, 1).is_none());
    }
}
