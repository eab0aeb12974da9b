//! The items of an input as neutral messages.

use crate::config::Limits;
use crate::dialect::body::{Path, Value, raw_fields};
use crate::dialect::fields;
use crate::error::Refusal;
use crate::invocation::{Arguments, Content, Message, Part, Role, ToolCall};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

/// Items to a message: a call, its result and the reasoning before it are three items and two messages.
const ITEMS_TO_A_MESSAGE: usize = 4;

raw_fields! {
    /// One item.
    Item {
        kind: "type",
        role: "role",
        content: "content",
        id: "id",
        call_id: "call_id",
        name: "name",
        arguments: "arguments",
        output: "output",
    }
}

raw_fields! {
    /// One part of an item's content.
    ContentPart {
        kind: "type",
        text: "text",
        refusal: "refusal",
        image_url: "image_url",
        detail: "detail",
        file_data: "file_data",
        filename: "filename",
        input_audio: "input_audio",
    }
}

/// Collects messages from items, and the items themselves for requests that continue from the answer.
pub(super) struct Items<'a, 'l> {
    limits: &'l Limits,
    messages: Vec<Message<'a>>,
    /// The beginning of a JSON list, when the conversation is to be kept.
    conversation: Option<Vec<u8>>,
    /// False while there are only instructions.
    asked: bool,
}

impl<'a, 'l> Items<'a, 'l> {
    pub(super) fn new(limits: &'l Limits, keeps: bool) -> Self {
        Self {
            limits,
            messages: Vec::new(),
            conversation: keeps.then(Vec::new),
            asked: false,
        }
    }

    /// True when nobody has said anything but instructions.
    pub(super) const fn is_empty(&self) -> bool {
        !self.asked
    }

    /// The messages, and the items of the conversation as the elements of a JSON list.
    pub(super) fn finish(self) -> (Vec<Message<'a>>, Option<Vec<u8>>) {
        (self.messages, self.conversation)
    }

    /// Adds a message of text.
    pub(super) fn say(&mut self, role: Role, text: JsonStr<'a>) {
        self.push(role, Content::Text(text));
    }

    fn push(&mut self, role: Role, content: Content<'a>) {
        self.messages.push(Message {
            role,
            content,
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        });
    }

    fn keep(&mut self, item: &str) {
        if let Some(conversation) = &mut self.conversation {
            if !conversation.is_empty() {
                conversation.push(b',');
            }
            conversation.extend_from_slice(item.as_bytes());
        }
    }

    /// The items of an earlier request and its answer.
    pub(super) fn read_history(&mut self, history: &'a [u8]) -> Result<(), Refusal> {
        let path = Path::root("previous_response_id");
        let history = core::str::from_utf8(history).map_err(|error| path.wrong(error))?;
        let raw = JsonValue::read(history).ok_or_else(|| path.wrong("not JSON"))?;
        self.read(&Value { raw, path })
    }

    /// A string, which the person says, or a list of items.
    pub(super) fn read(&mut self, input: &Value<'a, '_>) -> Result<(), Refusal> {
        match input.first() {
            b'"' => {
                let text = input.string()?;
                fields::check_bytes(core::iter::once(text), input.path, self.limits)?;
                self.say(Role::User, text);
                self.asked = true;
                self.keep(&format!("{{\"role\":\"user\",\"content\":{}}}", input.raw));
            }
            b'[' => {
                let most = self.limits.messages.saturating_mul(ITEMS_TO_A_MESSAGE);
                let items = input.list_within(most)?;
                for (index, raw) in items.into_iter().enumerate() {
                    let path = input.path.index(index);
                    if self.item(&Value { raw, path })? {
                        self.asked = true;
                        self.keep(raw.get());
                    }
                }
            }
            _ => return Err(input.expected("a string or a list of items")),
        }
        let count = self.messages.len();
        if count > self.limits.messages {
            return Err(fields::too_many_messages(count, input.path, self.limits));
        }
        Ok(())
    }

