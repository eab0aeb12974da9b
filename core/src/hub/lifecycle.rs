//! The life of a session: its states, every move between them, and what each move does to its time to live.
//!
//! With `sessions.renew: connected` a link *holds* the sessions that it carries: they have no end, and their time to live
//! counts from the moment when they are not held any more. With `never` it counts from the registration or the last renewal.

use super::audit::AuditEvent;
use super::routing::Slot;
use super::sessions::{Session, Sessions};
use super::{Cause, Hub, HubOut};
use crate::error::{Code, Refusal};
use crate::id::LinkId;
use crate::invocation::CancelReason;
use crate::link::{CloseCode, Command, SessionStatus};
use crate::machine::{Move, OUTSIDE, Table};
use crate::time::Instant;

/// Sessions that have ended and are still shown.
const REMEMBERED: usize = 256;

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

    /// Its place in [`Status::ALL`].
    pub(super) const fn place(self) -> usize {
        match self {
            Self::Pending => 0,
            Self::Active => 1,
            Self::Suspended => 2,
            Self::Revoked => 3,
            Self::Expired => 4,
        }
    }

    /// True for a state that is never left.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Active | Self::Suspended => false,
            Self::Revoked | Self::Expired => true,
        }
    }

    /// True when an action asks for what has been done already and cannot be undone: a revoke may be repeated, as its caller
    /// may not have heard that it succeeded.
    #[must_use]
    pub(super) fn is_repeated_by(self, action: Action) -> bool {
        self == Self::Revoked && action == Action::Revoke
    }

    /// Returns the state that an action leads to from here, `None` when it is forbidden.
    #[must_use]
    pub fn after(self, action: Action) -> Option<Self> {
        find(self, action).map(|(_, row)| row.to)
    }
}

/// Actions on a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// An agent or a bridge registers it.
    Register,
    /// A person allows it.
    Approve,
    /// A person refuses it.
    Deny,
    /// A person forbids it to answer for a while.
    Suspend,
    /// A person ends the suspension.
    Resume,
    /// A person ends it for ever.
    Revoke,
    /// Its registration is taken back: by its agent, by a newer one in its place, or with the key that made it.
    Withdraw,
    /// It gets a new time to live.
    Renew,
    /// A link carries it from now on.
    Carry,
    /// The link that carried it is lost.
    Lose,
    /// Its time to live has passed.
    Expire,
}

impl Action {
    /// The name, for those of `/control/…` the one there.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Revoke => "revoke",
            Self::Withdraw => "withdraw",
            Self::Renew => "renew",
            Self::Carry => "carry",
            Self::Lose => "lose",
            Self::Expire => "expire",
        }
    }

    /// Returns the word for the completed action, for the session's agent and for the audit.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Register => "registered",
            Self::Approve => "approved",
            Self::Deny => "denied",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Revoke => "revoked",
            Self::Withdraw => "withdrawn",
            Self::Renew => "renewed",
            Self::Carry => "carried",
            Self::Lose => "lost",
            Self::Expire => "expired",
        }
    }
}

/// Effects of a move on the time to live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    /// It goes on as it was.
    Kept,
    /// It counts from now.
    Anew,
    /// With `connected` it stands still, as a link holds the session.
    Held,
    /// With `connected` it counts from now, as the link held the session until now.
    Released,
    /// The session has ended.
    Over,
}

/// One row of the table.
#[derive(Clone, Copy)]
struct Row {
    from: Option<Status>,
    action: Action,
    to: Status,
    life: Life,
    when: &'static str,
}

const fn begin(to: Status, when: &'static str) -> Row {
    let (action, life) = (Action::Register, Life::Anew);
    Row {
        from: None,
        action,
        to,
        life,
        when,
    }
}

const fn row(from: Status, action: Action, to: Status, life: Life, when: &'static str) -> Row {
    Row {
        from: Some(from),
        action,
        to,
        life,
        when,
    }
}

