//! JSON documents of other servers: their members, and what of them a person is told.

use super::NotAuthorized;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::text::JsonValue;

/// Longest text of another server in an error, in characters.
const TOLD: usize = 300;

/// A JSON object.
#[derive(Clone, Copy)]
pub(super) struct Document<'b>(JsonValue<'b>);

impl<'b> Document<'b> {
    /// Reads a body; `None` where it is no object.
    pub(super) fn read(body: &'b [u8]) -> Option<Self> {
        let text = core::str::from_utf8(body).ok()?;
        let value = JsonValue::read(text)?;
        value.get().starts_with('{').then_some(Self(value))
    }

    /// A member that is a text, and not an empty one.
    pub(super) fn text(self, name: &str) -> Option<String> {
        let text = self.0.member(name)?.text()?.into_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The texts of a member that is a list; `None` where it is none.
    pub(super) fn texts(self, name: &str) -> Option<Vec<String>> {
        let list = self.0.member(name)?;
        let texts = list.elements().into_iter().filter_map(JsonValue::text);
        let texts = texts.map(|text| text.into_owned()).collect();
        list.get().starts_with('[').then_some(texts)
    }

    /// True for a member that is `true`.
    pub(super) fn is(self, name: &str) -> bool {
        self.0
            .member(name)
            .is_some_and(|value| value.get() == "true")
    }

    /// A member that is a whole number, which some servers write as a text.
    pub(super) fn whole(self, name: &str) -> Option<u64> {
        let value = self.0.member(name)?;
        value.whole().or_else(|| value.text()?.parse().ok())
    }

    /// A member that is an object.
    pub(super) fn object(self, name: &str) -> Option<Self> {
        let value = self.0.member(name)?;
        value.get().starts_with('{').then_some(Self(value))
    }
}

/// The code of an answer that refuses (RFC 6749, section 5.2); none where it has no such form.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    Document::read(body)?.text("error")
}

/// The words of an answer that refuses: its code and description, or its status alone.
pub(super) fn refusal(status: u16, body: &[u8]) -> String {
    let document = Document::read(body);
    let text = |name| document.and_then(|document| document.text(name));
    let code = text("error");
    refused(
        &format!("HTTP status {status}"),
        code,
        text("error_description"),
    )
}

/// A refusal as text: `status` where there is no code.
pub(super) fn refused(status: &str, code: Option<String>, description: Option<String>) -> String {
    let mut told = code.unwrap_or_else(|| status.to_owned());
    if let Some(description) = description {
        told.push_str(": ");
        told.push_str(&description);
    }
    told.chars().take(TOLD).collect()
}

/// An error about a document.
pub(super) fn wrong(what: &str, why: &str) -> NotAuthorized {
    NotAuthorized(format!("its {what} cannot be used: {why}"))
}
