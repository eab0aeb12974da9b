//! Fallbacks: the models that are asked in the place of whoever cannot answer, before the first byte of an answer.

use super::admission::{Admission, Ask, Costs, Ticket, enough_left};
use super::routing::{Busy, Slot, Unrouted};
use super::{Hub, HubOut};
use crate::error::{Code, Refusal};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;

/// Models that may be asked still, in order. Most requests have none, so that none takes the room of a pointer.
#[derive(Clone, Debug, Default)]
pub(super) struct Fallbacks(Option<Box<Chain>>);

#[derive(Clone, Debug)]
struct Chain(VecDeque<String>);

impl Fallbacks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|chain| chain.0.is_empty())
    }

    fn pop_front(&mut self) -> Option<String> {
        self.0.as_mut()?.0.pop_front()
    }
}

impl FromIterator<String> for Fallbacks {
    fn from_iter<I: IntoIterator<Item = String>>(models: I) -> Self {
        let models: VecDeque<String> = models.into_iter().collect();
        Self((!models.is_empty()).then(|| Box::new(Chain(models))))
    }
}

/// A way on for a request.
pub(super) struct Way {
    /// The model to ask, when it is another than the one that the client named.
    pub(super) model: Option<String>,
    /// The session, or what is busy.
    pub(super) routed: Result<Slot, Busy>,
    /// Fallbacks that are left.
    pub(super) rest: Fallbacks,
}

/// True where another model may do better: who was to answer is away, busy beyond its own limits, or at fault.
#[must_use]
pub const fn falls_back(code: Code) -> bool {
    match code {
        Code::NoAgent
        | Code::Overloaded
        | Code::AgentLost
        | Code::AgentFault
        | Code::AgentError
        | Code::AgentTimeout
        | Code::RateLimited
        | Code::SessionDenied
        | Code::SessionEnded
        | Code::ModelNotFound => true,
        Code::InvalidRequest
        | Code::ContextLength
        | Code::TooLarge
        | Code::RequestTimeout
        | Code::InvalidKey
        | Code::RoleDenied
        | Code::ScopeDenied
        | Code::OriginDenied
        | Code::SessionNotFound
        | Code::ResponseNotFound
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::Conflict
        | Code::Disabled
        | Code::Draining
        | Code::AgentRefused
        | Code::SlowClient
        | Code::AnswerTooLarge
        | Code::NotImplemented
        | Code::LoopDetected
        | Code::Internal => false,
    }
}

impl Hub {
    /// Finds a session for a request, or for a fallback of it where there can be none.
    pub(super) fn way(&self, now: Instant, ask: &Ask<'_>) -> Result<Way, Refusal> {
        let refusal = match self.route_within_rate(now, ask) {
            Ok(slot) => {
                return Ok(Way {
                    model: None,
                    rest: self.fallbacks(ask, Some(slot)),
                    routed: Ok(slot),
                });
            }
            Err(Unrouted::Busy(busy)) => {
                let slot = match busy {
                    Busy::Session(slot) => Some(slot),
                    Busy::Starting | Busy::Exchanges => None,
                };
                return Ok(Way {
                    model: None,
                    rest: self.fallbacks(ask, slot),
                    routed: Err(busy),
                });
            }
            Err(Unrouted::Refused(refusal)) => refusal,
        };
        if !falls_back(refusal.code()) {
            return Err(refusal);
        }
        let rest = self.fallbacks(ask, None);
        self.next_way(now, ask, rest).ok_or(refusal)
    }

    /// Finds a session for the first of the fallbacks that has one.
    fn next_way(&self, now: Instant, ask: &Ask<'_>, mut rest: Fallbacks) -> Option<Way> {
        while let Some(model) = rest.pop_front() {
            let ask = Ask {
                model: &model,
                session: None,
                ..*ask
            };
            let routed = match self.route_within_rate(now, &ask) {
                Ok(slot) => Ok(slot),
                Err(Unrouted::Busy(busy)) => Err(busy),
                Err(Unrouted::Refused(_)) => continue,
            };
            return Some(Way {
                model: Some(model),
                routed,
                rest,
            });
        }
        None
    }

