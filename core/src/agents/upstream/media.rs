//! Parts of messages by what they are, for APIs that have other forms for them than OpenAI's.

use super::Api;
use crate::error::Refusal;
use crate::invocation::Part;
use crate::text::{JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::format;

/// A part of a message.
pub(in crate::agents) enum Medium<'p> {
    /// Text.
    Text(JsonStr<'p>),
    /// An image, inside of the request.
    Image {
        /// `image/png`, say.
        media_type: Cow<'p, str>,
        /// The data.
        base64: Cow<'p, str>,
    },
    /// An image that the server is to fetch.
    ImageAt(Cow<'p, str>),
    /// A PDF document, inside of the request.
    Pdf {
        /// Its file name.
        name: Option<JsonStr<'p>>,
        /// The data.
        base64: Cow<'p, str>,
    },
    /// Another one, by its type.
    Other(Cow<'p, str>),
}

impl<'p> Medium<'p> {
    /// What a part is.
    pub(in crate::agents) fn of(part: &'p Part<'_>) -> Self {
        match part {
            Part::Text(text) => Self::Text(*text),
            Part::Image { media_type, base64 } => Self::Image {
                media_type: Cow::Borrowed(media_type),
                base64: base64.decode(),
            },
            Part::Other(raw) => Self::foreign(raw.get()),
        }
    }

    /// What a part in OpenAI's form is.
    fn foreign(json: &'p str) -> Self {
        let value = JsonValue::read(json);
        let find = |path: &[&str]| value.and_then(|value| value.path(path));
        let text = |path: &[&str]| find(path).and_then(JsonValue::text);
        let kind = text(&["type"]).unwrap_or_default();
        let known = match &*kind {
            "refusal" => find(&["refusal"])
                .and_then(JsonValue::as_str)
                .map(Self::Text),
            "image_url" => text(&["image_url", "url"]).and_then(|url| match data(&url) {
                Some((media_type, start)) => Some(Self::Image {
                    media_type: Cow::Owned(media_type.into()),
                    base64: rest(url, start)?,
                }),
                None if url.starts_with("http://") || url.starts_with("https://") => {
                    Some(Self::ImageAt(url))
                }
                None => None,
            }),
            "file" => text(&["file", "file_data"]).and_then(|url| match data(&url) {
                Some(("application/pdf", start)) => Some(Self::Pdf {
                    name: find(&["file", "filename"]).and_then(JsonValue::as_str),
                    base64: rest(url, start)?,
                }),
                _ => None,
            }),
            _ => None,
        };
        known.unwrap_or(Self::Other(kind))
    }
}

/// The media type of a data URL in base64 (RFC 2397), and where its data begins.
fn data(url: &str) -> Option<(&str, usize)> {
    let head = url.strip_prefix("data:")?;
    let (head, _) = head.split_once(',')?;
    let parameters = head.strip_suffix(";base64")?;
    let media_type = parameters.split(';').next().unwrap_or_default();
    let media_type = match media_type {
        "image/jpg" => "image/jpeg",
        other => other,
    };
    Some((media_type, "data:".len() + head.len() + 1))
}

fn rest(text: Cow<'_, str>, start: usize) -> Option<Cow<'_, str>> {
    Some(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(start..)?),
        Cow::Owned(text) => Cow::Owned(text.get(start..)?.into()),
    })
}

/// The refusal of what the server's API has no form for.
pub(super) fn cannot(api: Api, field: &'static str, what: &str) -> Refusal {
    let server = match api {
        Api::OpenAi | Api::Custom => "an OpenAI-compatible server",
        Api::Anthropic => "an Anthropic server",
        Api::Ollama => "an Ollama server",
    };
    let message = format!("{field}: {what}, which {server} does not take; the model is on one");
    Refusal::invalid(message).at(field)
}
