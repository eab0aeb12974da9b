//! Agents' connections and their sessions: checks who may connect, decides which sessions a link carries, and makes
//! sessions.

use super::audit::AuditEvent;
use super::keys::{self, Authority, Digest};
use super::routing::Slot;
use super::sessions::{self, Action, Registration, Status};
use super::{Cause, Hub, HubOut};
use crate::config::Role;
use crate::error::{Code, Refusal};
use crate::id::{LinkId, SessionId};
use crate::invocation::CancelReason;
use crate::link::{CloseCode, Command, Notice};
use crate::text;
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest as _, Sha256};

/// The introduction of an agent's connection.
#[derive(Clone, Copy)]
pub struct Hello<'a> {
    /// The bearer token: a bridge key or a session token; for a bridge that we dialled, the token that we showed.
    pub token: Option<&'a str>,
    /// True when we dialled.
    pub dialled: bool,
}

impl fmt::Debug for Hello<'_> {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("token", &self.token.is_some())
            .field("dialled", &self.dialled)
            .finish()
    }
}

#[derive(Debug)]
pub(super) struct LinkState {
    /// Digest of the token that it showed.
    pub(super) credential: Option<Digest>,
    /// Set when the token was a session's: it carries that one and no other.
    pub(super) attached: Option<Slot>,
    /// Sessions that it carries.
    pub(super) sessions: BTreeSet<Slot>,
    /// Name of the key that it showed.
    key: Option<Arc<str>>,
    /// The permission that it rests on; `None` for a link that is attached to a session, with which it ends.
    pub(super) authority: Option<Authority>,
    /// True when we dialled.
    dialled: bool,
}

/// The party that registers a session.
pub(super) struct Registrar {
    /// Digest of the token.
    pub(super) credential: Option<Digest>,
    /// Name of the key.
    pub(super) key: Option<Arc<str>>,
    /// The permission that it has.
    pub(super) authority: Authority,
    /// True for an agent on its link.
    pub(super) is_agent: bool,
}

impl Hub {
    /// A connection of an agent is to be a link.
    ///
    /// # Errors
    /// 401 for a token that is not known, 403 for a key without the role `bridge` or a session that may not answer.
    pub fn connect(
        &mut self,
        now: Instant,
        hello: Hello<'_>,
        out: &mut HubOut,
    ) -> Result<LinkId, Refusal> {
        let now = self.latest.clamp(now);
        let credential = hello.token.map(|token| keys::digest(token.as_bytes()));
        let (attached, key, authority) = if hello.dialled {
            (None, None, Some(Authority::Configuration))
        } else {
            match credential.and_then(|token| self.sessions.by_token(&token)) {
                Some(slot) => (Some(self.attachable(slot)?), None, None),
                None => {
                    let caller = self
                        .keys
                        .authenticate(hello.token, core::net::Ipv4Addr::LOCALHOST.into())
                        .map_err(|_| {
                            Refusal::new(
                                Code::InvalidKey,
                                "this token is neither a bridge key nor the token of a live session; `mcp-local-provider keys add NAME --role bridge` makes a bridge key",
                            )
                        })?;
                    caller.require(&[Role::Bridge])?;
                    let authority = caller.authority();
                    (None, Some(caller.name), Some(authority))
                }
            }
        };
        if self.draining {
            return Err(Refusal::draining());
        }
        self.last_link += 1;
        let id = LinkId(self.last_link);
        if let (Some(credential), None) = (credential, attached) {
            self.bridges.entry(credential).or_default().insert(id);
        }
        self.links.insert(
            id,
            LinkState {
                credential,
                attached,
                sessions: BTreeSet::new(),
                key: key.clone(),
                authority,
                dialled: hello.dialled,
            },
        );
        out.record(
            now,
            AuditEvent::Link {
                link: id.0,
                what: "up",
                key,
                dialled: hello.dialled,
            },
        );
        if let Some(slot) = attached {
            self.carry(now, id, slot, out);
        } else {
            self.adopt(now, id, hello.dialled, out);
        }
        self.pump(now, out);
        Ok(id)
    }

