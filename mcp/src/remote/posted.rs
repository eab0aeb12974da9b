//! Lines for a remote server: what each of them is, and the headers that its revision wants.

use crate::authorization::Headers;
use crate::envelope::VERSION;
use crate::header_text;
use crate::mirrored::Tools;
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
    pub(super) headers: Headers,
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
    /// `tools/list`.
    Tools,
    /// `tools/call`.
    Call {
        /// It is sent for the second time, with other headers.
        again: bool,
    },
    /// `tools/list`, of which nobody is told: it is for the headers of the call that has this number and is sent again behind it.
    Learn,
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
    /// Reads a line; `None` for one that is no message. `tools` says which arguments stand in headers too.
    pub(super) fn read(line: &str, tools: &Tools) -> Option<Self> {
        let line = line.trim_end();
        let (kind, headers) = match Message::read(line).ok()? {
            Message::Request { id, call } => request(id.whole()?, &call, tools),
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

    /// Notes that it is a call that is sent for the second time.
    pub(super) const fn again(&mut self) {
        if let Kind::Request(asked) = &mut self.kind {
            asked.role = Role::Call { again: true };
        }
    }
}

fn request(number: u64, call: &Call<'_>, tools: &Tools) -> (Kind, Headers) {
    let param = |path: &[&str]| call.params?.path(path).and_then(JsonValue::text);
    let mut headers = Vec::new();
    let version = param(&["_meta", VERSION]);
    if let Some(version) = &version {
        headers.push(("mcp-protocol-version".into(), version.to_string()));
        headers.push(("mcp-method".into(), header_text::encode(&call.method)));
        let named = match &*call.method {
            "tools/call" | "prompts/get" => param(&["name"]),
            "resources/read" => param(&["uri"]),
            _ => None,
        };
        headers.extend(named.map(|name| ("mcp-name".into(), header_text::encode(&name))));
        let repeated = tools.headers(call).into_iter();
        headers.extend(repeated.map(|(name, value)| (name.into(), value)));
    }
    let asked = Asked {
        number,
        role: match &*call.method {
            INITIALIZE => Role::Greeting { opens: true },
            "server/discover" => Role::Greeting { opens: false },
            "subscriptions/listen" => Role::Listen,
            "tools/list" => Role::Tools,
            "tools/call" => Role::Call { again: false },
            _ => Role::Usual,
        },
        is_stateless: version.is_some(),
    };
    (Kind::Request(asked), headers)
}
