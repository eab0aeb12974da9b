//! The statement of an agent about what it may be asked for. Admission, refusals, the lists of models and
//! `x-ignored-parameters` read this one value.

use crate::invocation::{Kind, Needs, ParameterSet};
use crate::scope::{Scope, Scopes};
use serde::{Deserialize, Serialize};

/// Everything that an agent supports. It declares this in its registration, or its form of agent does for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Supports {
    /// The kinds of answers that it may be asked for.
    pub kinds: KindSet,
    /// The scopes that it may be used for.
    pub scopes: Scopes,
    /// The parameters that it takes. Of the others, the provider applies `max_tokens` itself and tells the client the rest.
    pub parameters: ParameterSet,
    /// The abilities that it declares.
    pub capabilities: Capabilities,
}

impl Default for Supports {
    /// A session of the agent protocol that declares nothing.
    fn default() -> Self {
        Self::declared(Scope::Inference.into(), Capabilities::default())
    }
}

impl Supports {
    /// A session of the agent protocol: every parameter is sent to it, it makes vectors where it declares to, and it may be asked
    /// to fill in the middle even where it does not say that it can.
    #[must_use]
    pub fn declared(scopes: Scopes, capabilities: Capabilities) -> Self {
        let mut kinds = KindSet::EMPTY.with(Kind::Text).with(Kind::Insertion);
        if capabilities.embeddings {
            kinds = kinds.with(Kind::Embedding);
        }
        Self {
            kinds,
            scopes,
            parameters: ParameterSet::ALL,
            capabilities,
        }
    }

    /// An agent that is asked in words only, which takes no parameter but the caller's tools, where it declares to call those.
    #[must_use]
    pub fn words(capabilities: Capabilities) -> Self {
        Self {
            kinds: KindSet::EMPTY.with(Kind::Text),
            scopes: Scope::Inference.into(),
            parameters: match capabilities.tools {
                true => ParameterSet::TOOLS,
                false => ParameterSet::EMPTY,
            },
            capabilities,
        }
    }
}

/// The abilities that an agent declares, by their names on every wire. Absent is false, or not known. The lists of models show
/// them, and of several agents the one that declares what a request brings goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    /// Calls the caller's tools.
    pub tools: bool,
    /// Reads images.
    pub vision: bool,
    /// Turns texts into vectors.
    pub embeddings: bool,
    /// Fills in the middle: completes a prompt that has a suffix.
    pub insert: bool,
    /// Thinks aloud.
    pub thinking: bool,
    /// Tokens that its context holds.
    pub context_length: Option<u64>,
}

impl Capabilities {
    /// Adds those of another agent of the same model: the most that any of them has.
    pub fn join(&mut self, other: &Self) {
        self.tools |= other.tools;
        self.vision |= other.vision;
        self.embeddings |= other.embeddings;
        self.insert |= other.insert;
        self.thinking |= other.thinking;
        self.context_length = self.context_length.max(other.context_length);
    }
}

/// A set of kinds of answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KindSet(u8);

impl KindSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// The set and one kind more.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// True when the kind is in it.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

/// The part of [`Supports`] by which a session is chosen for a request. Sessions of one class are chosen by their load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    kinds: KindSet,
    inference: bool,
    vision: bool,
    tools: bool,
    insert: bool,
}

/// Abilities that are wanted and not declared; the fewer the better.
pub type Misses = (bool, bool, bool);

impl Class {
    /// True when the class may be used for the scope.
    #[must_use]
    pub const fn allows(self, scope: Scope) -> bool {
        match scope {
            Scope::Inference => self.inference,
        }
    }

    /// Returns the abilities that it lacks of those that are preferred; `None` where it may not or cannot answer.
    #[must_use]
    pub fn suits(self, scope: Scope, needs: Needs) -> Option<Misses> {
        (self.allows(scope) && self.kinds.contains(needs.kind)).then_some((
            needs.kind == Kind::Insertion && !self.insert,
            needs.images && !self.vision,
            needs.tools && !self.tools,
        ))
    }
}

impl From<&Supports> for Class {
    fn from(supports: &Supports) -> Self {
        Self {
            kinds: supports.kinds,
            inference: supports.scopes.allow(Scope::Inference),
            vision: supports.capabilities.vision,
            tools: supports.capabilities.tools,
            insert: supports.capabilities.insert,
        }
    }
}
