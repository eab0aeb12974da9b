//! The list of a server's models.

use super::Api;
use super::trouble::Trouble;
use crate::link::MAX_MODELS;
use crate::text::JsonValue;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest name of a model, in bytes; one that is longer is left out.
const NAME_BYTES: usize = 256;

/// The models of a server, read page by page; at most [`MAX_MODELS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelList {
    api: Api,
    names: Vec<String>,
    /// The last model of the page before, behind which the next one begins.
    after: Option<String>,
}

impl ModelList {
    /// A list of which nothing has been asked.
    #[must_use]
    pub const fn new(api: Api) -> Self {
        Self {
            api,
            names: Vec::new(),
            after: None,
        }
    }

    /// The path of the next page behind the base address, which is asked with `GET`.
    #[must_use]
    pub fn path(&self) -> String {
        let path = self.api.models_path();
        match &self.after {
            Some(after) => format!("{path}&after_id={}", escaped(after)),
            None => String::from(path),
        }
    }

    /// Takes the body of a page that came with status 200; true when there is another page.
    ///
    /// # Errors
    /// It is none.
    pub fn take(&mut self, body: &[u8]) -> Result<bool, Trouble> {
        let text = core::str::from_utf8(body).map_err(|_| Trouble::not_json())?;
        let page = JsonValue::read(text).ok_or_else(Trouble::not_json)?;
        let (list, name) = match self.api {
            Api::OpenAi | Api::Custom | Api::Anthropic => ("data", "id"),
            Api::Ollama => ("models", "name"),
        };
        let list = page.member(list).ok_or_else(Trouble::no_models)?;
        if !list.get().starts_with('[') {
            return Err(Trouble::no_models());
        }
        let before = self.names.len();
        for model in list.elements() {
            let found = model.member(name).or_else(|| model.member("model"));
            let Some(name) = found.and_then(JsonValue::text) else {
                continue;
            };
            // Ollama takes a name without a tag for this one.
            let name = match name.strip_suffix(":latest") {
                Some(short) if self.api == Api::Ollama => short,
                Some(_) | None => &*name,
            };
            let fits = !name.is_empty() && name.len() <= NAME_BYTES;
            let is_word = !name.contains(|c: char| c.is_whitespace() || c.is_control());
            let is_new = !self.names.iter().any(|known| **known == *name);
            if fits && is_word && is_new && self.names.len() < MAX_MODELS {
                self.names.push(name.into());
            }
        }
        let has_more = page.member("has_more").is_some_and(|it| it.get() == "true");
        let last = page.member("last_id").and_then(JsonValue::text);
        // A page that brings nothing new is the last one, whatever it says.
        let goes_on = self.api == Api::Anthropic
            && has_more
            && self.names.len() > before
            && self.names.len() < MAX_MODELS;
        self.after = last.filter(|_| goes_on).map(Into::into);
        Ok(self.after.is_some())
    }

    /// The names of the models in the server's order.
    #[must_use]
    pub fn into_names(self) -> Vec<String> {
        self.names
    }
}

/// The value of a query's parameter (RFC 3986, 3.4).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
