//! Runs of tools: machines that say what they need, and take what came of it.

mod prompt_run;
mod result;
mod steps;
mod tool_run;
mod values;
mod work;

pub use prompt_run::{Generated, PromptRun};
pub use result::{StepReport, StepStatus, ToolResult};
pub use tool_run::ToolRun;
pub use values::Values;
pub use work::{Finished, Work};

pub(crate) use result::text_of;
pub(crate) use tool_run::told;
pub(crate) use values::{Completed, complete};

use crate::definition::Tool;
use crate::failure::Failure;
use crate::need::{Need, NeedId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs within one another: chains, parallel sets, integrations.
pub(crate) const NESTING: u8 = 8;
/// Needs that one run may have in all.
pub(crate) const NEEDS: usize = 1024;

/// Things to do for a machine, in this order. The caller does them and clears the lists.
#[derive(Debug, Default)]
pub struct Out {
    /// Needs that are over before an outcome: end what was begun for them. Nothing that comes of them is taken any more.
    pub end: Vec<NeedId>,
    /// Needs to begin.
    pub start: Vec<(NeedId, Need)>,
}

/// A tool as it is now, with those that it runs.
#[derive(Clone, Debug)]
pub struct ToolSet {
    pub(crate) root: Arc<Tool>,
    pub(crate) others: BTreeMap<Box<str>, Arc<Tool>>,
}

impl ToolSet {
    /// Name of the tool.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.root.name
    }

    /// Checks arguments, which are JSON: an object.
    ///
    /// # Errors
    /// The tool is disabled, or its schema refuses them.
    pub(crate) fn check(&self, arguments: &serde_json::Value) -> Result<(), Failure> {
        self.root.check_enabled()?;
        self.root.input.check(arguments)
    }
}

#[cfg(test)]
mod tests;
