//! One HTTP request for a model, from its body to the last byte of its answer.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Waiting: parse
//!     Waiting --> Streaming: first delta, or the head was held back long enough
//!     Waiting --> Ended: end, failure, timeout, client gone
//!     Streaming --> Ended: end, failure, timeout, stop sequence, client gone
//!     Ended --> [*]
//! ```
//!
//! A streamed and a whole answer take the same way; a whole one is the fold of the stream. The exchange is owned by the
//! task or thread of its request and has no lock.

mod reply;
mod state;
mod stop;

pub use reply::{EVENT_STREAM, JSON, NDJSON, Reply, ReplyHead, TEXT};
pub use state::{Exchange, Flow, Intent};
pub use stop::StopScanner;
