//! Clients of the Model Context Protocol that answer as models: `sampling/createMessage`, which the protocol has deprecated.
//!
//! [`Declared`] is a client's statement about itself, [`params`] writes what it is asked, and [`answer`] and [`failure`] read what
//! it says to that. Nothing here knows how the two are carried.

mod reading;
#[cfg(test)]
mod tests;
mod writing;

pub use reading::{answer, failure};
pub use writing::params;

use crate::invocation::{Kind, ParameterSet};
use crate::link::Registration;
use crate::scope::Scope;
use crate::supports::{Capabilities, KindSet, Supports};
use crate::text::JsonValue;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// The method by which a client is asked.
pub const METHOD: &str = "sampling/createMessage";

/// The model of a client that does not say what it is called.
const UNNAMED: &str = "mcp-client";

/// Longest name of a model that is made here, in bytes.
const NAME_LEN: usize = 128;

/// Abilities of a client that can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// `sampling.tools`: it calls the caller's tools.
    pub tools: bool,
    /// It knows messages with several blocks, which revision 2025-11-25 has brought.
    pub lists: bool,
}

impl Declared {
    /// Reads the capabilities that a client declares; `None` when it cannot be asked. `lists` says that its revision has messages
    /// with several blocks, without which there are no tools either.
    #[must_use]
    pub fn read(capabilities: Option<JsonValue<'_>>, lists: bool) -> Option<Self> {
        let is_object = |value: &JsonValue<'_>| value.get().starts_with('{');
        let sampling = capabilities?.member("sampling").filter(is_object)?;
        let tools = sampling.member("tools").filter(is_object);
        Some(Self {
            tools: lists && tools.is_some(),
            lists,
        })
    }

    /// Returns the requests that the client may be given. The protocol has images in every message, so each client reads them.
    #[must_use]
    pub fn supports(self) -> Supports {
        let parameters: &[&str] = match self.tools {
            true => &["max_tokens", "temperature", "tools", "tool_choice"],
            false => &["max_tokens", "temperature"],
        };
        Supports {
            kinds: KindSet::EMPTY.with(Kind::Text),
            scopes: Scope::Inference.into(),
            parameters: ParameterSet::of(parameters),
            capabilities: Capabilities {
                tools: self.tools,
                vision: true,
                ..Capabilities::default()
            },
        }
    }

    /// Returns the request for a session of the client that calls itself by this name (`clientInfo.name`), which is the model.
    /// `most` is how many questions it takes at once.
    #[must_use]
    pub fn registration(self, client: &str, most: Option<u64>) -> Registration {
        let model = model(client);
        Registration {
            agent_id: model.clone(),
            models: Vec::from([model]),
            max_concurrency: most,
            supports: self.supports(),
            ..Registration::default()
        }
    }
}

/// A client's name as that of a model, which has no white space: `Visual Studio Code` is `Visual-Studio-Code`.
fn model(client: &str) -> String {
    let words = client.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut name: Cow<'_, str> = words.join("-").into();
    if name.is_empty() {
        name = UNNAMED.into();
    }
    let mut end = name.len().min(NAME_LEN);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or(UNNAMED).into()
}
