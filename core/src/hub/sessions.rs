//! Sessions: the permission of one agent to answer.
//!
//! ```text
//! pending --approve--> active --suspend--> suspended --resume--> active
//! pending --deny-----> revoked
//! active | suspended --revoke--> revoked
//! pending | active | suspended --ttl passes--> expired
//! ```

use super::keys::Digest;
use super::routing::Slot;
use crate::config::SessionPolicy;
use crate::error::{Code, Refusal};
use crate::id::{LinkId, SessionId};
use crate::link::Capabilities;
use crate::time::Instant;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use hashbrown::HashMap;

/// Sessions that have ended and are still shown.
const REMEMBERED: usize = 256;
/// Models that one session may answer for.
pub const MAX_MODELS: usize = 256;
/// Longest name of an agent, a label or a model in bytes.
const MAX_NAME: usize = 256;
/// Exchanges at once of a session that names no `max_concurrency`.
const UNBOUNDED: usize = usize::MAX;

/// States of a session. The last two are final.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// Waits for a person.
    Pending,
    /// May answer.
    Active,
    /// May not answer for now.
    Suspended,
    /// Ended by a person or by its agent.
    Revoked,
    /// Ended by time.
    Expired,
}

impl Status {
    /// All states, in the order of this page.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Active,
        Self::Suspended,
        Self::Revoked,
        Self::Expired,
    ];

    /// The name on every wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// True for a state that is never left.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired)
    }

    /// The table of transitions: where an action leads from here, `None` where it is forbidden.
    #[must_use]
    pub const fn after(self, action: Action) -> Option<Self> {
        Some(match (self, action) {
            (Self::Pending, Action::Approve) | (Self::Suspended, Action::Resume) => Self::Active,
            (Self::Pending, Action::Deny) | (Self::Active | Self::Suspended, Action::Revoke) => {
                Self::Revoked
            }
            (Self::Active, Action::Suspend) => Self::Suspended,
            (Self::Pending | Self::Active | Self::Suspended, Action::Renew) => self,
            (Self::Pending | Self::Active | Self::Suspended, Action::Expire) => Self::Expired,
            _ => return None,
        })
    }
}

/// What can be done to a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// A person allows it.
    Approve,
    /// A person refuses it.
    Deny,
    /// For a while.
    Suspend,
    /// The end of a suspension.
    Resume,
    /// For ever.
    Revoke,
    /// A new time to live.
    Renew,
    /// Its time to live has passed.
    Expire,
}

impl Action {
    /// The name in `/control/…`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Revoke => "revoke",
            Self::Renew => "renew",
            Self::Expire => "expire",
        }
    }

    /// What has happened to the session then, for its agent and for the audit.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Deny => "denied",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Revoke => "revoked",
            Self::Renew => "renewed",
            Self::Expire => "expired",
        }
    }
}

/// A request for a session, from `POST /control/register` or from `register` on a link.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Registration {
    /// Wanted name; made here where absent.
    pub session_id: Option<SessionId>,
    /// Digest of a token that the bridge made.
    pub session_token: Option<Digest>,
    /// Which agent.
    pub agent_id: String,
    /// For people.
    pub label: Option<String>,
    /// What it may be asked for; all when absent.
    pub scopes: Option<Vec<String>>,
    /// 1 to 86 400.
    pub ttl_seconds: Option<u32>,
    /// Names that it answers to; its `agent_id` when empty.
    pub models: Vec<String>,
    /// Requests that it may answer in its life.
    pub max_requests: Option<u64>,
    /// Exchanges at once.
    pub max_concurrency: Option<usize>,
    /// What its model can do.
    pub capabilities: Capabilities,
}

impl Registration {
    /// Checks the values of a registration.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |field: &'static str, what: &str| {
            Err(Refusal::invalid(alloc::format!("{field}: {what}")).at(field))
        };
        let label = |text: &str| {
            (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        if !label(&self.agent_id) {
            return wrong(
                "agent_id",
                "expected 1 to 256 bytes without control characters",
            );
        }
        if self.label.as_deref().is_some_and(|text| !label(text)) {
            return wrong(
                "label",
                "expected 1 to 256 bytes without control characters",
            );
        }
        if self.models.len() > MAX_MODELS {
            return wrong("models", "at most 256 names");
        }
        if self
            .models
            .iter()
            .any(|model| !label(model) || model.contains(char::is_whitespace))
        {
            return wrong(
                "models",
                "expected names of 1 to 256 bytes without white space",
            );
        }
        if self
            .scopes
            .as_ref()
            .is_some_and(|scopes| scopes.len() > 16 || scopes.iter().any(|scope| !label(scope)))
        {
            return wrong("allowed_scopes", "at most 16 names of 1 to 256 bytes");
        }
        if self
            .ttl_seconds
            .is_some_and(|ttl| !(1..=86_400).contains(&ttl))
        {
            return wrong("ttl_seconds", "expected 1 to 86400");
        }
        if self.max_concurrency == Some(0) {
            return wrong("max_concurrency", "expected at least 1");
        }
        Ok(())
    }
}

