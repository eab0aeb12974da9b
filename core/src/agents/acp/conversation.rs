//! A request as an agent's conversation: what it is recognised by, and the text that tells it to a new session.
//!
//! A session that has just been made is told everything in one block of a fixed form:
//!
//! ```text
//! <instructions>
//! …
//! </instructions>
//!
//! <conversation>
//! <user>
//! …
//! </user>
//! <assistant>
//! …
//! </assistant>
//! </conversation>
//!
//! the last message of the user
//! ```
//!
//! A tag of this form within somebody's text is written `&lt;user>`, so that no text can pass for another's. A request that
//! is one message of the user is told as it is. A session that has had the conversation so far is told the last message only.

use super::blocks::{Blocks, separate};
use super::content::{self, Piece, instructs, is_user, media};
use super::digest::{Digest, DigestKey, Hasher};
use super::profile::{Profile, SystemPrompt};
use super::tools::Tool;
use super::update::Abilities;
use crate::agents::answer_form;
use crate::error::Code;
use crate::id::Authority;
use crate::invocation::{Content, Failure, Invocation, Message, Parameters, Role, Task};
use crate::link::Invoke;
use crate::text::{RawJson, escaped};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Tools that one request may bring.
const MAX_TOOLS: usize = 256;

/// Instructions and tools that a session is made for; none of it can be changed later.
pub(super) struct Setup {
    /// For `systemPrompt` of `session/new`, escaped.
    pub(super) system: Option<String>,
    /// To be served to the agent.
    pub(super) tools: Vec<Tool>,
    pub(super) digest: Digest,
}

impl Setup {
    pub(super) fn new(key: DigestKey, system: Option<String>, tools: Vec<Tool>) -> Self {
        let mut hash = Hasher::new(key);
        hash.setup(system.as_deref(), &tools);
        Self {
            system,
            tools,
            digest: hash.finish(),
        }
    }
}

/// The identity of a turn: its setup, model and effort, and digests of the conversations that it may continue.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) setup: Arc<Setup>,
    /// The permission of the caller, whose conversation it is and nobody else's.
    pub(super) caller: Authority,
    /// The agent's own name of the model; `None` for its own choice.
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
    /// The conversation up to the last answer, when there is one and the last turn is only text of the user.
    pub(super) before: Option<Digest>,
    /// The conversation up to the answer that carries the tool calls which this request brings results for.
    pub(super) before_calls: Digest,
    /// True when the request tells of an earlier answer.
    pub(super) goes_on: bool,
    /// The whole request.
    through: Hasher,
}

impl Plan {
    /// The conversation once this answer has been given.
    pub(super) fn after(&self, answer: &str) -> Digest {
        let mut hash = self.through.clone();
        hash.answer(answer, &[], None);
        hash.finish()
    }

    /// The conversation that the request told.
    pub(super) fn told(&self) -> Digest {
        self.through.finish()
    }
}

/// A result that the client brings for a call of one of its tools.
pub(super) struct ToolResult<'f> {
    pub(super) id: &'f str,
    /// Escaped.
    pub(super) text: Cow<'f, str>,
}

/// Content of a request for the calls of the answer before.
pub(super) struct Brought<'f> {
    pub(super) results: Vec<ToolResult<'f>>,
    /// Messages beside the results, escaped, each in tags: clients add a reminder, or the person's next question.
    pub(super) beside: String,
    /// False when there is an image in any of it, which agents are not asked to take from a tool.
    pub(super) is_text: bool,
}

/// One request, read.
pub(super) struct Conversation<'f> {
    /// Escaped.
    system: String,
    /// Without the instructions at the head.
    messages: Vec<Message<'f>>,
    /// Index in `messages` of the first one after the last answer.
    turn: usize,
    parameters: Parameters<'f>,
}

