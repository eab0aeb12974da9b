//! The calls of the caller's tools that wait for their results, and the servers by which they come. It tells nobody; see
//! `parked.rs` for that.

use crate::agents::acp::deadlines::SessionKey;
use crate::agents::acp::tools::{CallId, Called, ToolRequest};
use crate::error::Code;
use crate::text::{JsonValue, hex};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// Calls that may wait at once, for one agent.
const MAX_CALLS: usize = 256;

/// One parked `tools/call`.
pub(super) struct Call {
    pub(super) session: SessionKey,
    /// The agent's JSON-RPC id.
    id: String,
    progress_token: Option<String>,
    /// As the client knows it.
    pub(super) name: String,
    pub(super) arguments: String,
    /// The id that the client was told, once it was.
    pub(super) told: Option<String>,
    /// Signs of life that the agent was given.
    pub(super) alive: u64,
}

impl Call {
    pub(super) fn id(&self) -> JsonValue<'_> {
        JsonValue::skipped(&self.id)
    }

    pub(super) fn progress_token(&self) -> Option<JsonValue<'_>> {
        self.progress_token.as_deref().map(JsonValue::skipped)
    }
}

/// An MCP server.
struct Server {
    session: SessionKey,
    bearer: String,
}

/// The servers of an agent's sessions, and the calls that wait.
pub(super) struct ToolCalls {
    secret: [u8; 32],
    minted: u64,
    /// By the end of their path.
    servers: HashMap<String, Server>,
    last: u64,
    calls: BTreeMap<CallId, Call>,
}

