//! Profiles of the presets: how the ACP machine of core speaks with each agent that is known by name.

use super::plan::Plan;
use super::presets::MODEL_PROMPT;
use mcp_local_provider_core::agents::acp::{HiddenError, Profile, SystemPrompt, UsageRule};

/// Returns the `_meta` of a Claude Code session: no tools, none of the person's settings, which could add some, and our
/// instructions in the place of its own, for builds that do not read `systemPrompt` from the request.
fn claude_meta() -> String {
    serde_json::json!({
        "systemPrompt": MODEL_PROMPT,
        "claudeCode": { "options": { "tools": [], "settingSources": [] } },
    })
    .to_string()
}

impl Plan {
    /// Returns the profile by which the ACP machine speaks with this agent.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let unknown = Profile {
            model: self.agent.model.clone(),
            concurrency: self.agent.concurrency,
            ..Profile::new(&self.name)
        };
        let Some(preset) = self.preset else {
            return unknown;
        };
        let known = Profile {
            label: preset.title.into(),
            login: preset.login.into(),
            ..unknown
        };
        match preset.name {
            "cursor" => Profile {
                usage: UsageRule::None,
                // Builds differ in whether they use the servers that a session names.
                tools: false,
                ..known
            },
            "claude" => Profile {
                system: SystemPrompt::Override,
                default_system: Some(MODEL_PROMPT.into()),
                session_meta: Some(claude_meta()),
                // The mode that it begins in may let a model of its own decide about the tools of the caller.
                mode: Some("default".into()),
                usage: UsageRule::Turn,
                ..known
            },
            "codex" => Profile {
                system: SystemPrompt::Append,
                mode: Some("read-only".into()),
                usage: UsageRule::Turn,
                hidden_error: HiddenError::ThreadStatus,
                ..known
            },
            "gemini" => Profile {
                usage: UsageRule::Quota,
                ..known
            },
            "opencode" => Profile {
                mode: Some("model".into()),
                usage: UsageRule::LastCall,
                ..known
            },
            "copilot" => Profile {
                usage: UsageRule::Session,
                hidden_error: HiddenError::Prefix(vec!["Error: ".into()]),
                ..known
            },
            "goose" => Profile {
                usage: UsageRule::LastCall,
                hidden_error: HiddenError::Prefix(vec!["Ran into this error: ".into()]),
                ..known
            },
            _ => known,
        }
    }
}
