//! The server that a client sees: its greeting, its one tool, and the answers that need no wait.

use super::{Spoken, TOOL};
use crate::envelope::CLIENT;
use crate::refusal::{Reason, Refusal};
use crate::revision::Revision;
use crate::stateless::several::OWN;
use crate::stateless::{Capabilities, Wanted, raise};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use mcp_local_provider_core::rpc::{Call, Json};
use mcp_local_provider_core::text::JsonValue;

/// Time for which a call of the tool is open unless it says another one. The official packages end a request after 60 s by default.
const USUAL: u64 = 50;

/// Longest time for which a call may be open, in seconds.
const LONGEST: u64 = 3600;

/// Instructions to the model behind a client, in the answer to `initialize` and `server/discover`.
const INSTRUCTIONS: &str = "This server has no tools for your own work. It asks you: call `serve`, and requests of other programs come to this \
    client as sampling/createMessage until the call ends. Call it again at once to go on.";

/// Reasons for which a call of the tool ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// Its time is over, or it has had as many rounds as clients allow.
    Again,
    /// The program is about to end.
    Draining,
    /// The session has ended: an operator has ended it, it has expired, or its key is gone.
    Ended,
}

impl Last {
    const fn text(self) -> &'static str {
        match self {
            Self::Again => "This call has ended. Call `serve` again at once to go on answering.",
            Self::Draining => {
                "The program is about to end and asks nothing more. Call `serve` again once it is back."
            }
            Self::Ended => {
                "The session of this client has ended: it was revoked, it has expired, or its key is gone."
            }
        }
    }
}

/// A client's statements about itself.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'m> {
    /// Its protocol.
    pub spoken: Spoken,
    /// Its capabilities.
    pub capabilities: Option<JsonValue<'m>>,
    /// `clientInfo`.
    info: Option<JsonValue<'m>>,
}

impl<'m> Hello<'m> {
    /// Reads the parameters of `initialize`.
    ///
    /// # Errors
    /// There are none, or the client cannot be asked.
    pub fn initialize(call: &Call<'m>) -> Result<Self, Refusal> {
        let params = call.params.filter(|params| params.get().starts_with('{'));
        let params = params.ok_or_else(|| {
            let message = "`initialize` needs an object as `params`";
            Refusal::new(Reason::BadParams, message)
        })?;
        let asked = params.member("protocolVersion").and_then(JsonValue::text);
        let revision = asked.and_then(|asked| Revision::named(&asked));
        let hello = Self {
            spoken: Spoken::Sessions(revision.unwrap_or(Revision::NEWEST)),
            capabilities: params.member("capabilities"),
            info: params.member("clientInfo"),
        };
        hello
            .can_be_asked()
            .map_err(|message| Refusal::new(Reason::BadParams, message))?;
        Ok(hello)
    }

    /// Reads a request of revision 2026-07-28 that calls the tool.
    ///
    /// # Errors
    /// The client cannot be asked.
    pub fn stateless(wanted: &Wanted<'m>) -> Result<Self, Refusal> {
        let hello = Self {
            spoken: Spoken::Stateless,
            capabilities: Some(wanted.declared),
            info: wanted.call.meta.and_then(|meta| meta.member(CLIENT)),
        };
        hello.can_be_asked().map_err(|message| {
            let details = "\"requiredCapabilities\":{\"sampling\":{}}";
            Refusal::new(Reason::MissingCapability, message).detailed(details.into())
        })?;
        Ok(hello)
    }

    fn can_be_asked(&self) -> Result<(), &'static str> {
        let declared = self.capabilities.map(Capabilities::read);
        match declared.is_some_and(|declared| declared.sampling) {
            true => Ok(()),
            false => Err(
                "a client answers as a model here: it must declare the capability `sampling`, by which it is asked",
            ),
        }
    }

    /// Returns the name by which the client calls itself; empty where it has none.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.info.and_then(|info| info.member("name")?.text());
        name.unwrap_or_default().into_owned()
    }

    /// Returns the answer to its `initialize`.
    #[must_use]
    pub fn greeting(&self, id: JsonValue<'_>) -> String {
        result(id, &greeting(self.spoken))
    }
}

/// The result of `initialize`.
fn greeting(spoken: Spoken) -> String {
    let revision = match spoken {
        Spoken::Sessions(revision) => revision,
        Spoken::Stateless => Revision::NEWEST,
    };
    let mut json = Json::new();
    json.raw("{");
    json.member("protocolVersion").string(revision.as_str());
    json.member("capabilities").raw("{\"tools\":{}}");
    json.member("serverInfo").raw(OWN);
    json.member("instructions").string(INSTRUCTIONS);
    json.raw("}");
    json.finish()
}

/// Requests of a client, by what becomes of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// This answers it.
    Answer(String),
    /// It calls the tool, which is to be open for so long.
    Serve(Duration),
}

