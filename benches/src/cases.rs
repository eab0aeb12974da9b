//! What the benches of the machines run: the same work for criterion and for gungraun.
//!
//! Each case does its work [`CHUNKS`] times, so that what the first time costs, as the growth of a
//! buffer, does not show.

use std::hint::black_box;

use mcp_local_provider_core::invocation::{Delivery, Delta};
use mcp_local_provider_core::mailbox::{Batch, Mailbox};
use mcp_local_provider_core::text::JsonStr;

use crate::floor;
use crate::script::CONTENT;

/// How often a case does its work.
pub const CHUNKS: u64 = 256;

/// How many chunks of a stream are in a mailbox when it is emptied.
const TOGETHER: u64 = 4;

/// Frames of a stream and room for what is made of them.
#[derive(Debug)]
pub struct Frames {
    frames: Vec<String>,
    out: Vec<u8>,
}

impl Frames {
    /// The frames of one stream whose exchange has the id `id`.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let frame = |index| {
            format!(
                r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":{index},"delta":{{"content":"{CONTENT}"}},"finish_reason":null}}"#
            )
        };
        Self {
            frames: (0..CHUNKS).map(frame).collect(),
            out: Vec::with_capacity(1 << 17),
        }
    }

    /// The floor: every frame read and its content copied.
    ///
    /// # Panics
    /// When a frame is not read, because then there is no floor.
    pub fn floor(&mut self) {
        self.out.clear();
        for frame in &self.frames {
            assert!(floor::read_and_copy(black_box(frame), &mut self.out));
        }
    }
}

/// A mailbox and the batch it is emptied into.
#[derive(Debug)]
pub struct HandOver {
    mailbox: Mailbox,
    batch: Batch,
}

impl Default for HandOver {
    fn default() -> Self {
        Self {
            mailbox: Mailbox::new(1 << 18),
            batch: Batch::new(),
        }
    }
}

impl HandOver {
    /// Puts chunks in and takes them out, four at a time.
    ///
    /// # Panics
    /// When chunks are missing.
    pub fn run(&mut self) {
        let delta = Delta {
            content: JsonStr::from_escaped(CONTENT),
            ..Delta::default()
        };
        let delivery = Delivery::Delta(delta);
        for _ in 0..CHUNKS / TOGETHER {
            for _ in 0..TOGETHER {
                let _ = black_box(self.mailbox.push(black_box(&delivery)));
            }
            assert!(self.mailbox.drain(&mut self.batch));
            black_box(self.batch.iter().count());
        }
    }
}