    /// As [`Hub::route`]; refused where the session has used its own rates up, or may answer fewer requests than these are.
    fn route_within_rate(&self, now: Instant, ask: &Ask<'_>) -> Result<Slot, Unrouted> {
        let slot = self.route(ask)?;
        if let Some(session) = self.sessions.get(slot) {
            enough_left(session, Costs::of(ask)).map_err(Unrouted::Refused)?;
        }
        self.is_within_rate(now, slot, Costs::of(ask))
            .map_err(Unrouted::Refused)?;
        Ok(slot)
    }

    /// The fallbacks of a request: those of the alias that it names, else those of whoever is to answer.
    fn fallbacks(&self, ask: &Ask<'_>, slot: Option<Slot>) -> Fallbacks {
        if ask.session.is_some() {
            return Fallbacks::default();
        }
        let name = ask.model.strip_suffix(":latest").unwrap_or(ask.model);
        let aliases = self.config.aliases.iter();
        let mut aliases = aliases.filter(|alias| alias.name == ask.model || alias.name == name);
        if let Some(alias) = aliases.find(|alias| !alias.fallback.is_empty()) {
            return alias.fallback.iter().cloned().collect();
        }
        if self.config.fallbacks.is_empty() {
            return Fallbacks::default();
        }
        let model = self.resolve(ask.model);
        let session = slot.and_then(|slot| self.sessions.get(slot));
        let carrier = match session {
            Some(session) => session.carrier.as_deref(),
            None => self.carrier_of(model),
        };
        let mut all = self.config.fallbacks.iter();
        let own = all.find(|fallback| Some(fallback.of.as_str()) == carrier);
        let own = own.into_iter().flat_map(|fallback| &fallback.models);
        own.filter(|other| self.resolve(other) != model)
            .cloned()
            .collect()
    }

    /// The agent, bridge or upstream that has a model and cannot answer now.
    fn carrier_of(&self, model: &str) -> Option<&str> {
        let mut all = self.config.fallbacks.iter();
        let of_name = |of: &str| {
            let rest = model.strip_prefix(of);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(named) = all.find(|fallback| of_name(&fallback.of)) {
            return Some(&named.of);
        }
        let mut sessions = self.sessions.iter();
        let session = sessions.find(|session| {
            session.carrier.is_some() && session.models.iter().any(|name| **name == *model)
        });
        session?.carrier.as_deref()
    }

    /// The session of an exchange has failed before the first byte of its answer: asks for permission to ask a fallback. The
    /// ticket goes back in either case; the payer is charged once.
    ///
    /// # Errors
    /// The same ticket, when there is no fallback that could answer.
    pub fn fall_back(
        &mut self,
        now: Instant,
        mut ticket: Ticket,
        ask: &Ask<'_>,
        out: &mut HubOut,
    ) -> Result<Admission, Box<Ticket>> {
        let now = self.latest.clamp(now);
        if self.draining {
            return Err(Box::new(ticket));
        }
        let rest = core::mem::take(&mut ticket.fallbacks);
        let Some(way) = self.next_way(now, ask, rest) else {
            return Err(Box::new(ticket));
        };
        if way.routed.is_err() && self.queue.len() >= self.config.limits.queue_length {
            return Err(Box::new(ticket));
        }
        let payer = ticket.payer;
        self.take_failed(now, ticket, out);
        let model = way.model.unwrap_or_default();
        let ask = &Ask {
            model: &model,
            session: None,
            ..*ask
        };
        self.metrics.fallbacks += 1;
        let admission = match way.routed {
            Ok(slot) => {
                let rest = way.rest.clone();
                match self.grant(now, slot, ask.model, payer, Costs::of(ask), rest) {
                    Ok(granted) => Admission::Granted(granted),
                    // It was lost meanwhile, and may come back.
                    Err(_) => self.wait_for(now, Busy::Session(slot), payer, ask, way.rest),
                }
            }
            Err(busy) => self.wait_for(now, busy, payer, ask, way.rest),
        };
        self.pump(now, out);
        Ok(admission)
    }
}
