//! OpenAI's Chat Completions API, after its published reference and what its official clients insist on.

mod request;
mod response;

pub use request::chat_request;
