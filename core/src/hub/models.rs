//! Names of models: which one a client means, and which one it may have meant.

use super::keys::Caller;
use super::routing::Slot;
use super::{Ask, Hub};
use crate::error::{Code, Refusal};
use crate::id::WaitId;
use crate::text::within;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most models and aliases among which the nearest is looked for.
const COMPARED: usize = 64;

/// The name of a client that leaves the choice to the provider. No model has it.
pub(super) const ANY: &str = "";
/// The name by which clients leave the choice to the provider that cannot leave the name out.
const DEFAULT: &str = "default";
/// The alias of every name that is not known.
pub(super) const EVERY: &str = "*";
/// Letters that may be wrong in a name.
const MISTAKES: u8 = 3;
/// Longest name that is compared letter by letter.
const LONGEST: usize = 64;

/// True for a name by which a client leaves the choice to the provider.
pub(super) fn leaves_choice(name: &str) -> bool {
    matches!(name, ANY | DEFAULT)
}

impl Hub {
    /// Returns the model that a client means: that of an alias, one that an agent answers for, with or without `:latest`; for no
    /// name or `default` that of `models.default`, else `""` for any; for a name that nobody knows that of the alias `*`.
    #[must_use]
    pub fn resolve<'m>(&'m self, asked: &'m str) -> &'m str {
        let name = asked.strip_suffix(":latest").unwrap_or(asked);
        if let Some(model) = self.alias(asked).or_else(|| self.alias(name)) {
            return self.in_full(model);
        }
        if self.pools.contains_key(asked) {
            return asked;
        }
        if self.pools.contains_key(name) {
            return name;
        }
        if self.integrations.knows(name) {
            return name;
        }
        if leaves_choice(name) {
            let default = self.config.default_model.as_deref();
            return default.map_or(ANY, |default| {
                self.in_full(self.alias(default).unwrap_or(default))
            });
        }
        if self.awaits(name) {
            return name;
        }
        let bare = self.upstreams.only(asked);
        if let Some(model) = bare.or_else(|| self.upstreams.only(name)) {
            return model;
        }
        if self.expects(name) {
            return name;
        }
        self.alias(EVERY).map_or(name, |model| self.in_full(model))
    }

    /// Returns the full name of a model that the configuration names, which may be a bare name of an upstream's.
    fn in_full<'m>(&'m self, model: &'m str) -> &'m str {
        let is_full = self.pools.contains_key(model) || self.integrations.knows(model);
        if is_full || self.awaits(model) {
            return model;
        }
        self.upstreams.only(model).unwrap_or(model)
    }

    /// Returns the name to ask for instead, where the caller's key may not ask every model and names none itself: the one of
    /// its models whose sessions are the least busy.
    ///
    /// # Errors
    /// 404 for a model that the key may not ask: it does not exist for its caller.
    pub(super) fn permitted(
        &self,
        caller: &Caller,
        ask: &Ask<'_>,
    ) -> Result<Option<String>, Refusal> {
        let models = caller.models();
        if models.is_empty() {
            return Ok(None);
        }
        let asked = ask.model;
        let name = asked.strip_suffix(":latest").unwrap_or(asked);
        if caller.may_ask(&[asked, name, self.resolve(asked)]) {
            return Ok(None);
        }
        if !leaves_choice(name) {
            let models = models.iter().map(String::as_str);
            return Err(unknown_model(asked, models.collect(), false));
        }
        let load = |name: &&String| self.load_of(self.resolve(name), ask);
        let free = models.iter().filter(|name| load(name).is_some());
        Ok(free.min_by_key(load).or(models.first()).cloned())
    }

    fn alias(&self, name: &str) -> Option<&str> {
        let mut aliases = self.config.aliases.iter();
        let alias = aliases.find(|alias| alias.name == name)?;
        Some(&alias.model)
    }

    /// True for a model that an agent may come to answer for: the configuration names it, or a session that cannot answer now.
    pub(super) fn expects(&self, model: &str) -> bool {
        self.config.aliases.iter().any(|alias| alias.model == model)
            || self.config.default_model.as_deref() == Some(model)
            || self.awaits(model)
    }

