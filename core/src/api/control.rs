//! `/control/…`: bridges and operators list and change sessions, and operators reload and stop the program.

use super::answered::{Answered, Input, parse};
use super::route::{Change, Order, Route};
use crate::config::Role;
use crate::error::{Code, Refusal};
use crate::hub::Requester;
use crate::hub::control::unknown_session;
use crate::hub::keys::{Caller, digest};
use crate::hub::lists::{ListedSession, Lists};
use crate::hub::sessions::{Action, Registration};
use crate::id::SessionId;
use crate::scope::{Scope, Scopes};
use crate::supports::{Capabilities, Supports};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use serde::Deserialize;
use serde_json::{Value, json};

const EITHER: &[Role] = &[Role::Bridge, Role::Operator];

pub(super) const ROUTES: &[Route] = &[
    Route::change("POST /control/register", &["/control/register"], register)
        .for_roles(&[Role::Bridge]),
    Route::change("POST /control/approve", &["/control/approve"], |input| {
        act(input, Action::Approve)
    })
    .for_roles(EITHER),
    Route::change("POST /control/deny", &["/control/deny"], |input| {
        act(input, Action::Deny)
    })
    .for_roles(EITHER),
    Route::change("POST /control/suspend", &["/control/suspend"], |input| {
        act(input, Action::Suspend)
    })
    .for_roles(EITHER),
    Route::change("POST /control/resume", &["/control/resume"], |input| {
        act(input, Action::Resume)
    })
    .for_roles(EITHER),
    Route::change("POST /control/revoke", &["/control/revoke"], |input| {
        act(input, Action::Revoke)
    })
    .for_roles(EITHER),
    Route::change("POST /control/renew", &["/control/renew"], |input| {
        act(input, Action::Renew)
    })
    .for_roles(EITHER),
    Route::read("GET /control/sessions", &["/control/sessions"], sessions).for_roles(EITHER),
    Route::read(
        "GET /control/sessions/{id}",
        &["/control/sessions/{id}"],
        session,
    )
    .for_roles(EITHER),
    Route::order("POST /control/reload", &["/control/reload"], Order::Reload),
    Route::order(
        "POST /control/keys/reload",
        &["/control/keys/reload"],
        Order::ReloadKeys,
    ),
    // A second order ends what the first one waits for.
    Route::order("POST /control/stop", &["/control/stop"], Order::Stop).while_draining(),
];

impl Order {
    /// Returns the answer once the order is carried out. `open` answers have `drain` to end, where the program stops.
    #[must_use]
    pub fn done(self, open: usize, drain: Duration) -> Answered {
        Answered::ok(match self {
            Self::Reload | Self::ReloadKeys => json!({ "status": "reloaded" }),
            Self::Stop => json!({
                "status": "stopping",
                "open_requests": open,
                "drain_seconds": drain.as_secs(),
            }),
        })
    }
}

fn sessions(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let sessions: Vec<Value> = lists
        .sessions
        .iter()
        .map(|session| entry(lists, input.now, session))
        .collect();
    Ok(Answered::ok(json!({
        "total_count": sessions.len(),
        "active_count": lists.active,
        "sessions": sessions,
    })))
}

fn session(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let id = input.parameters.get("id").unwrap_or_default();
    let session = lists.session(&id).ok_or_else(|| unknown_session(&id))?;
    Ok(Answered::ok(entry(lists, input.now, session)))
}

fn entry(lists: &Lists, now: Instant, session: &ListedSession) -> Value {
    let wall = &lists.wall;
    let activity = &session.activity;
    json!({
        "session_id": session.id.as_str(),
        "agent_id": &*session.agent_id,
        "label": &*session.label,
        "status": session.status.as_str(),
        "created_at": wall.rfc3339(session.created_at),
        "expires_at": wall.rfc3339(session.expires_at.unwrap_or(now + session.ttl)),
        "last_activity": wall.rfc3339(activity.last()),
        "request_count": activity.requests(),
        "max_requests": session.max_requests,
        "total_tokens": activity.tokens(),
        "in_flight": activity.in_flight(),
        "models": session.models.iter().map(|model| &**model).collect::<Vec<_>>(),
        "allowed_scopes": session.scopes.names(),
        "link": session.link.map(|link| link.0),
    })
}

