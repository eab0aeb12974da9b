//! The parameters of `sampling/createMessage`, from a request.

use super::Declared;
use crate::agents::answer_form;
use crate::agents::upstream::media::Medium;
use crate::agents::writer::Writer;
use crate::dialect::answer::write_arguments;
use crate::error::Code;
use crate::invocation::{
    Arguments, Content, Failure, Invocation, Message, Parameters, Part, Role, Task, ToolCall,
};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest answer in tokens where the caller names none, since the protocol wants a number: as much as an upstream of Anthropic's API
/// is asked for. Clients hand it to their model, and some models refuse more than they can write.
const MAX_TOKENS: u64 = 8192;

/// Writes the parameters of `sampling/createMessage` for one invocation.
///
/// # Errors
/// The conversation has something in it that the protocol, or this client, has no form for. The message names the field.
pub fn params(invocation: &Invocation<'_>, declared: Declared) -> Result<String, Failure<'static>> {
    let parameters = &invocation.parameters;
    let mut json = Writer::with_capacity(4096);
    json.raw("{");
    let (mut system, turns) = match &invocation.task {
        Task::Chat { messages } => (system(messages)?, turns(messages, declared)?),
        Task::Completion {
            prompt,
            suffix: None,
        } => (Vec::new(), Vec::from([Turn::user(Block::Text(*prompt))])),
        Task::Completion {
            suffix: Some(_), ..
        } => return Err(cannot("suffix: a gap to fill in")),
        Task::Embedding { .. } => return Err(cannot("input: text to turn into vectors")),
    };
    json.key("messages");
    json.raw("[");
    if turns.is_empty() {
        // Instructions alone are what the person says.
        let said = Block::Words(core::mem::take(&mut system));
        message(&mut json, Role::User, &[said]);
    }
    for turn in &turns {
        let is_whole = turn.blocks.iter().any(Block::is_about_tools);
        if declared.lists || is_whole {
            message(&mut json, turn.role, &turn.blocks);
        } else {
            // Older revisions have one block in each message.
            for block in &turn.blocks {
                message(&mut json, turn.role, core::slice::from_ref(block));
            }
        }
    }
    json.raw("]");
    let form = answer_form::instruction(parameters);
    if !system.is_empty() || form.is_some() {
        json.key("systemPrompt");
        json.raw("\"");
        words(&mut json, &system);
        if let Some(form) = form {
            let escaped = crate::text::escaped(&form);
            json.raw(if system.is_empty() { "" } else { "\\n\\n" });
            json.inside(JsonStr::from_escaped(&escaped));
        }
        json.raw("\"");
    }
    json.whole(
        "maxTokens",
        Some(parameters.max_tokens.unwrap_or(MAX_TOKENS)),
    );
    json.number("temperature", parameters.temperature);
    if !parameters.stop.is_empty() {
        json.key("stopSequences");
        json.list(&parameters.stop, |json, stop| json.plain(stop));
    }
    if declared.tools {
        tools(&mut json, parameters)?;
    }
    json.raw("}");
    Ok(json.finish())
}

/// The failure of a request that cannot be told to the client.
fn cannot(what: &str) -> Failure<'static> {
    Failure {
        code: Code::InvalidRequest,
        message: format!("{what}, which an MCP client cannot be asked (sampling/createMessage)")
            .into(),
        retry_after: None,
    }
}

/// One block of a message.
enum Block<'m> {
    Text(JsonStr<'m>),
    /// Several texts as one.
    Words(Vec<JsonStr<'m>>),
    Image(Cow<'m, str>, Cow<'m, str>),
    Audio(&'static str, JsonStr<'m>),
    Call(&'m ToolCall<'m>),
    Result(&'m str, Vec<Block<'m>>),
}

impl Block<'_> {
    const fn is_about_tools(&self) -> bool {
        match self {
            Self::Text(_) | Self::Words(_) | Self::Image(..) | Self::Audio(..) => false,
            Self::Call(_) | Self::Result(..) => true,
        }
    }
}

/// One message of the conversation, as the protocol has it: the person's or the model's.
struct Turn<'m> {
    role: Role,
    blocks: Vec<Block<'m>>,
}

impl<'m> Turn<'m> {
    fn user(block: Block<'m>) -> Self {
        Self {
            role: Role::User,
            blocks: Vec::from([block]),
        }
    }
}

const fn is_system(role: Role) -> bool {
    match role {
        Role::System | Role::Developer => true,
        Role::User | Role::Assistant | Role::Tool | Role::Function => false,
    }
}

