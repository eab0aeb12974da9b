//! The messages of a body, or of what else a client sends at once.

use mcp_local_provider_core::rpc::{Message, NotAMessage, read_each};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};

/// Messages that one batch may have.
const BATCH: usize = 100;

/// True when the message's id is a string or a number, or there is none. One that is `null` asks for an answer that could not be
/// told from that to a message without an id.
fn has_good_id(text: &str, message: &Message<'_>) -> bool {
    match message {
        Message::Request { id, .. } | Message::Response { id, .. } => id
            .get()
            .starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9')),
        Message::Notification(_) => {
            JsonValue::read(text).is_none_or(|all| all.member("id").is_none())
        }
    }
}

/// One message of a body, with its text.
pub(super) type Read<'b> = (&'b str, Message<'b>);

/// Reads the messages of a body.
pub(super) fn read(body: &[u8]) -> Result<(Vec<Read<'_>>, bool), Refusal> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Refusal::new(Reason::NotJson, "the body is not UTF-8"))?;
    let (mut messages, mut wrong) = (Vec::new(), None);
    read_each(text, |text, message| match message {
        Ok(message) if has_good_id(text, &message) => messages.push((text, message)),
        Ok(_) => wrong = Some(text),
        Err(NotAMessage::Noise | NotAMessage::Damaged) => wrong = Some(text),
    });
    let is_batch = text.trim_start().starts_with('[');
    match wrong {
        Some(_) if JsonValue::read(text).is_none() => {
            Err(Refusal::new(Reason::NotJson, "the body is not JSON"))
        }
        Some(_) => Err(Refusal::new(
            Reason::BadRequest,
            "the body is no JSON-RPC message with a string or a number as `id`, or a batch with something else in it",
        )),
        None if messages.len() > BATCH => Err(Refusal::new(
            Reason::BadRequest,
            format!("a batch may have {BATCH} messages"),
        )),
        None => Ok((messages, is_batch)),
    }
}
