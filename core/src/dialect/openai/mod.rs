//! OpenAI's Chat Completions API, after its published reference and what its official clients insist on.

#[cfg(test)]
mod refusals;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::chat_request;
