//! What the benches of the machines run: the same work for criterion and for gungraun.
//!
//! Each case does its work [`CHUNKS`] times, so that what the first time costs, as the growth of a
//! buffer, does not show.

mod admission;
mod chunk;

pub use admission::Admissions;
pub use chunk::{Frames, HandOver, Routing};

/// How often a case does its work.
pub const CHUNKS: usize = 256;
