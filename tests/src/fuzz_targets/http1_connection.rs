//! The machine of one HTTP/1.1 connection, with answers in between and one interruption at any byte.

use super::http1_differential::{is_framed, other_body, path};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{
    Connection, ConnectionLimits, Event, HeadLimits, ServerConnection, State, Version,
};
use std::time::Duration;
use ureq_proto::server::Reply;
use ureq_proto::server::state::RecvRequest;

/// Small, so that inputs of a few hundred bytes reach them.
const LIMITS: ConnectionLimits = ConnectionLimits {
    sizes: HeadLimits {
        head: 512,
        target: 64,
    },
    head: Duration::from_secs(5),
    body: Duration::from_secs(30),
};

/// Bytes of a body that is read whole.
const BODY: u64 = 128;

/// Bytes of a body that is soon too large.
const SMALL_BODY: u64 = 4;

/// However the bytes are cut on their way, the same requests, bodies and answers come out of them; each request begins where
/// another codec says that the one before has ended; nothing follows an answer that says so.
///
/// The first byte is the place of the interruption, the second its kind and the number of choices, which follow: one for each
/// request. The rest is what the client sends.
pub fn http1_connection(data: &[u8]) {
    let [at, kind, rest @ ..] = data else {
        return;
    };
    let (choices, bytes) = rest.split_at(usize::from(kind >> 4).min(rest.len()));
    let script = Script {
        at: usize::from(*at).min(bytes.len()),
        interruption: match kind & 0x0F {
            0..6 => Interruption::Nothing,
            6..9 => Interruption::Deadline,
            9..12 => Interruption::End,
            12..14 => Interruption::Shutdown,
            _ => Interruption::Lost,
        },
        choices,
    };
    let whole = serve(&script, bytes, bytes.len().max(1));
    compare(&whole, bytes);
    for size in [1, 2 + data.len() % 61] {
        let pieces = serve(&script, bytes, size);
        compare(&pieces, bytes);
        // A shutdown ends a connection that is idle at that moment, so it depends on what has come.
        if script.interruption != Interruption::Shutdown {
            assert_eq!(pieces, whole, "in pieces of {size} bytes");
        }
    }
}

/// Event that does not come from the client's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interruption {
    Nothing,
    /// The next deadline passes.
    Deadline,
    /// The client sends nothing more.
    End,
    Shutdown,
    /// The connection breaks.
    Lost,
}

struct Script<'d> {
    /// Bytes before the interruption.
    at: usize,
    interruption: Interruption,
    choices: &'d [u8],
}

/// Decisions about one request.
#[derive(Clone, Copy)]
struct Choice(u8);

impl Choice {
    /// The body is read whole, until its first bytes, or not at all.
    const fn reads(self) -> Reads {
        match self.0 & 3 {
            0 | 1 => Reads::Whole,
            2 => Reads::Beginning,
            _ => Reads::Nothing,
        }
    }

    const fn limit(self) -> u64 {
        if self.0 & 4 == 0 { BODY } else { SMALL_BODY }
    }

    const fn closes(self) -> bool {
        self.0 & 8 != 0
    }

    const fn status(self) -> u16 {
        if self.0 & 16 == 0 { 200 } else { 204 }
    }

    const fn length(self) -> Option<u64> {
        if self.0 & 32 == 0 { Some(2) } else { None }
    }

    const fn upgrades(self) -> bool {
        self.0 & 0xC0 == 0xC0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Whole,
    Beginning,
    Nothing,
}

/// A result on a connection.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request {
        /// Place of its first byte.
        start: usize,
        /// Bytes of its head.
        length: usize,
        method: String,
        path: String,
    },
    Body(Vec<u8>),
    /// The reason for which nobody knows where the request ends.
    Lost(&'static str),
    /// True when another request may follow.
    Answered(bool),
    Upgraded(usize),
}

/// Serves a connection whose bytes come in pieces of at most `size`.
fn serve(script: &Script<'_>, bytes: &[u8], size: usize) -> Vec<Seen> {
    let mut driver = Driver {
        connection: ServerConnection::new(Instant::ZERO, LIMITS, false),
        now: Instant::ZERO,
        buffer: Vec::new(),
        taken: 0,
        choices: script.choices.iter(),
        choice: Choice(0),
        version: Version::Http11,
        body: Vec::new(),
        is_over: false,
        seen: Vec::new(),
    };
    let (before, after) = bytes.split_at(script.at);
    before.chunks(size).for_each(|piece| driver.receive(piece));
    match script.interruption {
        Interruption::Nothing => {}
        Interruption::Deadline => driver.late(),
        Interruption::End => driver.end(),
        Interruption::Shutdown => driver.connection.handle_shutdown(driver.now),
        Interruption::Lost => {
            driver.connection.handle_lost();
            driver.is_over = true;
        }
    }
    if script.interruption != Interruption::End {
        after.chunks(size).for_each(|piece| driver.receive(piece));
        driver.end();
    }
    let state = driver.connection.state();
    let ended = matches!(state, State::Closed | State::Lingering | State::Upgraded);
    assert!(ended, "{state:?} after the end of the client");
    driver.seen
}

struct Driver<'s> {
    connection: ServerConnection,
    now: Instant,
    buffer: Vec<u8>,
    /// Bytes that were removed from the buffer.
    taken: usize,
    choices: std::slice::Iter<'s, u8>,
    /// About the request at hand.
    choice: Choice,
    version: Version,
    body: Vec<u8>,
    /// No request may follow.
    is_over: bool,
    seen: Vec<Seen>,
}

