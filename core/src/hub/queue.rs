//! The queue of admissions: requests that wait for capacity, found by id, by deadline and by what they want.
//!
//! Those that want the same form a line, in which each key has its turn: a request stands a round behind the one before it
//! of its key, so that a key with many requests keeps nobody else waiting for all of them. The first of a line stands for
//! all of it. A line is *open* while a session
//! that could answer it may be free, so that only `limits.exchanges` keeps it waiting; open lines are ordered by how long
//! their first waits. Any other line is looked at again when one of its sessions has changed. So nothing that happens
//! costs more than what it frees.

use super::Hub;
use super::admission::{Ask, Costs, Ticket};
use super::fallback::Fallbacks;
use super::limiter::Payer;
use super::models::ANY;
use super::sessions::Session;
use crate::error::Refusal;
use crate::id::WaitId;
use crate::invocation::Needs;
use crate::scope::Scope;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Place of a request in its line: the round, and within one the order of arrival.
type Turn = (u64, WaitId);

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    line: LineId,
    round: u64,
    /// Costs that the limiter has taken for it.
    pub(super) costs: Costs,
    /// The payer that the limiter has taken it from.
    pub(super) payer: Payer,
    deadline: Instant,
    /// Models that may be asked still in its place.
    pub(super) fallbacks: Fallbacks,
    /// Ticket or refusal, once there is one.
    pub(super) answer: Option<Result<Ticket, Refusal>>,
}

/// The place of a line, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct LineId(u64);

/// The demand that the requests of one line share.
#[derive(PartialEq, Eq, Debug)]
struct Want {
    /// The model as the clients named it.
    model: String,
    session: Option<String>,
    scope: Scope,
    needs: Needs,
}

impl Want {
    fn ask(&self) -> Ask<'_> {
        Ask {
            model: &self.model,
            session: self.session.as_deref(),
            prompts: 1,
            tokens: 0,
            scope: self.scope,
            needs: self.needs,
        }
    }

    fn is(&self, ask: &Ask<'_>) -> bool {
        self.model == ask.model
            && self.session.as_deref() == ask.session
            && self.scope == ask.scope
            && self.needs == ask.needs
    }
}

/// Requests that want the same, none of which has an answer; never empty.
#[derive(Debug)]
struct Line {
    want: Want,
    waiting: BTreeSet<Turn>,
    /// The round of the request that was granted last.
    round: u64,
    /// Those who wait: how many requests of theirs, and the round of the last one.
    payers: HashMap<Payer, (usize, u64)>,
    /// Its place among the open lines: the id of its first request. `None` for a line that is not open.
    open: Option<WaitId>,
    /// The models whose sessions could answer; none when a session is named.
    models: Vec<String>,
}

impl Line {
    /// Puts a request into the next round, or into the one behind the last request of the same payer. Returns its round.
    fn enter(&mut self, payer: Payer, wait: WaitId) -> u64 {
        let next = self.round + 1;
        let (count, last) = self.payers.entry(payer).or_insert((0, self.round));
        *count += 1;
        *last = next.max(*last + 1);
        self.waiting.insert((*last, wait));
        *last
    }

    /// Takes a request out. A granted one moves the line on to its round.
    fn withdraw(&mut self, payer: Payer, turn: Turn, granted: bool) {
        self.waiting.remove(&turn);
        if granted {
            self.round = self.round.max(turn.0);
        }
        if let Some((count, _)) = self.payers.get_mut(&payer) {
            *count -= 1;
            if *count == 0 {
                self.payers.remove(&payer);
            }
        }
    }

    fn first(&self) -> Option<WaitId> {
        self.waiting.first().map(|(_, wait)| *wait)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: HashMap<WaitId, Waiter>,
    /// Those without an answer, by the end of their wait.
    deadlines: BTreeSet<(Instant, WaitId)>,
    lines: HashMap<LineId, Line>,
    by_model: HashMap<String, Vec<LineId>>,
    by_session: HashMap<String, Vec<LineId>>,
    open: BTreeMap<WaitId, LineId>,
    /// Lines with a session that has changed.
    changed: Vec<LineId>,
    last_wait: u64,
    last_line: u64,
}

impl Queue {
    /// Requests without an answer.
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Returns the time at which the first of them gives up.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// One that has waited until `now`.
    pub(super) fn first_due(&self, now: Instant) -> Option<WaitId> {
        let (at, wait) = *self.deadlines.first()?;
        (at <= now).then_some(wait)
    }

    /// Those without an answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (WaitId, &Waiter)> {
        let waits = self.deadlines.iter().map(|(_, wait)| *wait);
        waits.filter_map(|wait| Some((wait, self.waiters.get(&wait)?)))
    }

