//! The registry as an MCP server of revisions 2024-11-05 to 2025-11-25: it stands in the place of a child of the gateway, which
//! translates for clients of the revision without sessions.

mod call;

pub use call::Asked;

use crate::failure::Failure;
use crate::json::{ObjectWriter, array, quoted, to_value};
use crate::registry::entry::{Definition, Entry};
use crate::registry::{News, Registry, SubscriberId};
use crate::run::{PromptRun, ToolRun, Work};
use crate::store::Kind;
use call::Method;
use mcp_local_provider_core::rpc::{
    Call, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Message, one_line,
};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::revision::Revision;
use serde_json::{Map, Value};

/// Entries of one page.
const PAGE: usize = 100;
/// `Resource not found`.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// Outcome of a message at once.
#[derive(Debug)]
pub enum Served {
    /// Nothing: it wants no answer.
    Nothing,
    /// This message, which is one line.
    Answer(String),
    /// A run: drive it to its end, which gives the message.
    Run(Work, Asked),
    /// The run for the request of this id, which is JSON, is not wanted any more, and is not answered.
    Cancel(String),
}

/// An error of JSON-RPC.
pub(crate) struct Wrong {
    code: i64,
    message: String,
    data: Option<String>,
}

impl Wrong {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// A failure of a registry's own request.
    fn of(failure: &Failure) -> Self {
        let code = match failure.status {
            400 | 404 | 409 => INVALID_PARAMS,
            _ => INTERNAL_ERROR,
        };
        let mut data = ObjectWriter::new();
        data.maybe("reason", failure.reason);
        data.maybe("param", failure.param.as_deref());
        Self {
            data: Some(data.finish()),
            ..Self::new(code, failure.message.clone())
        }
    }

    fn resource(uri: &str) -> Self {
        let uri = quoted(uri);
        Self {
            data: Some(format!("{{\"uri\":{uri}}}")),
            ..Self::new(RESOURCE_NOT_FOUND, format!("there is no resource {uri}"))
        }
    }

    /// The message that answers a request.
    fn answer(&self, id: &str) -> String {
        let mut error = ObjectWriter::new();
        error
            .plain("code", self.code)
            .text("message", &self.message);
        if let Some(data) = &self.data {
            error.json("data", data);
        }
        let error = error.finish();
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}")
    }
}

/// The message that answers a request with a result.
fn result(id: &str, result: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}")
}

/// A notification.
fn notification(method: &str, params: Option<&str>) -> String {
    let mut message = ObjectWriter::new();
    message.text("jsonrpc", "2.0").text("method", method);
    if let Some(params) = params {
        message.json("params", params);
    }
    message.finish()
}

impl News {
    /// The notifications that tell it.
    #[must_use]
    pub fn notifications(&self) -> Vec<String> {
        let lists = [
            (self.lists.tools, "notifications/tools/list_changed"),
            (self.lists.resources, "notifications/resources/list_changed"),
            (self.lists.prompts, "notifications/prompts/list_changed"),
        ];
        let lists = lists.into_iter().filter(|(touched, _)| *touched);
        let lists = lists.map(|(_, method)| notification(method, None));
        let updated = self.updated.iter().map(|updated| {
            let params = format!("{{\"uri\":{}}}", quoted(&updated.uri));
            notification("notifications/resources/updated", Some(&params))
        });
        lists.chain(updated).collect()
    }
}

/// Outcome of a request at once.
enum Done {
    Result(String),
    Run(Work, Method),
}

impl Registry {
    /// Handles a message of a client. `subscriber` is who hears of the resources that it subscribes to.
    pub fn serve(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        subscriber: SubscriberId,
    ) -> Served {
        let (id, call) = match message {
            Message::Request { id, call } => (one_line(id.get()).to_string(), call),
            Message::Notification(call) if call.method == "notifications/cancelled" => {
                let id = call.params.and_then(|params| params.member("requestId"));
                return id.map_or(Served::Nothing, |id| {
                    Served::Cancel(one_line(id.get()).to_string())
                });
            }
            Message::Notification(_) | Message::Response { .. } => return Served::Nothing,
        };
        match self.request(now, call, subscriber) {
            Ok(Done::Result(json)) => Served::Answer(result(&id, &json)),
            Ok(Done::Run(work, method)) => Served::Run(work, Asked::new(method, id)),
            Err(wrong) => Served::Answer(wrong.answer(&id)),
        }
    }

