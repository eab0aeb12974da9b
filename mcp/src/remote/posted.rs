//! Lines for a remote server: what each of them is, and the headers that its revision wants.

use crate::envelope::VERSION;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::{Call, Message};
use mcp_local_provider_core::text::JsonValue;

/// The request that opens a session.
pub(super) const INITIALIZE: &str = "initialize";

/// A line that waits to be sent.
#[derive(Debug)]
pub(super) struct Posted {
    /// One message, without line ends.
    pub(super) line: String,
    pub(super) kind: Kind,
    /// Headers beside those that every message has.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// The kinds of a message.
#[derive(Debug)]
pub(super) enum Kind {
    /// A request, which wants an answer.
    Request(Asked),
    /// A notification or an answer, which wants none.
    Told(Told),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) role: Role,
    /// It is of revision 2026-07-28: it is cancelled by closing its answer, and no answer is resumed.
    pub(super) is_stateless: bool,
}

/// The parts that requests have in a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// `initialize`, or `server/discover` in its place.
    Greeting {
        /// It is `initialize`.
        opens: bool,
    },
    /// `subscriptions/listen`, which is answered when it is over.
    Listen,
    /// Any other.
    Usual,
}

/// A notification or an answer on its way.
#[derive(Debug)]
pub(super) struct Told {
    /// It ends the handshake.
    pub(super) greets: bool,
    /// It takes the request of this number back.
    pub(super) cancels: Option<u64>,
}

impl Posted {
    /// Reads a line; `None` for one that is no message.
    pub(super) fn read(line: &str) -> Option<Self> {
        let line = line.trim_end();
        let (kind, headers) = match Message::read(line).ok()? {
            Message::Request { id, call } => request(id.whole()?, &call),
            Message::Notification(call) => {
                let cancelled = (call.method == "notifications/cancelled")
                    .then(|| call.params?.member("requestId")?.whole());
                let told = Told {
                    greets: call.method == "notifications/initialized",
                    cancels: cancelled.flatten(),
                };
                (Kind::Told(told), Vec::new())
            }
            Message::Response { .. } => {
                let told = Told {
                    greets: false,
                    cancels: None,
                };
                (Kind::Told(told), Vec::new())
            }
        };
        Some(Self {
            line: line.to_string(),
            kind,
            headers,
        })
    }
}

fn request(number: u64, call: &Call<'_>) -> (Kind, Vec<(&'static str, String)>) {
    let param = |path: &[&str]| call.params?.path(path).and_then(JsonValue::text);
    let mut headers = Vec::new();
    let version = param(&["_meta", VERSION]);
    if let Some(version) = &version {
        headers.push(("mcp-protocol-version", version.to_string()));
        headers.push(("mcp-method", header_text(&call.method)));
        let named = match &*call.method {
            "tools/call" | "prompts/get" => param(&["name"]),
            "resources/read" => param(&["uri"]),
            _ => None,
        };
        headers.extend(named.map(|name| ("mcp-name", header_text(&name))));
    }
    let asked = Asked {
        number,
        role: match &*call.method {
            INITIALIZE => Role::Greeting { opens: true },
            "server/discover" => Role::Greeting { opens: false },
            "subscriptions/listen" => Role::Listen,
            _ => Role::Usual,
        },
        is_stateless: version.is_some(),
    };
    (Kind::Request(asked), headers)
}

/// A text as the value of a header: `=?base64?…?=` where it could not stand there as it is (revision 2026-07-28).
fn header_text(text: &str) -> String {
    let stands = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && !text.starts_with("=?");
    if stands {
        return text.to_string();
    }
    let mut out = String::from("=?base64?");
    for group in text.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = (bits >> (18 - 6 * place)) & 63;
            out.push(if place > group.len() {
                '='
            } else {
                digit_of_base64(digit)
            });
        }
    }
    out.push_str("?=");
    out
}

fn digit_of_base64(value: u32) -> char {
    let (first, base) = match value {
        0..26 => (b'A', 0),
        26..52 => (b'a', 26),
        52..62 => (b'0', 52),
        62 => (b'+', 62),
        _ => (b'/', 63),
    };
    let offset = u8::try_from(value.saturating_sub(base)).unwrap_or_default();
    char::from(first.saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_stand_in_a_header_is_base64() {
        for (text, header) in [
            ("echo", "echo"),
            ("with space", "with space"),
            ("Ä", "=?base64?w4Q=?="),
            (" a", "=?base64?IGE=?="),
            ("a\n", "=?base64?YQo=?="),
            ("=?x", "=?base64?PT94?="),
            ("\u{7ff}\u{7ff}>>>", "=?base64?37/fvz4+Pg==?="),
        ] {
            assert_eq!(header_text(text), header, "{text:?}");
        }
    }
}
