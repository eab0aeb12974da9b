//! Two conversations with one agent, and somebody with another key who tells the first one again, under every event that can happen
//! to them and to the agent's session at the hub, in any order.

use super::script::{Conversation, Script};
use super::{Bench, NAME};
use mcp_local_provider_core::agents::acp::{Config, Load, Order, Profile};
use std::num::NonZeroU32;
use std::time::Duration;

/// Number of kinds of events. The first seven are tried in every order.
pub const EVENTS: u8 = 22;

/// Events of one run at most.
const LENGTH: usize = 80;

/// Runs the turmoil that `data` decides: the first byte the agent, each of the next ones an event.
///
/// # Panics
/// Panics when an invariant is broken.
pub fn run(data: &[u8]) {
    let Some((first, events)) = data.split_first() else {
        return;
    };
    let keep = usize::from(first >> 4) % 5;
    let mut turmoil = Turmoil::new(first & 1 != 0, first & 2 != 0, keep);
    for event in events.iter().take(LENGTH) {
        turmoil.happen(*event);
    }
    turmoil.heal();
}

/// See the module's documentation.
pub struct Turmoil {
    bench: Bench,
    agent: Script,
    /// The last one tells what the first has told.
    conversations: [Conversation; 3],
}

impl Turmoil {
    /// An agent that is ready, and keeps `keep` sessions between turns.
    #[must_use]
    pub fn new(tools: bool, never_closes: bool, keep: usize) -> Self {
        let mut config = Config::new("/empty");
        config.tools_url = tools.then(|| "http://127.0.0.1:1/agents/mcp/".into());
        config.sessions_per_process = 4;
        config.sessions.keep = keep;
        config.session_directories = true;
        config.tool_timeout = Duration::from_secs(30);
        let mut it = Self {
            bench: Bench::new(Profile::new(NAME), config),
            agent: Script::default(),
            conversations: [
                Conversation::of_key(1, NonZeroU32::MIN),
                Conversation::new(3),
                Conversation::of_key(1, NonZeroU32::MAX),
            ],
        };
        it.agent.never_closes = never_closes;
        it.agent.own_directories = true;
        it.agent.rest(&mut it.bench);
        it
    }

    /// One thing happens.
    ///
    /// # Panics
    /// Panics when an invariant is broken.
    pub fn happen(&mut self, event: u8) {
        let Self {
            bench,
            agent,
            conversations: [one, other, again],
        } = self;
        match event % EVENTS {
            0 => asks(one, agent, bench),
            1 => asks(other, agent, bench),
            2 => {
                agent.step(bench, 0);
            }
            3 => {
                let newest = agent.due().saturating_sub(1);
                agent.step(bench, newest);
            }
            4 => {
                if let Some(client) = one.client {
                    bench.cancel(client);
                }
            }
            5 => agent.die(bench),
            6 => bench.pass(Duration::from_secs(1)),
            7 => bench.pass(Duration::from_secs(61)),
            8 => bench.writes(b"{\"jsonrpc\":\"2.0\",\"method\":\"session/upd\n"),
            9 => bench.writes(b"warning: disk is full\n"),
            10 => {
                let last = bench.replies.iter().rev().find(|(_, (_, ended))| !ended);
                if let Some(call) = last.map(|(call, _)| *call) {
                    bench.http_gone(call);
                    bench.replies.remove(&call);
                    // It does not use the tool any more either.
                    agent.die(bench);
                }
            }
            11 => bench.writes_line(
                r#"{"jsonrpc":"2.0","id":77,"method":"fs/read_text_file","params":{}}"#,
            ),
            12 => agent.rest(bench),
            // Within the bound on memory, over it, and over it with a process for each session.
            kind @ 13..=15 => {
                let over = u64::from(kind > 13);
                let load = Load {
                    processes: if kind > 14 { 1000 } else { 2 },
                    memory: bench.agent.session_figures().limits.memory + over,
                };
                let busy = bench.agent.open_turns() > 0;
                bench.call(|agent, now, out, link| {
                    agent.handle_load(now, load, out, link);
                });
                let ends = [Order::CloseInput, Order::Kill];
                let is_ended = bench.orders.iter().any(|order| ends.contains(order));
                assert!(!busy || !is_ended, "a measurement ended a turn");
            }
            16 | 17 => {
                again.copy(one);
                asks(again, agent, bench);
            }
            // Its session at the hub ends, and there may be no room for another one.
            18 if bench.held.is_some() => bench.session_is("expired", "expired"),
            19 if bench.held.is_some() => {
                bench.refusals = 3;
                bench.session_is("revoked", "revoked");
            }
            20 if bench.held.is_some() => bench.session_is("active", "requests_used_up"),
            _ if bench.held == Some("suspended") => bench.session_is("active", "resumed"),
            _ if bench.held == Some("active") => bench.session_is("suspended", "suspended"),
            _ => {}
        }
        // The supervisor is quick, the agent is not.
        agent.read(bench);
        for conversation in [&mut *one, other, again] {
            conversation.hear(bench);
        }
        let shared = one.sessions.intersection(&again.sessions).next();
        assert_eq!(shared, None, "a session answers two keys");
        let figures = bench.agent.session_figures();
        assert!(figures.kept <= figures.limits.keep, "{figures:?}");
    }

