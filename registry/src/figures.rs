//! Figures of the registry, for the summary and for metrics.

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Runs of tools that ended.
    pub executions: u64,
    /// Those whose result is an error, or that have none.
    pub errors: u64,
    /// Reads of resources that the cache served.
    pub hits: u64,
    /// Reads that it did not.
    pub misses: u64,
}
