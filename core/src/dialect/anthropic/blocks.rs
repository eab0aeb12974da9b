//! Reads the blocks of Anthropic's messages.

use crate::config::Limits;
use crate::dialect::body::{Path, Value, raw_fields};
use crate::dialect::fields;
use crate::error::Refusal;
use crate::invocation::{Arguments, Content, Message, Part, Role, ToolCall};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

raw_fields! {
    /// One block of a turn's content.
    Block {
        kind: "type",
        text: "text",
        source: "source",
        title: "title",
        id: "id",
        name: "name",
        input: "input",
        tool_use_id: "tool_use_id",
        content: "content",
    }
}

raw_fields! {
    /// The source of an image or a document.
    Source {
        kind: "type",
        media_type: "media_type",
        data: "data",
        url: "url",
        content: "content",
    }
}

/// Parts as content, one text as a string.
pub(super) fn content(mut parts: Vec<Part<'_>>) -> Content<'_> {
    match parts.as_slice() {
        [] => Content::Text(JsonStr::EMPTY),
        [Part::Text(text)] => Content::Text(*text),
        _ => {
            parts.shrink_to_fit();
            Content::Parts(parts)
        }
    }
}

/// The type of a block.
pub(super) fn kind<'a>(block: &Block<'a>, path: &Path<'_>) -> Result<Cow<'a, str>, Refusal> {
    let kind = path.key("type").need(block.kind, "the block's type")?;
    Ok(kind.string()?.decode())
}

/// Appends what a block of text or media says.
pub(in crate::dialect) fn part<'a>(
    kind: &str,
    block: &Block<'a>,
    path: &Path<'_>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), Refusal> {
    match kind {
        "text" => {
            let text = path.key("text").need(block.text, "a string")?;
            parts.push(Part::Text(text.string()?));
        }
        "image" => {
            let source = path.key("source").need(block.source, "an object")?;
            parts.push(image(&source)?);
        }
        "document" => {
            let source = path.key("source").need(block.source, "an object")?;
            document(&source, block.title, parts)?;
        }
        "search_result" => {
            let content = path.key("content").need(block.content, "a list of texts")?;
            texts(&content, parts)?;
        }
        // Thinking, what Anthropic's own tools did, and what is newer than this program.
        _ => {}
    }
    Ok(())
}

/// The texts of a list of blocks.
fn texts<'a>(list: &Value<'a, '_>, parts: &mut Vec<Part<'a>>) -> Result<(), Refusal> {
    let blocks: Vec<Block<'a>> = list.objects()?;
    for (index, block) in blocks.iter().enumerate() {
        if let Some(text) = list.path.index(index).key("text").find(block.text) {
            parts.push(Part::Text(text.string()?));
        }
    }
    Ok(())
}

fn image<'a>(value: &Value<'a, '_>) -> Result<Part<'a>, Refusal> {
    const KINDS: &str = "base64 or url";
    let source: Source<'a> = value.object()?;
    let kind = value.path.key("type").need(source.kind, KINDS)?;
    match &*kind.string()?.decode() {
        "base64" => {
            let media_type = value.path.key("media_type");
            let media_type = media_type.need(source.media_type, "image/png, say")?;
            let data = value.path.key("data").need(source.data, "base64")?;
            Ok(Part::Image {
                media_type: match &*media_type.string()?.decode() {
                    "image/png" => "image/png",
                    "image/jpeg" => "image/jpeg",
                    "image/gif" => "image/gif",
                    "image/webp" => "image/webp",
                    _ => {
                        return Err(media_type.path.wrong(
                            "unknown type; expected image/png, image/jpeg, image/gif or image/webp",
                        ));
                    }
                },
                base64: data.name()?,
            })
        }
        "url" => {
            let url = value.path.key("url").need(source.url, "a URL")?;
            url.name()?;
            let json = format!(
                "{{\"type\":\"image_url\",\"image_url\":{{\"url\":{}}}}}",
                url.raw
            );
            Ok(Part::Other(RawJson::from_parts(json)))
        }
        _ => Err(kind.path.wrong(format_args!(
            "unknown source; expected {KINDS}, as no files are kept here"
        ))),
    }
}

