//! The bounded hand-over from a link to an exchange.

mod batch;

pub use batch::{Batch, Deliveries};

use crate::budget::{ENTRY_CHARGE, Share};
use crate::error::Code;
use crate::invocation::{Delivery, Failure};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;

/// Size of a segment: content is kept, and drained, in segments of about so many bytes of the budget, so that a long answer that is read slowly
/// is given to its exchange, and freed, piece by piece.
const SEGMENT: usize = 32 << 10;

/// Results of a push, each with the caller's next step.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    /// The mailbox was empty: wake the exchange.
    Wake,
    /// The exchange has been woken before.
    Queued,
    /// The budget is used up. The exchange finds a failure in its mailbox: wake it, and cancel it at the agent.
    Overrun,
}

impl Push {
    /// True when the exchange is to be woken: what waits is new to it.
    #[must_use]
    pub const fn wakes(self) -> bool {
        match self {
            // A whole answer that is too long overruns a mailbox that was read empty.
            Self::Wake | Self::Overrun => true,
            Self::Queued => false,
        }
    }
}

/// Longest answer that may wait in a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    /// Of a streamed answer: what is unread, each entry charged.
    Unread(usize),
    /// Of an answer that is given whole, to which nobody can be slow: its text.
    Whole(usize),
}

/// A queue with a budget in bytes. The driver adds a lock and a waker.
///
/// It takes deliveries until it holds its budget; the one that crosses the line is still taken, so a single large
/// answer passes and the bound is the budget plus one agent frame. A terminal delivery is always taken, once; after it
/// nothing is.
#[derive(Debug)]
pub struct Mailbox {
    /// Segments that are full, which come before `batch`.
    full: VecDeque<Batch>,
    batch: Batch,
    bound: Bound,
    charged: usize,
    /// Bytes of text that came since the start.
    text: usize,
    /// Bytes that the exchange holds of what it has taken.
    kept: usize,
    share: Option<Share>,
    closed: bool,
}

impl Mailbox {
    /// The mailbox of a streamed answer: `budget` in bytes is what may wait unread.
    #[must_use]
    pub const fn new(budget: usize) -> Self {
        Self::bounded(Bound::Unread(budget))
    }

    /// The mailbox of an answer that is given whole: `longest` in bytes is its text.
    #[must_use]
    pub const fn whole(longest: usize) -> Self {
        Self::bounded(Bound::Whole(longest))
    }

    const fn bounded(bound: Bound) -> Self {
        Self {
            full: VecDeque::new(),
            batch: Batch::new(),
            bound,
            charged: 0,
            text: 0,
            kept: 0,
            share: None,
            closed: false,
        }
    }

