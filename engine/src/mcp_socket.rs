//! WebSockets of MCP clients: `/ws` with frames that say which session is meant, and plain messages with the subprotocol `mcp`.
//!
//! A socket reads the own stream of its session, as any other transport does. Its loss ends nothing: whoever attaches to the session
//! again is told what was missed.

use super::Engine;
use super::converse::{Converse, Frame, ToWrite, Turn};
use super::gateway::{Address, Gateway, Initialize, SessionCell, SessionName};
use super::mcp_body::{Read, read};
use super::mcp_events::go_back;
use super::mcp_listening::Listening;
use super::mcp_posted::{Posted, check_batch, check_opening};
use super::mcp_request::{address_of, client, enter, unknown_session};
use crate::ranked::{Ranked, SOCKET};
use mcp_local_provider_core::api::{Accepted, query_value};
use mcp_local_provider_core::error::Refusal as CoreRefusal;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::link::CloseCode;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::events::Closed;
use mcp_local_provider_mcp::greeting::hello;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::socket::{FromClient, code, created, error, frame, tool_call};
use mcp_local_provider_mcp::streams::{Reader, StreamId, Taken};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// The subprotocol of plain messages, as the official SDKs name it.
pub(super) const SUBPROTOCOL: &str = "mcp";

/// Pings without an answer after which the client is taken for lost.
const PINGS: u8 = 2;

/// Frames of the socket's own, refusals say, that may wait for a client that does not read.
const FRAMES: usize = 1024;

/// Shortest time between two pings.
const SOONEST: Duration = Duration::from_millis(10);

/// A session that is opened counts to its client's rate as this does.
const REQUEST: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;

/// Form of what passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// The envelope of `/ws`.
    Envelope,
    /// Messages as they are.
    Plain,
}

/// A client that wants to open a WebSocket.
pub(super) struct Upgrading {
    caller: Caller,
    /// Server in the path.
    server: Option<String>,
    /// `?session_id=`.
    session: Option<String>,
    /// `?last_event_id=`.
    last_event: Option<String>,
}

impl Upgrading {
    /// Reads the head of the request.
    pub(super) fn read(
        engine: &Engine,
        accepted: &Accepted<'_>,
        target: &str,
    ) -> Result<Self, CoreRefusal> {
        let (_, caller) = enter(engine, accepted, Transport::WebSocket)?;
        let query = |name| query_value(target, name).map(std::borrow::Cow::into_owned);
        let server = accepted.parameters.get("server");
        Ok(Self {
            caller,
            server: server.map(std::borrow::Cow::into_owned),
            session: query("session_id"),
            last_event: query("last_event_id"),
        })
    }

    /// Makes our side of the socket. `plain` when the client asks for the subprotocol. The id is that of the session that a plain
    /// socket has, or will have.
    pub(super) fn open(
        self,
        engine: &Arc<Engine>,
        plain: bool,
    ) -> Result<(Socket, Option<Box<str>>), Refusal> {
        let Some(gateway) = engine.gateway() else {
            return Err(unknown_session());
        };
        let form = if plain || self.server.is_some() {
            Form::Plain
        } else {
            Form::Envelope
        };
        // One that is attached has its servers.
        let opens = form == Form::Plain && self.session.is_none();
        let address = opens
            .then(|| address_of(gateway, &self.caller, self.server.as_deref()))
            .transpose()?;
        let every = gateway.config().timeouts.heartbeat;
        let name = gateway.mint();
        let number = name.1;
        let mut inner = Inner {
            state: State::Unbound(name),
            own: VecDeque::new(),
            waker: None,
            close: None,
            ping: engine.clock() + every,
            unanswered: 0,
            has_changed: false,
        };
        if let Some(id) = &self.session {
            let last_event = self.last_event.as_deref();
            let (listening, frame) = attach(engine, gateway, &self.caller, id, last_event)?;
            if form == Form::Envelope {
                inner.own.push_back(Frame::Text(frame));
            }
            inner.state = State::Attached(listening);
        }
        let id = match (&inner.state, form) {
            (State::Unbound(name), Form::Plain) => Some(name.0.clone()),
            (State::Attached(listening), Form::Plain) => Some(listening.cell.id.clone()),
            (State::Opening { .. } | State::Gone, Form::Plain) | (_, Form::Envelope) => None,
        };
        let socket = Socket {
            engine: engine.clone(),
            caller: self.caller,
            address,
            form,
            number,
            inner: Ranked::new(inner),
        };
        Ok((socket, id))
    }
}

