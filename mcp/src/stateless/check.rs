//! Checks of a request of revision 2026-07-28: what it must say in its headers and in its `_meta`.

use super::{CAPABILITIES, LEVEL, REVISION, VERSION};
use crate::header_text;
use crate::mirrored::Given;
use crate::refusal::{Reason, Refusal};
use alloc::format;
use alloc::string::String;
use mcp_local_provider_core::rpc::{Call, Json, Message};
use mcp_local_provider_core::text::JsonValue;

/// Methods that the revision took away, or that belong to a session.
const REMOVED: [&str; 5] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
];

/// Prefix of methods whose objects a server with sessions keeps for one session.
const TASKS: &str = "tasks/";

/// Headers that repeat what the body says, so that those who pass it on need not read it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Headers<'h> {
    /// `MCP-Protocol-Version`.
    pub version: Option<&'h str>,
    /// `Mcp-Method`.
    pub method: Option<&'h str>,
    /// `Mcp-Name`.
    pub name: Option<&'h str>,
    /// Those that repeat arguments of a tool; `None` where nobody holds them against the body.
    pub given: Option<&'h Given>,
}

/// Things that a server may ask of its client.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Capabilities {
    /// `sampling/createMessage`.
    pub sampling: bool,
    /// `elicitation/create`.
    pub elicitation: bool,
    /// `roots/list`.
    pub roots: bool,
}

impl Capabilities {
    /// Reads what a client declares.
    #[must_use]
    pub fn read(declared: JsonValue<'_>) -> Self {
        let has = |name| {
            declared
                .member(name)
                .is_some_and(|value| value.get().starts_with('{'))
        };
        Self {
            sampling: has("sampling"),
            elicitation: has("elicitation"),
            roots: has("roots"),
        }
    }

    /// True when there is any of them.
    #[must_use]
    pub const fn any(self) -> bool {
        self.sampling || self.elicitation || self.roots
    }

    /// Returns the name of the capability that a question needs, and whether it is there. `None` for no question of a server.
    #[must_use]
    pub fn of(self, method: &str) -> Option<(&'static str, bool)> {
        match method {
            "sampling/createMessage" => Some(("sampling", self.sampling)),
            "elicitation/create" => Some(("elicitation", self.elicitation)),
            "roots/list" => Some(("roots", self.roots)),
            _ => None,
        }
    }
}

/// Severity of a log message (RFC 5424).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// For the server's makers.
    Debug,
    /// Steps that go well.
    Info,
    /// Normal, but of note.
    Notice,
    /// A warning.
    Warning,
    /// An operation failed.
    Error,
    /// A part failed.
    Critical,
    /// Somebody has to act.
    Alert,
    /// Nothing works.
    Emergency,
}

impl Level {
    const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// Finds a level by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// True when a message is meant in this revision: its header says so, or the `_meta` of a request.
#[must_use]
pub fn is_meant(version: Option<&str>, message: &Message<'_>) -> bool {
    version == Some(REVISION)
        || match message {
            Message::Request { call, .. } => said(call, VERSION).is_some(),
            Message::Notification(_) | Message::Response { .. } => false,
        }
}

/// A member of the `_meta` of a request.
fn said<'m>(call: &Call<'m>, name: &str) -> Option<JsonValue<'m>> {
    call.meta?.member(name)
}

/// A request that says what it must.
#[derive(Clone, Debug)]
pub struct Wanted<'m> {
    /// As the client wrote it.
    pub id: JsonValue<'m>,
    /// Method and parameters.
    pub call: Call<'m>,
    /// The client's capabilities, as it declares them.
    pub declared: JsonValue<'m>,
    /// The same, as far as servers with sessions ask for it.
    pub capabilities: Capabilities,
    /// The least severe log messages that the client wants; none when it is absent.
    pub level: Option<Level>,
    /// Headers that are held against the arguments of a call, once the tools of its server are known; `None` where there are no headers.
    pub given: Option<Given>,
}

