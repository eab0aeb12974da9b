//! Bodies of requests: one JSON object, whose fields are taken one by one.

use super::failure::{Failure, quoted};
use crate::refusal::{Reason, Refusal};
use crate::revision::Revision;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::fmt;
use mcp_local_provider_core::text::JsonValue;

/// Characters that a `client_id` may have.
const CLIENT_ID: usize = 128;
/// Bytes that `metadata` may have, which is kept for as long as the session.
const METADATA: usize = 16 << 10;

/// A body that is a JSON object. A field that is `null` is absent.
#[derive(Clone, Copy)]
pub struct Body<'b>(JsonValue<'b>);

impl fmt::Debug for Body<'_> {
    /// Without what a client wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.get().len())
    }
}

/// Addressees of a request.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// The server of a session, by the session's id.
    Session(String),
    /// A server by its name, with whatever process serves such requests.
    Server(String),
}

impl fmt::Debug for Target {
    /// Without the id of the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(_) => f.write_str("Session"),
            Self::Server(name) => write!(f, "Server({name})"),
        }
    }
}

impl Target {
    /// The first member of the answer: who was asked.
    pub(super) fn member(&self) -> String {
        match self {
            Self::Session(id) => format!("\"session_id\":{}", quoted(id)),
            Self::Server(name) => format!("\"server\":{}", quoted(name)),
        }
    }
}

/// The body of `POST /sessions`.
pub struct Opening<'b> {
    /// Name of the client, by which its sessions are counted.
    pub client_id: Cow<'b, str>,
    /// Name of the server; `None` for the only one.
    pub server: Option<Cow<'b, str>>,
    /// Notes of the client on the session, as JSON.
    pub metadata: Option<&'b str>,
    /// Parameters of `initialize`, as JSON.
    pub hello: String,
}

impl fmt::Debug for Opening<'_> {
    /// Without what the client notes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl<'b> Body<'b> {
    /// Reads a body.
    ///
    /// # Errors
    /// It is not UTF-8, not JSON, or no object.
    pub fn read(body: &'b [u8]) -> Result<Self, Failure> {
        let text = core::str::from_utf8(body)
            .map_err(|_| Failure::wrong("the body is not UTF-8", None))?;
        let value = JsonValue::read(text).ok_or_else(|| {
            Failure::from(Refusal::new(
                Reason::NotJson,
                "the body is not JSON; send an object",
            ))
        })?;
        if !value.get().starts_with('{') {
            return Err(Failure::wrong("the body must be a JSON object", None));
        }
        Ok(Self(value))
    }

    /// The whole of it, as JSON.
    #[must_use]
    pub const fn get(self) -> &'b str {
        self.0.get()
    }

    fn field(self, name: &str) -> Option<JsonValue<'b>> {
        self.0.member(name).filter(|value| !value.is_null())
    }

    /// A text that may be absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(self, name: &'static str) -> Result<Option<Cow<'b, str>>, Failure> {
        let Some(value) = self.field(name) else {
            return Ok(None);
        };
        let text = value.text();
        let wrong = || Failure::wrong(format!("the field `{name}` must be a string"), Some(name));
        text.map(Some).ok_or_else(wrong)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// It is missing, or something else.
    pub fn needed(self, name: &'static str) -> Result<Cow<'b, str>, Failure> {
        self.text(name)?.ok_or_else(|| Failure::missing(name))
    }

    /// An object that may be absent, as JSON.
    ///
    /// # Errors
    /// It is something else.
    pub fn object(self, name: &'static str) -> Result<Option<&'b str>, Failure> {
        match self.field(name).map(JsonValue::get) {
            Some(object) if !object.starts_with('{') => {
                let message = format!("the field `{name}` must be an object");
                Err(Failure::wrong(message, Some(name)))
            }
            object => Ok(object),
        }
    }

    /// Addressee of the request: `session_id`, or `server` in its place.
    ///
    /// # Errors
    /// Neither is there, or both are.
    pub fn target(self) -> Result<Target, Failure> {
        match (self.text("session_id")?, self.text("server")?) {
            (Some(id), None) => Ok(Target::Session(id.into_owned())),
            (None, Some(name)) => Ok(Target::Server(name.into_owned())),
            (None, None) => Err(Failure::wrong(
                "the field `session_id` is missing, or `server` in its place",
                Some("session_id"),
            )),
            (Some(_), Some(_)) => Err(Failure::wrong(
                "`session_id` says which server is asked; leave `server` out",
                Some("server"),
            )),
        }
    }

    /// Reads it as the body of `POST /sessions`.
    ///
    /// # Errors
    /// `client_id` is missing, or a field is wrong.
    pub fn opening(self) -> Result<Opening<'b>, Failure> {
        let client_id = self.needed("client_id")?;
        if client_id.is_empty() || client_id.chars().count() > CLIENT_ID {
            let message = format!("`client_id` must have 1 to {CLIENT_ID} characters");
            return Err(Failure::wrong(message, Some("client_id")));
        }
        let metadata = self.object("metadata")?;
        if metadata.is_some_and(|metadata| metadata.len() > METADATA) {
            let message = format!("`metadata` may have {METADATA} bytes");
            return Err(Failure::wrong(message, Some("metadata")));
        }
        let info = match self.object("client_info")? {
            Some(info) => {
                let named = JsonValue::read(info).is_some_and(|info| {
                    ["name", "version"]
                        .iter()
                        .all(|name| info.member(name).and_then(JsonValue::text).is_some())
                });
                if !named {
                    return Err(Failure::wrong(
                        "`client_info` needs `name` and `version`, which are strings",
                        Some("client_info"),
                    ));
                }
                Cow::Borrowed(info)
            }
            None => Cow::Owned(format!(
                "{{\"name\":{},\"version\":\"unknown\"}}",
                quoted(&client_id)
            )),
        };
        let capabilities = self.object("capabilities")?.unwrap_or("{}");
        Ok(Opening {
            server: self.text("server")?,
            hello: hello(capabilities, &info),
            metadata,
            client_id,
        })
    }
}

/// Parameters of `initialize`.
fn hello(capabilities: &str, info: &str) -> String {
    let revision = Revision::V2025_11_25.as_str();
    format!(
        "{{\"protocolVersion\":\"{revision}\",\"capabilities\":{capabilities},\"clientInfo\":{info}}}"
    )
}

/// Parameters of the `initialize` by which the program itself greets a server, for requests without a session.
#[must_use]
pub fn own_hello() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let info = format!("{{\"name\":\"mcp-local-provider\",\"version\":\"{version}\"}}");
    hello("{}", &info)
}