/// Our side of a client's WebSocket.
pub(super) struct Socket {
    engine: Arc<Engine>,
    caller: Caller,
    /// Where a plain socket opens its session.
    address: Option<Address>,
    form: Form,
    number: u64,
    inner: Ranked<Inner, SOCKET>,
}

struct Inner {
    state: State,
    /// What the socket itself says, before what its session says.
    own: VecDeque<Frame>,
    /// Who writes.
    waker: Option<Waker>,
    close: Option<CloseCode>,
    /// Time of the next ping.
    ping: Instant,
    /// Pings that nothing has come after.
    unanswered: u8,
    /// There is something to do for who writes.
    has_changed: bool,
}

enum State {
    /// There is no session. The next one has this name.
    Unbound(SessionName),
    /// The server of a session that the client has asked for is not ready.
    Opening {
        cell: Arc<SessionCell>,
        stream: StreamId,
        reader: Reader,
    },
    Attached(Listening),
    /// The connection is lost, or about to be closed.
    Gone,
}

/// Reads a session's own stream from now on, and says so.
fn attach(
    engine: &Arc<Engine>,
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
    last_event: Option<&str>,
) -> Result<(Listening, String), Refusal> {
    let cell = gateway
        .session(id, &client(caller))
        .ok_or_else(unknown_session)?;
    let greeting = cell.machine.lock().greeting().cloned();
    let greeting = greeting
        .ok_or_else(|| Refusal::new(Reason::BadRequest, "the session's server is not ready yet"))?;
    if let Some(event) = last_event {
        go_back(&cell, event)?;
    }
    let listening = Listening::new(engine, &cell, StreamId::SESSION).ok_or_else(unknown_session)?;
    let replayed = cell.machine.lock().streams().news(StreamId::SESSION);
    let expires = expiry(engine, gateway, &cell);
    let frame = created(id, &greeting, &expires, Some(replayed));
    Ok((listening, frame))
}

/// The time at which a session ends if no request comes.
fn expiry(engine: &Engine, gateway: &Gateway, cell: &SessionCell) -> String {
    let at = cell.machine.lock().expires();
    let at = at.unwrap_or_else(|| engine.clock() + gateway.config().sessions.idle);
    engine.wall().rfc3339(at)
}

impl Inner {
    fn say(&mut self, text: String) {
        if self.own.len() >= FRAMES {
            self.close = Some(CloseCode::NotReading);
        } else {
            self.own.push_back(Frame::Text(text));
        }
        self.has_changed = true;
    }

    fn shut(&mut self, code: CloseCode) {
        self.close = self.close.or(Some(code));
        self.state = State::Gone;
        self.has_changed = true;
    }
}

impl Socket {
    /// Says that something was wrong. `id` is that of the request that it is about.
    fn refuse(&self, inner: &mut Inner, refusal: &Refusal, id: Option<&str>) {
        inner.say(match self.form {
            Form::Envelope => error(code(refusal.reason), &refusal.message, id),
            Form::Plain => refusal.answer(id.unwrap_or("null")),
        });
    }

    /// Says why the socket is closed, and closes it.
    fn end(&self, inner: &mut Inner, close: CloseCode) {
        if self.form == Form::Envelope {
            let (code, message) = match close {
                CloseCode::Replaced => ("replaced", "another connection reads this session now"),
                CloseCode::SessionEnded => ("session_not_found", "Session not found: it has ended"),
                CloseCode::GoingAway => ("drain", "the program is about to end"),
                CloseCode::TooLarge => ("too_large", "the frame is too long (limits.body_bytes)"),
                CloseCode::Normal
                | CloseCode::Policy
                | CloseCode::Protocol
                | CloseCode::NoSignOfLife
                | CloseCode::NotReading => ("bad_request", close.reason()),
            };
            inner.say(error(code, message, None));
        }
        inner.shut(close);
    }

