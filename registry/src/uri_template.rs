//! URI templates (RFC 6570, level 1, and `{+path}`): which URIs fit one, and with which values.

use crate::uri;
use std::collections::BTreeMap;

/// Names in one template.
const NAMES: usize = 8;

/// The values of a template's names.
pub(crate) type Arguments = BTreeMap<String, String>;

/// A template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UriTemplate(Box<[Part]>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Literal(Box<str>),
    /// A value; one with `+` may have `/` and the other reserved characters in it.
    Value {
        name: Box<str>,
        reserved: bool,
    },
}

impl UriTemplate {
    /// Reads a template.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut names = 0;
        while let Some(open) = rest.find('{') {
            let (literal, after) = rest.split_at(open);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let after = after.get(1..).unwrap_or_default();
            let (inside, after) = after.split_once('}').ok_or("a `{` has no `}`")?;
            let (reserved, name) = match inside.strip_prefix('+') {
                Some(name) => (true, name),
                None => (false, inside),
            };
            let good = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
            if name.is_empty() || !name.bytes().all(good) {
                return Err(format!(
                    "`{{{inside}}}` is not supported: write {{name}} or {{+name}} (RFC 6570, level 1)"
                ));
            }
            let known =
                |part: &Part| matches!(part, Part::Value { name: known, .. } if **known == *name);
            if parts.iter().any(known) {
                return Err(format!("`{name}` is there twice"));
            }
            if matches!(parts.last(), Some(Part::Value { .. })) {
                return Err(format!(
                    "there must be something between `{name}` and the name before it"
                ));
            }
            names += 1;
            let name = name.into();
            parts.push(Part::Value { name, reserved });
            rest = after;
        }
        if rest.contains('}') {
            return Err("a `}` has no `{`".to_owned());
        }
        if names == 0 || names > NAMES {
            return Err(format!(
                "it must have 1 to {NAMES} names such as {{id}}; for none, use `uri`"
            ));
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self(parts.into()))
    }

    /// Gives the values with which it becomes a URI; `None` when it does not. Each value is as short as can be.
    pub(crate) fn take(&self, uri: &str) -> Option<Arguments> {
        if uri.len() > uri::LONGEST || !uri.is_ascii() {
            return None;
        }
        // For each part from the last one on: the places from which it and all behind it fit the rest.
        let bytes = uri.as_bytes();
        let mut behind = vec![false; bytes.len() + 1];
        *behind.last_mut()? = true;
        let mut fits = vec![behind];
        for part in self.0.iter().rev() {
            let behind = fits.last()?;
            let mut here = vec![false; bytes.len() + 1];
            for at in (0..bytes.len()).rev() {
                let fit = match part {
                    Part::Literal(text) => {
                        let rest = bytes.get(at..).unwrap_or_default();
                        rest.starts_with(text.as_bytes())
                            && behind.get(at + text.len()) == Some(&true)
                    }
                    Part::Value { reserved, .. } => {
                        let ends = behind.get(at + 1) == Some(&true);
                        let goes_on = here.get(at + 1) == Some(&true);
                        may_have(*bytes.get(at)?, *reserved) && (ends || goes_on)
                    }
                };
                if let Some(slot) = here.get_mut(at) {
                    *slot = fit;
                }
            }
            fits.push(here);
        }
        let mut arguments = Arguments::new();
        let mut at = 0;
        fits.pop().filter(|first| first.first() == Some(&true))?;
        for part in &self.0 {
            let behind = fits.pop()?;
            match part {
                Part::Literal(text) => at += text.len(),
                Part::Value { name, .. } => {
                    let end = (at + 1..=bytes.len()).find(|it| behind.get(*it) == Some(&true))?;
                    let value = uri::decode(uri.get(at..end)?)?;
                    arguments.insert(name.to_string(), value);
                    at = end;
                }
            }
        }
        Some(arguments)
    }
}

fn may_have(byte: u8, reserved: bool) -> bool {
    byte.is_ascii_graphic()
        && (reserved
            || byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn take(template: &str, uri: &str) -> Option<Vec<(String, String)>> {
        let taken = UriTemplate::read(template).unwrap().take(uri)?;
        Some(taken.into_iter().collect())
    }

    #[test]
    fn a_uri_fits_a_template_or_not() {
        let one = |name: &str, value: &str| Some(vec![(name.to_owned(), value.to_owned())]);
        assert_eq!(take("docs://{id}", "docs://a%20b"), one("id", "a b"));
        assert_eq!(take("docs://{id}", "docs://a/b"), None);
        assert_eq!(take("docs://{+id}", "docs://a/b?c"), one("id", "a/b?c"));
        assert_eq!(take("docs://{id}", "docs://"), None);
        assert_eq!(take("docs://{id}.md", "docs://a.md"), one("id", "a"));
        assert_eq!(take("docs://{id}.md", "docs://a.md.md"), one("id", "a.md"));
        assert_eq!(take("docs://{id}", "docs://%ff"), None);
        let two = take("x:{a}/{+b}", "x:1/2/3").unwrap();
        assert_eq!(two, [("a".into(), "1".into()), ("b".into(), "2/3".into())]);
        for bad in [
            "docs://",
            "{",
            "x:{a}{b}",
            "x:{?a}",
            "x:{a*}",
            "x:{}",
            "x:{a}/{a}",
            "x:}",
        ] {
            assert!(UriTemplate::read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_a_template_becomes_fits_it(a in "[a-z.~ é/]{1,9}", b in "[a-z/?#é ]{1,9}") {
            let template = UriTemplate::read("x:{a}/-/{+b}").unwrap();
            let encoded = uri::encode(&b).replace("%2F", "/");
            let taken = template.take(&format!("x:{}/-/{encoded}", uri::encode(&a))).unwrap();
            prop_assert_eq!(&taken["a"], &a);
            prop_assert_eq!(&taken["b"], &b);
        }
    }
}
