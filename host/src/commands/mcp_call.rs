//! `mcp call`: one call of a tool.

use super::Failure;
use super::mcp::find;
use crate::config::Loaded;
use crate::printable::printable;
use serde_json::{Value, json};
use std::io::Write;

/// Calls a tool and shows its result. `arguments` is a JSON object.
pub(super) fn call(
    program: &'static str,
    loaded: &Loaded,
    server: &str,
    tool: &str,
    arguments: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, json!(tool));
    let asked = find(program, loaded)?;
    let result = asked.with(loaded, server, |server| server.ask("tools/call", &params))?;
    let read: Value = serde_json::from_str(&result).unwrap_or_default();
    if as_json {
        writeln!(out, "{}", result.replace(['\n', '\r'], " "))?;
    } else {
        show(&read, out)?;
    }
    if read.get("isError").and_then(Value::as_bool) == Some(true) {
        return Err(Failure(format!(
            "the tool `{}` says that it has failed",
            printable(tool)
        )));
    }
    Ok(())
}

/// Writes the content of a result as text, and in the place of other content what it is.
fn show(result: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let items = result.get("content").and_then(Value::as_array);
    let items = items.map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    for item in items {
        let resource = item.get("resource").unwrap_or(&Value::Null);
        let kind = text(item, "type");
        let line = match &*kind {
            "text" => text(item, "text"),
            "resource" if resource.get("text").is_some() => text(resource, "text"),
            "resource" => format!("[resource {}]", printable(&text(resource, "uri"))),
            "resource_link" => format!("[resource {}]", printable(&text(item, "uri"))),
            _ => format!(
                "[{} {}; --json shows it]",
                printable(&kind),
                printable(&text(item, "mimeType"))
            ),
        };
        writeln!(out, "{line}")?;
    }
    if items.is_empty() {
        match result.get("structuredContent") {
            Some(content) => writeln!(out, "{content:#}")?,
            None => writeln!(out, "{result:#}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_is_shown_as_text_and_the_rest_is_named() {
        for (result, expected) in [
            (
                json!({ "content": [{ "type": "text", "text": "a\nb" }, { "type": "image", "mimeType": "image/png", "data": "AA" }] }),
                "a\nb\n[image image/png; --json shows it]\n",
            ),
            (
                json!({ "content": [{ "type": "resource", "resource": { "uri": "file:///x", "text": "inside" } }, { "type": "resource_link", "uri": "file:///y" }] }),
                "inside\n[resource file:///y]\n",
            ),
            (
                json!({ "content": [], "structuredContent": { "a": 1 } }),
                "{\n  \"a\": 1\n}\n",
            ),
        ] {
            let mut out = Vec::new();
            show(&result, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
