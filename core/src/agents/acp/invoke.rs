//! Reads the `model_invoke` frame that the link wrote.

use crate::id::ExchangeId;
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A frame of the link, as far as an ACP agent is concerned.
pub(super) enum LinkFrame<'f> {
    Invoke(Invoke<'f>),
    /// `model_cancel`.
    Cancel(ExchangeId),
    /// `registered`.
    Registered(SessionStatus<'f>),
    /// `session_status`.
    Session(SessionStatus<'f>),
    /// `error` about no exchange, which answers a registration: its message.
    Refused(Cow<'f, str>),
    /// A `model_invoke` that cannot be read.
    Unreadable(ExchangeId),
    /// Nothing that an agent answers.
    Other,
}

/// A session and its state.
pub(super) struct SessionStatus<'f> {
    pub(super) session: Cow<'f, str>,
    pub(super) status: Cow<'f, str>,
    /// Empty where the link tells none.
    pub(super) reason: Cow<'f, str>,
}

/// A `model_invoke` to the agent.
pub(super) struct Invoke<'f> {
    pub(super) exchange: ExchangeId,
    pub(super) payload: Payload<'f>,
}

#[derive(Deserialize)]
pub(super) struct Payload<'f> {
    #[serde(borrow)]
    pub(super) kind: JsonStr<'f>,
    pub(super) model: JsonStr<'f>,
    #[serde(default)]
    pub(super) messages: Vec<Message<'f>>,
    #[serde(borrow)]
    pub(super) prompt: Option<&'f RawValue>,
    pub(super) suffix: Option<JsonStr<'f>>,
    #[serde(default)]
    pub(super) parameters: Parameters<'f>,
}

#[derive(Deserialize, Default)]
pub(super) struct Parameters<'f> {
    pub(super) n: Option<u64>,
    #[serde(borrow, default)]
    pub(super) tools: Vec<&'f RawValue>,
    #[serde(borrow)]
    pub(super) tool_choice: Option<&'f RawValue>,
    #[serde(borrow)]
    pub(super) response_format: Option<&'f RawValue>,
    pub(super) reasoning_effort: Option<JsonStr<'f>>,
}

/// One message, in OpenAI's form.
#[derive(Deserialize)]
pub(super) struct Message<'f> {
    #[serde(borrow)]
    pub(super) role: JsonStr<'f>,
    #[serde(borrow)]
    pub(super) content: Option<&'f RawValue>,
    #[serde(default)]
    pub(super) tool_calls: Vec<ToolCall<'f>>,
    pub(super) tool_call_id: Option<JsonStr<'f>>,
}

#[derive(Deserialize)]
pub(super) struct ToolCall<'f> {
    #[serde(borrow)]
    pub(super) id: JsonStr<'f>,
    pub(super) function: Function<'f>,
}

#[derive(Deserialize)]
pub(super) struct Function<'f> {
    #[serde(borrow)]
    pub(super) name: JsonStr<'f>,
    pub(super) arguments: JsonStr<'f>,
}

/// One piece of a message's content.
pub(super) enum Part<'f> {
    Text(Cow<'f, str>),
    /// Base64 without its `data:` URL.
    Image {
        media_type: Cow<'f, str>,
        base64: JsonStr<'f>,
    },
    /// The kind of what no agent takes.
    Other(Cow<'f, str>),
}

#[derive(Deserialize)]
struct PartMembers<'f> {
    #[serde(borrow)]
    r#type: JsonStr<'f>,
    text: Option<JsonStr<'f>>,
    image_url: Option<ImageUrl<'f>>,
}

#[derive(Deserialize)]
struct ImageUrl<'f> {
    #[serde(borrow)]
    url: JsonStr<'f>,
}

impl<'f> Message<'f> {
    /// Its content, piece by piece.
    pub(super) fn parts(&self) -> Vec<Part<'f>> {
        let Some(raw) = self.content else {
            return Vec::new();
        };
        if let Some(text) = JsonStr::from_raw(raw) {
            return Vec::from([Part::Text(text.decode())]);
        }
        let parts: Vec<&'f RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
        parts.into_iter().map(Part::read).collect()
    }

    /// All of its text.
    pub(super) fn text(&self) -> Cow<'f, str> {
        let mut parts = self.parts();
        if parts.len() == 1
            && let Some(Part::Text(text)) = parts.pop()
        {
            return text;
        }
        self.parts()
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(&**text),
                Part::Image { .. } | Part::Other(_) => None,
            })
            .collect::<Vec<_>>()
            .join("\n")
            .into()
    }
}

impl<'f> Part<'f> {
    fn read(raw: &'f RawValue) -> Self {
        let Ok(members) = serde_json::from_str::<PartMembers<'f>>(raw.get()) else {
            return Self::Other(Cow::Borrowed("unknown"));
        };
        if let Some(text) = members.text {
            return Self::Text(text.decode());
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

#[derive(Deserialize)]
struct Frame<'f> {
    #[serde(borrow)]
    r#type: JsonStr<'f>,
    id: Option<JsonStr<'f>>,
    session_id: Option<JsonStr<'f>>,
    status: Option<JsonStr<'f>>,
    reason: Option<JsonStr<'f>>,
    error: Option<ErrorMembers<'f>>,
    #[serde(borrow)]
    payload: Option<&'f RawValue>,
}

#[derive(Deserialize)]
struct ErrorMembers<'f> {
    #[serde(borrow)]
    code: JsonStr<'f>,
    message: JsonStr<'f>,
}

impl<'f> SessionStatus<'f> {
    fn read(members: &Frame<'f>) -> Option<Self> {
        let text = |member: Option<JsonStr<'f>>| member.map(JsonStr::decode).unwrap_or_default();
        Some(Self {
            session: members.session_id?.decode(),
            status: text(members.status),
            reason: text(members.reason),
        })
    }
}

/// Reads a frame. What cannot be read is [`LinkFrame::Other`]: the link writes nothing of the kind.
pub(super) fn read(frame: &str) -> LinkFrame<'_> {
    let Ok(members) = serde_json::from_str::<Frame<'_>>(frame) else {
        return LinkFrame::Other;
    };
    let exchange = members
        .id
        .and_then(|id| ExchangeId::parse(id.as_escaped().as_bytes()));
    match (members.r#type.as_escaped(), exchange) {
        ("model_invoke", Some(exchange)) => {
            let payload = members
                .payload
                .and_then(|payload| serde_json::from_str(payload.get()).ok());
            payload.map_or(LinkFrame::Unreadable(exchange), |payload| {
                LinkFrame::Invoke(Invoke { exchange, payload })
            })
        }
        ("model_cancel", Some(exchange)) => LinkFrame::Cancel(exchange),
        ("registered", _) => {
            SessionStatus::read(&members).map_or(LinkFrame::Other, LinkFrame::Registered)
        }
        ("session_status", _) => {
            SessionStatus::read(&members).map_or(LinkFrame::Other, LinkFrame::Session)
        }
        // A session that is given back may have ended by itself just before.
        ("error", None) => match members.error {
            Some(error) if error.code.as_escaped() != "session_not_found" => {
                LinkFrame::Refused(error.message.decode())
            }
            Some(_) | None => LinkFrame::Other,
        },
        _ => LinkFrame::Other,
    }
}
