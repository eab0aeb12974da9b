//! Sessions by who asks for them: for lists, by their id alone, and one for requests that name none.

use super::{Address, Client, Gateway, Initialize, SessionCell};
use crate::Engine;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::refusal::Refusal;
use mcp_local_provider_mcp::rest::{Activity, Described, Process, own_hello};
use mcp_local_provider_mcp::session::State;
use mcp_local_provider_mcp::streams::StreamId;
use std::sync::Arc;

/// A session for requests that name none.
pub(crate) enum Standing {
    /// It was there.
    Known(Arc<SessionCell>),
    /// It is being opened: its stream will have the answer to `initialize`.
    Opening(Arc<SessionCell>, StreamId),
}

impl Gateway {
    /// All sessions, the oldest first.
    pub(crate) fn all_sessions(&self) -> Vec<Arc<SessionCell>> {
        let mut all = self.sessions();
        all.sort_by_cached_key(|cell| (cell.machine.lock().opened(), cell.id.clone()));
        all
    }

    /// The session with the servers of an address that serves the requests of a client that name none. It is kept for the next.
    pub(crate) fn standing(
        &self,
        engine: &Arc<Engine>,
        client: &Client,
        caller: &Caller,
        address: &Address,
    ) -> Result<Standing, Refusal> {
        // Each address has a name of its own, so that one of these sessions does not give way to another.
        let client = Client {
            name: format!("requests without session_id to {address}").into(),
            ..client.clone()
        };
        let known = self.sessions().into_iter().find(|cell| {
            cell.client == client
                && cell.is_at(address)
                && cell.machine.lock().state() != State::Ended
        });
        if let Some(known) = known {
            return Ok(Standing::Known(known));
        }
        let hello = own_hello();
        let initialize = Initialize {
            id: "0",
            params: &hello,
            transport: Transport::Rest,
        };
        let (cell, stream) =
            self.open(engine, client, caller, address, self.mint(), &initialize)?;
        Ok(Standing::Opening(cell, stream))
    }
}

impl SessionCell {
    /// True when the session is one with the servers of that address.
    pub(super) fn is_at(&self, address: &Address) -> bool {
        let servers = self.servers().iter().map(|server| &server.name);
        servers.eq(address.servers().iter().map(|server| &server.name))
    }

    /// Describes the session as JSON, with what became of it where it is `whole`.
    pub(crate) fn describe(&self, engine: &Engine, gateway: &Gateway, whole: bool) -> String {
        // Servers are locked before the session.
        let processes = self.servers().iter().map(|server| Process {
            server: server.name.clone(),
            state: server.state_name(),
        });
        let processes = processes.collect();
        let (wall, idle) = (engine.wall(), gateway.config().sessions.idle);
        let session = self.machine.lock();
        let last = session.last_request();
        let described = Described {
            id: &self.id,
            client: &self.client.name,
            server: self.only_server(),
            is_active: !session.is_idle(),
            created: wall.rfc3339(session.opened()),
            expires: wall.rfc3339(last + idle),
            greeting: session.greeting(),
            metadata: session.metadata(),
            activity: whole.then(|| Activity {
                last: wall.rfc3339(last),
                requests: session.requests(),
                in_flight: session.open_requests(),
                processes,
            }),
        };
        described.json()
    }
}
