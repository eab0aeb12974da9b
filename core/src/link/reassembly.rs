//! Puts the chunks of one stream in order.

use super::from_agent::{Chunk, Ending};
use crate::invocation::{Delta, Failure, ToolCallDelta};
use crate::text::JsonStr;
use crate::time::Instant;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Places of a chunk in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is the next one.
    Next,
    /// It was delivered or waits already.
    Repeat,
    /// It is ahead of its turn, with this index.
    Ahead(u64),
}

/// One stream: the next index, and what waits behind a gap.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    next: u64,
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    chunks: BTreeMap<u64, Held>,
    bytes: usize,
    gap_ends: Instant,
    end_arrived: bool,
}

/// A chunk that waits, copied out of its frame.
pub(super) struct Held {
    content: String,
    reasoning: String,
    refusal: String,
    tool_calls: Vec<HeldCall>,
    ending: Option<Ending<'static>>,
}

impl fmt::Debug for Held {
    /// Without what the agent said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} bytes)", self.content.len())
    }
}

struct HeldCall {
    index: u32,
    id: String,
    name: String,
    arguments: String,
}

impl Reassembly {
    /// Index of the chunk that is delivered next, and so the number of those that were.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Returns the number of chunks that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
            .as_ref()
            .map_or(0, |waiting| waiting.chunks.len())
    }

    /// True when the agent has ended the answer and the end waits.
    pub(super) fn end_arrived(&self) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|waiting| waiting.end_arrived)
    }

    /// Returns the time at which the gap has stood too long, if there is one.
    pub(super) fn gap_ends(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.gap_ends)
    }

    /// Places a chunk by its index; one without is the next. [`Place::Next`] counts it as delivered.
    #[inline]
    pub(super) fn place(&mut self, index: Option<u64>) -> Place {
        match index {
            Some(index) if index < self.next => Place::Repeat,
            Some(index) if index > self.next => {
                let waits = self
                    .waiting
                    .as_ref()
                    .is_some_and(|waiting| waiting.chunks.contains_key(&index));
                if waits {
                    Place::Repeat
                } else {
                    Place::Ahead(index)
                }
            }
            _ => {
                self.next = self.next.saturating_add(1);
                Place::Next
            }
        }
    }

    /// Lets a chunk wait. False when it is over the limits in chunks or bytes of text; then nothing is kept.
    pub(super) fn hold(
        &mut self,
        index: u64,
        chunk: &Chunk<'_>,
        limits: (usize, usize),
        gap_ends: Instant,
    ) -> bool {
        let held = Held::new(&chunk.delta, chunk.ending.as_ref());
        let (count, bytes) = self
            .waiting
            .as_ref()
            .map_or((0, 0), |waiting| (waiting.chunks.len(), waiting.bytes));
        let bytes = bytes.saturating_add(held.bytes());
        if count >= limits.0 || bytes > limits.1 {
            return false;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::new(Waiting {
                chunks: BTreeMap::new(),
                bytes: 0,
                gap_ends,
                end_arrived: false,
            })
        });
        waiting.bytes = bytes;
        waiting.end_arrived |= chunk.ending.is_some();
        waiting.chunks.insert(index, held);
        true
    }

    /// Lets the end of the answer wait behind everything that waits, unless one does: what an agent repeats must not grow.
    pub(super) fn hold_end(&mut self, ending: &Ending<'_>) {
        if let Some(waiting) = &mut self.waiting
            && !waiting.end_arrived
        {
            waiting.end_arrived = true;
            let last = waiting.chunks.keys().next_back().copied().unwrap_or(0);
            waiting.chunks.insert(
                last.saturating_add(1),
                Held::new(&Delta::default(), Some(ending)),
            );
        }
    }

    /// Takes the next chunk when it waits. While others wait behind another gap, that gap ends at `gap_ends`.
    pub(super) fn take_next(&mut self, gap_ends: Instant) -> Option<Held> {
        let waiting = self.waiting.as_mut()?;
        let held = waiting.chunks.remove(&self.next);
        if let Some(held) = &held {
            self.next = self.next.saturating_add(1);
            waiting.bytes = waiting.bytes.saturating_sub(held.bytes());
        }
        waiting.gap_ends = gap_ends;
        if waiting.chunks.is_empty() {
            self.waiting = None;
        }
        held
    }
}

impl Held {
    fn new(delta: &Delta<'_>, ending: Option<&Ending<'_>>) -> Self {
        let own = |text: JsonStr<'_>| String::from(text.as_escaped());
        Self {
            content: own(delta.content),
            reasoning: own(delta.reasoning),
            refusal: own(delta.refusal),
            tool_calls: delta
                .tool_calls
                .iter()
                .map(|call| HeldCall {
                    index: call.index,
                    id: own(call.id),
                    name: own(call.name),
                    arguments: own(call.arguments),
                })
                .collect(),
            ending: ending.map(|ending| match ending {
                Ending::End(end) => Ending::End(*end),
                Ending::Failed(failure) => Ending::Failed(Failure {
                    code: failure.code,
                    message: Cow::Owned(failure.message.clone().into_owned()),
                    retry_after: failure.retry_after,
                }),
            }),
        }
    }

    /// Bytes that it keeps: its text, and a charge for each tool call.
    fn bytes(&self) -> usize {
        let calls: usize = self
            .tool_calls
            .iter()
            .map(|call| {
                size_of::<HeldCall>() + call.id.len() + call.name.len() + call.arguments.len()
            })
            .sum();
        self.content.len() + self.reasoning.len() + self.refusal.len() + calls
    }

    /// Returns the chunk's delta and its ending.
    pub(super) fn parts(&self) -> (Delta<'_>, Option<Ending<'_>>) {
        let delta = Delta {
            content: JsonStr::from_escaped(&self.content),
            reasoning: JsonStr::from_escaped(&self.reasoning),
            refusal: JsonStr::from_escaped(&self.refusal),
            tool_calls: self
                .tool_calls
                .iter()
                .map(|call| ToolCallDelta {
                    index: call.index,
                    id: JsonStr::from_escaped(&call.id),
                    name: JsonStr::from_escaped(&call.name),
                    arguments: JsonStr::from_escaped(&call.arguments),
                })
                .collect(),
        };
        (delta, self.ending.clone())
    }
}
