//! Tests of the requests that are refused, with the exact words.
#![allow(clippy::unwrap_used)]

use super::{count_tokens_request, messages_request};
use crate::config::Limits;
use crate::dialect::tests::refuses;

#[test]
fn a_bad_request_is_told_where_and_why() {
    let limits = Limits {
        messages: 3,
        ..Limits::default()
    };
    let all = [
        (
            r#"{"model":"m"}"#,
            Some("messages"),
            "messages: missing; expected a list of messages",
        ),
        (
            r#"{"model":"m","messages":[]}"#,
            Some("messages"),
            "messages: expected at least one message, found none",
        ),
        (
            r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
            "model: expected a string, found 7",
        ),
        (
            r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#,
            Some("messages[0].role"),
            "messages[0].role: unknown role; expected user, assistant or system",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user"}]}"#,
            Some("messages[0].content"),
            "messages[0].content: missing; expected a string or a list of blocks",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":7}]}"#,
            Some("messages[0].content"),
            "messages[0].content: expected a string or a list of blocks, found 7",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"text":"x"}]}]}"#,
            Some("messages[0].content[0].type"),
            "messages[0].content[0].type: missing; expected the block's type",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            Some("messages[0].content[0].text"),
            "messages[0].content[0].text: missing; expected a string",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_use","id":"a","name":"b"}]}]}"#,
            Some("messages[0].content[0].type"),
            "messages[0].content[0].type: tool_use cannot be said by user",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result"}]}]}"#,
            Some("messages[0].content[0].tool_use_id"),
            "messages[0].content[0].tool_use_id: missing; expected the id of the call that it answers",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]}"#,
            Some("messages[0].content[0].source.type"),
            "messages[0].content[0].source.type: unknown source; expected base64 or url, as no files are kept here",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/bmp","data":"A"}}]}]}"#,
            Some("messages[0].content[0].source.media_type"),
            "messages[0].content[0].source.media_type: unknown type; expected image/png, image/jpeg, image/gif or image/webp",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"},{"type":"tool_result","tool_use_id":"b"},{"type":"tool_result","tool_use_id":"c"},{"type":"text","text":"x"}]}]}"#,
            Some("messages"),
            "messages: 4 messages; limits.messages is 3",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"system":{}}"#,
            Some("system"),
            "system: expected a string or a list of blocks, found an object",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}"#,
            Some("max_tokens"),
            "max_tokens: expected a whole number from 1, found 0",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1.5}"#,
            Some("temperature"),
            "temperature: expected a number from 0 to 1, found 1.5",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"name":"n"}]}"#,
            Some("tools[0].input_schema"),
            "tools[0].input_schema: missing; expected a JSON Schema object",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"input_schema":{}}]}"#,
            Some("tools[0].name"),
            "tools[0].name: missing; expected the tool's name",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":"auto"}"#,
            Some("tool_choice"),
            "tool_choice: expected an object, found a string",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"tool"}}"#,
            Some("tool_choice.name"),
            "tool_choice.name: missing; expected the tool's name",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"thinking":{"type":"yes"}}"#,
            Some("thinking.type"),
            "thinking.type: unknown type; expected enabled, adaptive or disabled",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"output_config":{"format":{"type":"xml"}}}"#,
            Some("output_config.format.type"),
            "output_config.format.type: unknown type; expected json_schema",
        ),
    ];
    refuses(messages_request, &limits, &all);
    refuses(count_tokens_request, &limits, &all);
    let unlimited = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let missing = "max_tokens: missing; expected a whole number from 1";
    refuses(
        messages_request,
        &limits,
        &[(unlimited, Some("max_tokens"), missing)],
    );
    assert!(count_tokens_request(unlimited, &limits).is_ok());
    let small = Limits {
        content_bytes: 3,
        ..Limits::default()
    };
    let body = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"four"}]}]}]}"#;
    let refusal = messages_request(body, &small).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.param()),
        (413, Some("messages[0].content[0].content"))
    );
}
