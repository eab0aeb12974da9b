//! The caller's tools, served to an agent.

use super::rpc::text;
use super::update::path;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::value::RawValue;

/// A call of one of the caller's tools that waits for its result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// Bytes for an HTTP answer that waits.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolReply {
    /// More of the body: a server-sent event.
    pub body: Vec<u8>,
    /// Nothing follows.
    pub last: bool,
}

impl core::fmt::Debug for ToolReply {
    /// The body is never shown: it holds what a tool gave.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ToolReply({} bytes, {})", self.body.len(), self.last)
    }
}

/// A tool of the caller, in OpenAI's form.
pub(super) struct Tool {
    pub(super) name: String,
    raw: String,
}

impl Tool {
    /// `None` when it has no name.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        Some(Self {
            name: text(path(Some(raw), &["function", "name"]))?.into_owned(),
            raw: raw.get().into(),
        })
    }

    /// As the caller wrote it.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }
}
