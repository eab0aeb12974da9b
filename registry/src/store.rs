//! Records of the registry, and the trait of the place where they are kept.

use std::fmt;

/// Kinds of entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A tool, by its name.
    Tool,
    /// A resource, by its URI.
    Resource,
    /// A template of resources, by its URI template (RFC 6570).
    ResourceTemplate,
    /// A prompt, by its name.
    Prompt,
    /// An integration, by its id.
    Integration,
}

/// The name of an entry, unique in its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Kind of the entry.
    pub kind: Kind,
    /// Name, URI or id.
    pub name: Box<str>,
}

/// A text that is shown to nobody, such as an API key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps a text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends or seals it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// An entry as it is stored: its definition, and its secrets apart from it, which a store seals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// The definition, a JSON object without secrets.
    pub json: Box<str>,
    /// Secrets by the JSON pointers of their fields (RFC 6901), such as `/model/api_key`.
    pub secrets: Vec<(Box<str>, Secret)>,
}

/// One change: an entry as it is from now on, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The entry.
    pub key: Key,
    /// Its value; `None` when it is deleted.
    pub value: Option<Value>,
}

/// Told once when changes are durable, or are not. It may be called on any thread, and does not wait.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Told once how many secrets are sealed with another key, or why not.
pub type Rekeyed = Box<dyn FnOnce(Result<usize, StoreError>) + Send>;

/// Failure of a store. Its text is a sentence for people, without secrets.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// Reason, and what to do.
    pub message: String,
}

/// The place where a registry is kept.
pub trait Store: Send + Sync + fmt::Debug {
    /// Makes changes durable, all of them or none, in the order of the calls. It returns at once; changes that wait share a commit.
    fn commit(&self, records: Vec<Record>, done: Done);

    /// Seals all secrets with a new key, behind the changes that wait: of the source `to`, `file` or `env:NAME`, or of the present
    /// one. It returns at once.
    fn rekey(&self, to: Option<&str>, done: Rekeyed);

    /// Bytes that it takes on the disk.
    fn bytes(&self) -> u64;
}