/// Every move of a session. What is not here is forbidden.
#[rustfmt::skip]
const ROWS: [Row; 23] = {
    use Action::{Approve, Carry, Deny, Expire, Lose, Renew, Resume, Revoke, Suspend, Withdraw};
    use Life::{Anew, Held, Kept, Over, Released};
    use Status::{Active, Expired, Pending, Revoked, Suspended};
    [
        begin(Pending, "register, approval manual"),
        begin(Active, "register, approval automatic"),
        row(Pending,   Approve,  Active,    Kept,     "approve"),
        row(Pending,   Deny,     Revoked,   Over,     "deny"),
        row(Pending,   Withdraw, Revoked,   Over,     "unregister, key removed"),
        row(Pending,   Expire,   Expired,   Over,     "time to live over"),
        row(Pending,   Renew,    Pending,   Anew,     "renew, its time to live counts anew"),
        row(Pending,   Carry,    Pending,   Held,     "carried by a link, time stands still"),
        row(Pending,   Lose,     Pending,   Released, "link lost, time counts anew"),
        row(Active,    Suspend,  Suspended, Kept,     "suspend"),
        row(Active,    Revoke,   Revoked,   Over,     "revoke"),
        row(Active,    Withdraw, Revoked,   Over,     "unregister, replaced, key removed"),
        row(Active,    Expire,   Expired,   Over,     "time to live over"),
        row(Active,    Renew,    Active,    Anew,     "renew, its time to live counts anew"),
        row(Active,    Carry,    Active,    Held,     "carried by a link, time stands still"),
        row(Active,    Lose,     Active,    Released, "link lost, time counts anew"),
        row(Suspended, Resume,   Active,    Kept,     "resume"),
        row(Suspended, Revoke,   Revoked,   Over,     "revoke"),
        row(Suspended, Withdraw, Revoked,   Over,     "unregister, key removed"),
        row(Suspended, Expire,   Expired,   Over,     "time to live over"),
        row(Suspended, Renew,    Suspended, Anew,     "renew, its time to live counts anew"),
        row(Suspended, Carry,    Suspended, Held,     "carried by a link, time stands still"),
        row(Suspended, Lose,     Suspended, Released, "link lost, time counts anew"),
    ]
};

/// The same rows for the diagram.
pub static STATES: Table = Table::new(&MOVES);

const MOVES: [Move; ROWS.len()] = {
    let mut moves = [Move::new(OUTSIDE, OUTSIDE, ""); ROWS.len()];
    let mut rest: (&mut [Move], &[Row]) = (&mut moves, &ROWS);
    while let ([to, moves @ ..], [row, rows @ ..]) = rest {
        let from = match row.from {
            Some(status) => status.as_str(),
            None => OUTSIDE,
        };
        *to = Move::new(from, row.to.as_str(), row.when);
        rest = (moves, rows);
    }
    moves
};

/// The row of an action, with its place in the table.
fn find(from: Status, action: Action) -> Option<(usize, &'static Row)> {
    const TABLE: &[Row] = &ROWS;
    let wanted = |row: &Row| row.from == Some(from) && row.action == action;
    TABLE.iter().enumerate().find(|(_, row)| wanted(row))
}

/// From when on the time to live of a session counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// The registration, the last renewal, or the end of the last hold.
    renewed: Instant,
    /// The loss of the last link, whether that held the session or not.
    lost: Instant,
}

impl Since {
    /// A registration, which is the first move of a session.
    pub(super) fn registration(now: Instant, status: Status) -> Self {
        let row = ROWS
            .iter()
            .position(|row| row.from.is_none() && row.to == status);
        debug_assert!(row.is_some(), "a session does not begin as {status:?}");
        row.into_iter().for_each(|row| STATES.took(row));
        Self {
            renewed: now,
            lost: now,
        }
    }
}

impl Session {
    /// True when a link that carries it holds it. The session of a configured bridge has no other end.
    fn is_held_by(&self, links_hold: bool) -> bool {
        links_hold || self.is_configured()
    }

    /// Returns the time at which it expires; `None` while a link holds it, and once it has ended.
    fn end(&self, links_hold: bool) -> Option<Instant> {
        let held = self.is_held_by(links_hold) && self.link.is_some();
        (!held && !self.status.is_final()).then(|| self.since.renewed + self.ttl)
    }
}

