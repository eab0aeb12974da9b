//! Scripts of answers: their bytes and their timing. The client puts the script into its prompt, and the agent and the
//! backend play it, so that both sides of the comparison get one request.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The first byte of every content chunk, which occurs nowhere else in a request or an answer:
/// counting it counts the chunks, however they were joined on the way.
pub const MARK: u8 = b'~';

/// The text of one chunk: 32 bytes.
pub const CONTENT: &str = "~ thirty-two bytes of an answer ";

/// A text as long as [`CONTENT`], with the time at which it is sent: microseconds of the system's monotonic clock.
#[must_use]
pub fn content(sent: u64) -> String {
    format!("~{sent:016} of an answer; ")
}

/// Reads the time at which a chunk was sent from what follows its mark. `None` when there is none, or not all of it.
#[must_use]
pub fn sent(after_mark: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(after_mark.get(..16)?).ok()?;
    digits.parse().ok()
}

/// Microseconds of the system's monotonic clock, which all processes of a machine share.
#[must_use]
pub fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000
}

/// The text of a whole answer: 256 bytes, which makes a body of about 550 with its JSON.
pub const WHOLE: &str = "~ A whole answer has two hundred and fifty-six bytes of plain text, \
which is what a short paragraph of an assistant comes to. It has neither quotes nor line ends, \
so that nothing has to be escaped on the way from the agent to the client. That is all of it.";

/// Bytes of a request's body, where nothing else is said.
const REQUEST: usize = 450;

/// An answer to be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// Content chunks; none for a whole answer.
    pub chunks: u32,
    /// Chunks that share a write.
    pub burst: u32,
    /// Time from one write to the next; none for back to back.
    pub interval: Duration,
    /// True when the streams of a back-to-back script take turns after each write, so that chunks travel one by one.
    /// Otherwise a loop that never waits writes each stream to its end, and its chunks are joined on the way.
    pub turns: bool,
    /// True when the agent writes one round of all streams at once, as one that is ahead of who reads.
    pub ahead: bool,
    /// Bytes of the request's body.
    pub request: usize,
    /// True when the stream stays silent after its first chunk until it is released.
    pub hold: bool,
}

impl Script {
    /// An answer that is not streamed.
    #[must_use]
    pub const fn whole() -> Self {
        Self {
            chunks: 0,
            burst: 1,
            interval: Duration::ZERO,
            turns: false,
            ahead: false,
            request: REQUEST,
            hold: false,
        }
    }

    /// `chunks` chunks back to back, `burst` of them to a write.
    #[must_use]
    pub const fn stream(chunks: u32, burst: u32) -> Self {
        Self {
            chunks,
            burst,
            interval: Duration::ZERO,
            turns: false,
            ahead: false,
            request: REQUEST,
            hold: false,
        }
    }

    /// The same, with the streams taking turns after each write.
    #[must_use]
    pub const fn turns(self) -> Self {
        Self {
            turns: true,
            ..self
        }
    }

    /// The same, with an agent that writes a chunk of each stream at once.
    #[must_use]
    pub const fn ahead(self) -> Self {
        Self {
            turns: true,
            ahead: true,
            ..self
        }
    }

    /// The same, asked with a body of so many bytes.
    #[must_use]
    pub const fn with_request(self, bytes: usize) -> Self {
        Self {
            request: bytes,
            ..self
        }
    }

    /// `chunks` chunks, one write each, `interval` apart; the first at once.
    #[must_use]
    pub const fn paced(chunks: u32, interval: Duration) -> Self {
        Self {
            chunks,
            burst: 1,
            interval,
            turns: true,
            ahead: false,
            request: REQUEST,
            hold: false,
        }
    }

    /// One chunk, then silence until the agent is released.
    #[must_use]
    pub const fn held() -> Self {
        Self {
            chunks: 1,
            burst: 1,
            interval: Duration::ZERO,
            turns: false,
            ahead: false,
            request: REQUEST,
            hold: true,
        }
    }

