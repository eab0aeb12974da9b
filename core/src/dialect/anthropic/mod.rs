//! Anthropic's Messages API, version 2023-06-01, after its published reference and what its official clients insist on.
//!
//! What an agent has no use for is accepted and left out: `cache_control`, earlier thinking, tools that Anthropic itself
//! would run, and kinds of blocks that this version does not know.

pub(in crate::dialect) mod blocks;
#[cfg(test)]
mod refusals;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::{count_tokens_request, messages_request};

use super::{Dialect, Form};
use crate::request::BodyForm;

/// Messages.
pub const MESSAGES: Form = Form::whole(
    Dialect::Anthropic,
    Some(BodyForm::AnthropicMessages),
    messages_request,
);
/// An estimate of the tokens of a message.
pub const COUNT_TOKENS: Form = Form::whole(
    Dialect::Anthropic,
    Some(BodyForm::AnthropicCount),
    count_tokens_request,
);