impl Driver<'_> {
    fn receive(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        self.go_on();
    }

    /// Shows the machine what has come until it wants more.
    fn go_on(&mut self) {
        loop {
            let mut input = self.buffer.as_slice();
            let event = self.connection.handle_read(self.now, &mut input);
            let used = self.buffer.len() - input.len();
            let mut begins = false;
            let lost = match event {
                Event::More => {
                    self.take(used);
                    return;
                }
                Event::Request(head) => {
                    assert!(!self.is_over, "a request after the last answer");
                    self.version = head.version();
                    self.seen.push(Seen::Request {
                        start: self.taken + used - head.length(),
                        length: head.length(),
                        method: head.method().to_owned(),
                        path: head.path_and_query().to_owned(),
                    });
                    begins = true;
                    None
                }
                Event::Body(data) => {
                    assert!(!data.is_empty(), "no bytes of a body");
                    self.body.extend_from_slice(data);
                    let read = u64::try_from(self.body.len()).unwrap();
                    assert!(read <= self.choice.limit(), "a body over its limit");
                    None
                }
                Event::End => {
                    self.seen.push(Seen::Body(std::mem::take(&mut self.body)));
                    None
                }
                Event::Refused(error) | Event::Misframed(error) => Some(error.message),
                Event::Late | Event::Broken => panic!("not for bytes"),
            };
            self.take(used);
            if begins {
                self.begin();
            } else if let Some(message) = lost {
                assert!(!self.is_over, "an answer after the last one");
                self.lose(message);
            } else if self.connection.state() == State::Asked
                || self.choice.reads() == Reads::Beginning
            {
                self.answer();
            }
            if self.connection.state() == State::Upgraded {
                return;
            }
        }
    }

    fn take(&mut self, used: usize) {
        self.buffer.drain(..used);
        self.taken += used;
    }

    fn begin(&mut self) {
        self.choice = Choice(self.choices.next().copied().unwrap_or(0));
        self.body.clear();
        if self.choice.upgrades() {
            self.connection.upgrade();
            self.is_over = true;
            self.seen.push(Seen::Upgraded(self.taken));
        } else if self.choice.reads() == Reads::Nothing {
            self.answer();
        } else if let Err(error) = self.connection.read_body(self.now, self.choice.limit()) {
            assert_eq!(error.status, 413);
            self.lose("announced");
        }
    }

    /// The end of the request cannot be found.
    fn lose(&mut self, why: &'static str) {
        self.seen.push(Seen::Lost(why));
        self.answer();
        assert!(self.is_over, "a connection is kept after {why}");
    }

    fn answer(&mut self) {
        let (status, length) = (self.choice.status(), self.choice.length());
        let framing = self.connection.answer(status, length, self.choice.closes());
        let kept = match framing.connection {
            Connection::Implied => self.version == Version::Http11,
            Connection::KeepAlive => true,
            Connection::Close | Connection::Upgrade => false,
        };
        self.is_over |= !kept;
        self.seen.push(Seen::Answered(kept));
        // While it is written nothing is read, and no time runs.
        let mut input = self.buffer.as_slice();
        let event = self.connection.handle_read(self.now, &mut input);
        assert!(matches!(event, Event::More) && input.len() == self.buffer.len());
        let event = self.connection.handle_timeout(self.now);
        assert!(matches!(event, Event::More));
        assert_eq!(self.connection.state(), State::Answering);
        let has_more = !self.buffer.is_empty();
        self.connection.handle_answered(self.now, has_more);
        if !kept {
            let state = self.connection.state();
            let ends = matches!(state, State::Closed | State::Lingering);
            assert!(ends, "{state:?} after the last answer");
        }
    }

    /// The next deadline passes.
    fn late(&mut self) {
        let Some(deadline) = self.connection.poll_timeout() else {
            return;
        };
        let state = self.connection.state();
        if deadline > self.now {
            assert!(matches!(
                self.connection.handle_timeout(self.now),
                Event::More
            ));
            assert_eq!(self.connection.state(), state, "before the deadline");
        }
        self.now = deadline;
        if let Event::Late = self.connection.handle_timeout(self.now) {
            assert_eq!(state, State::Body);
            self.lose("late");
        }
        self.is_over |= matches!(self.connection.state(), State::Closed | State::Lingering);
    }

    fn end(&mut self) {
        if let Event::Broken = self.connection.handle_end(self.now) {
            self.lose("broken");
        }
        self.is_over = true;
        self.go_on();
    }
}

/// Compares the places of requests, and the bodies, with those that another codec finds.
fn compare(seen: &[Seen], bytes: &[u8]) {
    // Place at which the next request has to begin; unknown where the other codec is stricter.
    let mut next = Some(0);
    let mut last: Option<Vec<u8>> = None;
    for one in seen {
        match one {
            Seen::Request {
                start,
                length,
                method,
                path: target,
            } => {
                assert_eq!(*start, next.unwrap_or(*start), "the start of a request");
                let rest = &bytes[*start..];
                let mut other = Reply::<RecvRequest>::new().unwrap();
                other.force_recv_body();
                let request = match other.try_request(rest) {
                    Ok((other_length, Some(request))) if other_length == *length => request,
                    refused => panic!("the other codec reads another head: {refused:?}"),
                };
                assert_eq!(request.method().as_str(), method);
                assert_eq!(path(&request), target);
                let rest = &rest[*length..];
                (next, last) = if !is_framed(&request) {
                    (Some(start + length), Some(Vec::new()))
                } else if let Ok((body, used)) = other_body(other, rest) {
                    (Some(start + length + used), Some(body))
                } else {
                    (None, None)
                };
            }
            Seen::Body(body) => {
                if let Some(last) = &last {
                    assert_eq!(body, last, "the body");
                }
            }
            Seen::Upgraded(_) | Seen::Lost(_) | Seen::Answered(_) => {}
        }
    }
}