    /// False for an item that says nothing to an agent.
    fn item(&mut self, value: &Value<'a, '_>) -> Result<bool, Refusal> {
        let path = &value.path;
        let item: Item<'a> = value.object()?;
        let kind = match path.key("type").find(item.kind) {
            Some(kind) => kind.string()?.decode(),
            None if item.role.is_some() => Cow::Borrowed("message"),
            None => Cow::Borrowed("item_reference"),
        };
        match &*kind {
            "message" => self.message(&item, path)?,
            "function_call" => {
                let call = function_call(&item, path)?;
                // A call belongs to what the assistant said just before it.
                match self.messages.last_mut() {
                    Some(message) if message.role == Role::Assistant => {
                        message.tool_calls.push(call);
                    }
                    _ => {
                        self.push(Role::Assistant, Content::None);
                        if let Some(message) = self.messages.last_mut() {
                            message.tool_calls.push(call);
                        }
                    }
                }
            }
            "function_call_output" => {
                let id = path.key("call_id");
                let id = id.need(item.call_id, "the id of the call that it answers")?;
                let id = id.name()?.decode();
                let output = path.key("output");
                let output = output.need(item.output, "a string or a list of parts")?;
                let content = self.content(&output)?;
                self.push(Role::Tool, content);
                if let Some(message) = self.messages.last_mut() {
                    message.tool_call_id = Some(id);
                }
            }
            "item_reference" => {
                return Err(path.wrong("items are not kept here one by one; send the item itself"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn message(&mut self, item: &Item<'a>, path: &Path<'_>) -> Result<(), Refusal> {
        const EXPECTED: &str = "user, assistant, system or developer";
        let role = path.key("role").need(item.role, EXPECTED)?;
        let role = match &*role.string()?.decode() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            _ => {
                return Err(role
                    .path
                    .wrong(format_args!("unknown role; expected {EXPECTED}")));
            }
        };
        let content = path.key("content");
        let content = content.need(item.content, "a string or a list of parts")?;
        let content = self.content(&content)?;
        self.push(role, content);
        Ok(())
    }

    fn content(&self, value: &Value<'a, '_>) -> Result<Content<'a>, Refusal> {
        let parts = match value.first() {
            b'"' => alloc::vec![Part::Text(value.string()?)],
            b'[' => {
                let mut parts = Vec::new();
                for (index, raw) in value.list()?.into_iter().enumerate() {
                    let path = value.path.index(index);
                    parts.extend(part(&Value { raw, path })?);
                }
                parts
            }
            _ => return Err(value.expected("a string or a list of parts")),
        };
        let texts = parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(*text),
            Part::Image { .. } | Part::Other(_) => None,
        });
        fields::check_bytes(texts, value.path, self.limits)?;
        Ok(match parts.as_slice() {
            [] => Content::Text(JsonStr::EMPTY),
            [Part::Text(text)] => Content::Text(*text),
            _ => Content::Parts(parts),
        })
    }
}

/// A part in OpenAI's other form; nothing when it is of a type that this version does not know.
fn part<'a>(value: &Value<'a, '_>) -> Result<Option<Part<'a>>, Refusal> {
    let path = value.path;
    let part: ContentPart<'a> = value.object()?;
    let kind = path.key("type").need(part.kind, "the part's type")?;
    Ok(Some(match &*kind.string()?.decode() {
        "input_text" | "output_text" | "text" => {
            let text = path.key("text").need(part.text, "a string")?;
            Part::Text(text.string()?)
        }
        "refusal" => {
            let refusal = path.key("refusal").need(part.refusal, "a string")?;
            Part::Text(refusal.string()?)
        }
        "input_image" => {
            let url = path.key("image_url");
            let url = url.need(part.image_url, "a URL, as no files are kept here")?;
            url.name()?;
            let detail = path.key("detail").find(part.detail);
            detail.map(|detail| detail.string()).transpose()?;
            let detail = part
                .detail
                .map_or_else(alloc::string::String::new, |detail| {
                    format!(",\"detail\":{detail}")
                });
            Part::Other(RawJson::from_parts(format!(
                "{{\"type\":\"image_url\",\"image_url\":{{\"url\":{}{detail}}}}}",
                url.raw
            )))
        }
        "input_file" => {
            let data = path.key("file_data");
            let data = data.need(part.file_data, "a data URL, as no files are kept here")?;
            data.name()?;
            let name = path.key("filename").find(part.filename);
            name.map(|name| name.string()).transpose()?;
            Part::Other(RawJson::from_parts(format!(
                "{{\"type\":\"file\",\"file\":{{\"filename\":{},\"file_data\":{}}}}}",
                part.filename.map_or("\"file\"", JsonValue::get),
                data.raw
            )))
        }
        "input_audio" => {
            let audio = path
                .key("input_audio")
                .need(part.input_audio, "an object")?;
            if audio.first() != b'{' {
                return Err(audio.expected("an object"));
            }
            Part::Other(value.raw.into())
        }
        _ => return Ok(None),
    }))
}

fn function_call<'a>(item: &Item<'a>, path: &Path<'_>) -> Result<ToolCall<'a>, Refusal> {
    let id = path.key("call_id").need(item.call_id, "the call's id")?;
    let name = path.key("name").need(item.name, "the function's name")?;
    let arguments = path.key("arguments").find(item.arguments);
    Ok(ToolCall {
        id: id.name()?.decode(),
        name: name.name()?,
        arguments: match arguments {
            None => Arguments::Text(JsonStr::from_escaped("{}")),
            Some(arguments) => Arguments::Text(arguments.string()?),
        },
    })
}
