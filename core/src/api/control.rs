//! `/control/…`: bridges and operators list and change sessions, and operators reload and stop the program.

use super::answered::{Answered, Input, read};
use super::route::{Change, Order, Route};
use crate::config::Role;
use crate::dialect::body::{Path, raw_fields};
use crate::error::{Code, Refusal};
use crate::hub::Requester;
use crate::hub::control::unknown_session;
use crate::hub::keys::{Caller, digest};
use crate::hub::lists::{ListedSession, Lists};
use crate::hub::sessions::{Action, Registration};
use crate::id::SessionId;
use crate::scope::{Scope, Scopes};
use crate::supports::{Capabilities, Supports};
use crate::text::JsonValue;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
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

raw_fields! {
    /// The body of an action on a session.
    SessionFields { session_id: "session_id" }
}

fn act(input: &Input<'_>, action: Action) -> Result<Change, Refusal> {
    let caller = caller(input)?;
    let fields: SessionFields<'_> = read(input)?;
    let session_id = needed_text(fields.session_id, "session_id")?;
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

raw_fields! {
    /// The body of a registration.
    RegisterFields {
        session_id: "session_id",
        session_token: "session_token",
        agent_id: "agent_id",
        allowed_scopes: "allowed_scopes",
        ttl_seconds: "ttl_seconds",
        label: "label",
        models: "models",
        max_requests: "max_requests",
        requests_per_minute: "requests_per_minute",
        max_concurrency: "max_concurrency",
        capabilities: "capabilities",
    }
}

raw_fields! {
    /// The abilities of an agent.
    CapabilityFields {
        tools: "tools",
        vision: "vision",
        embeddings: "embeddings",
        insert: "insert",
        thinking: "thinking",
        context_length: "context_length",
    }
}

impl RegisterFields<'_> {
    fn registration(&self) -> Result<Registration, Refusal> {
        let session_id = match text(self.session_id, "session_id")? {
            None => None,
            Some(text) => Some(SessionId::new(&text).ok_or_else(|| {
                Path::root("session_id")
                    .wrong("expected 1 to 128 characters of A-Z a-z 0-9 . _ : -")
            })?),
        };
        let session_token = match text(self.session_token, "session_token")? {
            Some(token) if token.len() < 16 || token.len() > 512 => {
                return Err(Path::root("session_token").wrong("expected 16 to 512 bytes"));
            }
            token => token.map(|token| digest(token.as_bytes())),
        };
        let scopes = texts(self.allowed_scopes, "allowed_scopes")?
            .map_or_else(|| Scope::Inference.into(), Scopes::from);
        Ok(Registration {
            session_id,
            session_token,
            agent_id: needed_text(self.agent_id, "agent_id")?,
            label: text(self.label, "label")?,
            ttl_seconds: whole(self.ttl_seconds, Path::root("ttl_seconds"), u32::MAX)?,
            models: texts(self.models, "models")?.unwrap_or_default(),
            max_requests: whole(self.max_requests, Path::root("max_requests"), u64::MAX)?,
            requests_per_minute: whole(
                self.requests_per_minute,
                Path::root("requests_per_minute"),
                u32::MAX,
            )?,
            max_concurrency: whole(
                self.max_concurrency,
                Path::root("max_concurrency"),
                usize::MAX,
            )?,
            form: None,
            supports: Supports::declared(scopes, self.capabilities()?),
        })
    }

    fn capabilities(&self) -> Result<Capabilities, Refusal> {
        let path = Path::root("capabilities");
        let Some(value) = path.find(self.capabilities) else {
            return Ok(Capabilities::default());
        };
        let fields: CapabilityFields<'_> = value.object()?;
        let can = |field, key| {
            path.key(key)
                .find(field)
                .map_or(Ok(false), |value| value.boolean())
        };
        Ok(Capabilities {
            tools: can(fields.tools, "tools")?,
            vision: can(fields.vision, "vision")?,
            embeddings: can(fields.embeddings, "embeddings")?,
            insert: can(fields.insert, "insert")?,
            thinking: can(fields.thinking, "thinking")?,
            context_length: whole(fields.context_length, path.key("context_length"), u64::MAX)?,
        })
    }
}

/// A text that may be absent.
fn text(field: Option<JsonValue<'_>>, key: &'static str) -> Result<Option<String>, Refusal> {
    Path::root(key)
        .find(field)
        .map(|value| Ok(value.string()?.decode().into_owned()))
        .transpose()
}

/// A text that has to be there.
fn needed_text(field: Option<JsonValue<'_>>, key: &'static str) -> Result<String, Refusal> {
    let value = Path::root(key).need(field, "a string")?;
    Ok(value.string()?.decode().into_owned())
}

/// A list of texts that may be absent.
fn texts(field: Option<JsonValue<'_>>, key: &'static str) -> Result<Option<Vec<String>>, Refusal> {
    let path = Path::root(key);
    let Some(value) = path.find(field) else {
        return Ok(None);
    };
    let mut all = Vec::new();
    for (index, raw) in value.list()?.into_iter().enumerate() {
        let element = path.index(index).need(Some(raw), "a string")?;
        all.push(element.string()?.decode().into_owned());
    }
    Ok(Some(all))
}

/// A whole number of 0 to `most`, which may be absent.
fn whole<T: TryFrom<i64> + fmt::Display>(
    field: Option<JsonValue<'_>>,
    path: Path<'_>,
    most: T,
) -> Result<Option<T>, Refusal> {
    let Some(value) = path.find(field) else {
        return Ok(None);
    };
    let number = T::try_from(value.integer()?);
    number
        .map(Some)
        .map_err(|_| value.expected(format_args!("a whole number from 0 to {most}")))
}

fn register(input: &Input<'_>) -> Result<Change, Refusal> {
    let caller = caller(input)?;
    let registration = read::<RegisterFields<'_>>(input)?.registration()?;
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