fn refused(message: impl Into<Cow<'static, str>>) -> Failure<'static> {
    Failure {
        code: Code::InvalidRequest,
        message: message.into(),
        retry_after: None,
    }
}

impl<'f> Conversation<'f> {
    /// Reads the conversation of an invocation.
    ///
    /// # Errors
    /// As [`Conversation::new`].
    pub(super) fn of(invoke: &'f Invoke, abilities: &Abilities) -> Result<Self, Failure<'static>> {
        let invocation = invoke.request.invocation_of(invoke.prompt);
        Self::new(invocation, abilities)
    }

    /// Takes a request for what an agent can be asked.
    ///
    /// # Errors
    /// What no agent can do is refused by its name.
    pub(super) fn new(
        invocation: Invocation<'f>,
        abilities: &Abilities,
    ) -> Result<Self, Failure<'static>> {
        let parameters = invocation.parameters;
        if parameters.n.is_some_and(|n| n > 1) {
            return Err(refused(
                "n: an agent gives one answer to a request; ask again for another",
            ));
        }
        let mut messages = match invocation.task {
            Task::Chat { messages } => messages,
            Task::Completion {
                suffix: Some(_), ..
            } => {
                return Err(refused(
                    "suffix: an agent cannot fill in the middle; choose another model for completion",
                ));
            }
            Task::Completion {
                prompt,
                suffix: None,
            } => Vec::from([Message {
                role: Role::User,
                content: Content::Text(prompt),
                name: None,
                tool_calls: Vec::new(),
                tool_call_id: None,
            }]),
            Task::Embedding { .. } => {
                return Err(refused(
                    "input: an agent makes no embeddings; choose another model for them",
                ));
            }
        };
        for message in &messages {
            for piece in media(message) {
                match piece {
                    Piece::Text(_) => {}
                    Piece::Image { .. } if abilities.images => {}
                    Piece::Image { .. } => {
                        return Err(refused("messages: this agent takes no images"));
                    }
                    Piece::Other(kind) => {
                        return Err(refused(format!(
                            "messages: an agent takes text and images in `data:` URLs, not `{}`",
                            super::update::shown(&kind)
                        )));
                    }
                }
            }
        }
        let instructions = messages
            .iter()
            .take_while(|message| instructs(message))
            .count();
        let mut system = String::new();
        for message in messages.drain(..instructions) {
            separate(&mut system);
            system.push_str(&content::text(&message, "\\n"));
        }
        if let Some(form) = answer_form::instruction(&parameters) {
            separate(&mut system);
            system.push_str(&escaped(&form));
        }
        let turn = messages
            .iter()
            .rposition(|message| message.role == Role::Assistant)
            .map_or(0, |last| last + 1);
        Ok(Self {
            system,
            messages,
            turn,
            parameters,
        })
    }

    /// Computes the plan by which the request is recognised. `model` is what the agent is asked for.
    pub(super) fn plan(
        &self,
        key: DigestKey,
        model: &str,
        profile: &Profile,
        abilities: &Abilities,
        tools: bool,
        caller: Authority,
    ) -> Plan {
        let native = abilities.system_prompt && profile.system != SystemPrompt::Text;
        let system = if self.system.is_empty() && profile.system == SystemPrompt::Override {
            let system = profile.default_system.as_deref();
            system.map(|system| escaped(system).into_owned())
        } else {
            (native && !self.system.is_empty()).then(|| self.system.clone())
        };
        let tools = if tools && !no_tools(self.parameters.tool_choice.as_ref()) {
            self.parameters
                .tools
                .iter()
                .take(MAX_TOOLS)
                .filter_map(|raw| Tool::read(raw.get()))
                .collect()
        } else {
            Vec::new()
        };
        let setup = Setup::new(key, system.filter(|_| native), tools);
        let model = model
            .strip_prefix(&*profile.name)
            .and_then(|rest| rest.strip_prefix('/'))
            .map(String::from)
            .or_else(|| profile.model.clone());
        let effort = self
            .parameters
            .reasoning_effort
            .map(|effort| effort.decode().into_owned());
        let mut hash = Hasher::new(key);
        hash.caller(caller);
        hash.text(&profile.name);
        hash.text(model.as_deref().unwrap_or_default());
        hash.text(effort.as_deref().unwrap_or_default());
        hash.digest(setup.digest);
        hash.text(&self.system);
        let only_user = self
            .messages
            .get(self.turn..)
            .is_some_and(|turn| !turn.is_empty() && turn.iter().all(is_user));
        let (mut before, mut before_calls) = (None, Digest::default());
        for (at, message) in (1..).zip(&self.messages) {
            if at == self.turn {
                before_calls = hash.finish();
            }
            hash.message(message);
            if at == self.turn && only_user {
                before = Some(hash.finish());
            }
        }
        Plan {
            setup: Arc::new(setup),
            caller,
            model,
            effort,
            before,
            before_calls,
            goes_on: self.turn > 0,
            through: hash,
        }
    }

    /// The results of tool calls since the last answer, and what is said beside them.
    pub(super) fn brought(&self) -> Brought<'_> {
        let since = self.messages.get(self.turn..).unwrap_or_default();
        let mut results = Vec::new();
        for message in since {
            if let Some(id) = &message.tool_call_id {
                let text = content::text(message, "\\n");
                results.push(ToolResult { id, text });
            }
        }
        let mut beside = Blocks::default();
        if !results.is_empty() {
            let others = since.iter().filter(|it| it.tool_call_id.is_none());
            others.for_each(|message| beside.tagged(message));
        }
        Brought {
            results,
            is_text: since.iter().all(|message| media(message).next().is_none()),
            beside: beside.into_text(),
        }
    }

    /// True when the conversation has a call of a tool in it, with or without its result.
    pub(super) fn has_call(&self, id: &str) -> bool {
        self.messages.iter().any(|message| {
            let made = message.tool_calls.iter().map(|call| &call.id);
            made.chain(&message.tool_call_id).any(|known| known == id)
        })
    }

    /// The prompt for a session that knows nothing. `told` says that `session/new` has
    /// carried the instructions.
    pub(super) fn whole(&self, told: bool) -> Blocks<'_> {
        let (history, last) = match self.messages.split_last() {
            Some((last, history)) if is_user(last) => (history, Some(last)),
            _ => (&*self.messages, None),
        };
        let mut blocks = Blocks::default();
        if !told && !self.system.is_empty() {
            blocks.instructions(&self.system);
        }
        if !history.is_empty() {
            blocks.push("<conversation>\\n");
            for message in history {
                blocks.tagged(message);
            }
            blocks.push("</conversation>\\n\\n");
        }
        match last {
            Some(last) => {
                let is_alone = blocks.is_empty();
                blocks.parts(last, !is_alone);
            }
            None => blocks.push("Go on with the conversation from its last message."),
        }
        blocks
    }

    /// The prompt for a session that has had everything up to the last turn.
    pub(super) fn last_turn(&self) -> Blocks<'_> {
        let mut blocks = Blocks::default();
        for message in self.messages.get(self.turn..).unwrap_or_default() {
            blocks.separate();
            blocks.parts(message, false);
        }
        blocks
    }
}

/// True when the request forbids tools.
fn no_tools(choice: Option<&RawJson<'_>>) -> bool {
    choice.is_some_and(|choice| choice.get() == "\"none\"")
}
