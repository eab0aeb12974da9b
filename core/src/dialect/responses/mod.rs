//! OpenAI's Responses API, after its published reference and what its official clients and Codex insist on.
//!
//! What an agent has no use for is accepted and left out: reasoning of earlier answers, tools that OpenAI itself would run and
//! what they did, and kinds of items that this version does not know.

#[cfg(test)]
mod conversations;
mod events;
mod items;
#[cfg(test)]
mod refusals;
mod request;
mod response;
#[cfg(test)]
pub(super) mod tests;

pub(crate) use request::unknown_response;
pub use request::{create_request, previous_response_id};

use super::{Dialect, Form, ReadForm};

/// A response.
pub const CREATE: Form = Form {
    dialect: Dialect::OpenAi,
    body: None,
    read: ReadForm::Continued {
        previous: previous_response_id,
        read: create_request,
    },
};
