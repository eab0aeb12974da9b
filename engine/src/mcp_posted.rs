//! Messages of clients on their way to their sessions: opening one, limits, and what passes on to servers.

use super::Engine;
use super::gateway::{Address, Gateway, Initialize, SessionCell, SessionName};
use super::inbound::Inbound;
use super::mcp_answering::Responding;
use super::mcp_body::Read;
use super::mcp_request::{admit, client, no_session, unknown_session};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::streams::StreamId;
use std::sync::Arc;

/// Refuses everything but `initialize`, by which a session is opened.
pub(super) fn check_opening(messages: &[Read<'_>]) -> Result<(), Refusal> {
    match messages {
        [(_, Message::Request { call, .. })] if call.method == "initialize" => Ok(()),
        _ => Err(Refusal::new(
            Reason::BadRequest,
            "this session is not open; send `initialize` first",
        )),
    }
}

/// Refuses a batch in a session whose revision has none.
pub(super) fn check_batch(cell: &SessionCell, is_batch: bool) -> Result<(), Refusal> {
    if is_batch && !cell.machine.lock().revision().has_batches() {
        return Err(Refusal::new(
            Reason::BadRequest,
            "batches are of revision 2025-03-26 alone; send each message by itself",
        ));
    }
    Ok(())
}

/// The messages of a caller, on their way to a session.
pub(super) struct Posted<'p> {
    gateway: &'p Gateway,
    engine: &'p Arc<Engine>,
    caller: &'p Caller,
    transport: Transport,
}

impl<'p> Posted<'p> {
    pub(super) const fn new(
        gateway: &'p Gateway,
        engine: &'p Arc<Engine>,
        caller: &'p Caller,
        transport: Transport,
    ) -> Self {
        Self {
            gateway,
            engine,
            caller,
            transport,
        }
    }

    /// Counts messages to the limits of their client. Gives the number of requests among them.
    pub(super) fn admit(&self, messages: &[Read<'_>]) -> Result<usize, Refusal> {
        let asks = |message: &Message<'_>| match message {
            Message::Request { call, .. } => call.method != "ping",
            Message::Notification(_) | Message::Response { .. } => false,
        };
        let is_request = |message: &Message<'_>| matches!(message, Message::Request { .. });
        let requests = messages
            .iter()
            .filter(|(_, message)| is_request(message))
            .count();
        if requests > 0 {
            admit(self.engine)?;
        }
        for _ in messages.iter().filter(|(_, message)| asks(message)) {
            self.gateway
                .count(self.engine.clock(), &client(self.caller))?;
        }
        Ok(requests)
    }

    /// Passes the messages on. There is an answer if one of them is a request.
    pub(super) fn take(
        &self,
        (session, address): (Option<&str>, &Address),
        inbound: &Inbound,
        messages: &[Read<'_>],
        is_batch: bool,
    ) -> Result<Option<Box<Responding>>, Refusal> {
        let requests = self.admit(messages)?;
        let (id, times) = (inbound.account.id(), self.gateway.config().timeouts);
        let Some(session) = session else {
            let name = self.gateway.mint();
            let (cell, stream) = self.open(messages, is_batch, name, address)?;
            let answer = Responding::answer(self.engine, &cell, stream, id, times, true);
            return answer.map(Some).ok_or_else(unknown_session);
        };
        let found = self.gateway.find(session, &client(self.caller), address);
        let cell = found.ok_or_else(unknown_session)?;
        check_batch(&cell, is_batch)?;
        if requests == 0 {
            for (text, message) in messages {
                self.forward(&cell, text, message, StreamId::SESSION)?;
            }
            return Ok(None);
        }
        let stream = cell.call(|session, _| session.open_stream(requests));
        // Before anything can be on it: what nobody reads is bounded more narrowly.
        let answer = Responding::answer(self.engine, &cell, stream, id, times, false);
        let answer = answer.ok_or_else(unknown_session)?;
        for (text, message) in messages {
            if let Err(refusal) = self.forward(&cell, text, message, stream) {
                match message {
                    Message::Request { id, .. } if is_batch => cell.call(|session, wake| {
                        session.refuse(self.engine.clock(), stream, *id, &refusal, wake);
                    }),
                    Message::Request { .. }
                    | Message::Notification(_)
                    | Message::Response { .. } => {
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(Some(answer))
    }

    /// Opens a session with this id, if that is what is asked for.
    pub(super) fn open(
        &self,
        messages: &[Read<'_>],
        is_batch: bool,
        session: SessionName,
        address: &Address,
    ) -> Result<(Arc<SessionCell>, StreamId), Refusal> {
        let hello = match messages {
            [(_, Message::Request { id, call })] if call.method == "initialize" && !is_batch => {
                call.params.map(|params| (id, params))
            }
            _ => return Err(no_session()),
        };
        let Some((id, params)) = hello.filter(|(_, params)| params.get().starts_with('{')) else {
            let message = "`initialize` needs an object as `params`";
            return Err(Refusal::new(Reason::BadParams, message));
        };
        let name = params.path(&["clientInfo", "name"]);
        let name = name.and_then(JsonValue::text).unwrap_or_default();
        let mut client = client(self.caller);
        client.name = name.chars().take(128).collect::<String>().into();
        self.gateway.open(
            self.engine,
            client,
            self.caller,
            address,
            session,
            &Initialize {
                id: id.get(),
                params: params.get(),
                transport: self.transport,
            },
        )
    }

    /// Passes one message on.
    pub(super) fn forward(
        &self,
        cell: &Arc<SessionCell>,
        text: &str,
        message: &Message<'_>,
        stream: StreamId,
    ) -> Result<(), Refusal> {
        self.gateway
            .forward(self.engine, cell, (text, message), stream)
    }
}
