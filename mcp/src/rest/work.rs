//! Work of one request of REST: JSON-RPC requests to a server, one after another, and the answer that is made of the results.

use super::bare::bare;
use super::body::{Body, Target};
use super::failure::{Failure, quoted, result};
use super::list::List;
use super::named::Named;
use super::pages;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// `Content-Type` of JSON.
const JSON: &str = "application/json";
/// `Content-Type` of a page.
const HTML: &str = "text/html; charset=utf-8";

/// An answer with status 200.
pub struct Done {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Done {
    /// Without the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({}, {} bytes)", self.content_type, self.body.len())
    }
}

/// Kinds of work, each with what its answer is made of.
enum Task {
    /// One request, whose result is told as it is.
    Call {
        method: &'static str,
        params: String,
        /// Member of the answer that says what was asked.
        about: String,
        told: Told,
        /// The name that the server may not have.
        named: Option<Box<Named>>,
    },
    /// All pages of lists.
    Lists {
        lists: Vec<List>,
        /// The list that is being read.
        at: usize,
        /// Bytes of items that may still come.
        room: usize,
        shown: Shown,
    },
}

/// Parts of a result that the answer tells.
enum Told {
    /// The result.
    Result(JsonText),
    /// The result of a tool alone.
    Bare(JsonText),
    /// The result does not matter: the resource is subscribed to now, or not.
    Subscribed(bool, Asked),
}

/// Places of a resource's URI in a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The body, which names the session too. The answer names both.
    ByBody,
    /// The path. The answer names the resource alone.
    ByPath,
}

const fn subscribe_method(subscribed: bool) -> &'static str {
    if subscribed {
        "resources/subscribe"
    } else {
        "resources/unsubscribe"
    }
}

/// Forms of lists that are whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As the server gave them.
    Lists,
    /// An OpenAPI document.
    Description,
    /// A page for people.
    Page,
}

/// JSON that is there once the server has answered.
type JsonText = Option<Box<str>>;

/// One request of REST at work. Ask [`Work::request`], give each answer to [`Work::take`] until that has one.
pub struct Work {
    target: Target,
    task: Task,
}

impl fmt::Debug for Work {
    /// Without what is asked and told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Work {
    fn call(
        target: Target,
        method: &'static str,
        params: String,
        about: String,
        named: Option<Named>,
    ) -> Self {
        let told = Told::Result(None);
        let task = Task::Call {
            method,
            params,
            about,
            told,
            named: named.map(Box::new),
        };
        Self { target, task }
    }

    fn lists(target: Target, lists: Vec<List>, most: usize) -> Self {
        let task = Task::Lists {
            lists,
            at: 0,
            room: most,
            shown: Shown::Lists,
        };
        Self { target, task }
    }

    fn tools_of(server: &str, most: usize, shown: Shown) -> Self {
        let tools = List::new("tools/list", "tools", "tools").or_none();
        let task = Task::Lists {
            lists: [tools].into(),
            at: 0,
            room: most,
            shown,
        };
        let target = Target::Server(server.into());
        Self { target, task }
    }

    /// `GET /servers/{server}/openapi.json`: each tool as an operation, in OpenAPI 3.1. The tools may have `most` bytes in all.
    #[must_use]
    pub fn description(server: &str, most: usize) -> Self {
        Self::tools_of(server, most, Shown::Description)
    }

    /// `GET /servers/{server}/docs`: the same as a page for people.
    #[must_use]
    pub fn page(server: &str, most: usize) -> Self {
        Self::tools_of(server, most, Shown::Page)
    }

    /// `POST /servers/{server}/tools/{tool}`, whose body are the arguments; an empty one is none of them. The list of tools may have
    /// `most` bytes, as with the next ones that name something.
    ///
    /// # Errors
    /// The body is no JSON object.
    pub fn tool(server: &str, tool: &str, body: &[u8], most: usize) -> Result<Self, Failure> {
        let arguments = if body.trim_ascii().is_empty() {
            "{}"
        } else {
            Body::read(body)?.get()
        };
        let quoted = quoted(tool);
        let task = Task::Call {
            method: "tools/call",
            params: format!("{{\"name\":{quoted},\"arguments\":{arguments}}}"),
            about: String::new(),
            told: Told::Bare(None),
            named: Some(Box::new(Named::tool(tool.into(), most))),
        };
        let target = Target::Server(server.into());
        Ok(Self { target, task })
    }

