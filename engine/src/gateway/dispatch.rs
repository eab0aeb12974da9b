//! Requests on their way from sessions to the servers that they are for.

use super::cell::SessionCell;
use super::{Asker, Gateway, ServerCell};
use crate::Engine;
use crate::mcp_request::unknown_session;
use mcp_local_provider_core::rpc::{Call, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_mcp::refusal::Refusal;
use mcp_local_provider_mcp::session::{Attachment, Dispatch, Forward, RequestKey, State};
use mcp_local_provider_mcp::streams::StreamId;
use std::sync::Arc;

impl Gateway {
    /// Passes one message of a client on to the servers of its session.
    ///
    /// # Errors
    /// The session has ended, or does not accept the request.
    pub(crate) fn forward(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        (text, message): (&str, &Message<'_>),
        stream: StreamId,
    ) -> Result<(), Refusal> {
        let now = engine.clock();
        let forward = cell.call(|session, wake| match session.state() {
            State::Ended => Err(unknown_session()),
            State::Opening | State::Open => session.from_client(now, message, stream, wake),
        })?;
        match forward {
            Forward::Nothing => {}
            Forward::Tell => {
                // What one client tells is nothing to the others of a shared process.
                for server in cell.servers().iter().filter(|server| !server.is_shared()) {
                    server.call(engine, |server, now, out, _| {
                        server.send(now, text, None, out);
                    });
                }
            }
            Forward::Answer { to, id, own } => {
                if let Some(server) = cell.server(to) {
                    let text = cell.call(|session, _| session.for_server(to, text, id, &own));
                    server.call(engine, |server, now, out, _| {
                        server.send(now, &text, None, out);
                    });
                }
            }
            Forward::Cancel(at, call, reason) => {
                if let Some(server) = cell.server(at) {
                    server.call(engine, |server, now, out, _| {
                        server.cancel(now, call, reason, out);
                    });
                }
            }
            Forward::Request(key) => {
                if let Message::Request { id, call } = message {
                    let request = (text, *id, call);
                    self.request(engine, cell, key, request)?;
                }
            }
        }
        Ok(())
    }

    /// Sends a client's request on: to the server that it is for, or to several.
    ///
    /// # Errors
    /// The request is not accepted: no process may be started for it.
    fn request(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        key: RequestKey,
        (text, id, call): (&str, JsonValue<'_>, &Call<'_>),
    ) -> Result<(), Refusal> {
        let sent = cell.call(|session, wake| session.route(engine.clock(), key, text, call, wake));
        let sent = match sent {
            Some(Dispatch {
                to,
                key,
                text: None,
            }) => self.send(engine, cell, to, key, (text, id, call)),
            Some(dispatch) => self.send_other(engine, cell, &dispatch),
            None => {
                self.miss(engine, cell);
                self.dispatch(engine, cell);
                Ok(())
            }
        };
        if sent.is_err() {
            cell.call(|session, _| session.unsend(key));
        }
        sent
    }

    /// Sends what a session has to be sent besides the requests of its client.
    pub(super) fn dispatch(&self, engine: &Arc<Engine>, cell: &Arc<SessionCell>) {
        if !cell.call(|session, _| session.begin_dispatches()) {
            return;
        }
        loop {
            let dispatches = cell.call(|session, _| session.take_dispatches());
            if dispatches.is_empty() {
                return;
            }
            for dispatch in dispatches {
                if let Err(refusal) = self.send_other(engine, cell, &dispatch) {
                    cell.call(|session, wake| {
                        session.handle_failed(engine.clock(), dispatch.key, &refusal, wake);
                    });
                }
            }
        }
    }

    fn send_other(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        dispatch: &Dispatch,
    ) -> Result<(), Refusal> {
        let text = dispatch.text.as_deref().unwrap_or_default();
        match Message::read(text) {
            Ok(Message::Request { id, call }) => {
                self.send(engine, cell, dispatch.to, dispatch.key, (text, id, &call))
            }
            // It was made of a request.
            Ok(Message::Notification(_) | Message::Response { .. }) | Err(_) => Ok(()),
        }
    }

    /// Sends a request to one server.
    ///
    /// # Errors
    /// No process may be started for it. It waits for an answer still, and is to be failed or taken back.
    fn send(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        at: Attachment,
        key: RequestKey,
        (text, id, call): (&str, JsonValue<'_>, &Call<'_>),
    ) -> Result<(), Refusal> {
        let Some(server) = cell.server(at) else {
            return Ok(());
        };
        if server.is_shared() && server.note(engine, cell, call) {
            let done = r#"{"jsonrpc":"2.0","id":0,"result":{}}"#;
            let zero = JsonValue::read(done).and_then(|all| all.member("id"));
            cell.call(|session, wake| {
                if let Some(zero) = zero {
                    session.handle_answer(engine.clock(), key, done, zero, wake);
                }
            });
            return Ok(());
        }
        let asker = Asker::Session(Arc::downgrade(cell), key);
        let sent = server.call(engine, |server, now, out, _| {
            server.request(now, text, id, call, asker, out)
        });
        let take_back = |number| {
            server.call(engine, |server, now, out, _| {
                server.cancel(now, number, None, out);
            });
        };
        let number = match sent {
            Ok(number) => number,
            Err((refusal, _)) => {
                // It was accepted: the answer says why it fails.
                cell.call(|session, wake| {
                    session.handle_failed(engine.clock(), key, &refusal, wake);
                });
                return Ok(());
            }
        };
        if let Err(refusal) = self.run(engine, server) {
            take_back(number);
            return Err(refusal);
        }
        let is_open = cell.call(|session, _| session.sent(key, at, number));
        if !is_open {
            // It was answered meanwhile, which leaves nothing to take back, or the client has cancelled it.
            take_back(number);
        }
        Ok(())
    }

    /// Starts the servers of a session that never were ready and do not run.
    fn miss(&self, engine: &Arc<Engine>, cell: &Arc<SessionCell>) {
        let missed = |at| cell.machine.lock().is_missed(Attachment(at));
        let servers = cell.servers().iter().zip(0..);
        for (server, _) in servers.filter(|(_, at)| missed(*at)) {
            // One that may not be started, or finds no room, stays left out.
            if start(engine, server).is_none() {
                let _ = self.run(engine, server);
            }
        }
    }
}

/// Tells a server that its process is needed. Returns why it cannot be had, where that is known already.
pub(super) fn start(engine: &Arc<Engine>, server: &ServerCell) -> Option<Refusal> {
    server.call(engine, |server, now, out, _| {
        server.start(now, out);
        server.refusal(now)
    })
}
