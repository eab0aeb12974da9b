//! Agents that the program starts itself.

use super::{agent_command, secret, units};
use mcp_local_provider_core::agents::acp::SessionLimits;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// An agent that the program starts itself: a preset or a command that speaks ACP.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Agent {
    /// A known agent by name; see [`PRESETS`](super::PRESETS). When absent, the one that `command` starts.
    pub preset: Option<String>,
    /// Its name; the preset's or the program's when absent.
    pub name: Option<String>,
    /// Program and arguments; the preset's when absent.
    pub command: Vec<String>,
    /// Further names that its default model answers to, beside its own name.
    pub models: Vec<String>,
    /// Models that are asked in its place, in order, when it fails.
    pub fallback: Vec<String>,
    /// The agent's own name for the model that answers to its name; the agent's choice when absent.
    pub model: Option<String>,
    /// Variables for its environment.
    #[serde(serialize_with = "secret::hide_values")]
    pub env: BTreeMap<String, String>,
    /// Its working directory; a private empty one when absent.
    pub cwd: Option<PathBuf>,
    /// True to continue a conversation in the agent's session when everything before its last turn is exactly the same.
    /// Default true; `false` begins a session for each request.
    pub reuse: bool,
    /// Time that requests wait for it while it is being started. Default 60 s.
    #[serde(with = "units::duration")]
    pub start_timeout: Duration,
    /// Prompts that it is given at once; others wait for `timeouts.first_chunk`. Default 8.
    pub concurrency: u32,
    /// Bounds on the sessions that it keeps between turns, and on its memory.
    pub sessions: AgentSessions,
}

impl Default for Agent {
    fn default() -> Self {
        Agent {
            preset: None,
            name: None,
            command: Vec::new(),
            models: Vec::new(),
            fallback: Vec::new(),
            model: None,
            env: BTreeMap::new(),
            cwd: None,
            reuse: true,
            start_timeout: Duration::from_secs(60),
            concurrency: 8,
            sessions: AgentSessions::default(),
        }
    }
}

impl Agent {
    /// Returns the name that it is known by: its own, its preset's or its program's.
    #[must_use]
    pub fn known_as(&self) -> Cow<'_, str> {
        match (&self.name, &self.preset) {
            (Some(name), _) | (None, Some(name)) => Cow::Borrowed(name),
            (None, None) => {
                agent_command::name_of(&self.command).map_or("agent".into(), Cow::Owned)
            }
        }
    }

    /// Returns the name of the preset that it is: the one that it names, or the one that its command starts.
    #[must_use]
    pub fn known_preset(&self) -> Option<&str> {
        let named = self.preset.as_deref();
        named.or_else(|| agent_command::preset_of(&self.command))
    }
}

/// Bounds on the sessions that an agent keeps between turns, and on the memory of all its processes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct AgentSessions {
    /// Sessions in which no turn runs, the empty one for the next conversation among them. Default 4; 0 keeps none.
    pub keep: usize,
    /// Longest time that a conversation is kept after its last turn. Default 5 min.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// Proportional memory (PSS) of the agent and all that it has started. Default 2 GiB.
    #[serde(with = "units::size")]
    pub memory: usize,
}

impl Default for AgentSessions {
    fn default() -> Self {
        let limits = SessionLimits::default();
        Self {
            keep: limits.keep,
            idle: limits.idle,
            memory: usize::try_from(limits.memory).unwrap_or(usize::MAX),
        }
    }
}

impl AgentSessions {
    /// Returns them in the form in which the agent's machine takes them.
    #[must_use]
    pub fn limits(&self) -> SessionLimits {
        SessionLimits {
            keep: self.keep,
            idle: self.idle,
            memory: u64::try_from(self.memory).unwrap_or(u64::MAX),
        }
    }
}
