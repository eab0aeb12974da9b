//! What the fuzzers run. Each takes any bytes and panics when something is wrong; an ordinary test replays every input that
//! was worth keeping.

mod acp_lines;
mod agent_envelope;
mod agent_frames;
mod http1;
mod http1_differential;
mod requests;

pub use acp_lines::acp_lines;
pub use agent_envelope::agent_envelope;
pub use agent_frames::agent_frames;
pub use http1::http1;
pub use http1_differential::http1_differential;
pub use requests::{anthropic_request, ollama_request, openai_request};

/// A fuzz target's body.
pub type Target = fn(&[u8]);

/// Every target by the name of its binary in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("acp_lines", acp_lines),
    ("agent_envelope", agent_envelope),
    ("agent_frames", agent_frames),
    ("anthropic_request", anthropic_request),
    ("http1", http1),
    ("http1_differential", http1_differential),
    ("ollama_request", ollama_request),
    ("openai_request", openai_request),
    ("world", world),
];

/// Any string of bytes is a world to live through.
///
/// # Panics
/// When an invariant is broken.
pub fn world(data: &[u8]) {
    crate::world::run(data);
}
