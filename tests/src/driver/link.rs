//! One agent's connection: what lies between the engine and the agent.

use super::client::{Same, send};
use super::ready::{Alarm, Ready, Who};
use crate::agent;
use crate::response::Reader;
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::hub::{Dialled, Hello};
use mcp_local_provider_core::id::{ExchangeId, LinkId};
use mcp_local_provider_core::link::{CloseCode, Link, LinkCounters, LinkOut};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next};
use mcp_local_provider_engine::converse::{Converse, Frame, Turn};
use mcp_local_provider_engine::link::{Connected, Inbox, LinkCell};
use mcp_local_provider_engine::{Engine, OpenSocket};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

/// A connection of which the engine knows.
#[derive(Debug)]
pub struct Wire {
    /// Frames that were sent to the agent and that it has not read.
    pub inbox: VecDeque<Frame>,
    /// False once the connection is gone.
    pub alive: bool,
    /// Frames for which there is room until the agent reads more; `None`: it reads all that comes.
    pub(super) room: Option<usize>,
    /// Frames that the writer has taken and for which there was no room.
    pub(super) writing: VecDeque<Frame>,
    /// Cost of the frames that the writer has taken, until all of them are written.
    pub(super) taken_bytes: usize,
    /// The code it was closed with.
    pub closed: Option<CloseCode>,
    link: Box<dyn Converse>,
    cell: Arc<LinkCell>,
    pub(super) alarm: Alarm,

    turn: Turn,
    /// Frames that have come and were not read.
    arrived: VecDeque<String>,
    socket: Option<OpenSocket>,
    /// Exchanges that the agent was asked for.
    asked: HashSet<ExchangeId>,
    /// Those of them that were cancelled.
    cancelled: HashSet<ExchangeId>,
}

/// Looks into the socket that a link may need before its deadlines are served.
const MOST_LOOKS: usize = 3;

/// Introduces a connection to the engine.
pub(super) fn connect(
    engine: &Arc<Engine>,
    token: Option<&str>,
) -> Result<Box<dyn Converse>, Refusal> {
    let hello = Hello {
        token,
        dialled: None,
    };
    Ok(Box::new(Connected::new(engine, hello)?))
}

/// Introduces an agent that the program starts.
pub(super) fn start(engine: &Arc<Engine>, name: &str) -> Result<Box<dyn Converse>, Refusal> {
    let hello = Hello {
        token: None,
        dialled: Some(Dialled {
            name,
            ..Dialled::default()
        }),
    };
    Ok(Box::new(Connected::new(engine, hello)?))
}

/// The same by the handshake of a WebSocket; the status of the answer where that is refused.
pub(super) fn upgrade(engine: &Arc<Engine>, token: Option<&str>) -> Result<Box<dyn Converse>, u16> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let mut request = format!(
        "GET /agent HTTP/1.1\r\nhost: localhost\r\n{}connection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        authorization.unwrap_or_default()
    )
    .into_bytes();
    let client = engine.connect().expect("limits.connections are many");
    let mut connection = ClientConnection::new(client, [127, 0, 0, 1].into(), Listener::All);
    let (mut reader, mut status) = (Reader::new("GET"), None);
    loop {
        match connection.poll(&mut Same(Waker::noop())) {
            Next::Receive(_) if !request.is_empty() => send(&mut connection, &mut request, 0),
            Next::Write => {
                let bytes = connection.unwritten().concat();
                connection.wrote(bytes.len());
                status = status.or(reader.read(&bytes).0.map(|head| head.status()));
            }
            Next::Upgraded => {
                let (link, rest) = connection.into_conversation().expect("a conversation");
                assert!(rest.is_empty() && status == Some(101), "{status:?}");
                return Ok(link);
            }
            Next::Receive(_) | Next::Finish | Next::Close | Next::Wait(_) | Next::Measure => {
                return Err(status.expect("an answer to a handshake"));
            }
        }
    }
}

impl Wire {
    pub(super) fn new(engine: &Arc<Engine>, link: Box<dyn Converse>, ready: &Arc<Ready>) -> Self {
        let id = LinkId(link.number());
        Self {
            inbox: VecDeque::new(),
            alive: true,
            closed: None,
            alarm: Alarm::new(Who::Link(id), ready),
            cell: engine.link(id).expect("a link that is known"),
            link,
            room: None,
            writing: VecDeque::new(),
            taken_bytes: 0,
            turn: Turn::default(),
            arrived: VecDeque::new(),
            socket: Some(engine.open_socket()),
            asked: HashSet::new(),
            cancelled: HashSet::new(),
        }
    }

    pub(super) fn id(&self) -> LinkId {
        self.cell.id()
    }

