//! The floor that the hot path is held against: the least that any program does which reads an
//! agent's frame and passes its text on.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Chunk<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    id: &'a str,
    chunk_index: u64,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(borrow)]
    finish_reason: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a str>,
}

/// Reads a `model_stream_chunk` with `serde_json` into a struct that borrows from the frame, and
/// copies its content to `out`. False when the frame is no such chunk.
#[must_use]
pub fn read_and_copy(frame: &str, out: &mut Vec<u8>) -> bool {
    let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(frame) else {
        return false;
    };
    out.extend_from_slice(chunk.delta.content.unwrap_or_default().as_bytes());
    chunk.kind == "model_stream_chunk"
        && !chunk.id.is_empty()
        && chunk.chunk_index < u64::MAX
        && chunk.finish_reason.is_none()
}
