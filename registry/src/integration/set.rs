//! An integration as it is now, with its tools.

use crate::definition::{Integration, SERVED};
use crate::failure::Failure;
use crate::registry::Registry;
use crate::run::ToolSet;
use mcp_local_provider_core::text::JsonValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An integration as it is now, with its tools.
#[derive(Clone, Debug)]
pub struct IntegrationSet {
    /// The integration.
    pub integration: Arc<Integration>,
    /// Its tools that are enabled, by the name that the model sees.
    pub(super) tools: BTreeMap<String, ToolSet>,
}

impl Registry {
    /// The integration that is the model `integration/ID`, as it is now.
    ///
    /// # Errors
    /// As [`Registry::integration_set`].
    pub fn integration_of_model(&self, model: &str) -> Result<IntegrationSet, Failure> {
        self.integration_set(model.strip_prefix(SERVED).unwrap_or(model))
    }

    /// An integration as it is now, with its tools.
    ///
    /// # Errors
    /// There is none of this id, or it is disabled.
    pub fn integration_set(&self, id: &str) -> Result<IntegrationSet, Failure> {
        let integration = self.integration(id)?;
        let mut tools = BTreeMap::new();
        for name in integration.shown_tools() {
            let Ok(set) = self.tool_set(name) else {
                continue;
            };
            if !set.root.enabled {
                continue;
            }
            // Models' APIs take no dot in names.
            let mut shown = name.replace('.', "_");
            while tools.contains_key(&shown) {
                shown.push('_');
            }
            tools.insert(shown, set);
        }
        Ok(IntegrationSet { integration, tools })
    }
}

impl IntegrationSet {
    /// A model of this program alone, with nothing of the registry.
    #[must_use]
    pub fn of_model(model: &str) -> Self {
        Self {
            integration: Integration::of_model(model).into(),
            tools: BTreeMap::new(),
        }
    }

    /// True for a `tool_choice` by which a model must call a tool that runs here.
    pub(super) fn forces(&self, choice: &str) -> bool {
        let Some(choice) = JsonValue::read(choice) else {
            return false;
        };
        match choice.text() {
            Some(word) => word == "required",
            None => choice
                .path(&["function", "name"])
                .and_then(JsonValue::text)
                .is_some_and(|name| self.tools.contains_key(&*name)),
        }
    }
}
