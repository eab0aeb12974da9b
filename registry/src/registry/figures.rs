//! Figures of the registry, for the summary, health and metrics.

use super::entry::Definition;
use crate::registry::Registry;
use crate::store::Kind;
use mcp_local_provider_core::api::status::RegistryFigures;
use std::collections::BTreeMap;

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters {
    /// Runs of tools that ended.
    executions: u64,
    /// Those whose result is an error, or that have none.
    errors: u64,
    /// Reads of resources that the cache, or the definition itself, served.
    pub(crate) hits: u64,
    /// Reads that it did not.
    pub(crate) misses: u64,
}

impl Registry {
    /// A run of a tool has ended.
    pub const fn ran(&mut self, went_well: bool) {
        self.counters.executions += 1;
        if !went_well {
            self.counters.errors += 1;
        }
    }

    /// Figures of what is registered, read and run. Those of runs now, completions and the store are for the caller to fill in.
    #[must_use]
    pub fn figures(&self) -> RegistryFigures {
        let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut enabled = 0;
        for (_, entry) in self.range(Kind::Tool, None) {
            if let Definition::Tool(tool) = &entry.definition {
                *kinds.entry(tool.action.kind()).or_default() += 1;
            }
        }
        for (_, entry) in self.range(Kind::Integration, None) {
            if let Definition::Integration(it) = &entry.definition {
                enabled += usize::from(it.enabled);
            }
        }
        let (cached, cache_bytes) = self.cache.size();
        RegistryFigures {
            tools: kinds.into_iter().collect(),
            executions: self.counters.executions,
            errors: self.counters.errors,
            resources: self.count(Kind::Resource),
            cached,
            cache_bytes,
            hits: self.counters.hits,
            misses: self.counters.misses,
            subscriptions: self.subscriptions.count(),
            prompts: self.count(Kind::Prompt),
            integrations: self.count(Kind::Integration),
            enabled_integrations: enabled,
            ..RegistryFigures::default()
        }
    }
}