impl From<crate::link::Registration> for Registration {
    fn from(told: crate::link::Registration) -> Self {
        Self {
            session_id: None,
            session_token: None,
            agent_id: told.agent_id,
            label: told.label,
            scopes: (!told.requested_scopes.is_empty()).then_some(told.requested_scopes),
            // What does not fit is out of range too, and `check` says so.
            ttl_seconds: told
                .ttl_seconds
                .map(|ttl| u32::try_from(ttl).unwrap_or(u32::MAX)),
            models: told.models,
            max_requests: told.max_requests,
            max_concurrency: told
                .max_concurrency
                .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            capabilities: told.capabilities,
        }
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Which agent.
    pub agent_id: Arc<str>,
    /// For people.
    pub label: Arc<str>,
    /// What it may be asked for.
    pub scopes: Vec<String>,
    /// Names that it answers to.
    pub models: Vec<Arc<str>>,
    /// Its state.
    pub status: Status,
    /// When it was registered.
    pub created_at: Instant,
    /// When it expires; `None` while its link keeps it alive.
    pub expires_at: Option<Instant>,
    /// How long it lives.
    pub ttl: Duration,
    /// When it last answered or changed.
    pub last_activity: Instant,
    /// Requests that it was given.
    pub request_count: u64,
    /// Requests that it may be given; 0 is no limit.
    pub max_requests: u64,
    /// Exchanges that are open.
    pub in_flight: usize,
    /// Exchanges that may be open.
    pub max_concurrency: usize,
    /// What its model can do.
    pub capabilities: Capabilities,
    /// The connection that it answers on.
    pub link: Option<LinkId>,
    /// Digest of its token.
    pub(super) token: Digest,
    /// Digest of the credential that registered it.
    pub(super) owner: Option<Digest>,
    /// True when its agent registered it on a link; false when a bridge did so over HTTP.
    pub(super) by_agent: bool,
}

impl Session {
    /// True when a new exchange may go to it.
    #[must_use]
    pub fn can_answer(&self) -> bool {
        self.status == Status::Active && self.link.is_some() && !self.is_spent()
    }

    /// True when it has answered as often as it may.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.max_requests > 0 && self.request_count >= self.max_requests
    }

    /// True when it takes no more exchanges at once.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.in_flight >= self.max_concurrency
    }

    /// True when it may be asked for `scope`.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.scopes
            .iter()
            .any(|allowed| allowed == scope || allowed == "*")
    }
}

/// All sessions, found by name and by token, with an ordered index of their ends.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Option<Session>>,
    free: Vec<usize>,
    by_id: HashMap<SessionId, Slot>,
    by_token: HashMap<Digest, Slot>,
    expiry: BTreeSet<(Instant, usize)>,
    ended: VecDeque<Slot>,
    live: usize,
}

impl Sessions {
    /// Sessions that have not ended.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// Adds a session.
    ///
    /// # Errors
    /// 409 when the name is known.
    pub fn insert(&mut self, session: Session) -> Result<Slot, Refusal> {
        if self.by_id.contains_key(&session.id) {
            return Err(Refusal::new(
                Code::Conflict,
                alloc::format!("session_id: a session `{}` exists already", session.id),
            )
            .at("session_id"));
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let slot = Slot(at);
        self.by_id.insert(session.id.clone(), slot);
        self.by_token.insert(session.token, slot);
        if let Some(expires) = session.expires_at {
            self.expiry.insert((expires, at));
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(session);
        }
        self.live += 1;
        Ok(slot)
    }

    /// The session at `slot`.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&Session> {
        self.slots.get(slot.0)?.as_ref()
    }

