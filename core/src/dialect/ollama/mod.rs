//! Ollama's API: `/api/chat`, `/api/generate` and `/api/embed`, after the documentation and the server's behaviour as of version 0.13.

mod embedding;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use embedding::{embed_request, embeddings_request};
pub use request::{chat_request, generate_request};

use super::{Dialect, Form};
use crate::request::BodyForm;

/// A chat.
pub const CHAT: Form = Form::whole(Dialect::Ollama, Some(BodyForm::OllamaChat), chat_request);
/// A completion.
pub const GENERATE: Form = Form::whole(
    Dialect::Ollama,
    Some(BodyForm::OllamaGenerate),
    generate_request,
);
/// Embeddings.
pub const EMBED: Form = Form::whole(Dialect::Ollama, Some(BodyForm::OllamaEmbed), embed_request);
/// Embeddings, in the older form.
pub const EMBEDDINGS: Form = Form::whole(
    Dialect::Ollama,
    Some(BodyForm::OllamaEmbeddings),
    embeddings_request,
);
