//! Agents for MCP Local Provider: a function that answers, and everything else is done.
//!
//! An agent dials its provider, registers a model, and answers what clients of the OpenAI, Ollama and Anthropic APIs ask it.
//! This is a whole one. Make a token for it by `mcp-local-provider keys add NAME --role bridge`:
//!
//! ```no_run
#![doc = include_str!("../examples/parrot.rs")]
//! ```
//!
//! Each question is answered on a thread of its own. A write fails once nobody waits for the answer any more, so that `?`
//! ends a cancelled one; [`Answer::is_cancelled`] and [`Answer::wake_on_cancel`] tell those that wait for something else. An
//! answer that returns without [`Answer::finish`] is complete, and one that returns an error fails with its text, which the
//! client sees; [`Failed`] has the kinds that clients know.
//!
//! The agent keeps its session over lost connections, and dials again with back-off and full jitter. It ends only when it is
//! stopped, or when the provider wants nothing of it: a wrong token, a session that was revoked or taken over ([`Error`]).
//!
//! With the feature `smol`, `Agent::serve_async` is the same as a future, and each question is answered by a future that is dropped
//! when it is cancelled. [`Agent::serve`] needs no runtime. Who drives the protocol in yet another way takes the machine,
//! [`mcp_local_provider_core::agent`].
//!
//! The feature `program` is the program `mcp-local-agent`, which turns any command into an agent; `tls` allows `wss://`, by the
//! system's root certificates. Both are on by default.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod agent;
mod answer;
mod connection;
mod error;
mod failed;
mod running;
mod stream;
#[cfg(feature = "smol")]
mod tasks;
mod threads;
mod token;

pub use agent::{Agent, Stopper};
pub use answer::Answer;
pub use error::Error;
pub use failed::Failed;
pub use mcp_local_provider_core::agent::{
    Cancelled, Event, InvocationId, Lost, Message, Piece, Request, Stopped, Times,
};
pub use mcp_local_provider_core::invocation::Kind;
pub use mcp_local_provider_core::text::JsonValue;
pub use mcp_local_provider_core::{Capabilities, Finish, Usage};
pub use running::JsonError;
#[cfg(feature = "smol")]
pub use tasks::AsyncAnswer;
pub use token::{Token, TokenError};
