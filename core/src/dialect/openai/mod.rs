//! OpenAI's Chat Completions API, the legacy Completions API and the Embeddings API, after its published reference and what its official clients insist on.

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

pub use completion::completion_request;
pub use embedding::embedding_request;
pub use request::chat_request;
