//! Chunks on their way from the agent's frame to the mailbox of their exchange.

use std::hint::black_box;

use std::sync::Arc;

use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::id::{Authority, Ids, LinkId, SessionId};
use mcp_local_provider_core::invocation::{
    Delivery, Delta, Invocation, InvokeForm, Parameters, Task,
};
use mcp_local_provider_core::link::{
    Deliver, FromAgent, Invoke, Link, LinkConfig, LinkOut, Permits,
};
use mcp_local_provider_core::mailbox::{Batch, Mailbox, Push};
use mcp_local_provider_core::request::{PromptIndex, Request};
use mcp_local_provider_core::text::JsonStr;
use mcp_local_provider_core::time::Instant;

use super::{BUDGET, CHUNKS, chunk_frame};
use crate::floor;
use crate::script::CONTENT;

/// Streams that the chunks of the link cases belong to, in turns.
const SPEAKING: usize = 8;

/// Chunks of a stream that are in a mailbox together when the mailbox alone is measured.
const TOGETHER: usize = 4;

/// Frames of a stream and room for what is made of them.
#[derive(Debug)]
pub struct Frames {
    frames: Vec<String>,
    out: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        let id = Ids::new(7).next();
        Self {
            frames: (0..CHUNKS).map(|index| chunk_frame(id, index)).collect(),
            out: Vec::with_capacity(CHUNKS * 64),
        }
    }
}

impl Frames {
    /// The floor: every frame read and its content copied.
    ///
    /// # Panics
    /// Panics when a frame is not read, because then there is no floor.
    pub fn floor(&mut self) {
        self.out.clear();
        for frame in &self.frames {
            assert!(floor::read_and_copy(black_box(frame), &mut self.out));
        }
    }

    /// Every frame decoded, and nothing done with it.
    ///
    /// # Panics
    /// Panics when a frame is refused.
    pub fn decode(&mut self) {
        for frame in &self.frames {
            let message = websocket::decode(black_box(frame), BUDGET);
            assert!(matches!(black_box(message), Ok(FromAgent::Chunk(_))));
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
            mailbox: Mailbox::new(BUDGET),
            batch: Batch::new(),
        }
    }
}

impl HandOver {
    /// Puts chunks in and takes them out, four at a time.
    ///
    /// # Panics
    /// Panics when chunks are missing.
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

/// Hands what a link delivers to the mailbox of that number.
struct Mailboxes<'a>(&'a mut [Mailbox]);

impl Deliver<usize> for Mailboxes<'_> {
    fn deliver(&mut self, to: &usize, delivery: &Delivery<'_>) -> Push {
        match self.0.get_mut(*to) {
            Some(mailbox) => mailbox.push(delivery),
            None => Push::Overrun,
        }
    }
}

/// A link with open exchanges, of which a few speak.
#[derive(Debug)]
pub struct Routing {
    link: Link<usize>,
    out: LinkOut,
    mailboxes: Vec<Mailbox>,
    batch: Batch,
    frames: Vec<String>,
}

impl Routing {
    /// A link with `open` exchanges.
    ///
    /// # Panics
    /// Panics when an exchange cannot be opened.
    #[must_use]
    pub fn new(open: usize) -> Self {
        let now = Instant::from_micros(1);
        let config = LinkConfig::default();
        let mut link = Link::new(LinkId(1), &config, now);
        let mut out = LinkOut::new();
        let ids = Ids::new(7);
        let permits = Permits::default();
        let request = Arc::new(Request::of(&Invocation {
            model: "m".into(),
            task: Task::Completion {
                prompt: JsonStr::EMPTY,
                suffix: None,
            },
            stream: true,
            parameters: Parameters::default(),
        }));
        let mut speaking = Vec::new();
        for number in 0..open {
            let id = ids.next();
            let session = SessionId::new("session");
            let permit = session.map(|session| permits.issue(session, Authority::Anyone));
            let invoke = permit.map(|permit| Invoke {
                id,
                permit,
                label: "label".into(),
                model: "m".into(),
                form: InvokeForm::Nested,
                request: request.clone(),
                prompt: PromptIndex::default(),
            });
            let opened = invoke.map(|invoke| link.open(now, invoke, number, &mut out));
            assert!(
                matches!(opened, Some(Ok(()))),
                "exchange {number} was refused"
            );
            let _ = out.pop_message();
            // Spread over the table, whatever its size.
            if number % (open / SPEAKING) == 0 {
                speaking.push(id);
            }
        }
        speaking.truncate(SPEAKING);
        let frame = |n: usize| {
            speaking
                .get(n % SPEAKING)
                .map(|id| chunk_frame(*id, n / SPEAKING))
        };
        Self {
            link,
            out,
            mailboxes: (0..open).map(|_| Mailbox::new(BUDGET)).collect(),
            batch: Batch::new(),
            frames: (0..CHUNKS).filter_map(frame).collect(),
        }
    }

    /// Every frame decoded, given to the link, and so to its mailbox. It can be done once, because
    /// the agent's chunks are numbered.
    ///
    /// # Panics
    /// Panics when a frame is refused or a chunk does not arrive.
    pub fn run(&mut self) {
        let now = Instant::from_micros(2);
        let mut mailboxes = Mailboxes(&mut self.mailboxes);
        for frame in &self.frames {
            if let Ok(message) = websocket::decode(black_box(frame), BUDGET) {
                self.link
                    .handle_message(now, message, &mut self.out, &mut mailboxes);
            }
        }
        assert_eq!(self.link.counters().chunks, CHUNKS as u64);
    }

    /// The chunks that wait in the mailboxes.
    pub fn arrived(&mut self) -> usize {
        let Self {
            mailboxes, batch, ..
        } = self;
        let count = |mailbox: &mut Mailbox| {
            mailbox.drain(batch);
            batch.iter().count()
        };
        mailboxes.iter_mut().map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_of_every_case_arrives() {
        let mut frames = Frames::default();
        frames.floor();
        assert_eq!(frames.out.len(), CHUNKS * CONTENT.len());
        frames.decode();
        HandOver::default().run();
        for open in [10, 10_000] {
            let mut routing = Routing::new(open);
            routing.run();
            assert_eq!(routing.arrived(), CHUNKS);
        }
    }
}
