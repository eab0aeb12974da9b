//! OpenAI's Chat Completions API and the legacy Completions API, after its published reference and what its official clients insist on.

mod completion;
#[cfg(test)]
mod completion_tests;
#[cfg(test)]
mod refusals;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use completion::completion_request;
pub use request::chat_request;
