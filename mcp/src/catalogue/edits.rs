//! Changes to a message, made where it stands: everything else stays byte for byte.

use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::{Json, replace};
use mcp_local_provider_core::text::JsonValue;

/// Values that were read from one text, each with JSON that is to stand in its place.
#[derive(Clone, Default, Debug)]
pub struct Edits<'t>(Vec<(JsonValue<'t>, String)>);

impl<'t> Edits<'t> {
    /// Puts `new` in the place of `old`. Values that stand in each other may not both be replaced.
    pub fn put(&mut self, old: JsonValue<'t>, new: impl Into<String>) {
        self.0.push((old, new.into()));
    }

    /// Returns true when nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the changes in `text`, from which the values were read.
    #[must_use]
    pub fn applied(mut self, text: &str) -> String {
        self.0.sort_by_key(|(old, _)| old.get().as_ptr().addr());
        let with: Vec<(JsonValue<'_>, &str)> =
            self.0.iter().map(|(old, new)| (*old, &**new)).collect();
        let mut out = String::with_capacity(text.len() + 32 * with.len());
        replace(&mut out, text, &with);
        out
    }
}

/// A text as JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut json = Json::new();
    json.string(text);
    json.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn changes_stand_where_the_values_stood_in_whatever_order_they_were_found() {
        let text = r#"{ "b" :1.50,"a":[ "x" , true ], "c":null}"#;
        let value = JsonValue::read(text).unwrap();
        let mut edits = Edits::default();
        assert!(edits.is_empty());
        for (name, new) in [("a", quoted("\"")), ("b", "2".into())] {
            edits.put(value.member(name).unwrap(), new);
        }
        assert_eq!(edits.applied(text), r#"{ "b" :2,"a":"\"", "c":null}"#);
    }
}