    /// True for a model of an agent that is not there now.
    pub(super) fn awaits(&self, model: &str) -> bool {
        self.sessions.owners().know(model) || self.expected.knows(model)
    }

    /// Returns the model that a session is asked for.
    pub(super) fn model_of(&self, slot: Slot, asked: &str) -> Arc<str> {
        let model = self.resolve(asked);
        let first = self
            .sessions
            .get(slot)
            .and_then(|session| session.models.first());
        match first {
            Some(first) if model == ANY => first.clone(),
            Some(_) | None => model.into(),
        }
    }

    /// Returns the model that a request waits for, as an answer that begins before its admission names it: as the client did; where
    /// it left the choice to the provider, that of the configuration, else the first one that may answer. `None` where none is known.
    #[must_use]
    pub fn model_awaited(&self, wait: WaitId) -> Option<&str> {
        let (_, ask) = self.queue.waiter(wait)?;
        if !leaves_choice(ask.model) {
            return Some(ask.model);
        }
        if let Some(session) = ask.session {
            let session = self.sessions.get(self.sessions.find(session)?)?;
            return session.models.first().map(|model| &**model);
        }
        let chosen = Some(self.resolve(ask.model)).filter(|model| *model != ANY);
        let starting = || self.expected.starting().map(|(name, _)| name).next();
        let first = || self.pools.keys().min().or_else(starting);
        chosen.or_else(|| first().map(|model| &**model))
    }

    /// Returns the refusal of a model that nobody knows.
    pub(super) fn unknown_model(&self, asked: &str) -> Refusal {
        let several = self.upstreams.several(asked);
        if !several.is_empty() {
            let names: Vec<&str> = several.iter().map(|name| &**name).collect();
            let message = alloc::format!(
                "several upstreams have the model `{asked}`; ask for one of `{}`",
                names.join("`, `")
            );
            return Refusal::new(Code::ModelNotFound, message)
                .at("model")
                .listing_models();
        }
        if self.pools.len() + self.config.aliases.len() > COMPARED {
            // Who may ask could have all of them compared with each request.
            return unknown_model(asked, Vec::new(), true);
        }
        let mut known: Vec<&str> = self.pools.keys().map(|name| &**name).collect();
        known.extend(self.integrations.enabled().map(|(name, _)| &**name));
        known.extend(self.config.aliases.iter().map(|alias| &*alias.name));
        known.retain(|name| *name != EVERY);
        unknown_model(asked, known, true)
    }
}

/// Returns the refusal of a model that is not among those that are `known`, with the one that may have been meant. For a
/// caller who may ask every model it also says how any name can be taken.
pub(crate) fn unknown_model(asked: &str, mut known: Vec<&str>, asks_all: bool) -> Refusal {
    known.sort_unstable();
    known.dedup();
    let asked: String = asked.chars().take(256).collect();
    let meant = match &*known {
        [only] => Some(*only),
        _ => nearest(&asked, &known),
    };
    let meant = meant.map_or_else(String::new, |meant| {
        alloc::format!("; the nearest is `{meant}`")
    });
    let every = if asks_all {
        r#"; with `models.aliases: { "*": MODEL }` in the configuration MODEL answers for every other name"#
    } else {
        ""
    };
    Refusal::new(
        Code::ModelNotFound,
        alloc::format!("the model `{asked}` does not exist here{meant}{every}"),
    )
    .at("model")
    .listing_models()
}

/// Returns the name with the fewest wrong letters, else the first one of which the other is a part.
fn nearest<'n>(asked: &str, known: &[&'n str]) -> Option<&'n str> {
    let (short, asked) = (asked.len() <= LONGEST, asked.to_ascii_lowercase());
    let misspelt = |mistakes: u8| {
        known.iter().find(|name| {
            // With more than one letter in three wrong it is another name.
            name.len() >= usize::from(mistakes) * 3
                && within(mistakes, asked.as_bytes(), name.as_bytes())
        })
    };
    let part = || {
        known.iter().find(|name| {
            let name = name.to_ascii_lowercase();
            !asked.is_empty() && (name.contains(&asked) || asked.contains(&name))
        })
    };
    let misspelt = short.then(|| (1..=MISTAKES).find_map(misspelt)).flatten();
    misspelt.or_else(part).copied()
}