fn document<'a>(
    value: &Value<'a, '_>,
    title: Option<JsonValue<'_>>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), Refusal> {
    const KINDS: &str = "text, content or base64";
    let source: Source<'a> = value.object()?;
    let kind = value.path.key("type").need(source.kind, KINDS)?;
    match &*kind.string()?.decode() {
        "text" => {
            let data = value.path.key("data").need(source.data, "a string")?;
            parts.push(Part::Text(data.string()?));
        }
        "content" => {
            let path = value.path.key("content");
            let content = path.need(source.content, "a string or a list of blocks")?;
            if content.first() == b'"' {
                parts.push(Part::Text(content.string()?));
            } else {
                texts(&content, parts)?;
            }
        }
        "base64" => {
            let media_type = value.path.key("media_type");
            let media_type = media_type.need(source.media_type, "application/pdf")?;
            if media_type.string()?.decode() != "application/pdf" {
                return Err(media_type
                    .path
                    .wrong("unknown type; expected application/pdf"));
            }
            let data = value.path.key("data").need(source.data, "base64")?;
            let title = title.filter(|title| title.get().starts_with('"'));
            let json = format!(
                "{{\"type\":\"file\",\"file\":{{\"filename\":{},\"file_data\":\"data:application/pdf;base64,{}\"}}}}",
                title.map_or("\"document.pdf\"", JsonValue::get),
                data.name()?.as_escaped()
            );
            parts.push(Part::Other(RawJson::from_parts(json)));
        }
        _ => {
            return Err(kind.path.wrong(format_args!(
                "unknown source; expected {KINDS}, as no files are kept here"
            )));
        }
    }
    Ok(())
}

/// The content of a turn or of a result: a string or a list of blocks, of text and media.
pub(super) fn said<'a>(value: &Value<'a, '_>, limits: &Limits) -> Result<Content<'a>, Refusal> {
    match value.first() {
        b'"' => {
            let text = value.string()?;
            fields::check_bytes(core::iter::once(text), value.path, limits)?;
            Ok(Content::Text(text))
        }
        b'[' => {
            let blocks: Vec<Block<'a>> = value.objects()?;
            let mut parts = Vec::with_capacity(blocks.len());
            for (index, block) in blocks.iter().enumerate() {
                let path = value.path.index(index);
                part(&kind(block, &path)?, block, &path, &mut parts)?;
            }
            fields::check_parts(&parts, value.path, limits)?;
            Ok(content(parts))
        }
        _ => Err(value.expected("a string or a list of blocks")),
    }
}

/// The result of a call, which is a message of its own.
pub(in crate::dialect) fn tool_result<'a>(
    block: &Block<'a>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Message<'a>, Refusal> {
    let id = path.key("tool_use_id");
    let id = id.need(block.tool_use_id, "the id of the call that it answers")?;
    let content = match path.key("content").find(block.content) {
        Some(value) => said(&value, limits)?,
        None => Content::Text(JsonStr::EMPTY),
    };
    Ok(Message {
        role: Role::Tool,
        content,
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: Some(id.name()?.decode()),
    })
}

/// The refusal of a block that another role says.
pub(in crate::dialect) fn not_by(kind: &str, role: Role, path: &Path<'_>) -> Refusal {
    let why = format_args!("{kind} cannot be said by {}", role.as_str());
    path.key("type").wrong(why)
}

/// A call that the assistant made.
pub(in crate::dialect) fn tool_use<'a>(
    block: &Block<'a>,
    path: &Path<'_>,
) -> Result<ToolCall<'a>, Refusal> {
    let id = path.key("id").need(block.id, "the call's id")?;
    let name = path.key("name").need(block.name, "the tool's name")?;
    let input = path.key("input").find(block.input);
    Ok(ToolCall {
        id: id.name()?.decode(),
        name: name.name()?,
        arguments: match input {
            None => Arguments::Text(JsonStr::from_escaped("{}")),
            Some(input) if input.first() == b'{' => Arguments::Object(input.raw.into()),
            Some(input) => return Err(input.expected("an object")),
        },
    })
}