    fn request(
        &mut self,
        now: Instant,
        call: &Call<'_>,
        subscriber: SubscriberId,
    ) -> Result<Done, Wrong> {
        let params = Params(call.params);
        Ok(match &*call.method {
            "initialize" => Done::Result(greeting(params)),
            "ping" => Done::Result("{}".to_owned()),
            "tools/list" => Done::Result(self.listed(Kind::Tool, "tools", params)?),
            "resources/list" => Done::Result(self.listed(Kind::Resource, "resources", params)?),
            "resources/templates/list" => {
                Done::Result(self.listed(Kind::ResourceTemplate, "resourceTemplates", params)?)
            }
            "prompts/list" => Done::Result(self.listed(Kind::Prompt, "prompts", params)?),
            "tools/call" => self.call_tool(params)?,
            "resources/read" => {
                let uri = self.known(params)?;
                Done::Run(Work::read(uri.clone()), Method::Resource(uri))
            }
            "resources/subscribe" => {
                let subscribed = self.subscribe(now, &self.known(params)?, subscriber);
                subscribed.map_err(|failure| Wrong::of(&failure))?;
                Done::Result("{}".to_owned())
            }
            "resources/unsubscribe" => {
                self.unsubscribe(&params.text("uri")?, subscriber);
                Done::Result("{}".to_owned())
            }
            "prompts/get" => self.get_prompt(params)?,
            "completion/complete" => self.complete_argument(params)?,
            other => {
                let message = format!("the registry has no method {}", quoted(other));
                return Err(Wrong::new(METHOD_NOT_FOUND, message));
            }
        })
    }

    /// One page of a list; tools that are off are not on it.
    fn listed(&self, kind: Kind, name: &str, params: Params<'_>) -> Result<String, Wrong> {
        let cursor = params.maybe("cursor")?;
        let listed = |entry: &Entry| match &entry.definition {
            Definition::Tool(tool) => tool.enabled.then(|| tool.listed.clone()),
            Definition::Resource(resource) => Some(resource.listed.clone()),
            Definition::Prompt(prompt) => Some(prompt.listed.clone()),
            Definition::Integration(_) => None,
        };
        let page = self.page(kind, PAGE, cursor.as_deref(), listed);
        let page = page.map_err(|failure| Wrong::of(&failure))?;
        let mut result = ObjectWriter::new();
        result.json(name, &array(&page.items));
        result.maybe("nextCursor", page.next.as_deref());
        Ok(result.finish())
    }

    /// The URI of the parameters, which something has.
    fn known(&self, params: Params<'_>) -> Result<String, Wrong> {
        let uri = params.text("uri")?;
        match self.resource(&uri) {
            Some(_) => Ok(uri),
            None => Err(Wrong::resource(&uri)),
        }
    }

    fn call_tool(&self, params: Params<'_>) -> Result<Done, Wrong> {
        let name = params.text("name")?;
        let set = self.tool_set(&name).ok().filter(|set| set.root.enabled);
        let set = set.ok_or_else(|| {
            let message = format!("Unknown tool: {}", quoted(&name));
            Wrong::new(INVALID_PARAMS, message)
        })?;
        let arguments = params.object("arguments")?;
        // What is wrong with arguments is the model's to mend: it reads results, and no errors.
        match ToolRun::new(set, Value::Object(arguments), None, 0) {
            Ok(run) => Ok(Done::Run(Work::tool(run), Method::Tool)),
            Err(failure) => Ok(Done::Result(call::failed(failure))),
        }
    }