/// All instructions, wherever they stand in the conversation: the protocol has one place for them.
fn system<'m>(messages: &'m [Message<'m>]) -> Result<Vec<JsonStr<'m>>, Failure<'static>> {
    let mut texts = Vec::new();
    for message in messages.iter().filter(|message| is_system(message.role)) {
        for block in blocks(&message.content)? {
            match block {
                Block::Text(text) => texts.push(text),
                Block::Words(_)
                | Block::Image(..)
                | Block::Audio(..)
                | Block::Call(_)
                | Block::Result(..) => {
                    return Err(cannot("messages: instructions that are no text"));
                }
            }
        }
    }
    Ok(texts)
}

/// The turns of the conversation. A turn with calls is followed by one with their results and nothing else.
fn turns<'m>(
    messages: &'m [Message<'m>],
    declared: Declared,
) -> Result<Vec<Turn<'m>>, Failure<'static>> {
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(messages.len());
    // Calls that have no result yet.
    let mut open: Vec<&str> = Vec::new();
    let mut after_result = false;
    for message in messages.iter().filter(|message| !is_system(message.role)) {
        let said = blocks(&message.content)?;
        if matches!(message.role, Role::Tool | Role::Function) {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let Some(at) = open.iter().position(|call| *call == id) else {
                return Err(cannot(
                    "messages: a tool's result that follows no call of its id (tool_call_id)",
                ));
            };
            open.swap_remove(at);
            let result = Block::Result(id, said);
            match turns.last_mut().filter(|_| after_result) {
                Some(turn) => turn.blocks.push(result),
                None => turns.push(Turn::user(result)),
            }
            after_result = true;
            continue;
        }
        all_answered(&open)?;
        after_result = false;
        let mut turn = Turn {
            role: message.role,
            blocks: said,
        };
        if !message.tool_calls.is_empty() && !declared.tools {
            return Err(cannot(
                "messages: calls of tools for a client that has not declared `sampling.tools`",
            ));
        }
        for call in &message.tool_calls {
            if open.contains(&&*call.id) {
                return Err(cannot("messages: two calls of one id"));
            }
            open.push(&call.id);
            turn.blocks.push(Block::Call(call));
        }
        if !turn.blocks.is_empty() {
            turns.push(turn);
        }
    }
    all_answered(&open)?;
    Ok(turns)
}

fn all_answered(open: &[&str]) -> Result<(), Failure<'static>> {
    match open {
        [] => Ok(()),
        [_, ..] => Err(cannot(
            "messages: a call of a tool whose result does not follow it",
        )),
    }
}

/// The content of a message. Empty texts are left out, which say nothing and which some models refuse.
fn blocks<'m>(content: &'m Content<'m>) -> Result<Vec<Block<'m>>, Failure<'static>> {
    let blocks = match content {
        Content::None => Vec::new(),
        Content::Text(text) => Vec::from([Block::Text(*text)]),
        Content::Parts(parts) => parts.iter().map(block).collect::<Result<_, _>>()?,
    };
    let says = |block: &Block<'_>| !matches!(block, Block::Text(text) if text.is_empty());
    Ok(blocks.into_iter().filter(says).collect())
}

fn block<'m>(part: &'m Part<'m>) -> Result<Block<'m>, Failure<'static>> {
    if let Some((media_type, base64)) = audio(part) {
        return Ok(Block::Audio(media_type, base64));
    }
    match Medium::of(part) {
        Medium::Text(text) => Ok(Block::Text(text)),
        Medium::Image { media_type, base64 } => Ok(Block::Image(media_type, base64)),
        Medium::ImageAt(_) => Err(cannot(
            "messages: an image at an address (send it as a `data:` URL)",
        )),
        Medium::Pdf { .. } => Err(cannot("messages: a PDF document")),
        Medium::Other(kind) => Err(cannot(&format!("messages: a part of type {kind}"))),
    }
}

/// A recording (OpenAI's `input_audio`).
fn audio<'m>(part: &'m Part<'m>) -> Option<(&'static str, JsonStr<'m>)> {
    let Part::Other(raw) = part else {
        return None;
    };
    let audio = JsonValue::read(raw.get())?.member("input_audio")?;
    let media_type = match &*audio.member("format")?.text()? {
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        _ => return None,
    };
    Some((media_type, audio.member("data")?.as_str()?))
}

