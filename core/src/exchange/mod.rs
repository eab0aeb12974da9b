//! One HTTP request for a model, from its body to the last byte of its answer.
//!
//! A streamed and a whole answer take the same way; a whole one is the fold of the stream. The exchange is owned by the
//! task or thread of its request and has no lock.

pub mod header;
mod lifecycle;
mod reply;
mod state;
mod stop;

pub use lifecycle::{STATES, Timer};
pub use reply::{EVENT_STREAM, JSON, NDJSON, Reply, ReplyHead, TEXT};
pub use state::{Exchange, Flow, Intent};
pub use stop::StopScanner;
