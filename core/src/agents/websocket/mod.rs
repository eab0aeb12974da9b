//! Agents that connect over a WebSocket and speak the agent protocol, version 1: its JSON, both ways.
//!
//! Both dialects of the protocol come out in one form. Nearly every frame is a piece of text or a whole text; [`decode`] reads those in one
//! pass without an allocation and leaves all others to `serde_json`. A frame is decoded before any lock is taken, and a
//! message for the agent is encoded after the lock is released.

mod encode;
mod fields;
mod messages;
mod scan;

use crate::error::AgentFault;
use crate::link::FromAgent;
pub use encode::encode;
pub(crate) use fields::failure_name;
pub use messages::piece;

/// The subprotocol that is offered, and echoed when the peer asks for it.
pub const SUBPROTOCOL: &str = "mcp-local-provider.v1";

/// Reads one text frame of at most `limit` bytes.
///
/// # Errors
/// [`AgentFault::Answer`] when a field is wrong in a message whose `id` can be read, or when that is over the limit: it is
/// that exchange's. [`AgentFault::TooLarge`] for all others over the limit, [`AgentFault::Malformed`] for everything else that is not a JSON object of a known form.
#[inline]
pub fn decode(frame: &str, limit: usize) -> Result<FromAgent<'_>, AgentFault> {
    if frame.len() > limit {
        return Err(too_large(frame, limit));
    }
    if let Some(chunk) = scan::chunk(frame) {
        return Ok(FromAgent::Chunk(chunk));
    }
    match scan::result(frame) {
        Some(answer) => Ok(FromAgent::Result(answer)),
        None => messages::decode(frame),
    }
}

#[cold]
fn too_large(frame: &str, limit: usize) -> AgentFault {
    match messages::exchange(frame) {
        Some(id) => AgentFault::Answer {
            id,
            what: alloc::format!(
                "a frame of {} bytes is over limits.agent_frame_bytes ({limit} bytes)",
                frame.len()
            )
            .into(),
        },
        None => AgentFault::TooLarge,
    }
}