    /// `POST /tools/discover`. Its lists may have `most` bytes in all, as those of the next two.
    ///
    /// # Errors
    /// A field is missing or wrong, as with all that read a body.
    pub fn tools(body: Body<'_>, most: usize) -> Result<Self, Failure> {
        let lists = [List::new("tools/list", "tools", "tools")];
        Ok(Self::lists(body.target()?, lists.into(), most))
    }

    /// `POST /resources/discover`.
    ///
    /// # Errors
    /// A field is missing or wrong.
    pub fn resources(body: Body<'_>, most: usize) -> Result<Self, Failure> {
        let templates = List::new(
            "resources/templates/list",
            "resourceTemplates",
            "resource_templates",
        );
        let templates = templates.or_none();
        let resources = List::new("resources/list", "resources", "resources");
        Ok(Self::lists(
            body.target()?,
            [resources, templates].into(),
            most,
        ))
    }

    /// `POST /prompts/discover`.
    ///
    /// # Errors
    /// A field is missing or wrong.
    pub fn prompts(body: Body<'_>, most: usize) -> Result<Self, Failure> {
        let lists = [List::new("prompts/list", "prompts", "prompts")];
        Ok(Self::lists(body.target()?, lists.into(), most))
    }

    /// `POST /tools/call`.
    ///
    /// # Errors
    /// A field is missing or wrong.
    pub fn call_tool(body: Body<'_>, most: usize) -> Result<Self, Failure> {
        let target = body.target()?;
        let name = body.needed("tool")?;
        let tool = quoted(&name);
        let arguments = body.object("params")?.unwrap_or("{}");
        let params = format!("{{\"name\":{tool},\"arguments\":{arguments}}}");
        let about = format!("\"tool\":{tool}");
        let named = Named::tool(name.into_owned(), most);
        Ok(Self::call(target, "tools/call", params, about, Some(named)))
    }

    /// `POST /prompts/get`.
    ///
    /// # Errors
    /// A field is missing or wrong.
    pub fn get_prompt(body: Body<'_>, most: usize) -> Result<Self, Failure> {
        let target = body.target()?;
        let name = body.needed("prompt")?;
        let prompt = quoted(&name);
        let arguments = body.object("params")?;
        let arguments = arguments.map_or(String::new(), |given| format!(",\"arguments\":{given}"));
        let params = format!("{{\"name\":{prompt}{arguments}}}");
        let about = format!("\"prompt\":{prompt}");
        let named = Named::prompt(name.into_owned(), most);
        Ok(Self::call(
            target,
            "prompts/get",
            params,
            about,
            Some(named),
        ))
    }

    /// `POST /resources/read`.
    ///
    /// # Errors
    /// A field is missing or wrong.
    pub fn read_resource(body: Body<'_>) -> Result<Self, Failure> {
        let target = body.target()?;
        let about = format!("\"uri\":{}", quoted(&body.needed("uri")?));
        let params = format!("{{{about}}}");
        Ok(Self::call(target, "resources/read", params, about, None))
    }

    /// `POST /resources/subscribe`, and `/resources/unsubscribe` where `subscribed` is false. Updates come to the session, so one
    /// must be named.
    ///
    /// # Errors
    /// A field is missing or wrong.
    pub fn subscribe(body: Body<'_>, subscribed: bool) -> Result<Self, Failure> {
        let target = Target::Session(body.needed("session_id")?.into_owned());
        let about = format!("\"uri\":{}", quoted(&body.needed("uri")?));
        let task = Task::Call {
            method: subscribe_method(subscribed),
            params: format!("{{{about}}}"),
            about,
            told: Told::Subscribed(subscribed, Asked::ByBody),
            named: None,
        };
        Ok(Self { target, task })
    }