impl ToolCalls {
    /// `secret` makes the names of servers, which nobody may guess.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            minted: 0,
            servers: HashMap::new(),
            last: 0,
            calls: BTreeMap::new(),
        }
    }

    /// Makes the server for a session: where it is, and its bearer token.
    pub(super) fn make_server(&mut self, session: SessionKey, url: &str) -> (String, String) {
        self.minted += 1;
        let name = self.mint("server", 32);
        let bearer = self.mint("bearer", 64);
        let place = format!("{url}{name}");
        let server = Server {
            session,
            bearer: bearer.clone(),
        };
        self.servers.insert(name, server);
        (place, bearer)
    }

    /// Hexadecimal digits that nobody can guess: a pseudo-random function of the secret and a counter.
    fn mint(&self, purpose: &str, digits: usize) -> String {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(purpose.as_bytes());
        hash.update(self.minted.to_be_bytes());
        let mut text = Vec::with_capacity(64);
        hex(&mut text, &hash.finalize());
        text.truncate(digits);
        String::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn serves_at(&self, server: &str) -> bool {
        self.servers.contains_key(server)
    }

    /// The session whose server a request is for.
    ///
    /// # Errors
    /// There is no such server, the token is another, or the method is none that it takes.
    pub(super) fn session_of(&self, request: &ToolRequest<'_>) -> Result<SessionKey, Code> {
        let server = self.servers.get(request.server).ok_or(Code::NotFound)?;
        let shown = request
            .authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        if !bool::from(shown.as_bytes().ct_eq(server.bearer.as_bytes())) {
            return Err(Code::InvalidKey);
        }
        if request.method != "POST" {
            // No stream of the server's own, no session to end.
            return Err(Code::MethodNotAllowed);
        }
        Ok(server.session)
    }

    /// The id of the call that comes next, whether it is parked or not.
    pub(super) const fn next_id(&mut self) -> CallId {
        self.last += 1;
        CallId(self.last)
    }

    pub(super) fn is_full(&self) -> bool {
        self.calls.len() >= MAX_CALLS
    }

    pub(super) fn insert(&mut self, id: CallId, session: SessionKey, called: &Called<'_>) {
        let call = Call {
            session,
            id: called.id.get().into(),
            progress_token: called.progress_token.map(|token| token.get().into()),
            name: called.name.clone().into_owned(),
            arguments: called.arguments.into(),
            told: None,
            alive: 0,
        };
        self.calls.insert(id, call);
    }

    pub(super) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.get_mut(&id)
    }

    /// A call waits no longer.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.calls.remove(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &Call)> {
        self.calls.iter().map(|(id, call)| (*id, call))
    }

    /// The calls of a session, in the order in which they came.
    pub(super) fn of(&self, session: SessionKey) -> impl Iterator<Item = (CallId, &Call)> {
        self.iter().filter(move |(_, call)| call.session == session)
    }

    /// The calls of a session that its client does not know yet.
    pub(super) fn untold(
        &mut self,
        session: SessionKey,
    ) -> impl Iterator<Item = (CallId, &mut Call)> {
        let calls = self.calls.iter_mut().map(|(id, call)| (*id, call));
        calls.filter(move |(_, call)| call.session == session && call.told.is_none())
    }

    /// A session ends, and its server with it.
    pub(super) fn end_server(&mut self, session: SessionKey) {
        self.servers.retain(|_, server| server.session != session);
    }

    /// The process is gone.
    pub(super) fn end_servers(&mut self) {
        self.servers.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::borrow::Cow;
    use alloc::string::ToString;

    #[test]
    fn a_server_is_reached_by_its_name_and_its_token_alone() {
        let mut tools = ToolCalls::new([7; 32]);
        let session = SessionKey(1);
        let (place, bearer) = tools.make_server(session, "http://x/");
        let (_, other) = tools.make_server(SessionKey(2), "http://x/");
        assert_ne!(bearer, other);
        let server = place.strip_prefix("http://x/").unwrap();
        assert!(tools.serves_at(server));
        let ask = |tools: &ToolCalls, server: &str, method: &str, authorization: Option<&str>| {
            tools.session_of(&ToolRequest {
                server,
                method,
                authorization,
                body: b"",
            })
        };
        let shown = alloc::format!("bearer  {bearer}");
        assert_eq!(ask(&tools, server, "POST", Some(&shown)), Ok(session));
        let refused = Err(Code::MethodNotAllowed);
        assert_eq!(ask(&tools, server, "GET", Some(&shown)), refused);
        assert_eq!(
            ask(&tools, "none", "POST", Some(&shown)),
            Err(Code::NotFound)
        );
        for wrong in [None, Some(&*bearer), Some("Bearer "), Some(&*other)] {
            assert_eq!(ask(&tools, server, "GET", wrong), Err(Code::InvalidKey));
        }
        tools.end_server(SessionKey(2));
        assert!(tools.serves_at(server));
        tools.end_server(session);
        assert!(!tools.serves_at(server));
    }

    #[test]
    fn a_call_is_its_sessions_and_is_told_once() {
        let mut tools = ToolCalls::new([7; 32]);
        let called = Called {
            id: JsonValue::skipped("\"x\""),
            name: Cow::Borrowed("look"),
            arguments: "{}",
            progress_token: Some(JsonValue::skipped("3")),
        };
        for session in [1, 2, 1] {
            let id = tools.next_id();
            tools.insert(id, SessionKey(session), &called);
        }
        let first = SessionKey(1);
        let ids = |tools: &ToolCalls| tools.of(first).map(|(id, _)| id.0).collect::<Vec<_>>();
        assert_eq!(ids(&tools), [1, 3]);
        for (id, call) in tools.untold(first) {
            call.told = Some(id.0.to_string());
        }
        assert_eq!(tools.untold(first).count(), 0);
        assert_eq!(tools.untold(SessionKey(2)).count(), 1);
        let call = tools.remove(CallId(1)).unwrap();
        assert_eq!(call.id().get(), "\"x\"");
        assert_eq!(call.progress_token().unwrap().get(), "3");
        assert!(tools.remove(CallId(1)).is_none());
        assert_eq!(ids(&tools), [3]);
        // The agent may still bring what it was asked before.
        tools.end_servers();
        assert!(tools.get_mut(CallId(3)).is_some());
        assert!(!tools.is_full());
    }
}
