//! Tools and prompts by their names: whether an error of a server means that it has none of that name.

use super::body::Target;
use super::failure::Failure;
use super::list::List;
use crate::refusal::{Reason, Refusal};
use alloc::format;
use alloc::string::String;
use mcp_local_provider_core::text::JsonValue;

/// Kinds of what is asked for by a name.
#[derive(Clone, Copy)]
enum Kind {
    Tool,
    Prompt,
}

/// A tool or prompt that a request names.
///
/// A server has one number, -32602, for wrong arguments and for a name that it does not have. Its lists tell which of both it is.
pub(super) struct Named {
    kind: Kind,
    name: String,
    /// Bytes of the list that may still come.
    room: usize,
    /// The error that started the search, and the list that is read.
    search: Option<(Failure, List)>,
}

impl Named {
    /// Makes the tool of that name. The list of tools may have `room` bytes.
    pub(super) const fn tool(name: String, room: usize) -> Self {
        Self {
            kind: Kind::Tool,
            name,
            room,
            search: None,
        }
    }

    /// Makes the prompt of that name.
    pub(super) const fn prompt(name: String, room: usize) -> Self {
        Self {
            kind: Kind::Prompt,
            name,
            room,
            search: None,
        }
    }

    /// The request for the next page, with its parameters; `None` before a search.
    pub(super) fn request(&self) -> Option<(&'static str, String)> {
        self.search.as_ref().map(|(_, list)| list.request())
    }

    /// True when the server's list is being read.
    pub(super) const fn is_sought(&self) -> bool {
        self.search.is_some()
    }

    /// Takes the error of the server, or the next page. `None`: a page is to be asked for.
    pub(super) fn take(
        &mut self,
        failure: Option<Failure>,
        answer: &str,
        target: &Target,
    ) -> Option<Failure> {
        let Some((failure, list)) = &mut self.search else {
            let failure = failure?;
            if !failure.is_of_parameters() {
                return Some(failure);
            }
            let list = match self.kind {
                Kind::Tool => List::new("tools/list", "tools", "tools"),
                Kind::Prompt => List::new("prompts/list", "prompts", "prompts"),
            };
            self.search = Some((failure, list.or_none()));
            return None;
        };
        // A server that does not list what it has knows best what was wrong.
        let Ok(is_whole) = list.take(answer, &mut self.room) else {
            return Some(failure.clone());
        };
        let is_it = |item: &JsonValue<'_>| {
            let name = item.member("name").and_then(JsonValue::text);
            name.as_deref() == Some(&self.name)
        };
        if list
            .drain()
            .iter()
            .filter_map(|item| JsonValue::read(item))
            .any(|item| is_it(&item))
        {
            return Some(failure.clone());
        }
        is_whole.then(|| self.missing(target))
    }

    fn missing(&self, target: &Target) -> Failure {
        let (reason, kind) = match self.kind {
            Kind::Tool => (Reason::ToolNotFound, "tool"),
            Kind::Prompt => (Reason::PromptNotFound, "prompt"),
        };
        let name = &self.name;
        Failure::from(match target {
            Target::Session(_) => {
                Refusal::new(reason, format!("the session has no {kind} `{name}`"))
            }
            Target::Server(server) => {
                let message = format!("the MCP server `{server}` has no {kind} `{name}`");
                Refusal::new(reason, message).about(&server.as_str().into())
            }
        })
    }
}