    /// The session at `slot`. Its name, token, state and expiry are changed by the methods of this type only.
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.slots.get_mut(slot.0)?.as_mut()
    }

    /// The session of that name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Slot> {
        self.by_id.get(&SessionId::new(id)?).copied()
    }

    /// The session of that token; one that has ended is found as long as it is remembered.
    #[must_use]
    pub fn by_token(&self, token: &Digest) -> Option<Slot> {
        self.by_token.get(token).copied()
    }

    /// Sets or lifts the end.
    pub fn set_expiry(&mut self, slot: Slot, at: Option<Instant>) {
        let Some(session) = self.slots.get_mut(slot.0).and_then(Option::as_mut) else {
            return;
        };
        if let Some(before) = session.expires_at {
            self.expiry.remove(&(before, slot.0));
        }
        session.expires_at = at;
        if let Some(at) = at {
            self.expiry.insert((at, slot.0));
        }
    }

    /// Moves a session by the table of transitions.
    ///
    /// # Errors
    /// 409 where the state forbids the action.
    pub fn apply(&mut self, now: Instant, slot: Slot, action: Action) -> Result<Status, Refusal> {
        let Some(session) = self.slots.get_mut(slot.0).and_then(Option::as_mut) else {
            return Err(Refusal::new(Code::SessionNotFound, "no such session"));
        };
        let Some(status) = session.status.after(action) else {
            return Err(Refusal::new(
                Code::Conflict,
                alloc::format!(
                    "session `{}` is {}; that state does not allow `{}`",
                    session.id,
                    session.status.as_str(),
                    action.as_str()
                ),
            ));
        };
        session.status = status;
        session.last_activity = now;
        if status.is_final() {
            session.link = None;
            self.set_expiry(slot, None);
            self.live -= 1;
            self.ended.push_back(slot);
            if self.ended.len() > REMEMBERED {
                self.forget_oldest();
            }
        }
        Ok(status)
    }

    /// The next end.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// A session whose end has come.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Slot> {
        self.expiry
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, slot)| Slot(*slot))
    }

    /// All of them, ended ones too, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().flatten()
    }

    fn forget_oldest(&mut self) {
        // One that still has exchanges open is kept until they are settled: their tickets name its slot.
        let Some(position) = self
            .ended
            .iter()
            .position(|slot| self.get(*slot).is_none_or(|session| session.in_flight == 0))
        else {
            return;
        };
        if let Some(slot) = self.ended.remove(position)
            && let Some(session) = self.slots.get_mut(slot.0).and_then(Option::take)
        {
            self.by_id.remove(&session.id);
            // A bridge may have given the token of a session that had ended to a newer one.
            if self.by_token.get(&session.token) == Some(&slot) {
                self.by_token.remove(&session.token);
            }
            self.free.push(slot.0);
        }
    }
}

/// What the hub adds to a registration.
pub(super) struct Terms {
    pub(super) id: SessionId,
    pub(super) token: Digest,
    pub(super) owner: Option<Digest>,
    pub(super) by_agent: bool,
    pub(super) status: Status,
}

/// Turns an accepted registration into a session.
pub(super) fn admit(
    registration: Registration,
    terms: Terms,
    policy: &SessionPolicy,
    now: Instant,
) -> Session {
    let Terms {
        id,
        token,
        owner,
        by_agent,
        status,
    } = terms;
    let ttl = registration.ttl_seconds.unwrap_or(policy.ttl_seconds);
    let ttl = Duration::from_secs(u64::from(ttl));
    let agent_id: Arc<str> = registration.agent_id.into();
    let mut models: Vec<Arc<str>> = registration
        .models
        .iter()
        .map(|model| model.as_str().into())
        .collect();
    if models.is_empty() {
        models.push(agent_id.clone());
    }
    Session {
        id,
        label: registration
            .label
            .map_or_else(|| agent_id.clone(), Arc::from),
        agent_id,
        scopes: registration
            .scopes
            .unwrap_or_else(|| alloc::vec![String::from("inference")]),
        models,
        status,
        created_at: now,
        expires_at: Some(now + ttl),
        ttl,
        last_activity: now,
        request_count: 0,
        max_requests: registration.max_requests.unwrap_or(policy.max_requests),
        in_flight: 0,
        max_concurrency: registration.max_concurrency.unwrap_or(UNBOUNDED).max(1),
        capabilities: registration.capabilities,
        link: None,
        token,
        owner,
        by_agent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_transitions() {
        use Action::{Approve, Deny, Expire, Renew, Resume, Revoke, Suspend};
        let mut table = String::new();
        for status in Status::ALL {
            table.push_str(status.as_str());
            for action in [Approve, Deny, Suspend, Resume, Revoke, Renew, Expire] {
                if let Some(next) = status.after(action) {
                    table.push_str(&alloc::format!(" {}>{}", action.as_str(), next.as_str()));
                }
            }
            table.push('\n');
        }
        assert_eq!(
            table,
            "pending approve>active deny>revoked renew>pending expire>expired\n\
             active suspend>suspended revoke>revoked renew>active expire>expired\n\
             suspended resume>active revoke>revoked renew>suspended expire>expired\n\
             revoked\n\
             expired\n"
        );
    }
}
