//! The form of the protocol that a process is asked for, and what its answers show of its server.

use super::{Delivery, Open, Out, Server};
use crate::envelope;
use crate::revision::Era;
use alloc::format;
use alloc::string::String;
use mcp_local_provider_core::process::State;
use mcp_local_provider_core::rpc::{INVALID_PARAMS, Json, METHOD_NOT_FOUND, RpcError};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Error code of a server that does not speak the revision of a request.
const UNSUPPORTED_VERSION: i64 = -32022;
/// Error code of a server that misses the headers of revision 2026-07-28.
const HEADER_MISMATCH: i64 = -32020;

/// Knowledge of the forms of the protocol that a server speaks. Its processes show it, and it holds for the next ones until
/// one of them shows something else.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Known {
    /// It takes `initialize`; `None` while nobody knows.
    pub sessions: Option<bool>,
    /// It takes `server/discover`; `None` while nobody knows.
    pub stateless: Option<bool>,
}

impl Known {
    /// Knowledge of a server that speaks to clients with sessions alone.
    pub const SESSIONS: Self = Self {
        sessions: Some(true),
        stateless: Some(false),
    };

    const fn note(&mut self, era: Era, speaks: bool) {
        match era {
            Era::Sessions => self.sessions = Some(speaks),
            Era::Stateless => self.stateless = Some(speaks),
        }
    }

    /// The form that a process is asked for first, where those behind it speak this one: theirs, unless it is known to fail.
    const fn first(self, callers: Era) -> Era {
        match (callers, self.sessions, self.stateless) {
            (Era::Sessions, Some(false), None | Some(true)) => Era::Stateless,
            (Era::Stateless, _, Some(false)) => Era::Sessions,
            (callers, _, _) => callers,
        }
    }
}

/// Greeting of a process.
pub(super) struct Handshake {
    /// The form that those behind the server speak.
    callers: Era,
    known: Known,
    /// The form that the process is asked for, or speaks.
    era: Era,
    /// The reason for which the process has refused the other one.
    refused: Option<String>,
    /// The process is thrown away if it has not answered `server/discover` by then.
    probe: Option<Instant>,
}

impl Handshake {
    pub(super) const fn new() -> Self {
        Self {
            callers: Era::Sessions,
            known: Known {
                sessions: None,
                stateless: None,
            },
            era: Era::Sessions,
            refused: None,
            probe: None,
        }
    }

    /// The deadline of an answer that tells whether the server knows `server/discover`.
    pub(super) const fn probe(&self) -> Option<Instant> {
        self.probe
    }

    /// The process can take requests, or is not to any more.
    pub(super) fn finish(&mut self) {
        self.probe = None;
        self.refused = None;
    }

    /// The name of the request that greets.
    pub(super) const fn method(&self) -> &'static str {
        match self.era {
            Era::Sessions => "initialize",
            Era::Stateless => "server/discover",
        }
    }
}

impl<T: Clone> Server<T> {
    /// Tells what most of those behind the server speak, and what is known of it. Without this call they have sessions, and nothing is
    /// known.
    ///
    /// A process is asked for the form that its callers speak, so that nothing has to be translated where a server speaks both. One
    /// that refuses it is asked for the other. Nobody knows how servers take `server/discover` that have not heard of it, some
    /// exit and some never answer: where it comes first and nothing is known, a process that does not answer it as it should is
    /// thrown away, and the next one is asked for sessions.
    #[must_use]
    pub const fn serving(mut self, callers: Era, known: Known) -> Self {
        self.handshake.callers = callers;
        self.handshake.known = known;
        self.handshake.era = known.first(callers);
        self
    }

    /// Returns the form of the protocol that the process speaks, or is asked for first.
    #[must_use]
    pub const fn era(&self) -> Era {
        self.handshake.era
    }

    /// Returns what is known of the server.
    #[must_use]
    pub const fn known(&self) -> Known {
        self.handshake.known
    }

    /// True when the process is ready and has no sessions: what clients with sessions send is raised to its form.
    pub(super) const fn is_raising(&self) -> bool {
        match self.handshake.era {
            Era::Stateless => self.is_ready(),
            Era::Sessions => false,
        }
    }

    /// A new process is asked for the form that is most likely.
    pub(super) fn greet(&mut self, now: Instant, out: &mut Out) {
        let handshake = &mut self.handshake;
        handshake.refused = None;
        handshake.era = handshake.known.first(handshake.callers);
        let is_probe = handshake.callers == Era::Stateless && handshake.known.stateless.is_none();
        handshake.probe = is_probe.then(|| now + self.times.probe);
        self.ask_for_era(out);
    }