    fn get_prompt(&self, params: Params<'_>) -> Result<Done, Wrong> {
        let prompt = self.prompt(&params.text("name")?);
        let prompt = prompt.map_err(|failure| Wrong::of(&failure))?;
        let arguments = params.object("arguments")?;
        let scope = prompt.scope(Some(&arguments), true);
        let run = scope.and_then(|scope| PromptRun::new(prompt, scope, Vec::new()));
        let run = run.map_err(|failure| Wrong::of(&failure))?;
        Ok(Done::Run(Work::prompt(run), Method::Prompt))
    }

    fn complete_argument(&self, params: Params<'_>) -> Result<Done, Wrong> {
        let wrong = |what: &str| {
            let message = format!("`{what}` is missing, or has the wrong type");
            Wrong::new(INVALID_PARAMS, message)
        };
        let member = |path: &[&str]| params.0.and_then(|it| it.path(path)?.text());
        let kind = member(&["ref", "type"]).ok_or_else(|| wrong("ref.type"))?;
        let name = member(&["argument", "name"]).ok_or_else(|| wrong("argument.name"))?;
        let value = member(&["argument", "value"]).ok_or_else(|| wrong("argument.value"))?;
        match &*kind {
            "ref/prompt" => {}
            "ref/resource" => {
                let uri = member(&["ref", "uri"]).ok_or_else(|| wrong("ref.uri"))?;
                return match self.find(Kind::Resource, &uri) {
                    Ok(_) => Ok(Done::Result(crate::run::Values::default().mcp())),
                    Err(_) => Err(Wrong::resource(&uri)),
                };
            }
            _ => return Err(wrong("ref.type")),
        }
        let prompt = member(&["ref", "name"]).ok_or_else(|| wrong("ref.name"))?;
        let context = params.0.and_then(|it| it.path(&["context", "arguments"]));
        let completed = self
            .prompt(&prompt)
            .and_then(|prompt| self.completed(&prompt, &name, &value, context));
        match completed.map_err(|failure| Wrong::of(&failure))? {
            Ok(values) => Ok(Done::Result(values.mcp())),
            Err(work) => Ok(Done::Run(work, Method::Values)),
        }
    }
}

/// The result of `initialize`.
fn greeting(params: Params<'_>) -> String {
    let asked = params.maybe("protocolVersion").ok().flatten();
    let revision = asked.and_then(|it| Revision::named(&it));
    let revision = revision.unwrap_or(Revision::NEWEST).as_str();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{{\"protocolVersion\":\"{revision}\",\"capabilities\":{{\"tools\":{{\"listChanged\":true}},\"resources\":{{\"subscribe\":true,\"listChanged\":true}},\"prompts\":{{\"listChanged\":true}},\"completions\":{{}}}},\"serverInfo\":{{\"name\":\"registry\",\"title\":\"MCP Local Provider registry\",\"version\":\"{version}\"}}}}"
    )
}

/// Parameters of a request.
#[derive(Clone, Copy)]
struct Params<'t>(Option<JsonValue<'t>>);

impl Params<'_> {
    fn maybe(self, name: &str) -> Result<Option<String>, Wrong> {
        let value = self.0.and_then(|it| it.member(name));
        let Some(value) = value.filter(|it| !it.is_null()) else {
            return Ok(None);
        };
        let text = value.text().map(std::borrow::Cow::into_owned);
        let wrong = || Wrong::new(INVALID_PARAMS, format!("`{name}` must be a string"));
        text.map(Some).ok_or_else(wrong)
    }

    fn text(self, name: &str) -> Result<String, Wrong> {
        let missing = || Wrong::new(INVALID_PARAMS, format!("`{name}` is missing"));
        self.maybe(name)?.ok_or_else(missing)
    }

    /// An object, empty when it is absent.
    fn object(self, name: &str) -> Result<Map<String, Value>, Wrong> {
        let value = self.0.and_then(|it| it.member(name));
        let Some(value) = value.filter(|it| !it.is_null()) else {
            return Ok(Map::new());
        };
        let value = to_value(value, name).map_err(|failure| Wrong::of(&failure))?;
        match value {
            Value::Object(object) => Ok(object),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                let message = format!("`{name}` must be an object");
                Err(Wrong::new(INVALID_PARAMS, message))
            }
        }
    }
}

#[cfg(test)]
mod tests;
