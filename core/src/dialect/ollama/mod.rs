//! Ollama's API: `/api/chat`, `/api/generate` and `/api/embed`, after the documentation and the server's behaviour as of version 0.13.

mod embedding;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use embedding::{embed_request, embeddings_request};
pub use request::{chat_request, generate_request};
