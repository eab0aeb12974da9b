//! URLs of servers in their parts, and texts in queries and forms.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write as _;
use core::net::Ipv4Addr;

/// A URL with the scheme `http` or `https`, without user, fragment, blanks and characters beyond ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Url<'u> {
    is_secure: bool,
    /// Scheme and authority.
    pub(super) origin: &'u str,
    authority: &'u str,
    /// Empty, or it begins with `/`.
    pub(super) path: &'u str,
    /// Without the `?`.
    query: Option<&'u str>,
}

impl<'u> Url<'u> {
    /// Reads a text; `None` where it is no such URL.
    pub(super) fn read(text: &'u str) -> Option<Self> {
        let is_part = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'\\' | b'#');
        if !text.bytes().all(is_part) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_secure = scheme.eq_ignore_ascii_case("https");
        if !is_secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, _) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') {
            return None;
        }
        let (origin, place) = text.split_at(text.len() - rest.len() + authority.len());
        let (path, query) = match place.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (place, None),
        };
        Some(Self {
            is_secure,
            origin,
            authority,
            path,
            query,
        })
    }

    /// Its host without a port.
    fn host(&self) -> &'u str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            Some(_) | None => self.authority,
        }
    }

    /// True for a host that is this machine by its name (RFC 8252, section 7.3).
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost")
            || host == "[::1]"
            || host.parse().is_ok_and(|host: Ipv4Addr| host.is_loopback())
    }

    /// True where nobody on the way reads what is sent.
    pub(super) fn is_private(&self) -> bool {
        self.is_secure || self.is_loopback()
    }

    /// True for one that a server at `server` may send this program to: with TLS; on this machine only if that is on it too, because
    /// another machine must not have this program ask here.
    pub(super) fn is_open_to(&self, server: &Url<'_>) -> bool {
        if self.is_loopback() {
            server.is_loopback()
        } else {
            self.is_secure
        }
    }

    /// Scheme, host and port in their normal form.
    fn normal_origin(&self) -> String {
        let mut origin = self.origin.to_ascii_lowercase();
        let own = if self.is_secure { ":443" } else { ":80" };
        if origin.ends_with(own) {
            origin.truncate(origin.len() - own.len());
        }
        origin
    }

    /// True for a resource that `server` is, or is a part of.
    pub(super) fn covers(&self, server: &Url<'_>) -> bool {
        let path = self.path.trim_end_matches('/');
        let rest = server.path.strip_prefix(path);
        self.normal_origin() == server.normal_origin()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && self.query.is_none_or(|query| server.query == Some(query))
    }

    /// The place of a document that is well known (RFC 8615), for what is at this path.
    pub(super) fn well_known(&self, name: &str, path: &str) -> String {
        format!("{}/.well-known/{name}{path}", self.origin)
    }

    /// The URL without its query: the name of a server as a resource (RFC 8707).
    pub(super) fn resource(&self) -> String {
        let path = if self.path == "/" { "" } else { self.path };
        format!("{}{path}", self.normal_origin())
    }
}

/// Appends a parameter of a query or form (`application/x-www-form-urlencoded`).
pub(super) fn push_parameter(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() && !out.ends_with(['?', '&']) {
        out.push('&');
    }
    out.push_str(name);
    out.push('=');
    push_encoded(out, value);
}

/// Appends a text with all escaped that is not unreserved (RFC 3986, section 2.3).
pub(super) fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Nothing is refused by a text that grows.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Returns an endpoint before its query, which it may have already.
pub(super) fn before_query(endpoint: &str) -> String {
    let mut url = endpoint.to_string();
    url.push(if endpoint.contains('?') { '&' } else { '?' });
    url
}
