//! Limits of the registry: section `registry` of the configuration.

use std::time::Duration;

/// Limits, under the names of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Tools.
    pub tools: usize,
    /// Resources, those with a template too.
    pub resources: usize,
    /// Prompts.
    pub prompts: usize,
    /// Integrations.
    pub integrations: usize,
    /// Runs at once.
    pub executions: usize,
    /// Runs that wait for others to end: `limits.queue.length`.
    pub queue_length: usize,
    /// Time for which they wait at most: `limits.queue.wait`.
    pub queue_wait: Duration,
    /// Bytes of one resource.
    pub resource_bytes: usize,
    /// Bytes of resources that are kept after they were read.
    pub cache_bytes: usize,
    /// Time for which they are kept where their definition says nothing.
    pub cache_ttl: Duration,
    /// Bytes of all definitions together: `limits.memory`.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tools: 1000,
            resources: 10_000,
            prompts: 1000,
            integrations: 100,
            executions: 100,
            queue_length: 64,
            queue_wait: Duration::from_secs(5),
            resource_bytes: 4 << 20,
            cache_bytes: 64 << 20,
            cache_ttl: Duration::from_secs(300),
            bytes: 256 << 20,
        }
    }
}
