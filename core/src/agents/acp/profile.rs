//! Profiles: the known properties of one kind of agent, as plain data.

use alloc::string::String;
use alloc::vec::Vec;

/// Rules for speaking with one kind of agent. The defaults suit an agent of which nothing is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The agent's id, and the name of its default model: `claude`. Its other models are `claude/MODEL`.
    pub name: String,
    /// For people: `Claude Code`.
    pub label: String,
    /// Way in which instructions reach it.
    pub system: SystemPrompt,
    /// Instructions for requests that bring none, where [`Profile::system`] replaces the agent's own; without them the
    /// agent stays the persona that its maker gave it.
    pub default_system: Option<String>,
    /// `_meta` of `session/new`: a JSON object. What is no JSON object is left out.
    pub session_meta: Option<String>,
    /// The mode that a session is put into before its first prompt (`session/set_mode`, or the option of the category
    /// `mode`). A session that cannot be put into it is not used, because the mode is part of the fence.
    pub mode: Option<String>,
    /// The model of the name without `/MODEL`; the agent's own choice where absent.
    pub model: Option<String>,
    /// Place of its token counts.
    pub usage: UsageRule,
    /// Form of an error that it hides in its answer.
    pub hidden_error: HiddenError,
    /// True when it uses the MCP servers that `session/new` names, so that the caller's tools can be served to it.
    pub tools: bool,
    /// Prompts at once, each in its own session.
    pub concurrency: u32,
    /// Step that the person takes when the agent wants a login, as the end of a sentence: ``run `claude /login` ``.
    pub login: String,
}

impl Profile {
    /// An agent of which only the name is known.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            label: name.into(),
            system: SystemPrompt::Text,
            default_system: None,
            session_meta: None,
            mode: None,
            model: None,
            usage: UsageRule::Turn,
            hidden_error: HiddenError::None,
            tools: true,
            concurrency: 8,
            login: "log in with the agent's own program, then try again".into(),
        }
    }
}

/// Ways in which instructions (system messages) reach an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SystemPrompt {
    /// `systemPrompt` of `session/new` with the mode `override`, where the agent offers it; as text otherwise.
    Override,
    /// The same with the mode `append`.
    Append,
    /// At the head of the first prompt.
    Text,
}

/// Places of an agent's token counts. Without counts the answer's usage is an estimate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UsageRule {
    /// `usage` of the prompt's result counts the turn.
    Turn,
    /// `usage` of the prompt's result counts the last call of the model only: it is exact for a turn of one call, and an
    /// estimate for one in which the agent used tools.
    LastCall,
    /// `usage` of the prompt's result counts all turns of the session.
    Session,
    /// `_meta.quota.token_count` of the prompt's result counts the turn.
    Quota,
    /// `_meta.usage` of empty message chunks; each counts one call of the model.
    ChunkMeta,
    /// It tells none.
    None,
}

/// Forms of an error that an agent hides: it is text of an answer that ends with `end_turn`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HiddenError {
    /// It does not.
    None,
    /// After a `session_info_update` with `_meta.codex.threadStatus.type` `systemError` the text is the error's.
    ThreadStatus,
    /// An answer whose text begins with one of these is an error. Text is held back until it can be told apart.
    Prefix(Vec<String>),
}
