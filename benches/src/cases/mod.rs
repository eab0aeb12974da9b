//! Bodies of the benches of the machines: the same work for criterion and for gungraun.
//!
//! Each case does its work [`CHUNKS`] times, so that what the first time costs, as the growth of a
//! buffer, does not show.

use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::invocation::Delivery;
use mcp_local_provider_core::link::Deliver;
use mcp_local_provider_core::mailbox::{Mailbox, Push};

use crate::Error;
use crate::script::CONTENT;

mod acp;
mod admission;
mod answer;
mod chunk;
mod crowd;
mod relay;

pub use acp::{AcpCalls, AcpChunks, AcpPrompts, PROMPT, PROMPTS, Scan};
pub use admission::Admissions;
pub use answer::{Answers, Stream};
pub use chunk::{Frames, HandOver, Routing};
pub use crowd::Crowd;
pub use relay::{Relay, RelayFloor};

/// Repetitions of a case's work.
pub const CHUNKS: usize = 256;

/// `limits.mailbox_bytes` by default.
const BUDGET: usize = 256 << 10;

/// Runs a case that may fail: a measurement of a failure would be none.
///
/// # Panics
/// Panics when the case could not be made or fails.
pub fn run<C>(case: &mut Result<C, Error>, each: impl FnOnce(&mut C) -> Result<(), Error>) {
    let done = case.as_mut().map(each);
    assert!(
        matches!(done, Ok(Ok(()))),
        "the case did not run: {:?}",
        done.err()
    );
}

/// The one mailbox that is in use.
#[derive(Debug)]
struct One(Mailbox);

impl Deliver<()> for One {
    fn deliver(&mut self, _to: &(), delivery: &Delivery<'_>) -> Push {
        self.0.push(delivery)
    }
}

/// One piece of text from an agent, as it comes on the wire.
fn chunk_frame(exchange: ExchangeId, index: usize) -> String {
    format!(
        r#"{{"type":"model_stream_chunk","id":"{exchange}","chunk_index":{index},"delta":{{"content":"{CONTENT}"}},"finish_reason":null}}"#
    )
}