/// One message. One block stands by itself, which every revision has; several are a list.
fn message(json: &mut Writer, role: Role, blocks: &[Block<'_>]) {
    if !json.out.ends_with(b"[") {
        json.raw(",");
    }
    json.raw("{\"role\":");
    json.plain(match role {
        Role::Assistant => "assistant",
        Role::System | Role::Developer | Role::User | Role::Tool | Role::Function => "user",
    });
    json.raw(",\"content\":");
    match blocks {
        [one] => write_block(json, one),
        _ => json.list(blocks, write_block),
    }
    json.raw("}");
}

fn words(json: &mut Writer, texts: &[JsonStr<'_>]) {
    for (at, text) in texts.iter().enumerate() {
        json.raw(if at == 0 { "" } else { "\\n\\n" });
        json.inside(*text);
    }
}

fn write_block(json: &mut Writer, block: &Block<'_>) {
    match block {
        Block::Text(text) => {
            json.raw("{\"type\":\"text\",\"text\":");
            json.text(*text);
        }
        Block::Words(texts) => {
            json.raw("{\"type\":\"text\",\"text\":\"");
            words(json, texts);
            json.raw("\"");
        }
        Block::Image(media_type, base64) => {
            json.raw("{\"type\":\"image\",\"data\":");
            json.plain(base64);
            json.raw(",\"mimeType\":");
            json.plain(media_type);
        }
        Block::Audio(media_type, base64) => {
            json.raw("{\"type\":\"audio\",\"data\":");
            json.text(*base64);
            json.raw(",\"mimeType\":");
            json.plain(media_type);
        }
        Block::Call(call) => {
            json.raw("{\"type\":\"tool_use\",\"id\":");
            json.plain(&call.id);
            json.raw(",\"name\":");
            json.text(call.name);
            json.raw(",\"input\":");
            match &call.arguments {
                Arguments::Object(raw) => json.json(raw.get()),
                Arguments::Text(text) => {
                    write_arguments(text.as_escaped().as_bytes(), &mut json.out);
                }
            }
        }
        Block::Result(id, said) => {
            json.raw("{\"type\":\"tool_result\",\"toolUseId\":");
            json.plain(id);
            json.raw(",\"content\":");
            json.list(said, write_block);
        }
    }
    json.raw("}");
}

/// The caller's tools. The protocol cannot force one of several: the client is told of that one alone, and has to call it.
fn tools(json: &mut Writer, parameters: &Parameters<'_>) -> Result<(), Failure<'static>> {
    if parameters.tools.is_empty() {
        return Ok(());
    }
    let (mode, only) = match parameters.tool_choice.as_ref().map(RawJson::get) {
        None => (None, None),
        Some("\"auto\"") => (Some("auto"), None),
        Some("\"none\"") => (Some("none"), None),
        Some("\"required\"") => (Some("required"), None),
        Some(choice) => {
            let choice = JsonValue::read(choice);
            let name = choice.and_then(|choice| choice.path(&["function", "name"])?.text());
            let name = name.ok_or_else(|| {
                cannot(
                    "tool_choice: a choice that is none of auto, required, none and one function",
                )
            })?;
            (Some("required"), Some(name))
        }
    };
    let function = |tool: &RawJson<'_>, name: &str| -> Option<String> {
        let value = JsonValue::read(tool.get())?.path(&["function", name])?;
        (!value.is_null()).then(|| value.get().into())
    };
    let named = |tool: &&RawJson<'_>| {
        let name = function(tool, "name");
        let name = name.as_deref().and_then(JsonValue::read);
        only.is_none() || name.and_then(JsonValue::text) == only
    };
    let told: Vec<&RawJson<'_>> = parameters.tools.iter().filter(named).collect();
    if told.is_empty() {
        return Err(cannot(
            "tool_choice: a function that is not among the tools",
        ));
    }
    json.key("tools");
    json.list(&told, |json, tool| {
        json.raw("{\"name\":");
        json.json(function(tool, "name").as_deref().unwrap_or("\"\""));
        if let Some(description) = function(tool, "description") {
            json.key("description");
            json.json(&description);
        }
        json.key("inputSchema");
        let schema = function(tool, "parameters").filter(|schema| schema.starts_with('{'));
        json.json(schema.as_deref().unwrap_or("{\"type\":\"object\"}"));
        json.raw("}");
    });
    if let Some(mode) = mode {
        json.key("toolChoice");
        json.raw("{\"mode\":");
        json.plain(mode);
        json.raw("}");
    }
    Ok(())
}
