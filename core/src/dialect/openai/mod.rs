//! OpenAI's Chat Completions API, the legacy Completions API and the Embeddings API, after its published reference and what its official clients insist on;
//! and Mistral's API to fill in the middle, which differs from the legacy one in the form of its answers.

mod completion;
#[cfg(test)]
mod completion_tests;
mod embedding;
#[cfg(test)]
mod refusals;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use completion::{completion_request, fim_request};
pub use embedding::embedding_request;
pub use request::chat_request;

use super::{Dialect, Form};
use crate::request::BodyForm;

/// Chat Completions.
pub const CHAT: Form = Form::whole(Dialect::OpenAi, Some(BodyForm::OpenAiChat), chat_request);
/// The legacy Completions API.
pub const COMPLETION: Form = Form::whole(
    Dialect::OpenAi,
    Some(BodyForm::OpenAiCompletion),
    completion_request,
);
/// Mistral's fill-in-the-middle form of a completion.
pub const FIM: Form = Form::whole(Dialect::OpenAi, None, fim_request);
/// Embeddings.
pub const EMBEDDING: Form = Form::whole(
    Dialect::OpenAi,
    Some(BodyForm::OpenAiEmbedding),
    embedding_request,
);
