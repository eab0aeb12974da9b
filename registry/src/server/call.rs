//! Runs for requests of MCP.

use super::{Wrong, result};
use crate::failure::Failure;
use crate::need::{NeedId, Outcome};
use crate::run::{Finished, Out, ToolResult, Work, told};
use mcp_local_provider_core::time::Instant;

/// Kinds of requests that run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Tool,
    Resource(String),
    Prompt,
    Values,
}

/// A run for a request. Drive it as [`Work`] says; its end is the message that answers.
#[derive(Debug)]
pub struct ServerRun {
    work: Work,
    asked: Asked,
    id: String,
}

/// A failure as the result of a tool, which models read.
pub(super) fn failed(failure: Failure) -> String {
    ToolResult::error(&told(failure)).mcp()
}

impl ServerRun {
    pub(super) const fn new(work: Work, asked: Asked, id: String) -> Self {
        Self { work, asked, id }
    }

    /// The id of the request, as JSON.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// True when it counts as one of the runs at once, `registry.executions`.
    #[must_use]
    pub const fn is_execution(&self) -> bool {
        self.work.is_execution()
    }

    /// Begins it.
    pub fn start(&mut self, now: Instant, out: &mut Out) -> Option<String> {
        let ended = self.work.start(now, out);
        ended.map(|ended| self.answer(ended))
    }

    /// Takes what came of a need.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        id: NeedId,
        outcome: Outcome,
        out: &mut Out,
    ) -> Option<String> {
        let ended = self.work.handle_outcome(now, id, outcome, out);
        ended.map(|ended| self.answer(ended))
    }

    /// Ends what has taken too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Out) -> Option<String> {
        let ended = self.work.handle_timeout(now, out);
        ended.map(|ended| self.answer(ended))
    }

    /// Returns when to call [`ServerRun::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.work.poll_timeout()
    }

    /// Ends it without an answer: it was cancelled, or the client left.
    pub fn cancel(&mut self, out: &mut Out) {
        self.work.cancel(out);
    }

    /// The message for a run that was refused before it began.
    #[must_use]
    pub fn refuse(&self, failure: Failure) -> String {
        self.answer(Err(failure))
    }

    fn answer(&self, ended: Result<Finished, Failure>) -> String {
        let failure = match ended {
            Ok(Finished::Tool(_, it)) => return result(&self.id, &it.mcp()),
            Ok(Finished::Read(it)) => return result(&self.id, &it.mcp()),
            Ok(Finished::Prompt(it)) => return result(&self.id, &it.mcp()),
            Ok(Finished::Values(it)) => return result(&self.id, &it.mcp()),
            Err(failure) => failure,
        };
        match &self.asked {
            Asked::Tool => result(&self.id, &failed(failure)),
            Asked::Resource(uri) if failure.is_not_found() => Wrong::resource(uri).answer(&self.id),
            Asked::Resource(_) | Asked::Prompt | Asked::Values => {
                Wrong::of(&failure).answer(&self.id)
            }
        }
    }
}