    /// Returns true when the answer is streamed.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        self.chunks > 0
    }

    /// The request body: OpenAI's chat completion with the script in its prompt.
    #[must_use]
    pub fn request_body(&self) -> String {
        let mut prompt = format!(
            "play:{}:{}:{}:{}:{}:{}:{}; ",
            self.chunks,
            self.burst,
            self.interval.as_micros(),
            u8::from(self.turns),
            u8::from(self.ahead),
            self.request,
            u8::from(self.hold)
        );
        let frame = |prompt: &str| {
            format!(
                r#"{{"model":"bench","stream":{},"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{prompt}"}}]}}"#,
                self.is_stream()
            )
        };
        let missing = self.request.saturating_sub(frame(&prompt).len());
        prompt.extend(std::iter::repeat_n('x', missing));
        frame(&prompt)
    }

    /// Reads the script out of a request, in whatever frame it came.
    #[must_use]
    pub fn find(request: &[u8]) -> Option<Self> {
        let start = memchr::memmem::find(request, b"play:")?.checked_add(5)?;
        let rest = request.get(start..)?;
        let text = std::str::from_utf8(rest.get(..memchr::memchr(b';', rest)?)?).ok()?;
        let mut fields = text.split(':').map(str::parse::<u32>);
        let mut next = || fields.next()?.ok();
        Some(Self {
            chunks: next()?,
            burst: next()?.max(1),
            interval: Duration::from_micros(next()?.into()),
            turns: next()? != 0,
            ahead: next()? != 0,
            request: usize::try_from(next()?).ok()?,
            hold: next()? != 0,
        })
    }
}

/// A script that is being played.
#[derive(Debug)]
pub struct Player {
    script: Script,
    next: u32,
    due: Instant,
}

/// The next action of a player.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the whole answer; this player is done.
    Whole,
    /// Send the chunks of these indexes in one write.
    Chunks(Range<u32>),
    /// Send the end of the stream; this player is done. Its chunks were numbered below this.
    End(u32),
    /// Nothing before this time.
    Wait(Instant),
    /// Nothing before the release.
    Held,
}

impl Player {
    /// Starts to play at `now`.
    #[must_use]
    pub fn new(script: Script, now: Instant) -> Self {
        Self {
            script,
            next: 0,
            due: now,
        }
    }

    /// Returns true when the chunks of all players share a write.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        self.script.ahead
    }

    /// Returns true when this player goes on after a write before another is asked.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        !self.script.turns
    }

    /// The next thing to do. `released` ends the silence of held streams.
    pub fn step(&mut self, now: Instant, released: bool) -> Step {
        let Script {
            chunks,
            burst,
            interval,
            hold,
            ..
        } = self.script;
        if chunks == 0 {
            return Step::Whole;
        }
        if self.next >= chunks {
            return if hold && !released {
                Step::Held
            } else {
                Step::End(self.next)
            };
        }
        if now < self.due {
            return Step::Wait(self.due);
        }
        let first = self.next;
        self.next = chunks.min(first.saturating_add(burst));
        self.due = now + interval;
        Step::Chunks(first..self.next)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_script_survives_the_way_through_a_request() {
        for script in [
            Script::whole(),
            Script::stream(200, 16).turns(),
            Script::paced(5, Duration::from_millis(10)),
            Script::held(),
            Script::stream(200, 1).ahead(),
            Script::whole().with_request(100_000),
        ] {
            let body = script.request_body();
            assert_eq!(Script::find(body.as_bytes()), Some(script));
            assert_eq!(body.len(), script.request);
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
    }

    #[test]
    fn bursts_share_a_write_and_the_last_may_be_short() {
        let now = Instant::now();
        let mut player = Player::new(Script::stream(20, 16), now);
        assert_eq!(player.step(now, false), Step::Chunks(0..16));
        assert_eq!(player.step(now, false), Step::Chunks(16..20));
        assert_eq!(player.step(now, false), Step::End(20));
    }

    #[test]
    fn a_held_stream_is_silent_until_it_is_released() {
        let now = Instant::now();
        let mut player = Player::new(Script::held(), now);
        assert_eq!(player.step(now, false), Step::Chunks(0..1));
        assert_eq!(player.step(now, false), Step::Held);
        assert_eq!(player.step(now, true), Step::End(1));
    }

    #[test]
    fn a_chunk_is_32_bytes_marked_once_and_tells_when_it_was_sent() {
        let content = content(clock());
        assert_eq!((content.len(), CONTENT.len()), (32, 32));
        assert_eq!(CONTENT.bytes().filter(|b| *b == MARK).count(), 1);
        assert_eq!(WHOLE.len(), 256);
        assert_eq!(content.bytes().filter(|b| *b == MARK).count(), 1);
        assert_eq!(
            sent(content.trim_start_matches('~').as_bytes()).unwrap() / 10_000_000,
            clock() / 10_000_000
        );
        assert_eq!(sent(CONTENT.trim_start_matches('~').as_bytes()), None);
        assert_eq!(WHOLE.bytes().filter(|b| *b == MARK).count(), 1);
    }
}
