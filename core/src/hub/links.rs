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
use crate::invocation::InvokeForm;
use crate::link::{CloseCode, Command, Notice, Registered};
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
    /// The bridge, when we dialled.
    pub dialled: Option<Dialled<'a>>,
}

/// The settings of a bridge that we dialled.
#[derive(Clone, Copy, Default)]
pub struct Dialled<'a> {
    /// Its name, the same each time.
    pub name: &'a str,
    /// The form in which its agents are asked, but for those that register with another.
    pub form: InvokeForm,
    /// The session that it has without a registration.
    pub session: Option<&'a Registration>,
}

impl fmt::Debug for Hello<'_> {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("token", &self.token.is_some())
            .field("dialled", &self.dialled.map(|bridge| bridge.name))
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
    /// Its agent has registered a session on it, so that it is no one else's.
    registered: bool,
    /// Name of the key that it showed.
    key: Option<Arc<str>>,
    /// The permission that it rests on; `None` for a link that is attached to a session, with which it ends.
    pub(super) authority: Option<Authority>,
    /// True when we dialled.
    dialled: bool,
    /// True from when an operator ended a session of an agent of the program until an operator approves one: the agent
    /// registers again by itself, and its session waits for approval.
    pub(super) barred: bool,
    /// Name of what we dialled.
    pub(super) bridge: Option<Arc<str>>,
    /// The form in which its agents are asked, but for sessions that have one of their own.
    pub(super) form: InvokeForm,
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
        let mut credential = hello.token.map(|token| keys::digest(token.as_bytes()));
        let configured = hello.dialled.and_then(|bridge| bridge.session);
        if let (None, Some(bridge), Some(_)) = (credential, hello.dialled, configured) {
            credential = Some(self.stands_for("bridge", bridge.name));
        }
        let (attached, key, authority) = if hello.dialled.is_some() {
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
                    let authority = caller.authority;
                    (None, Some(caller.name), Some(authority))
                }
            }
        };
        if self.draining {
            return Err(Refusal::draining());
        }
        let bridge = hello.dialled.map(|bridge| bridge.name);
        let bridge: Option<Arc<str>> = bridge.filter(|name| !name.is_empty()).map(Arc::from);
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
                registered: false,
                key: key.clone(),
                authority,
                dialled: hello.dialled.is_some(),
                barred: false,
                bridge: bridge.clone(),
                form: hello
                    .dialled
                    .map_or_else(InvokeForm::default, |bridge| bridge.form),
            },
        );
        out.record(
            now,
            AuditEvent::Link {
                link: id.0,
                what: "up",
                key,
                dialled: hello.dialled.is_some(),
                bridge,
            },
        );
        if let Some(slot) = attached {
            self.carry(now, id, slot, out);
        } else {
            self.adopt(now, id, out);
        }
        if let Some(registration) = configured
            && let Err(refusal) = self.register_configured(now, id, registration, out)
        {
            self.disconnected(now, id, out);
            return Err(refusal);
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

    /// Gives a new link the sessions that no link carries and that may be its own.
    ///
    /// A session that an agent registered on its link is that agent's: where several agents share one bridge key, another
    /// one must not answer for it. A bridge that we dial is the same one each time.
    fn adopt(&mut self, now: Instant, link: LinkId, out: &mut HubOut) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let Some(credential) = state.credential else {
            return;
        };
        let owners = self.sessions.owners();
        let agents = if state.dialled {
            owners.of_agents(credential)
        } else {
            Vec::new()
        };
        let mut orphans = if self.config.default_bridge == Some(credential) {
            owners.of_bridges()
        } else {
            owners.of_bridge(credential)
        };
        orphans.sort_unstable();
        for slot in agents {
            self.carry(now, link, slot, out);
        }
        for slot in orphans {
            self.place(now, slot, out);
        }
    }

    /// Finds a link for a session that was registered over HTTP and that none carries: of the same key, one on which no
    /// agent has registered itself, else the bridge that is dialled with that key. The default bridge stands in where there
    /// was no key. Another agent's link is none, and the session of a configured bridge is that bridge's alone.
    pub(super) fn place(&mut self, now: Instant, slot: Slot, out: &mut HubOut) {
        let orphan = self.sessions.get(slot).filter(|session| {
            session.link.is_none() && !session.by_agent && !session.status.is_final()
        });
        let Some((owner, authority, configured)) =
            orphan.map(|session| (session.owner, session.authority, session.is_configured()))
        else {
            return;
        };
        let of = |credential: Option<Digest>, dialled: bool| {
            let links = self.bridges.get(&credential?)?.iter().rev().copied();
            let mut links = links.filter_map(|id| Some((id, self.links.get(&id)?)));
            let fits =
                |state: &LinkState| state.dialled == dialled && (dialled || !state.registered);
            links.find_map(|(id, state)| fits(state).then_some(id))
        };
        let keyless = authority == Authority::Anyone;
        let default = self.config.default_bridge.filter(|_| keyless);
        let own = owner.filter(|_| !configured);
        let link = of(own, false)
            .or_else(|| of(owner, true))
            .or_else(|| of(default, true));
        if let Some(link) = link {
            self.carry(now, link, slot, out);
        }
    }

    /// An agent has registered itself on a link: the sessions that the link carried for want of another go elsewhere.
    fn claim_link(&mut self, now: Instant, link: LinkId, out: &mut HubOut) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        // Later it has none of those: they are placed where no agent has registered.
        let again = core::mem::replace(&mut state.registered, true);
        if again || state.dialled {
            return;
        }
        let by_agent = |slot: &Slot| self.sessions.get(*slot).is_some_and(|one| one.by_agent);
        let carried = core::mem::take(&mut state.sessions).into_iter();
        let (own, others): (_, BTreeSet<Slot>) = carried.partition(by_agent);
        state.sessions = own;
        for slot in others {
            self.release(now, link, slot, out);
            self.place(now, slot, out);
        }
    }

    /// Takes a session off a link that goes on without it.
    fn release(&mut self, now: Instant, link: LinkId, slot: Slot, out: &mut HubOut) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        session.permits.withdraw();
        out.commands.push((
            link,
            Command::EndSession {
                session: session.id.clone(),
                reason: CancelReason::SessionEnded,
            },
        ));
        self.sessions.set_link(now, slot, None);
        self.reroute(slot);
        self.session_changed(slot);
    }

    /// Puts a session on a link, and off the one that had it.
    pub(super) fn carry(&mut self, now: Instant, link: LinkId, slot: Slot, out: &mut HubOut) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let id = session.id.clone();
        let carrier = self.links.get(&link).and_then(|state| state.bridge.clone());
        if session.link != Some(link) {
            session.permits.withdraw();
        }
        let before = self.sessions.set_link(now, slot, Some(link));
        if let Some(session) = self.sessions.get_mut(slot) {
            session.carrier = carrier;
        }
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
                self.place(now, slot, out);
            }
        }
        out.record(
            now,
            AuditEvent::Link {
                link: link.0,
                what: "down",
                key: state.key,
                dialled: state.dialled,
                bridge: state.bridge,
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
        let Some(state) = self.links.get_mut(&from) else {
            return;
        };
        state.form = registration.form.unwrap_or(state.form);
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
                let status = if self.config.sessions.manual_approval || state.barred {
                    Status::Pending
                } else {
                    Status::Active
                };
                self.register(now, registration, registrar, status, out)
            }
        };
        match registered {
            Ok((slot, token)) => {
                self.claim_link(now, from, out);
                self.carry(now, from, slot, out);
                if let Some(session) = self.sessions.get(slot) {
                    out.commands.push((
                        from,
                        Command::Registered(Registered {
                            session: session.id.clone(),
                            token,
                            status: session.status.as_str(),
                            expires_at: self.wall.rfc3339(now + session.ttl),
                        }),
                    ));
                }
                if let Some(name) = self.links.get(&from).and_then(|state| state.bridge.clone()) {
                    self.agent_registered(now, &name, out);
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
            return Err(keys::withdrawn(registrar.authority, name));
        }
        let owner = registrar.credential;
        // An agent that comes back without its session token takes its own orphan over instead of leaving it behind.
        let orphan = owner.filter(|_| registrar.is_agent).and_then(|owner| {
            self.sessions
                .owners()
                .active_of(owner, &registration.agent_id)
        });
        if let Some(slot) = orphan {
            let by = Cause::own("replaced");
            self.change(now, slot, Action::Withdraw, &by, out)?;
        }
        let known = registration.session_id.as_ref();
        let known = known.and_then(|id| self.sessions.find(id.as_str()));
        let goes_on = match known {
            Some(slot) => self.may_register_again(slot, &registration, &registrar)?,
            None => None,
        };
        if goes_on.is_none() && self.sessions.live() >= self.config.sessions.max {
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
        if let Some(slot) = goes_on {
            self.register_again(now, slot, session, registrar.key, out)?;
            return Ok((slot, shown));
        }
        let event = AuditEvent::Session {
            session: session.id.clone(),
            agent_id: session.agent_id.clone(),
            what: "registered",
            status: status.as_str(),
            key: registrar.key,
        };
        let slot = self.sessions.insert(session)?;
        self.metrics.sessions_made += 1;
        self.recent.count(now, |tally| tally.sessions_made += 1);
        out.record(now, event);
        Ok((slot, shown))
    }

    /// The session that a registration of its name goes on with; `None` when it has ended and its name is free again.
    ///
    /// # Errors
    /// 409 where it is another key's, or an operator has ended it.
    fn may_register_again(
        &mut self,
        slot: Slot,
        registration: &Registration,
        registrar: &Registrar,
    ) -> Result<Option<Slot>, Refusal> {
        let Some(session) = self.sessions.get(slot) else {
            return Ok(None);
        };
        let id = &session.id;
        let conflict = |what: &str| {
            let message = alloc::format!("session_id: the session `{id}` {what}");
            Err(Refusal::new(Code::Conflict, message).at("session_id"))
        };
        if session.owner.is_none() || session.owner != registrar.credential || session.by_agent {
            return conflict("exists already and was registered by another");
        }
        if session.barred {
            return conflict(
                "was ended by an operator; register without `session_id` for a new one",
            );
        }
        if !session.status.is_final() {
            let token = registration.session_token.as_ref();
            if token.is_some_and(|token| self.sessions.token_is_taken(token, Some(slot))) {
                return Err(sessions::token_taken());
            }
            return Ok(Some(slot));
        }
        if self.sessions.forget_ended(slot) {
            return Ok(None);
        }
        Err(Refusal::new(
            Code::Conflict,
            "session_id: answers of that session are still ending; try again in a moment",
        )
        .at("session_id"))
    }

    /// A bridge registers a session that goes on: other terms, time to live anew.
    fn register_again(
        &mut self,
        now: Instant,
        slot: Slot,
        terms: sessions::Session,
        key: Option<Arc<str>>,
        out: &mut HubOut,
    ) -> Result<(), Refusal> {
        self.unroute(slot);
        // Those that wait for models which it has no more, too.
        self.session_changed(slot);
        self.sessions.rewrite(slot, terms);
        let by = Cause {
            why: Action::Register.done(),
            key,
        };
        self.change(now, slot, Action::Renew, &by, out).map(drop)
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
