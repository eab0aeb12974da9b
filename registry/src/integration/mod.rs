//! Integrations at work: a model is asked with the registry's tools, which run here, and what becomes of such answers.

mod answering;
mod completions;
mod hearing;
mod request;
mod rounds;
mod set;

pub use answering::Answering;
pub use completions::{
    CompletionEvent, CompletionStatus, Completions, NewCompletion, OwnerId, Removed,
};
pub use hearing::{Heard, Hearing};
pub use request::{CompletionRequest, is_registrys};
pub use rounds::{AskedWith, Rounds, RoundsOut, Said, ToolCall, ToolEvent, ToolStatus, Turn};
pub use set::IntegrationSet;
