//! Deliveries on their way, packed: what a mailbox keeps, and what an exchange takes out of it.

use crate::budget::ENTRY_CHARGE;
use crate::invocation::{Delivery, Delta, End, Failure, ToolCallDelta};
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A drained batch keeps its buffers for the next one up to this size in bytes.
const KEEP: usize = 4096;

/// Deliveries in order, their texts in one buffer. Reused, it allocates nothing in steady state.
#[derive(Default)]
pub struct Batch {
    text: String,
    entries: Vec<Entry>,
    /// Charge of its mailbox for them.
    pub(super) charged: usize,
}

impl fmt::Debug for Batch {
    /// Without what the agent said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = (self.entries.len(), self.text.len());
        write!(f, "Batch({entries} deliveries, {bytes} bytes)")
    }
}

#[derive(Debug)]
enum Entry {
    /// A delta that is only content: nearly all of them.
    Content(u32),
    Delta {
        content: u32,
        reasoning: u32,
        refusal: u32,
        tool_calls: u32,
    },
    /// Belongs to the delta before it.
    ToolCall {
        index: u32,
        id: u32,
        name: u32,
        arguments: u32,
    },
    Embedding(u32),
    End(End),
    Failed(Box<Failure<'static>>),
}

impl Batch {
    /// An empty batch; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: String::new(),
            entries: Vec::new(),
            charged: 0,
        }
    }

    /// True when nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops what is in it, and buffers that are larger than it needs them.
    pub(super) fn clear(&mut self) {
        if self.text.capacity() > KEEP {
            self.text = String::new();
        }
        if self.entries.capacity() > KEEP / size_of::<Entry>() {
            self.entries = Vec::new();
        }
        self.text.clear();
        self.entries.clear();
        self.charged = 0;
    }

    fn text(&mut self, text: &str) -> u32 {
        // A frame is far below 4 GiB; a longer text is cut at nothing rather than wrongly measured.
        let Ok(len) = u32::try_from(text.len()) else {
            return 0;
        };
        self.text.push_str(text);
        len
    }

    /// Returns the bytes of text it took.
    #[inline]
    pub(super) fn push(&mut self, delivery: &Delivery<'_>) -> usize {
        if let Delivery::Delta(delta) = delivery
            && delta.reasoning.is_empty()
            && delta.refusal.is_empty()
            && delta.tool_calls.is_empty()
        {
            let content = delta.content.as_escaped();
            let len = self.text(content);
            self.entries.push(Entry::Content(len));
            return content.len();
        }
        self.push_rare(delivery)
    }

    /// Pushes what is not only content.
    fn push_rare(&mut self, delivery: &Delivery<'_>) -> usize {
        let before = self.text.len();
        match delivery {
            Delivery::Delta(delta) => {
                let content = self.text(delta.content.as_escaped());
                let reasoning = self.text(delta.reasoning.as_escaped());
                let refusal = self.text(delta.refusal.as_escaped());
                self.entries.push(Entry::Delta {
                    content,
                    reasoning,
                    refusal,
                    tool_calls: u32::try_from(delta.tool_calls.len()).unwrap_or(u32::MAX),
                });
                for call in &delta.tool_calls {
                    let id = self.text(call.id.as_escaped());
                    let name = self.text(call.name.as_escaped());
                    let arguments = self.text(call.arguments.as_escaped());
                    self.entries.push(Entry::ToolCall {
                        index: call.index,
                        id,
                        name,
                        arguments,
                    });
                }
                return self.text.len() - before + ENTRY_CHARGE * delta.tool_calls.len();
            }
            Delivery::Embedding(vector) => {
                let len = self.text(vector);
                self.entries.push(Entry::Embedding(len));
            }
            Delivery::End(end) => self.entries.push(Entry::End(*end)),
            Delivery::Failed(failure) => self.entries.push(Entry::Failed(Box::new(Failure {
                code: failure.code,
                message: Cow::Owned(failure.message.clone().into_owned()),
                retry_after: failure.retry_after,
            }))),
        }
        self.text.len() - before
    }

    /// The deliveries in order.
    #[must_use]
    pub fn iter(&self) -> Deliveries<'_> {
        Deliveries {
            text: &self.text,
            entries: self.entries.iter(),
        }
    }
}

impl<'b> IntoIterator for &'b Batch {
    type Item = Delivery<'b>;
    type IntoIter = Deliveries<'b>;

    fn into_iter(self) -> Deliveries<'b> {
        self.iter()
    }
}

/// Iterator over a [`Batch`].
#[derive(Debug)]
pub struct Deliveries<'b> {
    text: &'b str,
    entries: core::slice::Iter<'b, Entry>,
}

impl<'b> Deliveries<'b> {
    #[inline]
    fn take(&mut self, len: u32) -> &'b str {
        let at = usize::try_from(len).unwrap_or(usize::MAX);
        let (text, rest) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        self.text = rest;
        text
    }

    #[inline]
    fn json(&mut self, len: u32) -> JsonStr<'b> {
        JsonStr::from_escaped(self.take(len))
    }

    #[inline]
    fn content(&mut self, len: u32) -> Delivery<'b> {
        Delivery::Delta(Delta {
            content: self.json(len),
            ..Delta::default()
        })
    }
}

impl<'b> Iterator for Deliveries<'b> {
    type Item = Delivery<'b>;

    #[inline]
    fn next(&mut self) -> Option<Delivery<'b>> {
        let entry = self.entries.next()?;
        if let Entry::Content(len) = entry {
            return Some(self.content(*len));
        }
        self.rare(entry)
    }
}

impl<'b> Deliveries<'b> {
    /// The delivery of an entry that is not only content.
    fn rare(&mut self, entry: &Entry) -> Option<Delivery<'b>> {
        Some(match entry {
            Entry::Content(len) => self.content(*len),
            Entry::Delta {
                content,
                reasoning,
                refusal,
                tool_calls,
            } => {
                let content = self.json(*content);
                let reasoning = self.json(*reasoning);
                let refusal = self.json(*refusal);
                let mut calls = Vec::new();
                for _ in 0..*tool_calls {
                    if let Some(Entry::ToolCall {
                        index,
                        id,
                        name,
                        arguments,
                    }) = self.entries.next()
                    {
                        calls.push(ToolCallDelta {
                            index: *index,
                            id: self.json(*id),
                            name: self.json(*name),
                            arguments: self.json(*arguments),
                        });
                    }
                }
                Delivery::Delta(Delta {
                    content,
                    reasoning,
                    refusal,
                    tool_calls: calls,
                })
            }
            Entry::Embedding(len) => Delivery::Embedding(self.take(*len)),
            Entry::End(end) => Delivery::End(*end),
            Entry::Failed(failure) => Delivery::Failed((**failure).clone()),
            // Consumed with its delta above.
            Entry::ToolCall { .. } => return self.next(),
        })
    }
}
