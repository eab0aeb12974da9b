//! The places in messages of servers where a URI or the id of a task stands.

use super::edits::Edits;
use super::kinds::Kind;
use super::uris::UriPrefix;
use mcp_local_provider_core::rpc::RpcError;
use mcp_local_provider_core::text::JsonValue;

/// Member of `_meta` that says to which task a message belongs.
pub(super) const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// Members of a tool's `_meta` whose value is the URI of its user interface, beside `ui.resourceUri`.
const INTERFACES: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// The requests whose answers have names or URIs in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A list.
    List(Kind),
    /// `tools/call`, or the result of a task.
    Tool,
    /// `prompts/get`.
    Prompt,
    /// `resources/read`.
    Resource,
    /// `tasks/get` or `tasks/cancel`.
    Task,
    /// Any other.
    Other,
}

impl Asked {
    /// Finds it by the method.
    #[must_use]
    pub fn by(method: &str) -> Self {
        match method {
            "tools/call" | "tasks/result" => Self::Tool,
            "prompts/get" => Self::Prompt,
            "resources/read" => Self::Resource,
            "tasks/get" | "tasks/cancel" => Self::Task,
            other => Kind::listed_by(other).map_or(Self::Other, Self::List),
        }
    }
}

/// Puts a prefix where URIs stand.
pub(super) struct Places<'p, 'e, 't> {
    pub(super) prefix: &'p UriPrefix,
    pub(super) edits: &'e mut Edits<'t>,
}

impl<'t> Places<'_, '_, 't> {
    fn put(&mut self, uri: Option<JsonValue<'t>>) {
        if let Some(uri) = uri
            && let Some(new) = self.prefix.put(uri)
        {
            self.edits.put(uri, new);
        }
    }

    /// The outcome of a request, but for the elements of a list.
    pub(super) fn outcome(
        &mut self,
        asked: Asked,
        outcome: &Result<Option<JsonValue<'t>>, RpcError<'t>>,
    ) {
        let result = match outcome {
            Ok(Some(result)) => *result,
            Ok(None) => return,
            Err(error) => return self.put(error.data.and_then(|data| data.member("uri"))),
        };
        self.meta(result);
        match asked {
            Asked::Tool => {
                self.put(result.path(&["task", "taskId"]));
                self.contents(result.member("content"));
            }
            Asked::Prompt => {
                let messages = result.member("messages");
                for message in messages.into_iter().flat_map(JsonValue::elements) {
                    self.contents(message.member("content"));
                }
            }
            Asked::Resource => {
                let contents = result.member("contents");
                for resource in contents.into_iter().flat_map(JsonValue::elements) {
                    self.put(resource.member("uri"));
                }
            }
            Asked::Task => self.put(result.member("taskId")),
            Asked::List(_) | Asked::Other => {}
        }
    }

    /// A request or notification.
    pub(super) fn call(&mut self, method: &str, params: JsonValue<'t>) {
        match method {
            "notifications/resources/updated" => self.put(params.member("uri")),
            "notifications/tasks/status" => self.put(params.member("taskId")),
            _ => {}
        }
        self.meta(params);
    }

    /// An element of a list, but for its name.
    pub(super) fn element(&mut self, kind: Kind, element: JsonValue<'t>) {
        match kind {
            Kind::Tools => self.meta(element),
            Kind::Prompts => {}
            Kind::Resources => {
                self.put(element.member("uri"));
                self.meta(element);
            }
            Kind::Templates => {
                self.put(element.member("uriTemplate"));
                self.meta(element);
            }
            Kind::Tasks => self.put(element.member("taskId")),
        }
    }

    /// One piece of content, or an array of them.
    fn contents(&mut self, content: Option<JsonValue<'t>>) {
        let Some(content) = content else { return };
        if content.get().starts_with('[') {
            content
                .elements()
                .into_iter()
                .for_each(|one| self.content(one));
        } else {
            self.content(content);
        }
    }

    fn content(&mut self, content: JsonValue<'t>) {
        let Some(form) = content.member("type").and_then(JsonValue::as_str) else {
            return;
        };
        if form.is("resource_link") {
            self.put(content.member("uri"));
        } else if form.is("resource") {
            self.put(content.path(&["resource", "uri"]));
        }
    }

    fn meta(&mut self, of: JsonValue<'t>) {
        let Some(meta) = of.member("_meta") else {
            return;
        };
        self.put(meta.path(&["ui", "resourceUri"]));
        for name in INTERFACES {
            self.put(meta.member(name));
        }
        self.put(meta.path(&[RELATED_TASK, "taskId"]));
    }
}