    /// Any one without an answer.
    pub(super) fn any(&self) -> Option<WaitId> {
        self.deadlines.first().map(|(_, wait)| *wait)
    }

    /// Answers a waiter, which then stands in no line any more.
    pub(super) fn answer(&mut self, wait: WaitId, answer: Result<Ticket, Refusal>) {
        self.withdraw(wait, answer.is_ok());
        if let Some(waiter) = self.waiters.get_mut(&wait) {
            waiter.answer = Some(answer);
        }
    }

    /// One that waits, and what it wants.
    pub(super) fn waiter(&self, wait: WaitId) -> Option<(&Waiter, Ask<'_>)> {
        let waiter = self.waiters.get(&wait)?;
        Some((waiter, self.ask(waiter.line)?))
    }

    /// Takes a waiter out that has an answer.
    pub(super) fn take_answered(&mut self, wait: WaitId) -> Option<Waiter> {
        self.waiters
            .get(&wait)
            .is_some_and(|waiter| waiter.answer.is_some())
            .then(|| self.waiters.remove(&wait))?
    }

    /// True while it stands in the queue, with an answer or without.
    pub(super) fn holds(&self, wait: WaitId) -> bool {
        self.waiters.contains_key(&wait)
    }

    /// Takes a waiter out, whatever it waits for.
    pub(super) fn remove(&mut self, wait: WaitId) -> Option<Waiter> {
        self.withdraw(wait, false);
        self.waiters.remove(&wait)
    }

    /// Takes a waiter from its line, and a line that has become empty out of everything.
    fn withdraw(&mut self, wait: WaitId, granted: bool) {
        let Some(waiter) = self.waiters.get(&wait) else {
            return;
        };
        if !self.deadlines.remove(&(waiter.deadline, wait)) {
            return;
        }
        let id = waiter.line;
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        line.withdraw(waiter.payer, (waiter.round, wait), granted);
        let open = line.open.is_some();
        if !line.waiting.is_empty() {
            self.set_open(id, open);
        } else {
            self.set_open(id, false);
            if let Some(line) = self.lines.remove(&id) {
                self.forget(id, &line);
            }
        }
    }

    /// Takes a line out of the indexes.
    fn forget(&mut self, id: LineId, line: &Line) {
        let (index, names) = match &line.want.session {
            Some(session) => (&mut self.by_session, core::slice::from_ref(session)),
            None => (&mut self.by_model, line.models.as_slice()),
        };
        for name in names {
            if let Some(lines) = index.get_mut(name) {
                lines.retain(|known| *known != id);
                if lines.is_empty() {
                    index.remove(name);
                }
            }
        }
    }

    /// Puts a line in the indexes.
    fn index(&mut self, id: LineId) {
        let Some(line) = self.lines.get(&id) else {
            return;
        };
        let (index, names) = match &line.want.session {
            Some(session) => (&mut self.by_session, core::slice::from_ref(session)),
            None => (&mut self.by_model, line.models.as_slice()),
        };
        for name in names {
            index.entry_ref(name.as_str()).or_default().push(id);
        }
    }

    /// A session that waiters may want has more capacity than before, or less, or another state.
    pub(super) fn session_changed(&mut self, session: &Session) {
        if self.deadlines.is_empty() {
            return;
        }
        let named = self.by_session.get(session.id.as_str());
        let models = session.models.iter().map(|model| &**model);
        // Those that name no model take any.
        let models = models.chain(core::iter::once(ANY));
        let by_model = models.filter_map(|model| self.by_model.get(model));
        for lines in named.into_iter().chain(by_model) {
            self.changed.extend_from_slice(lines);
        }
    }

    /// Those without an answer that wait beyond `latest`, and what they want.
    pub(super) fn beyond(&self, latest: Instant) -> impl Iterator<Item = (WaitId, Ask<'_>)> {
        let beyond = self.deadlines.range((latest, WaitId(u64::MAX))..);
        beyond.filter_map(|(_, wait)| Some((*wait, self.waiter(*wait)?.1)))
    }

    /// Has one without an answer give up at another time.
    pub(super) fn set_deadline(&mut self, wait: WaitId, at: Instant) {
        if let Some(waiter) = self.waiters.get_mut(&wait)
            && self.deadlines.remove(&(waiter.deadline, wait))
        {
            waiter.deadline = at;
            self.deadlines.insert((at, wait));
        }
    }

    /// The sessions that any of them wants may have changed.
    pub(super) fn all_changed(&mut self) {
        let first = self.changed.len();
        self.changed.extend(self.lines.keys().copied());
        if let Some(all) = self.changed.get_mut(first..) {
            // The order of a table is made by chance.
            all.sort_unstable();
        }
    }