    fn ask_for_era(&mut self, out: &mut Out) {
        // The deadline of the start is the life's.
        let number = self.peer.expect(Open::Handshake, None);
        let line = match self.handshake.era {
            Era::Sessions => {
                let mut json = Json::request(number, self.handshake.method());
                let params = self.raising.hello().trim();
                let inside = params
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'));
                json.raw(inside.unwrap_or_default());
                json.end_params()
            }
            Era::Stateless => self.discover(number),
        };
        out.lines.push(line);
    }

    /// The line that asks for `server/discover` under this number.
    pub(super) fn discover(&self, number: u64) -> String {
        let mut json = Json::request(number, "server/discover");
        json.member("_meta").raw("{");
        json.raw(self.raising.client());
        json.raw("}");
        json.end_params()
    }

    /// The process has answered its greeting.
    pub(super) fn handle_greeting(
        &mut self,
        now: Instant,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        if self.life.state() != State::Starting {
            // It was told to end meanwhile.
            return;
        }
        let era = self.handshake.era;
        let empty = JsonValue::read("{}");
        match (era, outcome) {
            (Era::Sessions, Ok(result)) => {
                self.handshake.known.note(era, true);
                self.greeted(now, result.map_or("{}", JsonValue::get), out, deliver);
            }
            (Era::Stateless, Ok(result)) => match result.or(empty) {
                Some(result) if envelope::is_discovery(result) => {
                    self.handshake.known.note(era, true);
                    self.discovered(now, result, out, deliver);
                }
                Some(_) | None => {
                    self.handle_refused(now, 0, "its answer names no revision that is known", out);
                }
            },
            (Era::Sessions | Era::Stateless, Err(error)) => {
                self.handle_refused(now, error.code, &error.message.decode(), out);
            }
        }
    }

    /// The process does not speak what it was asked for.
    fn handle_refused(&mut self, now: Instant, code: i64, why: &str, out: &mut Out) {
        if self.handshake.probe.is_some() {
            return self.throw_away(now, out);
        }
        let why = format!("it refused `{}`: {why}", self.handshake.method());
        let handshake = &mut self.handshake;
        let (other, is_likely) = match handshake.era {
            Era::Sessions => {
                let codes = [
                    UNSUPPORTED_VERSION,
                    HEADER_MISMATCH,
                    METHOD_NOT_FOUND,
                    INVALID_PARAMS,
                ];
                (Era::Stateless, codes.contains(&code))
            }
            Era::Stateless => (Era::Sessions, true),
        };
        match handshake.refused.take() {
            None if is_likely => {
                handshake.known.note(handshake.era, false);
                handshake.era = other;
                // So that an end of the process is told with it.
                handshake.refused = Some(why);
                self.ask_for_era(out);
            }
            first => {
                handshake.known = Known::default();
                self.trouble = Some(first.unwrap_or(why));
                self.life.handle_failed(now, &mut out.orders);
            }
        }
    }

    /// The process does not take `server/discover`: the next one is asked for sessions.
    pub(super) fn throw_away(&mut self, now: Instant, out: &mut Out) {
        self.handshake.probe = None;
        self.handshake.known.note(Era::Stateless, false);
        self.life.restart(now, &mut out.orders);
    }

    /// The process has ended. Returns true when that only answers the question for its era.
    pub(super) fn handle_ended_probe(&mut self, now: Instant, out: &mut Out) -> bool {
        let is_probe = self.handshake.probe.is_some() && self.life.state() == State::Starting;
        if is_probe {
            let orders = out.orders.len();
            self.throw_away(now, out);
            // There is nothing to end any more.
            out.orders.truncate(orders);
            self.fail(|_| false, &mut |_| {}, &|server: &Self| {
                server.unavailable(now)
            });
            out.lines.clear();
            self.life.handle_exited(now, &mut out.orders);
        }
        is_probe
    }

    /// A process ends before it has answered its greeting: what was known of its server may not hold any more. Returns why it had
    /// refused the other form.
    pub(super) fn doubt(&mut self) -> Option<String> {
        let handshake = &mut self.handshake;
        if handshake.era == Era::Stateless || handshake.refused.is_some() {
            handshake.known = Known::default();
        }
        handshake.probe = None;
        handshake.refused.take()
    }
}
