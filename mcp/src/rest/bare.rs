//! A tool's result alone, as mcpo gives it: structured content, or else the content with as little round it as can be.

use super::failure::{Failure, quoted};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::text::JsonValue;

/// Type of bytes whose type nobody says.
const BYTES: &str = "application/octet-stream";

/// Returns the result of a tool as JSON: `structuredContent`, else the items of `content`, a single one without its list.
///
/// # Errors
/// `isError`: the texts of the content are the message.
pub(super) fn bare(result: JsonValue<'_>) -> Result<String, Failure> {
    let content = result.member("content");
    let content = content.map(JsonValue::elements).unwrap_or_default();
    if result
        .member("isError")
        .is_some_and(|it| it.get() == "true")
    {
        let texts = content.iter().filter_map(|item| text(*item));
        let texts: Vec<Cow<'_, str>> = texts.collect();
        return Err(Failure::of_tool(match texts.as_slice() {
            [] => "the tool has failed".into(),
            texts => texts.join("\n"),
        }));
    }
    let structured = result.member("structuredContent");
    if let Some(structured) = structured.filter(|it| !it.is_null()) {
        return Ok(structured.get().into());
    }
    let items: Vec<String> = content.into_iter().map(item).collect();
    Ok(match items.as_slice() {
        [only] => only.clone(),
        several => format!("[{}]", several.join(",")),
    })
}

/// The text of an item that is one.
fn text(item: JsonValue<'_>) -> Option<Cow<'_, str>> {
    item.member("text").and_then(JsonValue::text)
}

/// One item of the content, as JSON: a text that is JSON is that, another text a string, an image or a sound a `data:` URI (RFC 2397),
/// an embedded resource its content, and everything else as it is.
fn item(item: JsonValue<'_>) -> String {
    let kind = item.member("type").and_then(JsonValue::text);
    let known = match kind.as_deref() {
        Some("text") => text(item).map(|text| of_text(&text)),
        Some("image" | "audio") => data_uri(item, "data"),
        Some("resource") => item.member("resource").and_then(|resource| {
            let content = text(resource).map(|text| of_text(&text));
            content.or_else(|| data_uri(resource, "blob"))
        }),
        Some(_) | None => None,
    };
    known.unwrap_or_else(|| item.get().into())
}

fn of_text(text: &str) -> String {
    match JsonValue::read(text) {
        Some(value) => value.get().into(),
        None => quoted(text),
    }
}

fn data_uri(of: JsonValue<'_>, member: &str) -> Option<String> {
    let data = of.member(member)?.text()?;
    let kind = of.member("mimeType").and_then(JsonValue::text);
    let kind = kind.as_deref().unwrap_or(BYTES);
    Some(quoted(&format!("data:{kind};base64,{data}")))
}