    /// Takes a line with a session that has changed.
    pub(super) fn take_changed(&mut self) -> Option<LineId> {
        self.changed.pop()
    }

    /// The open line whose first waits longest.
    pub(super) fn first_open(&self) -> Option<LineId> {
        self.open.first_key_value().map(|(_, line)| *line)
    }

    /// Returns the demand of a line.
    pub(super) fn ask(&self, line: LineId) -> Option<Ask<'_>> {
        self.lines.get(&line).map(|line| line.want.ask())
    }

    /// The first of a line.
    pub(super) fn first(&mut self, line: LineId) -> Option<(WaitId, &mut Waiter)> {
        let wait = self.lines.get(&line)?.first()?;
        Some((wait, self.waiters.get_mut(&wait)?))
    }

    /// Notes whether a session may be free for a line.
    pub(super) fn set_open(&mut self, id: LineId, open: bool) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let first = line.first().filter(|_| open);
        if line.open != first {
            if let Some(before) = core::mem::replace(&mut line.open, first) {
                self.open.remove(&before);
            }
            if let Some(first) = first {
                self.open.insert(first, id);
            }
        }
    }

    /// True when nothing is left of those that waited.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.waiters.is_empty()
            && self.deadlines.is_empty()
            && self.lines.is_empty()
            && self.by_model.is_empty()
            && self.by_session.is_empty()
            && self.open.is_empty()
    }

    /// The line of those that want this.
    fn find(&self, ask: &Ask<'_>) -> Option<LineId> {
        let lines = match ask.session {
            Some(session) => self.by_session.get(session),
            None => self.by_model.get(ask.model),
        };
        // Few want the same session or model in different ways.
        lines?
            .iter()
            .copied()
            .find(|line| self.lines.get(line).is_some_and(|line| line.want.is(ask)))
    }
}

impl Hub {
    /// Puts a request at the end of its line. `open` when only `limits.exchanges` keeps it waiting.
    pub(super) fn enqueue(
        &mut self,
        deadline: Instant,
        payer: Payer,
        ask: &Ask<'_>,
        open: bool,
        fallbacks: Fallbacks,
    ) -> WaitId {
        let line = match self.queue.find(ask) {
            Some(line) => line,
            None => self.add_line(ask),
        };
        let queue = &mut self.queue;
        queue.last_wait += 1;
        let wait = WaitId(queue.last_wait);
        let entered = queue.lines.get_mut(&line);
        let round = entered.map_or(0, |line| line.enter(payer, wait));
        queue.deadlines.insert((deadline, wait));
        queue.waiters.insert(
            wait,
            Waiter {
                line,
                round,
                costs: Costs::of(ask),
                payer,
                deadline,
                fallbacks,
                answer: None,
            },
        );
        // It may be the first now.
        let is_open = queue
            .lines
            .get(&line)
            .is_some_and(|line| line.open.is_some());
        if open || is_open {
            queue.set_open(line, true);
        }
        wait
    }

    fn add_line(&mut self, ask: &Ask<'_>) -> LineId {
        let models = self.names(ask.model);
        let queue = &mut self.queue;
        queue.last_line += 1;
        let id = LineId(queue.last_line);
        let line = Line {
            want: Want {
                model: ask.model.into(),
                session: ask.session.map(Into::into),
                scope: ask.scope,
                needs: ask.needs,
            },
            waiting: BTreeSet::new(),
            round: 0,
            payers: HashMap::new(),
            open: None,
            models,
        };
        queue.lines.insert(id, line);
        queue.index(id);
        id
    }

    /// The models that a client may mean by a name, now or when sessions come and go.
    fn names(&self, asked: &str) -> Vec<String> {
        let name = asked.strip_suffix(":latest").unwrap_or(asked);
        let mut names: Vec<String> = Vec::new();
        for name in [asked, name, self.resolve(asked)] {
            if !names.iter().any(|known| known == name) {
                names.push(name.into());
            }
        }
        names
    }

    /// Looks at every line again: the configuration has changed.
    pub(super) fn requeue(&mut self) {
        let lines: Vec<LineId> = self.queue.lines.keys().copied().collect();
        for id in &lines {
            let Some(ask) = self.queue.ask(*id) else {
                continue;
            };
            let models = self.names(ask.model);
            if let Some(mut line) = self.queue.lines.remove(id) {
                self.queue.forget(*id, &line);
                line.models = models;
                self.queue.lines.insert(*id, line);
                self.queue.index(*id);
            }
        }
        self.queue.changed = lines;
    }
}
