//! The content of a client's message as an agent is told it.

use crate::invocation::{Arguments, Content, Message, Part, Role, ToolCall};
use crate::text::{JsonStr, RawJson, escaped};
use alloc::borrow::Cow;
use alloc::string::String;
use serde::Deserialize;

/// One piece of a message's content.
pub(super) enum Piece<'m> {
    /// As this program escapes it.
    Text(Cow<'m, str>),
    /// Base64 without its `data:` URL.
    Image {
        media_type: Cow<'m, str>,
        base64: JsonStr<'m>,
    },
    /// The kind of what no agent takes.
    Other(Cow<'m, str>),
}

#[derive(Deserialize)]
struct PartMembers<'m> {
    #[serde(borrow)]
    r#type: JsonStr<'m>,
    text: Option<JsonStr<'m>>,
    image_url: Option<ImageUrl<'m>>,
}

#[derive(Deserialize)]
struct ImageUrl<'m> {
    #[serde(borrow)]
    url: JsonStr<'m>,
}

impl<'m> Piece<'m> {
    fn of(part: &'m Part<'_>) -> Self {
        match part {
            Part::Text(text) => Self::Text(text.normal()),
            Part::Image { media_type, base64 } => Self::Image {
                media_type: Cow::Borrowed(media_type),
                base64: *base64,
            },
            Part::Other(raw) => Self::of_json(raw),
        }
    }

    /// Reads a part in OpenAI's form.
    fn of_json(raw: &'m RawJson<'_>) -> Self {
        let Ok(members) = serde_json::from_str::<PartMembers<'m>>(raw.get()) else {
            return Self::Other(Cow::Borrowed("unknown"));
        };
        if let Some(text) = members.text {
            return Self::Text(text.normal());
        }
        let url = members.image_url.map(|image| image.url);
        let data = url.and_then(|url| {
            let (media_type, base64) = url
                .as_escaped()
                .strip_prefix("data:")?
                .split_once(";base64,")?;
            Some((media_type, base64))
        });
        match data {
            Some((media_type, base64)) => Self::Image {
                media_type: JsonStr::from_escaped(media_type).decode(),
                base64: JsonStr::from_escaped(base64),
            },
            None => Self::Other(members.r#type.decode()),
        }
    }
}

/// The content of a message, piece by piece.
pub(super) fn pieces<'m>(message: &'m Message<'_>) -> impl Iterator<Item = Piece<'m>> {
    let (text, parts) = match &message.content {
        Content::None => (None, None),
        Content::Text(text) => (Some(Piece::Text(text.normal())), None),
        Content::Parts(parts) => (None, Some(parts.iter().map(Piece::of))),
    };
    text.into_iter().chain(parts.into_iter().flatten())
}

/// The parts of a message's content that are not text.
pub(super) fn media<'m>(message: &'m Message<'_>) -> impl Iterator<Item = Piece<'m>> {
    let parts = match &message.content {
        Content::None | Content::Text(_) => None,
        Content::Parts(parts) => Some(parts.iter()),
    };
    let parts = parts.into_iter().flatten();
    let parts = parts.filter(|part| !matches!(part, Part::Text(_)));
    parts
        .map(Piece::of)
        .filter(|piece| !matches!(piece, Piece::Text(_)))
}

/// All text of a message, `between` its pieces; escaped, as that is.
pub(super) fn text<'m>(message: &'m Message<'_>, between: &str) -> Cow<'m, str> {
    let mut all = Cow::Borrowed("");
    let texts = pieces(message).filter_map(|piece| match piece {
        Piece::Text(text) => Some(text),
        Piece::Image { .. } | Piece::Other(_) => None,
    });
    for (position, text) in texts.enumerate() {
        if position == 0 {
            all = text;
        } else {
            let joined: &mut String = all.to_mut();
            joined.push_str(between);
            joined.push_str(&text);
        }
    }
    all
}

/// The arguments of a call: JSON, which is escaped once more.
pub(super) fn arguments<'m>(call: &'m ToolCall<'_>) -> Cow<'m, str> {
    match &call.arguments {
        Arguments::Text(text) => text.normal(),
        Arguments::Object(raw) => escaped(raw.get()),
    }
}

pub(super) const fn is_user(message: &Message<'_>) -> bool {
    matches!(message.role, Role::User)
}

/// True for a message that tells the agent how to answer.
pub(super) const fn instructs(message: &Message<'_>) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}
