//! Integrations of the registry: models that no session answers. The registry's rounds do, and each round is an exchange of its own,
//! so that a request to one holds no place and is charged nothing itself.

use super::keys::Caller;
use super::limiter::Payer;
use super::models::unknown_model;
use super::{Ask, Hub};
use crate::error::{Code, Refusal};
use crate::invocation::{Kind, Usage};
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// An integration, as the registry tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    since: Instant,
    is_enabled: bool,
}

/// All integrations, by the names of their models.
#[derive(Debug, Default)]
pub(super) struct Integrations(BTreeMap<Arc<str>, Known>);

impl Integrations {
    pub(super) fn knows(&self, model: &str) -> bool {
        self.0.contains_key(model)
    }

    /// Those that are enabled, each with the time since which it is known.
    pub(super) fn enabled(&self) -> impl Iterator<Item = (&Arc<str>, Instant)> {
        let enabled = self.0.iter().filter(|(_, known)| known.is_enabled);
        enabled.map(|(model, known)| (model, known.since))
    }
}

impl Hub {
    /// The integrations are these from now on: the names of their models, each with whether it is enabled.
    pub fn set_integrations(
        &mut self,
        now: Instant,
        all: impl IntoIterator<Item = (String, bool)>,
    ) {
        let now = self.latest.clamp(now);
        let before = core::mem::take(&mut self.integrations.0);
        for (model, is_enabled) in all {
            let since = before.get(model.as_str()).map_or(now, |known| known.since);
            self.integrations
                .0
                .insert(model.into(), Known { since, is_enabled });
        }
        self.lists = None;
    }

    /// The integration that a request asks, by its model's name; `None` where it asks something else.
    ///
    /// # Errors
    /// As [`Hub::admit`]; 409 for one that is disabled, 400 for what no integration answers.
    pub fn integration(&self, caller: &Caller, ask: &Ask<'_>) -> Option<Result<Arc<str>, Refusal>> {
        if self.integrations.0.is_empty() || ask.session.is_some() {
            return None;
        }
        let permitted = match self.keys.confirm(caller) {
            Ok(()) => self.permitted(caller, ask),
            // The admission says so.
            Err(_) => return None,
        };
        // One that the key may not ask does not exist for it.
        let permitted = permitted.ok()?;
        let asked = permitted.as_deref().unwrap_or(ask.model);
        let (model, known) = self.integrations.0.get_key_value(self.resolve(asked))?;
        Some(self.may_answer(ask, *known).map(|()| model.clone()))
    }

    fn may_answer(&self, ask: &Ask<'_>, known: Known) -> Result<(), Refusal> {
        let model = ask.model;
        if self.draining {
            return Err(Refusal::draining());
        }
        if !known.is_enabled {
            let message = alloc::format!("the integration of the model `{model}` is disabled");
            return Err(Refusal::new(Code::Disabled, message).at("model"));
        }
        match ask.needs.kind {
            Kind::Text => Ok(()),
            Kind::Insertion => {
                let message = "suffix: an integration does not fill in the middle";
                Err(Refusal::invalid(message).at("suffix"))
            }
            Kind::Embedding => {
                let message =
                    alloc::format!("model: `{model}` is an integration, which makes no embeddings");
                Err(Refusal::invalid(message).at("model"))
            }
        }
    }

    /// True for a model that a session answers for now.
    #[must_use]
    pub fn has_model(&self, model: &str) -> bool {
        self.pools.contains_key(model)
    }

    /// Lets a caller ask a model of this name by other ways than an admission.
    ///
    /// # Errors
    /// 401 where its key is gone, 404 for a model that its key may not ask.
    pub fn permit_model(&self, caller: &Caller, model: &str) -> Result<(), Refusal> {
        self.keys.confirm(caller)?;
        if caller.may_ask(&[model]) {
            return Ok(());
        }
        let models = caller.models().iter().map(String::as_str);
        Err(unknown_model(model, models.collect::<Vec<_>>(), false))
    }

    /// Charges a caller for a round that no session answers: an integration asks a server of its own.
    ///
    /// # Errors
    /// 401 where its key is gone, 429 where a limit is reached, 503 while the provider drains.
    pub fn charge_round(
        &mut self,
        now: Instant,
        caller: &Caller,
        tokens: u64,
    ) -> Result<(), Refusal> {
        let now = self.latest.clamp(now);
        self.keys.confirm(caller)?;
        if self.draining {
            return Err(Refusal::draining());
        }
        let payer = Payer::new(caller.authority, caller.address);
        self.charge_one(now, payer, tokens)
    }

    /// Such a round has ended: the tokens that it used stand in the place of those that it was charged for.
    pub fn settle_round(&mut self, now: Instant, caller: &Caller, charged: u64, used: Usage) {
        let now = self.latest.clamp(now);
        let payer = Payer::new(caller.authority, caller.address);
        self.limiter
            .correct(now, payer, charged, used.total_tokens());
        self.metrics.prompt_tokens = self
            .metrics
            .prompt_tokens
            .saturating_add(used.prompt_tokens);
        self.metrics.completion_tokens = self
            .metrics
            .completion_tokens
            .saturating_add(used.completion_tokens);
    }
}
