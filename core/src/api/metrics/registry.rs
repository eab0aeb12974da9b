//! Metrics of the registry.

use super::super::status::ProgramStatus;
use super::{Family, Kind, Value, counter, gauge, number};
use alloc::vec::Vec;

/// Adds the metrics of the registry, where there is one.
pub(super) fn add<'s>(status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    let Some(registry) = &status.registry else {
        return;
    };
    let mut entries = Family::new(
        "mcp_local_provider_registry_entries",
        Kind::Gauge,
        "Entries of the registry, by kind.",
    );
    for (kind, count) in [
        ("tool", registry.all_tools()),
        ("resource", registry.resources),
        ("prompt", registry.prompts),
        ("integration", registry.integrations),
    ] {
        entries = entries.with(&[("kind", kind)], number(count));
    }
    let went_well = registry.executions.saturating_sub(registry.errors);
    let executions = counter(
        "mcp_local_provider_registry_executions",
        "Runs of tools of the registry that have ended.",
    )
    .with(&[("result", "ok")], Value::Count(went_well))
    .with(&[("result", "error")], Value::Count(registry.errors));
    let reads = counter(
        "mcp_local_provider_registry_reads",
        "Reads of resources, by what served them.",
    )
    .with(&[("source", "cache")], Value::Count(registry.hits))
    .with(&[("source", "origin")], Value::Count(registry.misses));
    let (running, waiting) = registry.running;
    let store_bytes = usize::try_from(registry.store_bytes).unwrap_or(usize::MAX);
    let mut completions = Family::new(
        "mcp_local_provider_registry_completions",
        Kind::Gauge,
        "Completions that are kept, by status.",
    );
    for (status, count) in &registry.completions {
        completions = completions.with(&[("status", status)], number(*count));
    }
    table.extend([
        entries,
        executions,
        reads,
        completions,
        gauge(
            "mcp_local_provider_registry_executions_open",
            "Runs of tools that are open now.",
            running,
        ),
        gauge(
            "mcp_local_provider_registry_executions_waiting",
            "Runs of tools that wait for others to end.",
            waiting,
        ),
        gauge(
            "mcp_local_provider_registry_cache_bytes",
            "Bytes of resources that are kept after they were read.",
            registry.cache_bytes,
        ),
        gauge(
            "mcp_local_provider_registry_subscriptions",
            "Subscriptions to resources.",
            registry.subscriptions,
        ),
        gauge(
            "mcp_local_provider_registry_store_bytes",
            "Bytes of the registry's file.",
            store_bytes,
        ),
        counter(
            "mcp_local_provider_registry_changes_not_stored",
            "Changes that the registry's file did not take.",
        )
        .with(&[], Value::Count(registry.not_stored)),
    ]);
}