impl<'m> Wanted<'m> {
    /// Checks a request.
    ///
    /// # Errors
    /// It lacks what it must say, its headers say something else, it is of another revision, or asks for nothing that there is.
    pub fn read(
        headers: &Headers<'_>,
        id: JsonValue<'m>,
        call: &Call<'m>,
    ) -> Result<Self, Refusal> {
        Self::checked(Some(headers), id, call)
    }

    /// Checks a request that comes without headers: the part of another one.
    ///
    /// # Errors
    /// As [`Wanted::read`] has them, but for headers.
    pub fn read_part(id: JsonValue<'m>, call: &Call<'m>) -> Result<Self, Refusal> {
        Self::checked(None, id, call)
    }

    fn checked(
        headers: Option<&Headers<'_>>,
        id: JsonValue<'m>,
        call: &Call<'m>,
    ) -> Result<Self, Refusal> {
        let missing = |name: &str| {
            let message = format!("`params._meta` of a request must have `{name}`");
            Refusal::new(Reason::BadParams, message)
        };
        let version = said(call, VERSION).and_then(JsonValue::text);
        let version = version.ok_or_else(|| missing(VERSION))?;
        let declared = said(call, CAPABILITIES).filter(|all| all.get().starts_with('{'));
        let declared = declared.ok_or_else(|| missing(CAPABILITIES))?;
        if let Some(headers) = headers {
            agrees("MCP-Protocol-Version", headers.version, &version)?;
        }
        if version != REVISION {
            let mut details = Json::new();
            details.raw("\"supported\":[");
            details.string(REVISION);
            details.raw("],\"requested\":");
            details.string(&version);
            let message = "this revision is not spoken here in requests without a session";
            return Err(
                Refusal::new(Reason::UnsupportedVersion, message).detailed(details.finish())
            );
        }
        if let Some(headers) = headers {
            agrees("Mcp-Method", headers.method, &call.method)?;
        }
        let name = match &*call.method {
            "tools/call" | "prompts/get" => Some("name"),
            "resources/read" => Some("uri"),
            _ => None,
        };
        let name = name.and_then(|name| call.params?.member(name)?.text());
        if let (Some(name), Some(headers)) = (name, headers) {
            agrees("Mcp-Name", headers.name, &name)?;
        }
        if REMOVED.contains(&&*call.method) || call.method.starts_with(TASKS) {
            let message = format!("there is no `{}` in revision {REVISION}", call.method);
            return Err(Refusal::new(Reason::MethodNotFound, message));
        }
        let level = said(call, LEVEL).map(|level| {
            let level = level.text().and_then(|name| Level::named(&name));
            level.ok_or_else(|| {
                Refusal::new(
                    Reason::BadParams,
                    format!("`{LEVEL}` is no level of log messages"),
                )
            })
        });
        Ok(Self {
            id,
            call: call.clone(),
            declared,
            capabilities: Capabilities::read(declared),
            level: level.transpose()?,
            given: headers.and_then(|headers| headers.given.cloned()),
        })
    }

    /// True for the methods whose answer may be a question to the client.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        may_ask(&self.call.method)
    }

    /// A parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<JsonValue<'m>> {
        self.call.params?.member(name)
    }

    /// Returns the capabilities of the client that a server with sessions is told of, as JSON.
    #[must_use]
    pub fn told(&self) -> String {
        let mut json = Json::new();
        json.raw("{");
        for name in ["sampling", "elicitation", "roots"] {
            let declared = self.declared.member(name);
            if let Some(value) = declared.filter(|value| value.get().starts_with('{')) {
                super::put(&mut json, name, value.get());
            }
        }
        json.raw("}");
        json.finish()
    }
}

/// True for the methods whose answer may be a question to the client.
pub(super) fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Holds a header against what the body says.
fn agrees(name: &str, header: Option<&str>, body: &str) -> Result<(), Refusal> {
    let mismatch = |message: String| Err(Refusal::new(Reason::HeaderMismatch, message));
    match header.map(|header| header_text::decode(header.trim())) {
        None => mismatch(format!("the header {name} is missing")),
        Some(None) => mismatch(format!("the header {name} is no base64 of UTF-8")),
        Some(Some(value)) if value != body => mismatch(format!(
            "the header {name} says something else than the body"
        )),
        Some(Some(_)) => Ok(()),
    }
}