    fn take(&self, inner: &mut Inner, text: &str) {
        if let State::Gone = inner.state {
            return;
        }
        let Some(gateway) = self.engine.gateway() else {
            return;
        };
        // The key may have gone since the socket was opened.
        if self.engine.policy().keys.confirm(&self.caller).is_err() {
            return inner.shut(CloseCode::Policy);
        }
        let taken = match self.form {
            Form::Plain => Ok(FromClient::Bare),
            Form::Envelope => FromClient::read(text),
        };
        let done = taken.and_then(|frame| match frame {
            FromClient::Bare => {
                self.pass(inner, gateway, text);
                Ok(())
            }
            FromClient::Create {
                client,
                server,
                capabilities,
            } => {
                let hello = hello(capabilities, None, &client)?;
                self.create(inner, gateway, &client, server.as_deref(), &hello)
            }
            FromClient::Attach {
                session,
                last_event,
            } => {
                unbound(inner)?;
                let last_event = last_event.as_deref();
                let (engine, caller) = (&self.engine, &self.caller);
                let (listening, frame) = attach(engine, gateway, caller, &session, last_event)?;
                inner.say(frame);
                inner.state = State::Attached(listening);
                Ok(())
            }
            FromClient::Close => match &inner.state {
                State::Attached(listening) => {
                    gateway.end(&self.engine, &listening.cell);
                    inner.has_changed = true;
                    Ok(())
                }
                State::Unbound(_) | State::Opening { .. } | State::Gone => Err(no_session()),
            },
        });
        if let Err(refusal) = done {
            self.refuse(inner, &refusal, None);
        }
    }

    /// Opens a session that the gateway itself initializes.
    fn create(
        &self,
        inner: &mut Inner,
        gateway: &Gateway,
        name: &str,
        server: Option<&str>,
        hello: &str,
    ) -> Result<(), Refusal> {
        let session = unbound(inner)?.clone();
        let address = address_of(gateway, &self.caller, server)?;
        let request = Message::read(REQUEST)
            .ok()
            .map(|request| (REQUEST, request));
        Posted::new(gateway, &self.engine, &self.caller, Transport::WebSocket)
            .admit(request.as_slice())?;
        let mut client = client(&self.caller);
        client.name = name.chars().take(128).collect::<String>().into();
        let (cell, stream) = gateway.open(
            &self.engine,
            client,
            &self.caller,
            &address,
            session,
            &Initialize {
                id: "0",
                params: hello,
                transport: Transport::WebSocket,
            },
        )?;
        let reader = cell.call(|session, _| session.streams_mut().read(stream));
        let (reader, _) = reader.ok_or_else(unknown_session)?;
        inner.state = State::Opening {
            cell,
            stream,
            reader,
        };
        inner.has_changed = true;
        Ok(())
    }

    /// Takes messages.
    fn pass(&self, inner: &mut Inner, gateway: &Gateway, text: &str) {
        let (messages, is_batch) = match read(text.as_bytes()) {
            Ok(read) => read,
            Err(refusal) => return self.refuse(inner, &refusal, None),
        };
        let passed = match (&inner.state, self.form) {
            (State::Attached(listening), _) => {
                let cell = listening.cell.clone();
                self.forward(gateway, &cell, &messages, is_batch)
            }
            (State::Unbound(name), Form::Plain) => {
                let name = name.clone();
                self.initialize(inner, gateway, &messages, is_batch, name)
            }
            (State::Unbound(_), Form::Envelope) | (State::Opening { .. } | State::Gone, _) => {
                Err(no_session())
            }
        };
        if let Err(refusal) = passed {
            let id = match messages.as_slice() {
                [(_, Message::Request { id, .. })] => Some(id.get()),
                _ => None,
            };
            self.refuse(inner, &refusal, id);
        }
    }

