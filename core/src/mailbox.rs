//! The bounded hand-over from a link to an exchange.

use crate::error::Code;
use crate::invocation::{Delivery, Delta, End, Failure, ToolCallDelta};
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Every entry costs at least this much of the budget, because bytes alone do not bound tiny entries.
pub const ENTRY_CHARGE: usize = 64;

/// A drained batch keeps its buffers for the next one up to this size in bytes.
const KEEP: usize = 4096;

/// Results of a push, each with the caller's next step.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    /// The mailbox was empty: wake the exchange.
    Wake,
    /// The exchange has been woken before.
    Queued,
    /// The budget is used up, or was before. The exchange finds a failure in its mailbox; cancel it at the agent.
    Overrun,
}

/// A queue with a budget in bytes. The driver adds a lock and a waker.
///
/// It takes deliveries until it holds its budget; the one that crosses the line is still taken, so a single large
/// answer passes and the bound is the budget plus one agent frame. A terminal delivery is always taken, once; after it
/// nothing is.
#[derive(Debug)]
pub struct Mailbox {
    batch: Batch,
    budget: usize,
    charged: usize,
    closed: bool,
}

impl Mailbox {
    /// `budget` in bytes.
    #[must_use]
    pub const fn new(budget: usize) -> Self {
        Self {
            batch: Batch::new(),
            budget,
            charged: 0,
            closed: false,
        }
    }

    /// Copies a delivery in.
    #[inline]
    pub fn push(&mut self, delivery: &Delivery<'_>) -> Push {
        let was_empty = self.batch.is_empty();
        if self.closed {
            return Push::Queued;
        }
        match delivery {
            Delivery::End(_) | Delivery::Failed(_) => self.closed = true,
            Delivery::Delta(_) if self.charged >= self.budget => {
                self.closed = true;
                self.batch.push(&Delivery::Failed(Failure {
                    code: Code::SlowClient,
                    message: Cow::Borrowed(
                        "the answer came faster than it was read; limits.mailbox_bytes is used up",
                    ),
                    retry_after: None,
                }));
                return Push::Overrun;
            }
            // All vectors of an answer come in one frame, which is as large as it may be.
            Delivery::Delta(_) | Delivery::Embedding(_) => {}
        }
        self.charged += self.batch.push(delivery).max(ENTRY_CHARGE);
        if was_empty { Push::Wake } else { Push::Queued }
    }

    /// Moves everything into `batch`, whose earlier content is dropped. True when there was anything.
    pub fn drain(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        core::mem::swap(&mut self.batch, batch);
        self.charged = 0;
        !batch.is_empty()
    }

    /// Bytes of the budget in use.
    #[must_use]
    pub const fn charged(&self) -> usize {
        self.charged
    }
}

/// Deliveries in order, their texts in one buffer. Reused, it allocates nothing in steady state.
#[derive(Default)]
pub struct Batch {
    text: String,
    entries: Vec<Entry>,
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
        }
    }

    /// True when nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn clear(&mut self) {
        if self.text.capacity() > KEEP {
            self.text = String::new();
        }
        if self.entries.capacity() > KEEP / size_of::<Entry>() {
            self.entries = Vec::new();
        }
        self.text.clear();
        self.entries.clear();
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
    fn push(&mut self, delivery: &Delivery<'_>) -> usize {
        let before = self.text.len();
        match delivery {
            Delivery::Delta(delta)
                if delta.reasoning.is_empty()
                    && delta.refusal.is_empty()
                    && delta.tool_calls.is_empty() =>
            {
                let len = self.text(delta.content.as_escaped());
                self.entries.push(Entry::Content(len));
            }
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

    fn json(&mut self, len: u32) -> JsonStr<'b> {
        JsonStr::from_escaped(self.take(len))
    }
}

impl<'b> Iterator for Deliveries<'b> {
    type Item = Delivery<'b>;

    #[inline]
    fn next(&mut self) -> Option<Delivery<'b>> {
        Some(match self.entries.next()? {
            Entry::Content(len) => Delivery::Delta(Delta {
                content: self.json(*len),
                ..Delta::default()
            }),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::invocation::Finish;
    use alloc::vec;

    fn content(text: &str) -> Delivery<'_> {
        Delivery::Delta(Delta {
            content: JsonStr::from_escaped(text),
            ..Delta::default()
        })
    }

    const END: Delivery<'static> = Delivery::End(End {
        finish: Finish::Stop,
        usage: None,
    });

    #[test]
    fn what_goes_in_comes_out_in_order_and_wakes_once() {
        let mut mailbox = Mailbox::new(1024);
        let call = ToolCallDelta {
            index: 1,
            id: JsonStr::from_escaped("call_1"),
            name: JsonStr::from_escaped("weather"),
            arguments: JsonStr::from_escaped("{\\\"a\\\":1}"),
        };
        let rich = Delivery::Delta(Delta {
            content: JsonStr::from_escaped("c"),
            reasoning: JsonStr::from_escaped("rr"),
            refusal: JsonStr::EMPTY,
            tool_calls: vec![call, ToolCallDelta { index: 2, ..call }],
        });
        let all = [
            content("Hel"),
            content("lo"),
            rich,
            Delivery::Embedding("[1,2]"),
            END,
        ];
        assert_eq!(mailbox.push(&all[0]), Push::Wake);
        for delivery in &all[1..] {
            assert_eq!(mailbox.push(delivery), Push::Queued);
        }
        let mut batch = Batch::new();
        assert!(mailbox.drain(&mut batch));
        assert_eq!(batch.iter().collect::<Vec<_>>(), all);
        assert!(!mailbox.drain(&mut batch));
    }

    #[test]
    fn a_full_mailbox_fails_its_exchange_and_takes_nothing_more() {
        let mut mailbox = Mailbox::new(200);
        let long = "x".repeat(5000);
        assert_eq!(mailbox.push(&content("a")), Push::Wake);
        assert_eq!(
            mailbox.push(&content(&long)),
            Push::Queued,
            "the line may be crossed once"
        );
        assert_eq!(mailbox.push(&content("b")), Push::Overrun);
        assert_eq!(mailbox.push(&content("c")), Push::Queued);
        assert_eq!(mailbox.push(&END), Push::Queued);
        let mut batch = Batch::new();
        mailbox.drain(&mut batch);
        let got: Vec<_> = batch.iter().collect();
        assert_eq!(got.len(), 3);
        assert!(matches!(&got[2], Delivery::Failed(failure) if failure.code == Code::SlowClient));
    }

    #[test]
    fn the_vectors_of_one_frame_all_pass() {
        let mut mailbox = Mailbox::new(200);
        let vector = "[".to_owned() + &"1,".repeat(200) + "1]";
        for at in 0..100 {
            let pushed = mailbox.push(&Delivery::Embedding(&vector));
            assert_eq!(pushed, if at == 0 { Push::Wake } else { Push::Queued });
        }
        assert_eq!(mailbox.push(&END), Push::Queued);
        let mut batch = Batch::new();
        mailbox.drain(&mut batch);
        assert_eq!(batch.iter().count(), 101);
    }

    #[test]
    fn tiny_entries_are_charged_as_small_ones() {
        let mut mailbox = Mailbox::new(ENTRY_CHARGE * 3);
        let mut taken = 0;
        while mailbox.push(&content("x")) != Push::Overrun {
            taken += 1;
        }
        assert_eq!(taken, 3);
    }
}