fn caller(input: &Input<'_>) -> Result<Caller, Refusal> {
    input
        .caller
        .cloned()
        .ok_or_else(|| Refusal::new(Code::InvalidKey, "no API key was given"))
}

#[derive(Deserialize)]
struct SessionRequest {
    session_id: String,
}

fn act(input: &Input<'_>, action: Action) -> Result<Change, Refusal> {
    let caller = caller(input)?;
    let SessionRequest { session_id } = parse(input.body)?;
    Ok(Box::new(move |hub, now, out| {
        let requester = Requester::Caller(&caller);
        let status = hub.control(now, requester, &session_id, action, out)?;
        Ok(Box::new(move || {
            let mut value = json!({
                "session_id": session_id,
                "status": status.as_str(),
                "action": action.as_str(),
            });
            if action == Action::Revoke
                && let Some(object) = value.as_object_mut()
            {
                object.insert("revoked".into(), Value::String(session_id));
            }
            Answered::ok(value)
        }))
    }))
}

#[derive(Deserialize)]
struct RegisterRequest {
    session_id: Option<String>,
    session_token: Option<String>,
    agent_id: String,
    allowed_scopes: Option<Vec<String>>,
    ttl_seconds: Option<u32>,
    label: Option<String>,
    models: Option<Vec<String>>,
    max_requests: Option<u64>,
    requests_per_minute: Option<u32>,
    max_concurrency: Option<usize>,
    capabilities: Option<Capabilities>,
}

impl RegisterRequest {
    fn registration(self) -> Result<Registration, Refusal> {
        let session_id = match self.session_id {
            None => None,
            Some(text) => Some(SessionId::new(&text).ok_or_else(|| {
                Refusal::invalid("session_id: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -")
                    .at("session_id")
            })?),
        };
        if self
            .session_token
            .as_ref()
            .is_some_and(|token| token.len() < 16 || token.len() > 512)
        {
            return Err(
                Refusal::invalid("session_token: expected 16 to 512 bytes").at("session_token")
            );
        }
        let scopes = self
            .allowed_scopes
            .map_or_else(|| Scope::Inference.into(), Scopes::from);
        Ok(Registration {
            session_id,
            session_token: self.session_token.map(|token| digest(token.as_bytes())),
            agent_id: self.agent_id,
            label: self.label,
            ttl_seconds: self.ttl_seconds,
            models: self.models.unwrap_or_default(),
            max_requests: self.max_requests,
            requests_per_minute: self.requests_per_minute,
            max_concurrency: self.max_concurrency,
            form: None,
            supports: Supports::declared(scopes, self.capabilities.unwrap_or_default()),
        })
    }
}

fn register(input: &Input<'_>) -> Result<Change, Refusal> {
    let caller = caller(input)?;
    let registration = parse::<RegisterRequest>(input.body)?.registration()?;
    Ok(Box::new(move |hub, now, out| {
        let (slot, token) = hub.register_by_control(now, &caller, registration, out)?;
        let Some(session) = hub.sessions().get(slot) else {
            return Err(Refusal::new(Code::Internal, "the session is gone already"));
        };
        let (id, status) = (session.id.clone(), session.status);
        let expires_at = session.expires_at.unwrap_or(now + session.ttl);
        let wall = hub.wall();
        Ok(Box::new(move || {
            let mut value = json!({
                "registered": id.as_str(),
                "session_id": id.as_str(),
                "status": status.as_str(),
                "expires_at": wall.rfc3339(expires_at),
            });
            if let (Some(token), Some(object)) = (token, value.as_object_mut()) {
                object.insert("session_token".into(), Value::String(token));
            }
            Answered::ok(value)
        }))
    }))
}
