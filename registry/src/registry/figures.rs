//! Figures of the registry, for the summary and for metrics.

use super::entry::Definition;
use crate::json::ObjectWriter;
use crate::registry::Registry;
use crate::store::Kind;
use std::collections::BTreeMap;

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Runs of tools that ended.
    pub executions: u64,
    /// Those whose result is an error, or that have none.
    pub errors: u64,
    /// Reads of resources that the cache, or the definition itself, served.
    pub hits: u64,
    /// Reads that it did not.
    pub misses: u64,
}

/// Parts of a summary that the registry does not know itself. Each part that is JSON is shown as it is.
#[derive(Clone, Debug)]
pub struct Around<'a> {
    /// Version of the program.
    pub version: &'a str,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Completions by their status.
    pub completions: &'a [(&'static str, usize)],
    /// Sessions, as JSON.
    pub sessions: &'a str,
    /// Servers, as JSON.
    pub servers: &'a str,
    /// Bytes of the store.
    pub store_bytes: u64,
}

impl Registry {
    /// A run of a tool has ended.
    pub const fn ran(&mut self, went_well: bool) {
        self.figures.executions += 1;
        if !went_well {
            self.figures.errors += 1;
        }
    }

    /// Counters since the start.
    #[must_use]
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// `GET /summary`.
    #[must_use]
    pub fn summary(&self, around: &Around<'_>) -> String {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, entry) in self.range(Kind::Tool, None) {
            if let Definition::Tool(tool) = &entry.definition {
                *kinds.entry(tool.action.kind()).or_default() += 1;
            }
        }
        let mut by_kind = ObjectWriter::new();
        for (kind, count) in kinds {
            by_kind.plain(kind, count);
        }
        let enabled = self.range(Kind::Integration, None);
        let enabled = enabled.filter(|(_, entry)| match &entry.definition {
            Definition::Integration(it) => it.enabled,
            Definition::Tool(_) | Definition::Resource(_) | Definition::Prompt(_) => false,
        });
        let enabled = enabled.count();
        let mut completions = ObjectWriter::new();
        for (status, count) in around.completions {
            completions.plain(status, count);
        }
        let (cached, cache_bytes) = self.cache.size();
        let figures = self.figures;
        let total = |kind| {
            let mut total = ObjectWriter::new();
            total.plain("total", self.count(kind));
            total
        };
        let mut summary = ObjectWriter::new();
        summary.text("version", around.version);
        summary.plain("uptime_seconds", around.uptime_seconds);
        let mut tools = total(Kind::Tool);
        tools.json("by_kind", &by_kind.finish());
        tools.plain("executions", figures.executions);
        tools.plain("errors", figures.errors);
        summary.json("tools", &tools.finish());
        let mut resources = total(Kind::Resource);
        resources.plain("cached", cached);
        resources.plain("cache_bytes", cache_bytes);
        resources.plain("hits", figures.hits);
        resources.plain("misses", figures.misses);
        resources.plain("subscriptions", self.subscriptions.count());
        summary.json("resources", &resources.finish());
        summary.json("prompts", &total(Kind::Prompt).finish());
        let mut integrations = total(Kind::Integration);
        integrations.plain("enabled", enabled);
        summary.json("integrations", &integrations.finish());
        summary.json("completions", &completions.finish());
        summary.json("sessions", around.sessions);
        summary.json("servers", around.servers);
        let mut store = ObjectWriter::new();
        store.plain("bytes", around.store_bytes);
        summary.json("store", &store.finish());
        summary.finish()
    }
}