    /// `POST`, `DELETE /resources/{uri}/subscribe` of the registry, for a session that knows the resource as `shown`, a JSON string.
    #[must_use]
    pub fn subscription(session: &str, uri: &str, shown: &str, subscribed: bool) -> Self {
        Self {
            target: Target::Session(session.into()),
            task: Task::Call {
                method: subscribe_method(subscribed),
                params: format!("{{\"uri\":{shown}}}"),
                about: format!("\"uri\":{}", quoted(uri)),
                told: Told::Subscribed(subscribed, Asked::ByPath),
                named: None,
            },
        }
    }

    /// Returns whom it asks.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the next JSON-RPC request, under this `id`, which is JSON.
    #[must_use]
    pub fn request(&self, id: &str) -> String {
        let (method, params) = match &self.task {
            Task::Call {
                method,
                params,
                named,
                ..
            } => {
                let search = named.as_deref().and_then(Named::request);
                search.unwrap_or_else(|| (*method, params.clone()))
            }
            Task::Lists { lists, at, .. } => match lists.get(*at) {
                Some(list) => list.request(),
                None => ("ping", "{}".into()),
            },
        };
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}")
    }

    /// Takes the answer to the latest request. `None`: there is another one to be made.
    ///
    /// # Errors
    /// It is an error, or no answer to what was asked.
    pub fn take(&mut self, answer: &str) -> Result<Option<Done>, Failure> {
        match &mut self.task {
            Task::Call { told, named, .. } => {
                let result = match (result(answer), named) {
                    (result, Some(named)) if result.is_err() || named.is_sought() => {
                        let failure = named.take(result.err(), answer, &self.target);
                        return failure.map_or(Ok(None), Err);
                    }
                    (result, Some(_) | None) => result?,
                };
                match told {
                    Told::Result(text) => *text = Some(result.get().into()),
                    Told::Bare(text) => *text = Some(bare(result)?.into()),
                    Told::Subscribed(..) => {}
                }
            }
            Task::Lists {
                lists,
                at,
                room,
                shown: _,
            } => {
                if let Some(list) = lists.get_mut(*at)
                    && list.take(answer, room)?
                {
                    *at += 1;
                }
                if *at < lists.len() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.done()))
    }

    fn done(&self) -> Done {
        let (content_type, body) = match (&self.task, &self.target) {
            (
                Task::Call {
                    told: Told::Bare(text),
                    ..
                },
                _,
            ) => (JSON, text.as_deref().unwrap_or("null").into()),
            (
                Task::Lists {
                    lists,
                    shown: shown @ (Shown::Description | Shown::Page),
                    ..
                },
                Target::Server(server) | Target::Session(server),
            ) => {
                let tools = lists.first().map(|list| list.items.as_slice());
                let tools = tools.unwrap_or_default();
                if *shown == Shown::Page {
                    (HTML, pages::page(server, tools))
                } else {
                    (JSON, pages::description(server, tools))
                }
            }
            (Task::Call { .. } | Task::Lists { .. }, _) => (JSON, self.told()),
        };
        Done {
            content_type,
            body: body.into_bytes(),
        }
    }

    /// The answer that says who was asked.
    fn told(&self) -> String {
        let mut members = alloc::vec![self.target.member()];
        match &self.task {
            Task::Call { about, told, .. } => {
                if matches!(told, Told::Subscribed(_, Asked::ByPath)) {
                    members.clear();
                }
                members.push(about.clone());
                members.push(match told {
                    Told::Result(text) | Told::Bare(text) => {
                        format!("\"result\":{}", text.as_deref().unwrap_or("null"))
                    }
                    Told::Subscribed(is, _) => format!("\"subscribed\":{is}"),
                });
            }
            Task::Lists { lists, .. } => {
                for list in lists {
                    members.push(format!("\"{}\":[{}]", list.told, list.items.join(",")));
                }
                // Templates are no resources yet.
                let count = lists.first().map_or(0, |list| list.items.len());
                members.push(format!("\"count\":{count}"));
            }
        }
        format!("{{{}}}", members.join(","))
    }
}
