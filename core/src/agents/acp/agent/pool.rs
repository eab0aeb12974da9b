//! The sessions of an agent's process: which there are, whose they are, which may go. It asks the process nothing; see
//! `session.rs` for that.

use super::session::Session;
use super::states::{SESSION, State};
use crate::agents::acp::conversation::Setup;
use crate::agents::acp::deadlines::SessionKey;
use crate::agents::acp::digest::{Digest, DigestKey};
use crate::machine::OUTSIDE;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Sessions that one process may have at once, all states together, beyond which requests are refused.
const MAX_SESSIONS: usize = 256;

/// New sessions whose setups are looked at to guess what the next one is wanted for.
const WANTED: usize = 8;

/// The pool of sessions.
pub(super) struct Pool {
    last: u64,
    sessions: BTreeMap<SessionKey, Session>,
    /// By the agent's own id.
    names: HashMap<String, SessionKey>,
    /// Key of the digests by which setups and conversations are known again.
    pub(super) digest_key: DigestKey,
    /// Instructions and tools that the next empty session is made for.
    pub(super) setup: Arc<Setup>,
    /// Digests of the setups that the latest new sessions were wanted for, at most `WANTED` of them.
    wanted: VecDeque<Digest>,
    /// A session could not be made or set: nobody tries again before somebody asks.
    pub(super) spare_failed: bool,
    /// Sessions that this process has and that cannot be closed.
    pub(super) left_open: u32,
    /// Sessions whose cancelled turn never ended.
    pub(super) stuck: u32,
}

impl Pool {
    pub(super) fn new(digest_key: DigestKey) -> Self {
        Self {
            last: 0,
            sessions: BTreeMap::new(),
            names: HashMap::new(),
            digest_key,
            setup: Arc::new(Setup::new(digest_key, None, Vec::new())),
            wanted: VecDeque::new(),
            spare_failed: false,
            left_open: 0,
            stuck: 0,
        }
    }

    /// The key of the session that is made next.
    pub(super) const fn next_key(&mut self) -> SessionKey {
        self.last += 1;
        SessionKey(self.last)
    }

    /// Takes a session that is being made.
    pub(super) fn insert(&mut self, key: SessionKey, session: Session) {
        SESSION.step(OUTSIDE, session.state.name());
        self.sessions.insert(key, session);
    }