/// Reads a request in a session, but for `initialize`.
#[must_use]
pub fn in_session(id: JsonValue<'_>, call: &Call<'_>) -> Asked {
    match &*call.method {
        "ping" => Asked::Answer(result(id, "{}")),
        "tools/list" => Asked::Answer(result(id, &tools())),
        "tools/call" => match seconds(call.params) {
            Ok(Ok(time)) => Asked::Serve(time),
            Ok(Err(wrong)) => Asked::Answer(result(id, &said(&wrong, true))),
            Err(refusal) => Asked::Answer(refusal.answer(id.get())),
        },
        method => Asked::Answer(unknown(method).answer(id.get())),
    }
}

/// Reads a request of revision 2026-07-28.
///
/// # Errors
/// There is no such method or tool.
pub fn without_session(wanted: &Wanted<'_>) -> Result<Asked, Refusal> {
    let answer = |value: &str| {
        let value = JsonValue::read(value);
        let (id, method) = (wanted.id.get(), &wanted.call.method);
        Asked::Answer(raise::result(id, value, method, Some(OWN)))
    };
    match &*wanted.call.method {
        "server/discover" => Ok(Asked::Answer(raise::discovered(
            wanted.id.get(),
            &greeting(Spoken::Stateless),
        ))),
        "tools/list" => Ok(answer(&tools())),
        "tools/call" => Ok(match seconds(wanted.call.params)? {
            Ok(time) => Asked::Serve(time),
            Err(wrong) => answer(&said(&wrong, true)),
        }),
        method => Err(unknown(method)),
    }
}

/// The end of a call of the tool.
pub(super) fn last(spoken: Spoken, id: &str, why: Last) -> String {
    let value = said(why.text(), why == Last::Ended);
    match (spoken, JsonValue::read(id)) {
        (Spoken::Sessions(_), Some(id)) => result(id, &value),
        (Spoken::Sessions(_), None) | (Spoken::Stateless, _) => {
            raise::result(id, JsonValue::read(&value), "tools/call", Some(OWN))
        }
    }
}

fn result(id: JsonValue<'_>, value: &str) -> String {
    let mut text = Json::result(id, value);
    // It is no line.
    text.truncate(text.trim_end().len());
    text
}

fn unknown(method: &str) -> Refusal {
    let message = format!("there is no `{method}` here; this server has the tool `{TOOL}` alone");
    Refusal::new(Reason::MethodNotFound, message)
}

/// The result of a tool that says something.
fn said(text: &str, is_error: bool) -> String {
    let mut json = Json::new();
    json.raw("{\"content\":[{\"type\":\"text\",\"text\":");
    json.string(text);
    json.raw("}]");
    if is_error {
        json.raw(",\"isError\":true");
    }
    json.raw("}");
    json.finish()
}

fn tools() -> String {
    let mut json = Json::new();
    json.raw("{\"tools\":[{\"name\":");
    json.string(TOOL);
    json.member("title").string("Answer as a model");
    json.member("description").string(
        "Answers requests of other programs as their model. While the call is open, each request comes to this client as \
         sampling/createMessage. The call ends by itself; call the tool again at once to go on.",
    );
    json.member("inputSchema");
    json.raw(&format!(
        "{{\"type\":\"object\",\"properties\":{{\"seconds\":{{\"type\":\"integer\",\"minimum\":1,\"maximum\":{LONGEST},\"default\":{USUAL},\
         \"description\":\"Time for which the call is open. It must be shorter than the client's own timeout of a tool.\"}}}},\
         \"additionalProperties\":false}}"
    ));
    json.raw("}]}");
    json.finish()
}

/// The time for which a call is to be open, or what is wrong with its arguments.
fn seconds(params: Option<JsonValue<'_>>) -> Result<Result<Duration, String>, Refusal> {
    let name = params.and_then(|params| params.member("name")?.text());
    if name.as_deref() != Some(TOOL) {
        let message = format!("there is no such tool; this server has `{TOOL}` alone");
        return Err(Refusal::new(Reason::ToolNotFound, message));
    }
    let arguments = params.and_then(|params| params.member("arguments"));
    let members = arguments.map(JsonValue::members).unwrap_or_default();
    let mut time = USUAL;
    for (name, value) in members {
        let seconds = value
            .whole()
            .filter(|seconds| (1..=LONGEST).contains(seconds));
        match seconds.filter(|_| name.is("seconds")) {
            Some(seconds) => time = seconds,
            None if name.is("seconds") => {
                return Ok(Err(format!(
                    "seconds: expected a whole number from 1 to {LONGEST}"
                )));
            }
            None => {
                let name = name.decode();
                return Ok(Err(format!(
                    "{name}: there is no such argument; `seconds` is the only one"
                )));
            }
        }
    }
    Ok(Ok(Duration::from_secs(time)))
}
