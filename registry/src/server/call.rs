//! Runs for requests of MCP.

use super::{Wrong, result};
use crate::failure::Failure;
use crate::run::{Finished, ToolResult, told};

/// Kinds of requests that run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Tool,
    Resource(String),
    Prompt,
    Values,
}

/// A request that a run answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    method: Method,
    id: String,
}

/// A failure as the result of a tool, which models read.
pub(super) fn failed(failure: Failure) -> String {
    ToolResult::error(&told(failure)).mcp()
}

impl Asked {
    pub(super) const fn new(method: Method, id: String) -> Self {
        Self { method, id }
    }

    /// The id of the request, as JSON.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The message for a run that has ended so.
    #[must_use]
    pub fn answer(&self, ended: Result<Finished, Failure>) -> String {
        let failure = match ended {
            Ok(Finished::Tool(_, it)) => return result(&self.id, &it.mcp()),
            Ok(Finished::Read(it)) => return result(&self.id, &it.mcp()),
            Ok(Finished::Prompt(it)) => return result(&self.id, &it.mcp()),
            Ok(Finished::Values(it)) => return result(&self.id, &it.mcp()),
            Err(failure) => failure,
        };
        match &self.method {
            Method::Tool => result(&self.id, &failed(failure)),
            Method::Resource(uri) if failure.is_not_found() => {
                Wrong::resource(uri).answer(&self.id)
            }
            Method::Resource(_) | Method::Prompt | Method::Values => {
                Wrong::of(&failure).answer(&self.id)
            }
        }
    }
}