    /// 403 unless the session may be attached to.
    fn attachable(&self, slot: Slot) -> Result<Slot, Refusal> {
        match self.sessions.get(slot).map(|session| session.status) {
            Some(Status::Active | Status::Pending) => Ok(slot),
            status @ (Some(Status::Suspended | Status::Revoked | Status::Expired) | None) => {
                Err(Refusal::new(
                    Code::SessionDenied,
                    alloc::format!(
                        "this session is {}; register a new one",
                        status.map_or("gone", Status::as_str)
                    ),
                ))
            }
        }
    }

    /// Gives a new link the sessions that its credential registered and that no link carries.
    ///
    /// A session that an agent registered on its link is that agent's: where several agents share one bridge key, another
    /// one must not answer for it. A bridge that we dial is the same one each time.
    fn adopt(&mut self, now: Instant, link: LinkId, dialled: bool, out: &mut HubOut) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let credential = state.credential;
        let is_default = credential.is_some() && credential == self.config.default_bridge;
        let owners = self.sessions.owners();
        let mut orphans = if is_default {
            owners.of_bridges()
        } else {
            credential.map_or_else(Vec::new, |own| owners.of_bridge(own))
        };
        if let Some(own) = credential.filter(|_| dialled) {
            orphans.extend(owners.of_agents(own));
        }
        orphans.sort_unstable();
        for slot in orphans {
            self.carry(now, link, slot, out);
        }
    }

    /// The links of bridges that showed this credential, oldest first.
    pub(super) fn bridges_of(&self, credential: Digest) -> impl DoubleEndedIterator<Item = LinkId> {
        let own = self.bridges.get(&credential);
        own.into_iter().flatten().copied()
    }

    /// Puts a session on a link, and off the one that had it.
    pub(super) fn carry(&mut self, now: Instant, link: LinkId, slot: Slot, out: &mut HubOut) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let id = session.id.clone();
        if session.link != Some(link) {
            session.permits.withdraw();
        }
        let before = self.sessions.set_link(now, slot, Some(link));
        if let Some(state) = self.links.get_mut(&link) {
            state.sessions.insert(slot);
        }
        if let Some(before) = before.filter(|before| *before != link)
            && let Some(state) = self.links.get_mut(&before)
        {
            state.sessions.remove(&slot);
            let command = if state.attached == Some(slot) {
                Command::Close(CloseCode::Replaced)
            } else {
                Command::EndSession {
                    session: id,
                    reason: CancelReason::SessionEnded,
                }
            };
            out.commands.push((before, command));
        }
        self.reroute(slot);
        self.session_changed(slot);
    }

    /// The driver lost a link or closed it. Idempotent.
    pub fn disconnected(&mut self, now: Instant, link: LinkId, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        if let Some(credential) = state.credential
            && let Some(own) = self.bridges.get_mut(&credential)
        {
            own.remove(&link);
            if own.is_empty() {
                self.bridges.remove(&credential);
            }
        }
        for slot in state.sessions {
            if self.sessions.get(slot).and_then(|session| session.link) == Some(link) {
                self.sessions.set_link(now, slot, None);
                self.reroute(slot);
                self.session_changed(slot);
            }
        }
        out.record(
            now,
            AuditEvent::Link {
                link: link.0,
                what: "down",
                key: state.key,
                dialled: state.dialled,
            },
        );
        self.pump(now, out);
    }

    /// A link has something to tell.
    pub fn handle_notice(&mut self, now: Instant, from: LinkId, notice: Notice, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        match notice {
            Notice::Register(registration) => {
                self.register_on_link(now, from, registration.into(), out)
            }
            Notice::Unregister(id) => {
                let carried = self.sessions.find(id.as_str()).filter(|slot| {
                    self.links
                        .get(&from)
                        .is_some_and(|state| state.sessions.contains(slot))
                });
                match carried {
                    Some(slot) => {
                        // The only error is a state that is final already.
                        let by = Cause {
                            why: "unregistered",
                            key: self.links.get(&from).and_then(|state| state.key.clone()),
                        };
                        let _ = self.change(now, slot, Action::Withdraw, &by, out);
                    }
                    None => out.commands.push((
                        from,
                        Command::Error {
                            code: Code::SessionNotFound.name().unwrap_or_default(),
                            message: alloc::format!("this link carries no session `{id}`"),
                        },
                    )),
                }
            }
        }
    }

    fn register_on_link(
        &mut self,
        now: Instant,
        from: LinkId,
        registration: Registration,
        out: &mut HubOut,
    ) {
        let Some(state) = self.links.get(&from) else {
            return;
        };
        let registered = match state.authority {
            None => Err(Refusal::invalid(
                "this link was opened with a session token and carries that session; register over a link with a bridge key",
            )),
            Some(authority) => {
                let registrar = Registrar {
                    credential: state.credential,
                    key: state.key.clone(),
                    authority,
                    is_agent: true,
                };
                let status = if self.config.sessions.manual_approval {
                    Status::Pending
                } else {
                    Status::Active
                };
                self.register(now, registration, registrar, status, out)
            }
        };
        match registered {
            Ok((slot, token)) => {
                self.carry(now, from, slot, out);
                if let Some(session) = self.sessions.get(slot) {
                    out.commands.push((
                        from,
                        Command::Registered {
                            session: session.id.clone(),
                            token,
                            status: session.status.as_str(),
                            expires_at: self.wall.rfc3339(now + session.ttl),
                        },
                    ));
                }
                self.pump(now, out);
            }
            Err(refusal) => out.commands.push((
                from,
                Command::Error {
                    code: refusal.code().name().unwrap_or("invalid_request"),
                    message: refusal.message().into(),
                },
            )),
        }
    }

    /// Makes a session. The token is there when it was made here, and is not to be had again.
    pub(super) fn register(
        &mut self,
        now: Instant,
        registration: Registration,
        registrar: Registrar,
        status: Status,
        out: &mut HubOut,
    ) -> Result<(Slot, Option<String>), Refusal> {
        registration.check()?;
        if !self.keys.uphold(registrar.authority) {
            // Its link is about to be closed for that.
            let name = registrar.key.as_deref().unwrap_or(keys::ANONYMOUS);
            return Err(keys::withdrawn(name));
        }
        let owner = registrar.credential;
        // An agent that comes back without its session token takes its own orphan over instead of leaving it behind.
        let orphan = owner
            .filter(|_| registration.session_id.is_none())
            .and_then(|owner| {
                self.sessions
                    .owners()
                    .active_of(owner, &registration.agent_id)
            });
        if let Some(slot) = orphan {
            let by = Cause::own("replaced");
            self.change(now, slot, Action::Withdraw, &by, out)?;
        }
        if self.sessions.live() >= self.config.sessions.max {
            return Err(Refusal::new(
                Code::Overloaded,
                alloc::format!(
                    "{} sessions are live already; sessions.max allows no more",
                    self.sessions.live()
                ),
            ));
        }
        let id = match &registration.session_id {
            Some(id) => id.clone(),
            None => self.mint_session_id(),
        };
        let (token, shown) = match registration.session_token {
            Some(token) => (token, None),
            None => {
                let token = self.mint("token");
                (keys::digest(token.as_bytes()), Some(token))
            }
        };
        let terms = sessions::Terms {
            id,
            token,
            owner,
            authority: registrar.authority,
            by_agent: registrar.is_agent,
            status,
        };
        let session = sessions::admit(registration, terms, &self.config.sessions, now);
        let event = AuditEvent::Session {
            session: session.id.clone(),
            agent_id: session.agent_id.clone(),
            what: "registered",
            status: status.as_str(),
            key: registrar.key,
        };
        let slot = self.sessions.insert(session)?;
        self.metrics.sessions_made += 1;
        out.record(now, event);
        Ok((slot, shown))
    }

    fn mint_session_id(&mut self) -> SessionId {
        loop {
            let minted = self.mint("session");
            if let Some(id) = SessionId::new(minted.get(..24).unwrap_or(&minted)) {
                return id;
            }
        }
    }

    /// 64 hexadecimal digits that nobody can guess: a pseudo-random function of the seed and a counter.
    fn mint(&mut self, purpose: &str) -> String {
        self.minted += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed.0);
        hash.update(purpose.as_bytes());
        hash.update(self.minted.to_be_bytes());
        let mut digits = Vec::with_capacity(64);
        text::hex(&mut digits, &hash.finalize());
        String::from_utf8(digits).unwrap_or_default()
    }
}