    /// The mailbox with a share of the memory that all queues have together.
    #[must_use]
    pub fn sharing(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// Copies a delivery in.
    #[inline]
    pub fn push(&mut self, delivery: &Delivery<'_>) -> Push {
        if self.closed {
            return Push::Queued;
        }
        match delivery {
            Delivery::End(_) | Delivery::Failed(_) => self.closed = true,
            Delivery::Delta(_) if self.is_full() => return self.overrun(),
            // All vectors of an answer come in one frame, which is as large as it may be.
            Delivery::Delta(_) | Delivery::Embedding(_) => {}
        }
        let was_empty = self.batch.is_empty();
        self.put(delivery);
        self.hold();
        if was_empty { Push::Wake } else { Push::Queued }
    }

    #[cold]
    fn overrun(&mut self) -> Push {
        self.closed = true;
        let (code, message) = match self.bound {
            Bound::Unread(_) => (
                Code::SlowClient,
                "the answer came faster than it was read; limits.mailbox_bytes is used up",
            ),
            Bound::Whole(_) => (Code::AnswerTooLarge, TOO_LARGE),
        };
        self.put(&failure(code, message));
        Push::Overrun
    }

    const fn is_full(&self) -> bool {
        match self.bound {
            Bound::Unread(bytes) => self.charged >= bytes,
            Bound::Whole(bytes) => self.text > bytes,
        }
    }

    #[inline]
    fn put(&mut self, delivery: &Delivery<'_>) {
        if self.batch.charged >= SEGMENT {
            self.full.push_back(core::mem::take(&mut self.batch));
        }
        let text = self.batch.push(delivery);
        let charge = text.max(ENTRY_CHARGE);
        self.text = self.text.saturating_add(text);
        self.batch.charged += charge;
        self.charged += charge;
    }

    #[inline]
    fn hold(&mut self) {
        if let Some(share) = &mut self.share {
            // Nobody is refused here: the engine looks whether the budget is used up at the end of each turn.
            let _ = share.hold(self.charged.saturating_add(self.kept));
        }
    }

    /// Notes the bytes that the exchange holds of what it has taken, for its share of the memory.
    pub fn keep(&mut self, bytes: usize) {
        if self.kept != bytes {
            self.kept = bytes;
            self.hold();
        }
    }

    /// Moves the next segment into `batch`, whose earlier content is dropped. True when there was anything.
    pub fn drain(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        match self.full.pop_front() {
            Some(first) => *batch = first,
            None => core::mem::swap(&mut self.batch, batch),
        }
        self.charged = self.charged.saturating_sub(batch.charged);
        self.hold();
        !batch.is_empty()
    }

    /// Drops what waits and fails the answer instead, because all memory is taken and this answer holds most of it. False when
    /// it has its end already, which then stays.
    pub fn cut(&mut self) -> bool {
        if self.closed {
            return false;
        }
        self.closed = true;
        self.full.clear();
        self.batch = Batch::new();
        self.charged = 0;
        let (code, message) = match self.bound {
            Bound::Unread(_) => (
                Code::SlowClient,
                "the answer came faster than it was read; limits.memory is used up",
            ),
            Bound::Whole(_) => (
                Code::Overloaded,
                "the answer does not fit into what is left of limits.memory",
            ),
        };
        self.put(&failure(code, message));
        self.hold();
        true
    }

    /// Bytes of the budget in use.
    #[must_use]
    pub const fn charged(&self) -> usize {
        self.charged
    }

    /// True when the answer's end is in the mailbox, or was: nothing more is taken.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that the client has not read: what waits, and what the exchange holds of what it took.
    #[must_use]
    pub const fn unread(&self) -> usize {
        self.charged.saturating_add(self.kept)
    }
}

/// Message for an answer over `limits.answer_bytes`.
pub(crate) const TOO_LARGE: &str = "the answer is larger than limits.answer_bytes allows";

const fn failure(code: Code, message: &'static str) -> Delivery<'static> {
    Delivery::Failed(Failure {
        code,
        message: Cow::Borrowed(message),
        retry_after: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::budget::Budget;
    use crate::invocation::{Delta, End, Finish, ToolCallDelta};
    use crate::text::JsonStr;
    use alloc::borrow::ToOwned;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use alloc::{format, vec};
    use proptest::prelude::*;

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
        let (mut batch, mut count) = (Batch::new(), 0);
        while mailbox.drain(&mut batch) {
            count += batch.iter().count();
        }
        assert_eq!(count, 101);
    }

    proptest! {
        #[test]
        fn what_is_read_slowly_comes_whole_and_in_order(
            steps in prop::collection::vec((0usize..40_000, any::<bool>()), 0..40),
        ) {
            let budget = Budget::new(usize::MAX);
            let mut mailbox = Mailbox::new(usize::MAX).sharing(budget.share());
            let (mut batch, mut sent, mut got) = (Batch::new(), Vec::new(), Vec::new());
            for (bytes, read) in steps {
                let text = bytes.to_string() + &"x".repeat(bytes);
                let pushed = mailbox.push(&content(&text));
                prop_assert_eq!(pushed == Push::Wake, mailbox.charged() == text.len().max(ENTRY_CHARGE));
                sent.push(text);
                if read {
                    mailbox.drain(&mut batch);
                    prop_assert!(batch.charged < SEGMENT + 50_000);
                    got.extend(batch.iter().map(|delivery| format!("{delivery:?}")));
                }
                prop_assert!(budget.taken().abs_diff(mailbox.charged()) <= 4096);
            }
            while mailbox.drain(&mut batch) {
                got.extend(batch.iter().map(|delivery| format!("{delivery:?}")));
            }
            let sent: Vec<_> = sent.iter().map(|text| format!("{:?}", content(text))).collect();
            prop_assert_eq!(got, sent);
            prop_assert_eq!((mailbox.charged(), budget.taken()), (0, 0));
        }
    }

    #[test]
    fn nobody_is_slow_to_an_answer_that_is_given_whole() {
        let mut mailbox = Mailbox::whole(1000);
        for _ in 0..1000 {
            assert_ne!(mailbox.push(&content("x")), Push::Overrun);
        }
        assert_eq!(
            mailbox.push(&content("x")),
            Push::Queued,
            "the line may be crossed once"
        );
        assert_eq!(mailbox.push(&content("x")), Push::Overrun);
        let (mut batch, mut last) = (Batch::new(), None);
        while mailbox.drain(&mut batch) {
            last = batch.iter().last().and_then(|delivery| match delivery {
                Delivery::Failed(failure) => Some(failure.code),
                _ => None,
            });
        }
        assert_eq!(last, Some(Code::AnswerTooLarge));
    }

    #[test]
    fn whoever_waits_for_a_mailbox_that_was_read_empty_is_woken_by_the_delivery_that_is_too_much() {
        let (mut mailbox, mut batch) = (Mailbox::whole(3), Batch::new());
        assert!(mailbox.push(&content("long")).wakes());
        mailbox.drain(&mut batch);
        let pushed = mailbox.push(&content("x"));
        assert_eq!(pushed, Push::Overrun);
        assert!(pushed.wakes());
    }

    #[test]
    fn an_answer_that_is_cut_gives_its_memory_back() {
        let budget = Budget::new(10_000);
        let mut mailbox = Mailbox::new(1 << 20).sharing(budget.share());
        let _ = mailbox.push(&content(&"x".repeat(50_000)));
        let _ = mailbox.push(&content(&"x".repeat(50_000)));
        assert!(budget.excess() > 90_000);
        assert!(mailbox.cut());
        assert_eq!(budget.taken(), 0);
        assert_eq!(mailbox.push(&content("x")), Push::Queued);
        assert!(!mailbox.cut(), "once");
        let mut batch = Batch::new();
        mailbox.drain(&mut batch);
        let got: Vec<_> = batch.iter().collect();
        assert!(
            matches!(&got[..], [Delivery::Failed(failure)] if failure.code == Code::SlowClient)
        );
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