    /// True while the agent reads all that comes.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.room.is_none()
    }

    /// A turn of reading.
    pub(super) fn read(&mut self, receive: impl FnOnce(&dyn Converse, &mut Turn)) {
        self.link.begin(&mut self.turn);
        receive(&*self.link, &mut self.turn);
        if self.link.finish(&mut self.turn) && self.alive {
            self.alarm.ring();
        }
    }

    /// A frame comes while nobody reads.
    pub(super) fn arrive(&mut self, frame: String) {
        self.arrived.push_back(frame);
    }

    /// What came while nobody read is read.
    pub(super) fn read_arrived(&mut self) {
        let arrived = std::mem::take(&mut self.arrived);
        self.read(|link, turn| {
            for frame in &arrived {
                link.receive(turn, frame);
            }
        });
    }

    /// The writer's turn. True when the connection is to be closed after it.
    pub(super) fn write(&mut self, now: Instant) -> bool {
        let waker = self.alarm.reset().clone();
        if !self.alive {
            return false;
        }
        for looks in 0.. {
            self.link.begin(&mut self.turn);
            self.alarm.until = self.link.serve_timers(&mut self.turn, false);
            if self.alarm.until.is_none_or(|until| until > now) {
                break;
            }
            assert!(looks <= MOST_LOOKS, "it is late for ever");
            while let Some(frame) = self.arrived.pop_front() {
                self.link.receive(&mut self.turn, &frame);
            }
            self.link.finish(&mut self.turn);
        }
        self.link.finish(&mut self.turn);
        // As the writers of the drivers do, it takes more before it tells that all is written.
        let mut more = true;
        loop {
            self.pass_on();
            if self.writing.is_empty() && std::mem::take(&mut more) {
                self.taken_bytes = self.cell.look(|_, out| out.queued_bytes);
                self.link.take_frames(&mut self.writing);
                if !self.writing.is_empty() {
                    self.look_at_taken();
                    continue;
                }
            }
            let written = self.writing.is_empty();
            let waiting = self.link.wait_to_write(&waker, written);
            self.closed = self.closed.or(waiting.close);
            if self.closed.is_some() {
                // All is written before the connection is closed.
                self.room = None;
            }
            more = waiting.frames;
            let goes_on = if written { more } else { self.closed.is_some() };
            if !goes_on {
                return self.closed.is_some();
            }
        }
    }

    /// The agent's socket takes what it has room for.
    fn pass_on(&mut self) {
        let count = self.room.unwrap_or(usize::MAX).min(self.writing.len());
        self.inbox.extend(self.writing.drain(..count));
        self.room = self.room.map(|room| room - count);
    }

    /// Checks that frames about exchanges make sense.
    fn look_at_taken(&mut self) {
        for frame in &self.writing {
            if let Some(id) = agent::invoked(frame) {
                assert!(self.asked.insert(id), "{id} was asked twice");
            } else if let Some(id) = agent::cancelled(frame) {
                assert!(self.asked.contains(&id), "{id} was never asked");
                assert!(self.cancelled.insert(id), "{id} cancelled twice");
            }
        }
    }

    /// Serves the deadlines before their time: nothing may come of it.
    pub(super) fn prod(&mut self) {
        if !self.alive || self.alarm.is_woken() {
            return;
        }
        let frames = self.cell.look(|_, out| out.messages.len());
        self.link.begin(&mut self.turn);
        let until = self.link.serve_timers(&mut self.turn, false);
        assert!(
            !self.link.finish(&mut self.turn) || !self.writing.is_empty(),
            "early"
        );
        assert!(until >= self.alarm.until, "an early call moved a timer");
        let after = self.cell.look(|_, out| out.messages.len());
        assert_eq!(after, frames, "a link came early");
    }

    /// The connection is gone.
    pub(super) fn lose(&mut self) {
        self.link.disconnect();
        self.alive = false;
        self.writing.clear();
        self.alarm.until = None;
        self.socket = None;
        self.cell.look(|link, out| {
            assert_eq!(link.open_exchanges(), 0, "open on a link that is gone");
            assert_eq!(link.tombstones(), 0, "a dead link remembers");
            assert_eq!(link.poll_timeout(), None, "a dead link waits");
            assert!(out.messages.is_empty() && out.queued_bytes == 0, "{out:?}");
        });
    }

    /// Shows the link, and what is to be written and told, to `look`.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Link<Arc<Inbox>>, &LinkOut) -> R) -> R {
        self.cell.look(look)
    }

    /// Returns the counters of the link.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        self.cell.look(|link, _| *link.counters())
    }

    /// True when everything that is for the agent lies before it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.writing.is_empty() && self.cell.look(|_, out| out.messages.is_empty())
    }

    /// Invocations and cancels that were written.
    #[must_use]
    pub fn written(&self) -> (usize, usize) {
        (self.asked.len(), self.cancelled.len())
    }
}
