//! Scopes: the kinds of work that an agent lets itself be asked for.

use alloc::string::String;
use alloc::sync::Arc;

/// A kind of work that a route asks of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// Answers of a model.
    Inference,
}

impl Scope {
    /// The name on every wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
        }
    }
}

/// The scopes that an agent names, in its own words: names that are not known here are kept, shown, and allow nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scopes(Arc<[String]>);

impl Scopes {
    /// True when `scope` is among them, or `*` is.
    #[must_use]
    pub fn allow(&self, scope: Scope) -> bool {
        self.0
            .iter()
            .any(|name| name == scope.as_str() || name == "*")
    }

    /// The names as the agent gave them.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl From<alloc::vec::Vec<String>> for Scopes {
    fn from(names: alloc::vec::Vec<String>) -> Self {
        Self(names.into())
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self(Arc::from([String::from(scope.as_str())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_name_that_is_not_known_is_kept_and_allows_nothing() {
        let scopes = |names: &[&str]| {
            Scopes::from(
                names
                    .iter()
                    .map(|name| (*name).into())
                    .collect::<vec::Vec<_>>(),
            )
        };
        assert!(Scopes::from(Scope::Inference).allow(Scope::Inference));
        assert!(scopes(&["other", "*"]).allow(Scope::Inference));
        let other = scopes(&["other", "Inference"]);
        assert!(!other.allow(Scope::Inference));
        assert_eq!(other.names(), ["other", "Inference"]);
        assert!(!scopes(&[]).allow(Scope::Inference));
    }
}
