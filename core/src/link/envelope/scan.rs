//! The one-pass reading of the frame that nearly all frames are: a piece of text.

use super::Chunk;

/// `None` for everything unusual: the full reading decides then.
#[inline]
pub(super) fn chunk(_frame: &str) -> Option<Chunk<'_>> {
    None
}