    pub(super) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        self.sessions.iter().map(|(key, session)| (*key, session))
    }

    fn values(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// The session that the agent calls so.
    pub(super) fn named(&self, name: &str) -> Option<SessionKey> {
        self.names.get(name).copied()
    }

    /// The agent has made a session and named it. False when another one has this name.
    pub(super) fn name(&mut self, key: SessionKey, name: &str) -> bool {
        if self.names.contains_key(name) {
            return false;
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            session.name = name.into();
            self.names.insert(name.into(), key);
        }
        true
    }

    /// Forgets a session.
    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.sessions.remove(&key)?;
        SESSION.step(session.state.name(), OUTSIDE);
        self.names.remove(&session.name);
        Some(session)
    }

    /// The process is gone, and its sessions with it. What they were wanted for stays.
    pub(super) fn end(&mut self) -> impl Iterator<Item = SessionKey> + use<> {
        let ended = core::mem::take(&mut self.sessions);
        self.names.clear();
        self.spare_failed = false;
        self.left_open = 0;
        self.stuck = 0;
        ended.into_iter().map(|(key, session)| {
            SESSION.step(session.state.name(), OUTSIDE);
            key
        })
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions of the process, those that cannot be closed included.
    pub(super) fn open(&self) -> usize {
        let left_open = usize::try_from(self.left_open).unwrap_or(usize::MAX);
        self.sessions.len().saturating_add(left_open)
    }

    pub(super) fn is_full(&self) -> bool {
        self.sessions.len() >= MAX_SESSIONS
    }

    /// True when a turn waits for the caller's tools.
    pub(super) fn has_parked(&self) -> bool {
        self.values().any(|session| session.state == State::Parked)
    }

    /// True when all are empty.
    pub(super) fn rests(&self) -> bool {
        self.values().all(|session| session.state == State::Empty)
    }

    /// Sessions that are made and in which no turn runs.
    pub(super) fn at_rest(&self) -> usize {
        let is_made =
            |session: &&Session| matches!(session.state, State::Empty | State::Kept { .. });
        self.values().filter(is_made).count()
    }

    /// Sessions in which no turn runs, those that are being made included.
    pub(super) fn idle(&self) -> usize {
        self.values().filter(|session| session.is_idle()).count()
    }

    /// The turns that are under way, in sessions that the agent writes to.
    pub(super) fn prompting(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        self.iter()
            .filter(|(_, session)| session.state == State::Prompting)
    }

    /// The idle session that goes first: an empty one beside another, then the conversation that was used least recently, then
    /// the last empty one. One that is being made goes when it is.
    pub(super) fn next_to_end(&self) -> Option<SessionKey> {
        let is_empty = |session: &&Session| session.state == State::Empty;
        let beside = self.values().filter(is_empty).count() > 1;
        let rank = |(key, session): (SessionKey, &Session)| match session.state {
            State::Empty if beside => Some((0, session.last_used, key)),
            State::Kept { .. } => Some((1, session.last_used, key)),
            State::Empty => Some((2, session.last_used, key)),
            State::Creating
            | State::Configuring
            | State::Prompting
            | State::Parked
            | State::Stopping => None,
        };
        let (_, _, key) = self.iter().filter_map(rank).min()?;
        Some(key)
    }

    /// A session that was made for this setup and is nobody's.
    pub(super) fn spare(&self, setup: Digest) -> Option<SessionKey> {
        let is_spare = |session: &Session| {
            session.turn.is_none()
                && matches!(
                    session.state,
                    State::Empty | State::Creating | State::Configuring
                )
                && session.setup.digest == setup
        };
        let mut spare = self.iter().filter(|(_, session)| is_spare(session));
        spare.next().map(|(key, _)| key)
    }

    /// The session that has had this conversation, if one is kept.
    pub(super) fn kept(&self, wanted: Digest) -> Option<SessionKey> {
        let has_had = |session: &Session| matches!(session.state, State::Kept { conversation } if conversation == wanted);
        let mut kept = self.iter().filter(|(_, session)| has_had(session));
        kept.next().map(|(key, _)| key)
    }

    /// Notes what a new session is wanted for. The empty session is made for what is wanted most often of late, so that
    /// instructions which are new each time cost no session that nobody will use.
    pub(super) fn note_setup(&mut self, setup: &Arc<Setup>) {
        if self.wanted.len() >= WANTED {
            self.wanted.pop_front();
        }
        self.wanted.push_back(setup.digest);
        let times = |setup: &Arc<Setup>| {
            let wanted = self.wanted.iter();
            wanted.filter(|wanted| **wanted == setup.digest).count()
        };
        if times(setup) >= 2 && times(setup) > times(&self.setup) {
            self.setup = setup.clone();
        }
    }

    /// The empty sessions that are not for the next request, and whether one is, or is being made.
    pub(super) fn spares(&self) -> (Vec<SessionKey>, bool) {
        let (mut wrong, mut found) = (Vec::new(), false);
        for (key, session) in self.iter().filter(|(_, session)| session.turn.is_none()) {
            match session.state {
                State::Creating | State::Configuring => found = true,
                State::Empty if session.setup.digest == self.setup.digest && !found => found = true,
                State::Empty => wrong.push(key),
                State::Prompting | State::Parked | State::Kept { .. } | State::Stopping => {}
            }
        }
        (wrong, found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::id::{ExchangeId, Ids};
    use crate::time::Instant;
    use alloc::string::ToString;
    use core::time::Duration;

    fn setup(system: &str) -> Setup {
        let key = DigestKey::new(&[7; 32]);
        Setup::new(key, Some(system.to_string()), Vec::new())
    }

    /// A pool with sessions in these states, each used one second after the one before.
    fn pool(states: &[State]) -> Pool {
        let mut pool = Pool::new(DigestKey::new(&[7; 32]));
        pool.setup = Arc::new(setup("first"));
        for (at, state) in (1..).zip(states) {
            let key = pool.next_key();
            let now = Instant::from_micros(at * 1_000_000);
            let made = Session::new(pool.setup.clone(), None, now, Duration::from_secs(60));
            pool.insert(key, made);
            assert!(pool.name(key, &at.to_string()));
            pool.get_mut(key).unwrap().state = *state;
        }
        pool
    }

    fn turn() -> ExchangeId {
        Ids::new(7).next()
    }

    #[test]
    fn an_empty_session_too_many_goes_first_then_the_oldest_conversation_then_the_last_empty_one() {
        let kept = State::Kept { conversation: 1 };
        let mut pool = pool(&[
            kept,
            State::Empty,
            State::Prompting,
            State::Empty,
            kept,
            State::Parked,
        ]);
        let mut order = Vec::new();
        while let Some(key) = pool.next_to_end() {
            order.push(key.0);
            pool.remove(key);
        }
        assert_eq!(order, [2, 1, 5, 4]);
        assert_eq!(pool.len(), 2);
        assert_eq!(pool.named("2"), None);
        assert_eq!(pool.named("3"), Some(SessionKey(3)));
        assert!(pool.has_parked() && !pool.rests());
    }

    #[test]
    fn a_session_is_found_by_what_it_was_made_for_or_has_had() {
        let mut pool = pool(&[State::Empty, State::Kept { conversation: 5 }, State::Empty]);
        let first = pool.setup.digest;
        assert_eq!(pool.spare(first), Some(SessionKey(1)));
        pool.get_mut(SessionKey(1)).unwrap().turn = Some(turn());
        assert_eq!(pool.spare(first), Some(SessionKey(3)));
        assert_eq!(pool.spare(setup("second").digest), None);
        assert_eq!(pool.kept(5), Some(SessionKey(2)));
        assert_eq!(pool.kept(6), None);
        assert_eq!((pool.idle(), pool.at_rest()), (2, 3));
    }

    #[test]
    fn the_next_empty_session_is_for_what_is_wanted_most() {
        let mut pool = pool(&[State::Empty]);
        let second = Arc::new(setup("second"));
        pool.note_setup(&second);
        assert_eq!(pool.spares(), (Vec::new(), true));
        pool.note_setup(&second);
        assert_eq!(pool.setup.digest, second.digest);
        assert_eq!(pool.spares(), (Vec::from([SessionKey(1)]), false));
    }

    #[test]
    fn a_name_is_one_sessions_and_ends_with_the_process() {
        let mut pool = pool(&[State::Empty, State::Creating]);
        assert!(!pool.name(SessionKey(2), "1"));
        pool.left_open = 3;
        assert_eq!(pool.open(), 5);
        assert_eq!(pool.end().count(), 2);
        assert_eq!((pool.len(), pool.open()), (0, 0));
        assert_eq!(pool.named("1"), None);
        assert_eq!(pool.next_key(), SessionKey(3));
    }
}
