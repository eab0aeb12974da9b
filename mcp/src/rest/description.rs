//! Description of a session, as `POST /sessions` and `GET /sessions` give it.

use super::failure::quoted;
use crate::greeting::Greeting;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// A session, to be described. Times are RFC 3339.
pub struct Described<'d> {
    /// Its id.
    pub id: &'d str,
    /// Name of the client.
    pub client: &'d str,
    /// Name of the server; `None` where it has several.
    pub server: Option<&'d str>,
    /// Something is connected, or a request is open.
    pub is_active: bool,
    /// Time at which it was opened.
    pub created: String,
    /// Time at which it ends if no request comes.
    pub expires: String,
    /// Statements of the server about itself; `None` until they are there.
    pub greeting: Option<&'d Greeting>,
    /// Notes of the client on it, as JSON.
    pub metadata: Option<&'d str>,
    /// Activity in it since; `None` where it was just opened.
    pub activity: Option<Activity>,
}

/// Activity in a session since it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Activity {
    /// Time of its latest request.
    pub last: String,
    /// Requests that were taken.
    pub requests: u64,
    /// Requests that are not answered.
    pub in_flight: usize,
    /// Its processes.
    pub processes: Vec<Process>,
}

/// A process of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Name of its server.
    pub server: Arc<str>,
    /// Name of its state.
    pub state: &'static str,
}

impl fmt::Debug for Described<'_> {
    /// Without the id and what the client notes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Described")
            .field("server", &self.server)
            .field("activity", &self.activity)
            .finish_non_exhaustive()
    }
}

impl Described<'_> {
    /// Returns it as a JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        let told =
            |member: fn(&Greeting) -> &str, or: &'static str| self.greeting.map_or(or, member);
        let status = if self.is_active { "active" } else { "detached" };
        let activity = self
            .activity
            .as_ref()
            .map_or(String::new(), Activity::members);
        format!(
            "{{\"session_id\":{},\"client_id\":{},\"server\":{},\"status\":\"{status}\",\"created_at\":\"{}\",\"expires_at\":\"{}\",\
             \"protocol_version\":{},\"capabilities\":{},\"server_info\":{},\"metadata\":{}{activity}}}",
            quoted(self.id),
            quoted(self.client),
            self.server.map_or_else(|| "null".into(), quoted),
            self.created,
            self.expires,
            told(|greeting| &greeting.protocol_version, "null"),
            told(|greeting| &greeting.capabilities, "{}"),
            told(|greeting| &greeting.server_info, "{}"),
            self.metadata.unwrap_or("{}"),
        )
    }
}

impl Activity {
    fn members(&self) -> String {
        let processes = self.processes.iter().map(|process| {
            let (server, state) = (quoted(&process.server), process.state);
            format!("{{\"server\":{server},\"state\":\"{state}\"}}")
        });
        format!(
            ",\"last_activity\":\"{}\",\"request_count\":{},\"in_flight\":{},\"processes\":[{}]",
            self.last,
            self.requests,
            self.in_flight,
            processes.collect::<Vec<_>>().join(",")
        )
    }
}
