//! The transport of revision 2024-11-05, HTTP+SSE: a GET opens a stream that says where messages are to be sent, and everything for
//! the client comes on it. There is no resumption: a session ends with its stream.

use super::Engine;
use super::account::Account;
use super::answer::Answer;
use super::gateway::{Gateway, Reservation, SessionCell};
use super::inbound::Inbound;
use super::mcp_body::{Read, read};
use super::mcp_listening::Listening;
use super::mcp_posted::{Posted, check_batch, check_opening};
use super::mcp_request::{Asked, address_of, check, client, enter, refuse, unknown_session};
use super::request::Step;
use super::running::{Polled, Respond, Running};
use mcp_local_provider_core::api::{Accepted, Answered, query_value};
use mcp_local_provider_core::error::{Code, Refusal as CoreRefusal};
use mcp_local_provider_core::exchange::{EVENT_STREAM, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::rpc::Message as Rpc;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::streams::{StreamId, Taken, write_message};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Begins a stream.
pub(crate) fn begin(inbound: Inbound, accepted: &Accepted<'_>, asked: &Asked<'_>) -> Step {
    let engine = inbound.account.engine().clone();
    let (gateway, caller) = match enter(&engine, accepted, Transport::Sse) {
        Ok(entered) => entered,
        Err(refusal) => return inbound.refuse(&refusal).into(),
    };
    let named = accepted.parameters.get("server");
    let address = address_of(gateway, &caller, named.as_deref());
    let address = match address.and_then(|address| check(asked).map(|()| address)) {
        Ok(address) => address,
        Err(refusal) => return refuse(inbound, &refusal, "null").into(),
    };
    let reservation = gateway.reserve(client(&caller), address);
    let path = asked.target.split('?').next().unwrap_or_default();
    let path = path.trim_end_matches('/');
    let times = gateway.config().timeouts;
    let streaming = Streaming {
        endpoint: format!("{path}/messages?session_id={}", reservation.name.0),
        id: inbound.account.id(),
        heartbeat: engine.clock() + times.heartbeat,
        every: times.heartbeat,
        engine: engine.clone(),
        reservation,
        listening: None,
        has_begun: false,
        is_replaced: false,
        bytes_out: 0,
    };
    Step::Running(Running::new(Box::new(streaming), inbound))
}

/// The stream of one session.
struct Streaming {
    engine: Arc<Engine>,
    reservation: Arc<Reservation>,
    /// Once the session is open.
    listening: Option<Listening>,
    /// The reference that the client sends its messages to.
    endpoint: String,
    id: ExchangeId,
    has_begun: bool,
    /// Somebody else reads the session, which goes on.
    is_replaced: bool,
    /// Time of the next comment, so that nobody in between takes the stream for dead.
    heartbeat: Instant,
    every: Duration,
    bytes_out: u64,
}

impl Respond for Streaming {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let before = reply.body.len();
        if !self.has_begun {
            self.has_begun = true;
            let mut head = ReplyHead::new(200, EVENT_STREAM, self.id);
            head.streamed = true;
            reply.head = Some(head);
            sse::begin(&mut reply.body, Some("endpoint"));
            reply.body.extend_from_slice(self.endpoint.as_bytes());
            sse::end(&mut reply.body);
        }
        if self.listening.is_none()
            && let Some((cell, stream)) = self.reservation.poll(waker)
        {
            self.listening = Listening::new(&self.engine, &cell, stream);
        }
        let (taken, is_at_rest) = match &mut self.listening {
            Some(listening) => {
                let taken = listening.take(waker, &mut |_, text| {
                    write_message(text, &mut reply.body);
                });
                (taken, listening.is_at_rest())
            }
            None => (Taken::Waiting, true),
        };
        let is_quiet = reply.body.len() == before;
        if is_quiet && now >= self.heartbeat {
            sse::write_comment(&mut reply.body, "keep-alive");
        }
        if reply.body.len() > before {
            self.heartbeat = now + self.every;
            self.bytes_out += (reply.body.len() - before) as u64;
        }
        match taken {
            Taken::Replaced => {
                self.is_replaced = true;
                self.ended()
            }
            Taken::Ended => self.ended(),
            Taken::Waiting if is_at_rest && self.engine.is_draining() => self.ended(),
            Taken::Waiting if reply.body.is_empty() => Polled::Until(Some(self.heartbeat)),
            Taken::Waiting => Polled::Ready,
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        let status = if self.has_begun { 200 } else { CLIENT_GONE };
        Outcome::new(Verdict::ClientGone, status, self.bytes_out)
    }
}

impl Streaming {
    const fn ended(&self) -> Polled {
        Polled::Ended(Outcome::new(Verdict::Completed, 200, self.bytes_out))
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let Some(gateway) = self.engine.gateway() else {
            return;
        };
        let untaken = gateway.shut(&self.reservation);
        let taken = self
            .listening
            .take()
            .map(|listening| listening.cell.clone());
        let ends = taken.or(untaken).filter(|_| !self.is_replaced);
        if let Some(cell) = ends {
            gateway.end(&self.engine, &cell);
        }
    }
}

/// A POST to a session, whose body is still to come.
pub(crate) struct Message {
    caller: Caller,
    session: String,
}

impl fmt::Debug for Message {
    /// Without the id of the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message")
    }
}

