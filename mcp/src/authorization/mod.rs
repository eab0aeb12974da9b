//! Authorization at a remote server, as a client of OAuth 2.1 (MCP revisions 2025-03-26 to 2026-07-28, "Authorization"): a person
//! logs in once, and what that gives is kept, sent and renewed.
//!
//! [`Login`] is the way to it, one request after the other: the server says who gives tokens for it (RFC 9728), that server what it
//! can do (RFC 8414 or OpenID Connect Discovery), and knows this program (a metadata document, a client of the configuration, or
//! RFC 7591). Then a person consents in a browser, and the code that comes back is changed for tokens (PKCE with S256, RFC 8707,
//! RFC 9207). [`Credentials`] are what remains, which may be renewed and revoked (RFC 7009).

mod challenge;
mod credentials;
mod document;
mod login;
mod metadata;
#[cfg(test)]
mod tests;
mod url;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use challenge::Challenge;
pub use credentials::{Client, ClientAuthentication, Credentials, NotRenewed, Tokens};
pub use login::{Login, Preset, Returned, Settings, Step};

/// Headers of a request: names in lower case, and values.
pub type Headers = Vec<(Cow<'static, str>, String)>;

/// An HTTP request that is to be made. Redirections are not followed.
pub struct Request {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The whole address: `https`, or `http` on this machine.
    pub url: String,
    /// Headers.
    pub headers: Headers,
    /// A form or JSON.
    pub body: Option<String>,
    /// True for one to the MCP server itself, which gets the headers of the configuration too.
    pub is_for_server: bool,
}

impl fmt::Debug for Request {
    /// Without headers and body, which hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Bearer tokens, as `WWW-Authenticate` speaks of them.
    pub challenge: Option<&'a Challenge>,
    /// The body.
    pub body: &'a [u8],
}

/// The reason for which there is no authorization, as a sentence about the server that begins with "it" or "its". Parts of it are
/// the words of other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAuthorized(pub String);

impl fmt::Display for NotAuthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds words to a set of scopes (RFC 6749, section 3.3) that are not in it.
pub(crate) fn union(scope: &mut String, more: &str) {
    for word in more.split_ascii_whitespace() {
        if scope.split_ascii_whitespace().any(|own| own == word) {
            continue;
        }
        if !scope.is_empty() {
            scope.push(' ');
        }
        scope.push_str(word);
    }
}