impl Sessions {
    /// Moves a session by the table.
    ///
    /// # Errors
    /// 409 where its state forbids the action.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        slot: Slot,
        action: Action,
    ) -> Result<Status, Refusal> {
        let links_hold = self.links_hold;
        let Some(session) = self.get_mut(slot) else {
            return Err(Refusal::new(Code::SessionNotFound, "no such session"));
        };
        let Some((place, row)) = find(session.status, action) else {
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
        STATES.took(place);
        let before = core::mem::replace(&mut session.status, row.to);
        match row.life {
            Life::Kept | Life::Held => session.activity.touch(now),
            Life::Anew => {
                session.activity.touch(now);
                session.since.renewed = now;
            }
            Life::Released => {
                session.since.lost = now;
                if session.is_held_by(links_hold) {
                    session.since.renewed = now;
                }
            }
            Life::Over => {
                session.activity.touch(now);
                session.ended_at = Some(now);
                session.link = None;
            }
        }
        self.recount(Some(before), Some(row.to));
        self.reschedule(slot);
        self.refile(slot);
        if row.life == Life::Over {
            self.over(slot, REMEMBERED);
        }
        Ok(row.to)
    }

    /// Gives a session to a link, or takes it from the one that was lost. Returns the link that had it.
    pub(super) fn set_link(
        &mut self,
        now: Instant,
        slot: Slot,
        link: Option<LinkId>,
    ) -> Option<LinkId> {
        let before = self
            .get_mut(slot)
            .map(|session| core::mem::replace(&mut session.link, link));
        let action = match link {
            Some(_) => Action::Carry,
            None => Action::Lose,
        };
        // Only a live session is carried, and that may be in each of its states.
        let moved = self.apply(now, slot, action);
        debug_assert!(moved.is_ok(), "{moved:?}");
        before.flatten()
    }

    /// `sessions.renew` has changed. Where links held the sessions until now, the time to live of those that are carried
    /// counts from now; where links begin to hold them, that of the others counts from the loss of their link.
    pub(super) fn set_links_hold(&mut self, now: Instant, links_hold: bool) {
        if core::mem::replace(&mut self.links_hold, links_hold) == links_hold {
            return;
        }
        for slot in self.all() {
            let Some(session) = self.get_mut(slot) else {
                continue;
            };
            let since = &mut session.since;
            match (session.link, links_hold) {
                (Some(_), false) => since.renewed = now,
                (None, true) => since.renewed = since.renewed.max(since.lost),
                (Some(_), true) | (None, false) => {}
            }
            self.reschedule(slot);
        }
    }

    fn reschedule(&mut self, slot: Slot) {
        let end = self
            .get(slot)
            .and_then(|session| session.end(self.links_hold));
        self.set_expiry(slot, end);
    }
}

impl Hub {
    /// Moves a session and does what follows from it.
    pub(super) fn change(
        &mut self,
        now: Instant,
        slot: Slot,
        action: Action,
        by: &Cause,
        out: &mut HubOut,
    ) -> Result<Status, Refusal> {
        let link = self.sessions.get(slot).and_then(|session| session.link);
        let status = self.sessions.apply(now, slot, action)?;
        match status {
            Status::Expired => {
                self.metrics.sessions_expired += 1;
                self.recent.count(now, |tally| tally.sessions_expired += 1);
            }
            Status::Revoked => self.metrics.sessions_revoked += 1,
            Status::Pending | Status::Active | Status::Suspended => {}
        }
        let Some(session) = self.sessions.get(slot) else {
            return Ok(status);
        };
        let (id, agent_id) = (session.id.clone(), session.agent_id.clone());
        if status != Status::Active {
            session.permits.withdraw();
        }
        self.reroute(slot);
        self.session_changed(slot);
        out.record(
            now,
            AuditEvent::Session {
                session: id.clone(),
                agent_id,
                what: by.why,
                status: status.as_str(),
                key: by.key.clone(),
            },
        );
        if let Some(link) = link {
            out.commands.push((
                link,
                Command::SessionStatus(SessionStatus {
                    session: id.clone(),
                    status: status.as_str(),
                    reason: by.why,
                }),
            ));
            if status != Status::Active {
                out.commands.push((
                    link,
                    Command::EndSession {
                        session: id,
                        reason: CancelReason::SessionEnded,
                    },
                ));
            }
            if status.is_final()
                && let Some(state) = self.links.get_mut(&link)
            {
                state.sessions.remove(&slot);
                if state.attached == Some(slot) {
                    out.commands.push((link, Command::Close(CloseCode::Policy)));
                }
            }
        }
        self.pump(now, out);
        Ok(status)
    }

    /// Ends the sessions whose time to live has passed.
    pub(super) fn expire_sessions(&mut self, now: Instant, out: &mut HubOut) {
        while let Some(slot) = self.sessions.take_due(now) {
            let expired = self.change(now, slot, Action::Expire, &Cause::own("expired"), out);
            debug_assert!(expired.is_ok(), "{expired:?}");
        }
    }
}