/// Begins a POST by its head.
pub(crate) fn message(
    inbound: Inbound,
    accepted: &Accepted<'_>,
    asked: &Asked<'_>,
) -> Result<(Inbound, Message), Box<Answer>> {
    let engine = inbound.account.engine().clone();
    let caller = match enter(&engine, accepted, Transport::Sse) {
        Ok((_, caller)) => caller,
        Err(refusal) => return Err(Box::new(inbound.refuse(&refusal))),
    };
    // Clients of this transport take no answer here, and need not say which form it might have.
    let asked = Asked {
        accept: None,
        ..*asked
    };
    let session = ["session_id", "sessionId"]
        .iter()
        .find_map(|name| query_value(asked.target, name));
    let session = session.ok_or_else(|| {
        Refusal::new(
            Reason::BadRequest,
            "`session_id` is missing in the query; send messages to where the event `endpoint` of GET /sse says",
        )
    });
    match session.and_then(|session| check(&asked).map(|()| session)) {
        Ok(session) => {
            let session = session.into_owned();
            Ok((inbound, Message { caller, session }))
        }
        Err(refusal) => Err(Box::new(refuse(inbound, &refusal, "null"))),
    }
}

impl Message {
    /// Goes on with the whole body.
    pub(crate) fn complete(self, inbound: Inbound, body: &[u8]) -> Answer {
        let engine = inbound.account.engine().clone();
        let Some(gateway) = engine.gateway() else {
            return inbound.refuse(&CoreRefusal::new(Code::NotFound, "no MCP servers"));
        };
        // The key may have gone since the head came.
        if let Err(refusal) = engine.policy().keys.confirm(&self.caller) {
            return inbound.refuse(&refusal);
        }
        let (messages, is_batch) = match read(body) {
            Ok(read) => read,
            Err(refusal) => return refuse(inbound, &refusal, "null"),
        };
        let id = match messages.as_slice() {
            [(_, Rpc::Request { id, .. })] => id.get(),
            _ => "null",
        };
        match self.take(gateway, &engine, &messages, is_batch) {
            Ok(()) => inbound.answered(Ok(Answered::Accepted)),
            Err(refusal) => refuse(inbound, &refusal, id),
        }
    }

    fn take(
        self,
        gateway: &Gateway,
        engine: &Arc<Engine>,
        messages: &[Read<'_>],
        is_batch: bool,
    ) -> Result<(), Refusal> {
        let client = client(&self.caller);
        if let Some(cell) = gateway.session(&self.session, &client) {
            let posted = Posted::new(gateway, engine, &self.caller, Transport::Sse);
            posted.admit(messages)?;
            check_batch(&cell, is_batch)?;
            return pass(&posted, engine, &cell, messages, is_batch);
        }
        let reservation = gateway
            .reservation(&self.session, &client)
            .ok_or_else(unknown_session)?;
        let posted = Posted::new(gateway, engine, &self.caller, Transport::Sse);
        posted.admit(messages)?;
        check_opening(messages)?;
        if !reservation.claim() {
            let message = "this session is initialized already";
            return Err(Refusal::new(Reason::BadRequest, message));
        }
        let (name, address) = (reservation.name.clone(), &reservation.address);
        match posted.open(messages, is_batch, name, address) {
            Ok((cell, stream)) => {
                if !reservation.open(cell.clone(), stream) {
                    gateway.end(engine, &cell);
                }
                Ok(())
            }
            Err(refusal) => {
                reservation.release();
                Err(refusal)
            }
        }
    }
}

/// Passes messages on, whose answers go to the session's own stream.
fn pass(
    posted: &Posted<'_>,
    engine: &Arc<Engine>,
    cell: &Arc<SessionCell>,
    messages: &[Read<'_>],
    is_batch: bool,
) -> Result<(), Refusal> {
    for (text, message) in messages {
        let Err(refusal) = posted.forward(cell, text, message, StreamId::SESSION) else {
            continue;
        };
        match message {
            Rpc::Request { id, .. } if is_batch => cell.call(|session, wake| {
                session.refuse(engine.clock(), StreamId::SESSION, *id, &refusal, wake);
            }),
            Rpc::Request { .. } | Rpc::Notification(_) | Rpc::Response { .. } => {
                return Err(refusal);
            }
        }
    }
    Ok(())
}
