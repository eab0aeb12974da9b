//! Bodies of the fuzz targets. Each takes any bytes and panics when an invariant is broken; an ordinary test replays
//! every input of the corpus.

mod acp_lines;
mod agent_envelope;
mod agent_frames;
mod http1;
mod http1_connection;
mod http1_differential;
mod http_client;
mod json_rpc;
mod pipe;
mod requests;
mod sse;
mod template;
mod upstream;

pub use acp_lines::acp_lines;
pub use agent_envelope::agent_envelope;
pub use agent_frames::agent_frames;
pub use http_client::http_client;
pub use http1::http1;
pub use http1_connection::http1_connection;
pub use http1_differential::http1_differential;
pub use json_rpc::json_rpc;
pub use pipe::pipe;
pub use requests::{anthropic_request, ollama_request, openai_request};
pub use sse::sse;
pub use template::template;
pub use upstream::upstream;

/// A fuzz target's body.
pub type Target = fn(&[u8]);

/// Every target by the name of its binary in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("acp_lines", acp_lines),
    ("agent_envelope", agent_envelope),
    ("agent_frames", agent_frames),
    ("anthropic_request", anthropic_request),
    ("http1", http1),
    ("http1_connection", http1_connection),
    ("http1_differential", http1_differential),
    ("http_client", http_client),
    ("json_rpc", json_rpc),
    ("ollama_request", ollama_request),
    ("openai_request", openai_request),
    ("sse", sse),
    ("template", template),
    ("pipe", pipe),
    ("upstream", upstream),
    ("world", world),
];

/// Runs the simulated world on any bytes.
///
/// # Panics
/// Panics when an invariant is broken.
pub fn world(data: &[u8]) {
    crate::world::run(data);
}
