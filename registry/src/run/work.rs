//! Any run of the registry: of a tool, of a prompt, of a read, of a completion.

use super::{Generated, Out, PromptRun, ToolResult, ToolRun, Values};
use crate::failure::Failure;
use crate::need::{Contents, Need, NeedId, Outcome};
use mcp_local_provider_core::time::Instant;

/// A run. Call [`Work::start`] once, then hand in each outcome and each time-out, until one of the calls gives its end. A caller that
/// leaves calls [`Work::cancel`].
#[derive(Debug)]
pub struct Work(Kind);

#[derive(Debug)]
enum Kind {
    Tool(Box<ToolRun>),
    /// A resource, by its URI, while it is not over.
    Read(Option<String>),
    Prompt(PromptRun),
    Values(Box<ToolRun>),
}

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// Of a tool, by its name.
    Tool(Box<str>, ToolResult),
    /// Of a read.
    Read(Contents),
    /// Of a prompt.
    Prompt(Generated),
    /// Of a completion.
    Values(Values),
}

type Ended = Result<Finished, Failure>;

impl Work {
    pub(crate) fn tool(run: ToolRun) -> Self {
        Self(Kind::Tool(run.into()))
    }

    pub(crate) const fn read(uri: String) -> Self {
        Self(Kind::Read(Some(uri)))
    }

    pub(crate) const fn prompt(run: PromptRun) -> Self {
        Self(Kind::Prompt(run))
    }

    pub(crate) fn values(run: ToolRun) -> Self {
        Self(Kind::Values(run.into()))
    }

    /// True when it counts as one of the runs at once, `registry.executions`.
    #[must_use]
    pub const fn is_execution(&self) -> bool {
        match self.0 {
            Kind::Tool(_) | Kind::Values(_) => true,
            Kind::Read(_) | Kind::Prompt(_) => false,
        }
    }

    /// Begins it.
    pub fn start(&mut self, now: Instant, out: &mut Out) -> Option<Ended> {
        match &mut self.0 {
            Kind::Tool(run) => run.start(now, out).map(|ended| of_tool(run, ended)),
            Kind::Read(uri) => {
                let uri = uri.clone().unwrap_or_default();
                out.start.push((NeedId(0), Need::Read(uri)));
                None
            }
            Kind::Prompt(run) => run.start(out).map(|it| it.map(Finished::Prompt)),
            Kind::Values(run) => run.start(now, out).map(of_values),
        }
    }

    /// Takes what came of a need. One that is not open is passed over.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        id: NeedId,
        outcome: Outcome,
        out: &mut Out,
    ) -> Option<Ended> {
        match &mut self.0 {
            Kind::Tool(run) => {
                let ended = run.handle_outcome(now, id, outcome, out);
                ended.map(|ended| of_tool(run, ended))
            }
            Kind::Read(uri) => {
                uri.take()?;
                Some(match outcome {
                    Outcome::Read(read) => read.map(Finished::Read),
                    Outcome::TimedOut => Err(Failure::timeout("the resource did not come in time")),
                    Outcome::Failed(why) => Err(Failure::bad_answer(why)),
                    Outcome::Http(_)
                    | Outcome::Exited { .. }
                    | Outcome::Said(_)
                    | Outcome::Called(_)
                    | Outcome::File(_)
                    | Outcome::TooLarge => {
                        Err(Failure::bad_answer("the answer is none of a resource"))
                    }
                })
            }
            Kind::Prompt(run) => {
                let ended = run.handle_outcome(id, outcome, out);
                ended.map(|it| it.map(Finished::Prompt))
            }
            Kind::Values(run) => run.handle_outcome(now, id, outcome, out).map(of_values),
        }
    }

    /// Ends what has taken too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Out) -> Option<Ended> {
        match &mut self.0 {
            Kind::Tool(run) => {
                let ended = run.handle_timeout(now, out);
                ended.map(|ended| of_tool(run, ended))
            }
            Kind::Values(run) => run.handle_timeout(now, out).map(of_values),
            // A fetch has a deadline of its own.
            Kind::Read(_) | Kind::Prompt(_) => None,
        }
    }

    /// Returns when to call [`Work::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.0 {
            Kind::Tool(run) | Kind::Values(run) => run.poll_timeout(),
            Kind::Read(_) | Kind::Prompt(_) => None,
        }
    }

    /// Ends it: the caller left, or does not want it any more. It may be called again.
    pub fn cancel(&mut self, out: &mut Out) {
        match &mut self.0 {
            Kind::Tool(run) | Kind::Values(run) => run.cancel(out),
            Kind::Read(uri) => {
                if uri.take().is_some() {
                    out.end.push(NeedId(0));
                }
            }
            Kind::Prompt(run) => run.cancel(out),
        }
    }
}

fn of_tool(run: &ToolRun, ended: Result<ToolResult, Failure>) -> Ended {
    ended.map(|result| Finished::Tool(run.tool().into(), result))
}

fn of_values(ended: Result<ToolResult, Failure>) -> Ended {
    ended
        .and_then(|result| Values::of_tool(&result))
        .map(Finished::Values)
}
