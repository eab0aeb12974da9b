//! Child processes: their lives as a machine. A driver starts and ends the processes.
//!
//! [`Life`] decides when a child is started, ended and started anew. It gives [`Order`]s to whoever owns the process, and is told
//! what became of them.

mod life;

pub(crate) use life::doubled;
pub use life::{Grace, Life, Order, Rules, STATES, State, Then, Timer};

/// Measured use of the machine by a child and all that it has started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Processes.
    pub processes: usize,
    /// Memory in bytes, where pages that processes share are divided among them (PSS).
    pub memory: u64,
}