    /// Opens the session of a plain socket.
    fn initialize(
        &self,
        inner: &mut Inner,
        gateway: &Gateway,
        messages: &[Read<'_>],
        is_batch: bool,
        name: SessionName,
    ) -> Result<(), Refusal> {
        let posted = Posted::new(gateway, &self.engine, &self.caller, Transport::WebSocket);
        posted.admit(messages)?;
        check_opening(messages)?;
        let address = self.address.as_ref().ok_or_else(no_session)?;
        let (cell, stream) = posted.open(messages, is_batch, name, address)?;
        let listening = Listening::new(&self.engine, &cell, stream).ok_or_else(unknown_session)?;
        inner.state = State::Attached(listening);
        inner.has_changed = true;
        Ok(())
    }

    /// Passes messages on to the session.
    fn forward(
        &self,
        gateway: &Gateway,
        cell: &Arc<SessionCell>,
        messages: &[Read<'_>],
        is_batch: bool,
    ) -> Result<(), Refusal> {
        let posted = Posted::new(gateway, &self.engine, &self.caller, Transport::WebSocket);
        let requests = posted.admit(messages)?;
        if self.form == Form::Plain {
            check_batch(cell, is_batch)?;
        }
        let stream = if is_batch && requests > 0 {
            cell.call(|session, _| session.open_batch(requests))
        } else {
            StreamId::SESSION
        };
        for (text, message) in messages {
            let called = match self.form {
                Form::Envelope => tool_call(message),
                Form::Plain => Ok(None),
            };
            let passed = called.and_then(|called| match called {
                None => posted.forward(cell, text, message, stream),
                Some(call) => match Message::read(&call) {
                    Ok(message) => posted.forward(cell, &call, &message, stream),
                    Err(_) => Err(Refusal::new(
                        Reason::BadRequest,
                        "the request cannot be read as a call of a tool",
                    )),
                },
            });
            let Err(refusal) = passed else { continue };
            match message {
                Message::Request { id, .. } if is_batch => {
                    let now = self.engine.clock();
                    cell.call(|session, wake| session.refuse(now, stream, *id, &refusal, wake));
                }
                Message::Request { .. } | Message::Notification(_) | Message::Response { .. } => {
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    /// Goes on once the server of a new session is ready.
    fn look(&self, inner: &mut Inner, waker: &Waker) {
        let State::Opening {
            cell,
            stream,
            reader,
        } = &inner.state
        else {
            return;
        };
        let Some(gateway) = self.engine.gateway() else {
            return;
        };
        let opened = cell.call(|session, _| session.poll_open(*stream, *reader, waker));
        let opened = match opened {
            Poll::Pending => return,
            Poll::Ready(opened) => opened.and_then(|greeting| {
                let listening = Listening::new(&self.engine, cell, StreamId::SESSION);
                Ok((greeting, listening.ok_or_else(unknown_session)?))
            }),
        };
        match opened {
            Ok((greeting, listening)) => {
                let expires = expiry(&self.engine, gateway, cell);
                let frame = created(&cell.id, &greeting, &expires, None);
                inner.say(frame);
                inner.state = State::Attached(listening);
            }
            Err(refusal) => {
                inner.state = State::Unbound(gateway.mint());
                self.refuse(inner, &refusal, None);
            }
        }
    }

    /// True when nothing that the client waits for is on its way.
    fn is_at_rest(inner: &Inner) -> bool {
        match &inner.state {
            State::Unbound(_) | State::Gone => true,
            State::Opening { .. } => false,
            State::Attached(listening) => listening.is_at_rest(),
        }
    }
}

/// The name of the session that may be opened.
fn unbound(inner: &Inner) -> Result<&SessionName, Refusal> {
    match &inner.state {
        State::Unbound(name) => Ok(name),
        State::Opening { .. } | State::Attached(_) | State::Gone => Err(Refusal::new(
            Reason::BadRequest,
            "this socket has a session; open another socket for another session",
        )),
    }
}

fn no_session() -> Refusal {
    Refusal::new(
        Reason::NoSession,
        "this socket has no session; send create_session or attach_session, and wait for session_created",
    )
}

impl Converse for Socket {
    fn number(&self) -> u64 {
        self.number
    }

    fn frame_bytes(&self) -> usize {
        self.engine.config().limits.body_bytes
    }

    fn begin(&self, turn: &mut Turn) {
        turn.start(self.engine.now());
    }

    fn receive(&self, turn: &mut Turn, text: &str) {
        turn.count(text.len());
        let mut inner = self.inner.lock();
        inner.unanswered = 0;
        if text.len() > self.frame_bytes() {
            self.end(&mut inner, CloseCode::TooLarge);
        } else {
            self.take(&mut inner, text);
        }
    }

    fn receive_binary(&self, turn: &mut Turn) {
        turn.count(0);
        let mut inner = self.inner.lock();
        inner.unanswered = 0;
        let refusal = Refusal::new(Reason::BadRequest, "a message is a text frame");
        self.refuse(&mut inner, &refusal, None);
    }

    fn alive(&self, turn: &mut Turn) {
        turn.count(0);
        self.inner.lock().unanswered = 0;
    }

    fn finish(&self, turn: &mut Turn) -> bool {
        turn.wake.drain(..).for_each(Waker::wake);
        std::mem::take(&mut self.inner.lock().has_changed)
    }

    fn serve_timers(&self, turn: &mut Turn, alive: bool) -> Option<Instant> {
        let mut inner = self.inner.lock();
        if alive {
            inner.unanswered = 0;
        }
        if turn.now >= inner.ping {
            if inner.unanswered >= PINGS {
                self.end(&mut inner, CloseCode::NoSignOfLife);
            } else {
                inner.unanswered += 1;
                inner.own.push_back(Frame::Ping);
                let gateway = self.engine.gateway();
                let every = gateway.map(|gateway| gateway.config().timeouts.heartbeat);
                inner.ping = turn.now + every.unwrap_or_default().max(SOONEST);
            }
        }
        inner.close.is_none().then_some(inner.ping)
    }

    fn take_frames(&self, into: &mut VecDeque<Frame>) {
        let mut inner = self.inner.lock();
        into.append(&mut inner.own);
        let waker = inner.waker.clone();
        let State::Attached(listening) = &mut inner.state else {
            return;
        };
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        let taken = listening.take(waker, &mut |at, text| {
            into.push_back(Frame::Text(match self.form {
                Form::Envelope => frame(at, text),
                Form::Plain => text.to_owned(),
            }));
        });
        let closed = listening.cell.closed();
        match (taken, closed) {
            (Taken::Waiting, _) => {}
            (Taken::Replaced, _) => self.end(&mut inner, CloseCode::Replaced),
            (Taken::Ended, Closed::Drain) => self.end(&mut inner, CloseCode::GoingAway),
            (Taken::Ended, Closed::Deleted | Closed::Expired | Closed::Replaced) => {
                self.end(&mut inner, CloseCode::SessionEnded);
            }
        }
        into.append(&mut inner.own);
    }

    fn wait_to_write(&self, waker: &Waker, _written: bool) -> ToWrite {
        if let Some(gateway) = self.engine.gateway() {
            gateway.hear_of_drain(self.number, waker);
        }
        let mut inner = self.inner.lock();
        inner.waker = Some(waker.clone());
        self.look(&mut inner, waker);
        let has_news = match &mut inner.state {
            State::Attached(listening) => listening.has_news(waker),
            State::Unbound(_) | State::Opening { .. } | State::Gone => false,
        };
        let is_over = self.engine.is_draining() && !has_news && Self::is_at_rest(&inner);
        if is_over && inner.close.is_none() {
            self.end(&mut inner, CloseCode::GoingAway);
        }
        ToWrite {
            frames: has_news || !inner.own.is_empty(),
            close: inner.close,
            // Pings alone have one, and only they move it.
            sooner: false,
        }
    }

    fn disconnect(&self) {
        let mut inner = self.inner.lock();
        let before = std::mem::replace(&mut inner.state, State::Gone);
        drop(inner);
        let Some(gateway) = self.engine.gateway() else {
            return;
        };
        gateway.forget_waker(self.number);
        match before {
            // Nobody knows its id.
            State::Opening { cell, .. } => gateway.end(&self.engine, &cell),
            State::Unbound(_) | State::Attached(_) | State::Gone => {}
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.number)
    }
}
