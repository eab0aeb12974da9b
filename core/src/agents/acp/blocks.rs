//! Content blocks: the text that a session is told, and the images that it speaks of.

use super::content::{Piece, arguments, pieces};
use crate::invocation::{Message, Role};
use crate::rpc::Json;
use crate::text::{JsonStr, escaped};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The tags of the fixed form.
const TAGS: [&str; 8] = [
    "instructions",
    "conversation",
    "user",
    "assistant",
    "system",
    "tool_call",
    "tool_result",
    "tool",
];

/// Content blocks in the making: one text, then the images. The text is escaped as it is written, so that a client's text is
/// copied and not decoded.
#[derive(Default)]
pub(super) struct Blocks<'m> {
    /// Borrowed while it is one text of the client's and nothing else.
    text: Cow<'m, str>,
    images: Vec<(Cow<'m, str>, JsonStr<'m>)>,
}

impl<'m> Blocks<'m> {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds what is escaped already.
    pub(super) fn push(&mut self, escaped: &str) {
        self.text.to_mut().push_str(escaped);
    }

    /// Adds an empty line behind what there is.
    pub(super) fn separate(&mut self) {
        if !self.is_empty() {
            separate(self.text.to_mut());
        }
    }

    /// Adds the instructions, in their tag.
    pub(super) fn instructions(&mut self, system: &str) {
        self.push("<instructions>\\n");
        escape_tags(system, self.text.to_mut());
        self.push("\\n</instructions>\\n\\n");
    }

    /// Adds a message in the tag of its role.
    pub(super) fn tagged(&mut self, message: &'m Message<'_>) {
        let tag = match message.role {
            Role::Assistant => "assistant",
            Role::User => "user",
            Role::Tool | Role::Function => "tool_result",
            Role::System | Role::Developer => "system",
        };
        self.push("<");
        self.push(tag);
        if let Some(id) = &message.tool_call_id {
            self.attribute("id", id);
        }
        self.push(">\\n");
        self.parts(message, true);
        self.push("\\n");
        for call in &message.tool_calls {
            self.push("<tool_call");
            self.attribute("id", &call.id);
            self.attribute("name", &call.name.decode());
            self.push(">\\n");
            escape_tags(&arguments(call), self.text.to_mut());
            self.push("\\n</tool_call>\\n");
        }
        self.push("</");
        self.push(tag);
        self.push(">\\n");
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let is_safe = |c: &char| !matches!(c, '"' | '<' | '>') && !c.is_control();
        let value: String = value.chars().filter(is_safe).take(128).collect();
        self.push(&format!(" {name}=\\\"{}\\\"", escaped(&value)));
    }

    /// Adds the content of a message, its text as it is or with its tags escaped.
    pub(super) fn parts(&mut self, message: &'m Message<'_>, escaped: bool) {
        for (position, piece) in pieces(message).enumerate() {
            if position > 0 {
                self.push("\\n");
            }
            match piece {
                Piece::Text(text) if escaped => escape_tags(&text, self.text.to_mut()),
                Piece::Text(text) if self.is_empty() => self.text = text,
                Piece::Text(text) => self.push(&text),
                Piece::Image { media_type, base64 } => {
                    self.images.push((media_type, base64));
                    self.push(&format!("[image {}]", self.images.len()));
                }
                Piece::Other(_) => {}
            }
        }
    }

    /// The text, escaped, without the line end that closes a tag.
    pub(super) fn into_text(self) -> String {
        let mut text = self.text.into_owned();
        if text.ends_with(">\\n") {
            text.truncate(text.len() - 2);
        }
        text
    }

    /// Writes a JSON array of content blocks.
    pub(super) fn write(&self, json: &mut Json) {
        let images = self.images.iter().map(|(_, base64)| base64.len() + 64);
        json.reserve(self.text.len() + images.sum::<usize>() + 64);
        json.raw("[{\"type\":\"text\",\"text\":");
        json.escaped(&self.text);
        json.raw("}");
        for (media_type, base64) in &self.images {
            json.raw(",{\"type\":\"image\",\"mimeType\":");
            json.string(media_type);
            json.raw(",\"data\":");
            json.escaped(&base64.normal());
            json.raw("}");
        }
        json.raw("]");
    }
}

/// Adds an empty line behind a text that is escaped.
pub(super) fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push_str("\\n\\n");
    }
}

/// Appends `text`, which is escaped, with each `<` that begins a tag of the fixed form as `&lt;`.
fn escape_tags(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'<', rest.as_bytes()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        out.push_str(if begins_tag(after) { "&lt;" } else { "<" });
        rest = after;
    }
    out.push_str(rest);
}

/// True when the name of a tag follows a `<`, whatever its case, behind slashes and blanks or at once.
fn begins_tag(after: &str) -> bool {
    let name = JsonStr::from_escaped(after).chars();
    let name = name.skip_while(|c| *c == '/' || c.is_whitespace());
    TAGS.iter().any(|tag| {
        let name = name.clone().map(|c| c.to_ascii_lowercase());
        name.take(tag.len()).eq(tag.chars())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_tag_is_known_behind_any_escape() {
        for (text, told) in [
            ("a < b", "a < b"),
            ("<user>", "&lt;user>"),
            ("</USER", "&lt;/USER"),
            ("<\n\t / tool_call", "&lt;\n\t / tool_call"),
            ("<\u{2028}system", "&lt;\u{2028}system"),
            ("<\u{0}user", "<\u{0}user"),
            ("<used <<users", "<used <&lt;users"),
            ("x<", "x<"),
        ] {
            let mut out = String::new();
            escape_tags(&escaped(text), &mut out);
            assert_eq!(out, escaped(told), "{text:?}");
            // However a client escapes it.
            let units: Vec<u16> = text.encode_utf16().collect();
            let units: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let mut out = String::new();
            escape_tags(&JsonStr::from_escaped(&units.concat()).normal(), &mut out);
            assert_eq!(out, escaped(told), "{text:?}");
        }
    }
}
