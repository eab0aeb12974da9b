//! Ollama's API: `/api/chat` and `/api/generate`, after the documentation and the server's behaviour as of version 0.13.

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::{chat_request, generate_request};