    /// Nothing goes wrong any more: everybody gets an answer, and nothing is left over.
    ///
    /// # Panics
    /// Panics when somebody is never answered, or something is left.
    pub fn heal(mut self) {
        for _ in 0..200 {
            self.agent.rest(&mut self.bench);
            self.bench.pass(Duration::from_secs(1));
            self.agent.read(&mut self.bench);
            for conversation in &mut self.conversations {
                conversation.hear(&self.bench);
            }
            if self.conversations.iter().all(|one| one.client.is_none()) {
                break;
            }
        }
        for client in &self.bench.clients {
            assert!(client.is_over(), "{client:?} has no end");
        }
        // The next request of each works, whatever was before.
        for conversation in &mut self.conversations {
            let before = conversation.answers.len();
            for _ in 0..20 {
                if conversation.answers.len() > before {
                    break;
                }
                conversation.ask(&mut self.bench);
                self.agent.rest(&mut self.bench);
                self.bench.pass(Duration::from_secs(1));
                self.agent.rest(&mut self.bench);
                conversation.hear(&self.bench);
            }
            assert!(conversation.answers.len() > before, "{conversation:?}");
            if let Some(client) = conversation.client {
                self.bench.cancel(client);
            }
        }
        if self.bench.held == Some("suspended") {
            self.bench.session_is("active", "resumed");
        }
        for _ in 0..60 {
            self.agent.rest(&mut self.bench);
            if self.left() == (0, 0, 0) && self.bench.held == Some("active") {
                return;
            }
            self.bench.pass(Duration::from_secs(1));
        }
        assert_eq!(self.bench.held, Some("active"), "it has no session");
        panic!("turns, exchanges and calls are left: {:?}", self.left());
    }

    fn left(&self) -> (usize, usize, usize) {
        let calls = self.bench.replies.values();
        assert!(self.bench.agent.sessions() <= 16, "sessions are left");
        (
            self.bench.agent.open_turns(),
            self.bench.open_exchanges(),
            calls.filter(|(_, ended)| !ended).count(),
        )
    }
}

/// Somebody asks. Calls that others were told wait on.
fn asks(who: &mut Conversation, agent: &Script, bench: &mut Bench) {
    let is_open =
        |call: &u64, bench: &Bench| bench.replies.get(call).is_none_or(|(_, ended)| !ended);
    let others = agent.open_calls().filter(|call| is_open(call, bench));
    let others: Vec<u64> = others.filter(|call| !who.was_told(*call, bench)).collect();
    who.ask(bench);
    for call in others {
        assert!(is_open(&call, bench), "call {call} is ended by {who:?}");
    }
}
