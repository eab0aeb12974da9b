//! URIs of resources where several servers stand under one address: `SERVER+URI`, and `ui://SERVER+X` for what hosts show.
//!
//! The scheme of a URI (RFC 3986, section 3.1) has letters, digits, `+`, `-` and `.`, in either case: a server's `_` is written
//! as `-`, and no server's name has a `+`. Templates (RFC 6570) are clients' to expand, so that a server is known by the
//! beginning of a URI and not by a list.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;

/// The scheme of a user interface that a host shows.
const UI: &str = "ui://";

/// Beginning of the URIs of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UriPrefix(Box<str>);

impl UriPrefix {
    /// Makes the prefix of a server.
    #[must_use]
    pub fn new(server: &str) -> Self {
        Self(server.replace('_', "-").into())
    }

    /// True when nobody can tell the URIs of the two apart.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// Puts the prefix before a URI, a template, or another text by which the server is to be found again. Both are JSON
    /// strings; `None` when the value is none.
    #[must_use]
    pub fn put(&self, uri: JsonValue<'_>) -> Option<String> {
        let escaped = uri.as_str()?.as_escaped();
        let (scheme, rest) = match escaped.strip_prefix(UI) {
            Some(rest) => (UI, rest),
            None => ("", escaped),
        };
        let mut json = Json::new();
        json.reserve(escaped.len());
        for piece in ["\"", scheme, &*self.0, "+", rest, "\""] {
            json.raw(piece);
        }
        Some(json.finish())
    }

    /// Takes the prefix away: the URI that the server knows, as JSON string. `None` when it is another's.
    #[must_use]
    pub fn take(&self, uri: JsonValue<'_>) -> Option<String> {
        let inside = uri.as_str()?;
        // A client may escape what needs no escape.
        let escaped = match inside.as_escaped() {
            plain if self.rest(plain).is_some() => Cow::Borrowed(plain),
            _ => inside.normal(),
        };
        let (scheme, own) = self.rest(&escaped)?;
        let mut json = Json::new();
        json.reserve(own.len());
        for piece in ["\"", scheme, own, "\""] {
            json.raw(piece);
        }
        Some(json.finish())
    }

    /// The scheme that stays, and what follows the prefix.
    fn rest<'u>(&self, uri: &'u str) -> Option<(&'static str, &'u str)> {
        let (scheme, rest) = match uri.get(..UI.len()) {
            Some(scheme) if scheme.eq_ignore_ascii_case(UI) => {
                (UI, uri.get(UI.len()..).unwrap_or_default())
            }
            Some(_) | None => ("", uri),
        };
        let (prefix, own) = rest.split_once('+')?;
        prefix
            .eq_ignore_ascii_case(&self.0)
            .then_some((scheme, own))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn put(server: &str, uri: &str) -> String {
        UriPrefix::new(server)
            .put(JsonValue::read(uri).unwrap())
            .unwrap()
    }

    fn take(server: &str, uri: &str) -> Option<String> {
        UriPrefix::new(server).take(JsonValue::read(uri).unwrap())
    }

    #[test]
    fn a_uri_has_its_server_before_it() {
        assert_eq!(
            put("my_files", r#""file:///a\/b""#),
            r#""my-files+file:///a\/b""#
        );
        assert_eq!(put("files", r#""ui://show/x""#), r#""ui://files+show/x""#);
        assert_eq!(put("files", r#""{+any}""#), r#""files+{+any}""#);
        assert_eq!(put("git", r#""git+https://x""#), r#""git+git+https://x""#);
        assert_eq!(
            take("git", r#""git+git+https://x""#).unwrap(),
            r#""git+https://x""#
        );
        assert_eq!(
            take("files", r#""ui://files+show/x""#).unwrap(),
            r#""ui://show/x""#
        );
    }

    #[test]
    fn what_another_program_makes_of_a_uri_is_understood() {
        // Readers of URLs write schemes and hosts in lower case.
        assert_eq!(
            take("My_Files", r#""my-files+file:///A""#).unwrap(),
            r#""file:///A""#
        );
        assert_eq!(take("Files", r#""UI://files+X""#).unwrap(), r#""ui://X""#);
        assert_eq!(
            take("files", r#""fil\u0065s\u002bfile:///\u00e4""#).unwrap(),
            r#""file:///ä""#
        );
        for other in [
            r#""filesx+file:///""#,
            r#""file:///""#,
            r#""ui://x""#,
            r#""""#,
            "7",
            r#""fi+les""#,
        ] {
            assert_eq!(take("files", other), None, "{other}");
        }
        assert!(UriPrefix::new("a_b").is(&UriPrefix::new("A-b")));
        assert!(!UriPrefix::new("a").is(&UriPrefix::new("b")));
    }

    proptest! {
        #[test]
        fn a_uri_comes_back_byte_for_byte(server in "[a-zA-Z][a-zA-Z0-9_-]{0,31}", uri in "(ui://)?([ !#-\\[\\]-~]|é|\\\\[nt/\"\\\\]|\\\\u00[0-9a-f]{2}){0,40}") {
            let uri = alloc::format!("\"{uri}\"");
            let there = put(&server, &uri);
            prop_assert!(JsonValue::read(&there).is_some(), "{}", there);
            prop_assert_eq!(take(&server, &there).unwrap(), uri);
        }
    }
}
