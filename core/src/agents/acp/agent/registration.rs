//! The agent's registration at the hub: it asks for a session whenever it has none, and gives back the one that it has first.

use super::{Agent, Context};
use crate::agents::acp::deadlines::Timer;
use crate::agents::acp::ports::Event;
use crate::id::SessionId;
use crate::link::{FromAgent, MAX_MODELS, Registration, SessionStatus, USED_UP};
use crate::process::State;
use crate::supports::{Capabilities, Supports};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// First wait after a registration was refused; doubled each time.
const SOONEST: Duration = Duration::from_secs(1);

/// Answer of the hub to the agent.
#[derive(Debug, Default)]
pub(super) enum Standing {
    /// Nothing, and it has not asked.
    #[default]
    None,
    /// It has asked and waits for the answer.
    Asked,
    /// A session.
    Held {
        /// Its id.
        session: SessionId,
        /// True when it has answered as often as it may.
        used_up: bool,
    },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Registered {
    standing: Standing,
    /// The models that were registered.
    models: Vec<String>,
    /// Refusals in a row.
    refusals: u32,
    /// The reason why no session of it may answer, for its operator; `None` when one may.
    lack: Option<String>,
}

impl Agent {
    /// Tells why the hub asks it nothing, when it has no session that may answer.
    #[must_use]
    pub fn lacks_session(&self) -> Option<&str> {
        self.registered.lack.as_deref()
    }

    /// True when it has a session, or has asked for one.
    pub(super) const fn is_registered(&self) -> bool {
        match self.registered.standing {
            Standing::None => false,
            Standing::Asked | Standing::Held { .. } => true,
        }
    }

    /// Registers the models, again when there is no session that can answer, or they have changed, and nothing is under way.
    pub(super) fn register(&mut self, context: &mut Context<'_>) {
        let models = self.models_to_register();
        match &self.registered.standing {
            Standing::Asked => return,
            Standing::None if self.deadlines.get(Timer::Register).is_some() => return,
            Standing::None => {}
            Standing::Held { session, used_up } => {
                if (!used_up && self.registered.models == models) || !self.turns.is_empty() {
                    return;
                }
                (context.link)(FromAgent::Unregister {
                    session: Cow::Borrowed(session.as_str()),
                });
            }
        }
        self.registered.standing = Standing::Asked;
        self.registered.models.clone_from(&models);
        let name = &self.profile.name;
        (context.link)(FromAgent::Register(Registration {
            agent_id: name.clone(),
            label: Some(self.profile.label.clone()),
            models,
            max_concurrency: Some(u64::from(self.profile.concurrency)),
            supports: Supports::words(Capabilities {
                tools: self.serves_tools(),
                vision: self.opening.abilities.images,
                ..Capabilities::default()
            }),
            ..Registration::default()
        }));
    }

    fn models_to_register(&self) -> Vec<String> {
        let name = &self.profile.name;
        let own = self
            .opening
            .models
            .iter()
            .map(|model| format!("{name}/{model}"));
        let own = own.filter(|model| {
            let odd = |c: char| c.is_whitespace() || c.is_control();
            model.len() <= 256 && !model.contains(odd)
        });
        let mut models = Vec::from([name.clone()]);
        models.extend(own.take(MAX_MODELS - 1));
        models
    }

    /// The hub has given it a session.
    pub(super) fn session_given(
        &mut self,
        context: &mut Context<'_>,
        session: SessionId,
        status: &'static str,
    ) {
        self.deadlines.clear(Timer::Register);
        self.registered.refusals = 0;
        self.registered.standing = Standing::Held {
            session: session.clone(),
            used_up: false,
        };
        let told = SessionStatus {
            session,
            status,
            reason: "",
        };
        self.note_status(context, &told);
        self.tidy(context);
    }

    /// A session has another state. One that has ended is replaced; so is one that is used up, once nothing is under way.
    pub(super) fn session_moved(&mut self, context: &mut Context<'_>, told: &SessionStatus) {
        let Standing::Held { session, used_up } = &mut self.registered.standing else {
            return;
        };
        if *session != told.session {
            return;
        }
        if told.reason == USED_UP {
            *used_up = true;
        } else if matches!(told.status, "revoked" | "expired") {
            self.registered.standing = Standing::None;
        }
        self.note_status(context, told);
        if self.life.state() != State::Stopped {
            self.register(context);
        }
    }

    /// The hub has refused a registration: it asks again after a pause.
    pub(super) fn registration_refused(&mut self, context: &mut Context<'_>, why: &str) {
        let Standing::Asked = self.registered.standing else {
            return;
        };
        self.registered.standing = Standing::None;
        let wait = self.doubled(SOONEST, self.registered.refusals);
        self.registered.refusals = self.registered.refusals.saturating_add(1);
        self.deadlines.set(Timer::Register, context.now + wait);
        self.note_lack(context, Some(format!("its registration is refused: {why}")));
    }

    fn note_status(&mut self, context: &mut Context<'_>, told: &SessionStatus) {
        let id = &told.session;
        let lack = match told.status {
            "active" if told.reason == USED_UP => {
                Some(format!("its session `{id}` has used its requests up"))
            }
            "active" => None,
            "pending" => Some(format!(
                "its session `{id}` waits for approval; `mcp-local-provider approve {id}` gives it"
            )),
            status => Some(format!("its session `{id}` is {status}")),
        };
        self.note_lack(context, lack);
    }

    fn note_lack(&mut self, context: &mut Context<'_>, lack: Option<String>) {
        if self.registered.lack == lack {
            return;
        }
        context.out.events.push(match &lack {
            Some(why) => Event::NoSession { why: why.clone() },
            None => Event::Registered,
        });
        self.registered.lack = lack;
    }
}
