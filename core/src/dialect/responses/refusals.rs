//! Requests of the Responses API that are refused, and in which words.

#![allow(clippy::unwrap_used)]

use super::tests::read_new;
use crate::config::Limits;
use crate::dialect::tests::refuses;

#[test]
fn a_bad_request_is_told_where_and_why() {
    let limits = Limits {
        messages: 2,
        ..Limits::default()
    };
    refuses(
        read_new,
        &limits,
        &[
            (
                r#"{"model":"m"}"#,
                Some("input"),
                "input: missing; expected a string or a list of items",
            ),
            (
                r#"{"model":"m","input":7}"#,
                Some("input"),
                "input: expected a string or a list of items, found 7",
            ),
            (
                r#"{"model":"m","input":[]}"#,
                Some("input"),
                "input: expected at least one message, found none",
            ),
            (
                r#"{"model":"m","input":[{"type":"reasoning","summary":[]}],"instructions":"x"}"#,
                Some("input"),
                "input: expected at least one message, found none",
            ),
            (
                r#"{"model":7,"input":"x"}"#,
                Some("model"),
                "model: expected a string, found 7",
            ),
            (
                r#"{"model":"m","input":[{"role":"tool","content":"x"}]}"#,
                Some("input[0].role"),
                "input[0].role: unknown role; expected user, assistant, system or developer",
            ),
            (
                r#"{"model":"m","input":[{"role":"user"}]}"#,
                Some("input[0].content"),
                "input[0].content: missing; expected a string or a list of parts",
            ),
            (
                r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text"}]}]}"#,
                Some("input[0].content[0].text"),
                "input[0].content[0].text: missing; expected a string",
            ),
            (
                r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]}"#,
                Some("input[0].content[0].image_url"),
                "input[0].content[0].image_url: missing; expected a URL, as no files are kept here",
            ),
            (
                r#"{"model":"m","input":[{"type":"function_call","name":"n"}]}"#,
                Some("input[0].call_id"),
                "input[0].call_id: missing; expected the call's id",
            ),
            (
                r#"{"model":"m","input":[{"type":"function_call_output","call_id":"c"}]}"#,
                Some("input[0].output"),
                "input[0].output: missing; expected a string or a list of parts",
            ),
            (
                r#"{"model":"m","input":[{"id":"msg_1"}]}"#,
                Some("input[0]"),
                "input[0]: items are not kept here one by one; send the item itself",
            ),
            (
                r#"{"model":"m","input":"x","instructions":["x"]}"#,
                Some("instructions"),
                "instructions: expected a string, found a list",
            ),
            (
                r#"{"model":"m","input":[{"role":"user","content":"x"},{"role":"user","content":"x"},{"role":"user","content":"x"}]}"#,
                Some("input"),
                "input: 3 messages; limits.messages is 2",
            ),
            (
                r#"{"model":"m","input":[{"type":"a"},{"type":"a"},{"type":"a"},{"type":"a"},{"type":"a"},{"type":"a"},{"type":"a"},{"type":"a"},{"type":"a"}]}"#,
                Some("input"),
                "input: 9 elements; at most 8 are allowed",
            ),
            (
                r#"{"model":"m","input":"x","max_output_tokens":0}"#,
                Some("max_output_tokens"),
                "max_output_tokens: expected a positive whole number, found 0",
            ),
            (
                r#"{"model":"m","input":"x","temperature":3}"#,
                Some("temperature"),
                "temperature: expected a number from 0 to 2, found 3",
            ),
            (
                r#"{"model":"m","input":"x","tools":[{"name":"n"}]}"#,
                Some("tools[0].type"),
                "tools[0].type: missing; expected the tool's type",
            ),
            (
                r#"{"model":"m","input":"x","tools":[{"type":"function","function":{"name":"n"}}]}"#,
                Some("tools[0].name"),
                "tools[0].name: missing; expected the function's name",
            ),
            (
                r#"{"model":"m","input":"x","tool_choice":"maybe"}"#,
                Some("tool_choice"),
                "tool_choice: unknown choice; expected none, auto, required or an object that names a function",
            ),
            (
                r#"{"model":"m","input":"x","text":{"format":{"type":"json_schema","schema":{}}}}"#,
                Some("text.format.name"),
                "text.format.name: missing; expected the schema's name",
            ),
            (
                r#"{"model":"m","input":"x","background":true}"#,
                Some("background"),
                "background: answers are not made in the background here",
            ),
            (
                r#"{"model":"m","input":"x","conversation":"conv_1"}"#,
                Some("conversation"),
                "conversation: none is kept here; send its content as input",
            ),
            (
                r#"{"model":"m","input":"x","previous_response_id":7}"#,
                Some("previous_response_id"),
                "previous_response_id: expected a string, found 7",
            ),
        ],
    );
    let body = r#"{"model":"m","input":"x","previous_response_id":"resp_1"}"#;
    let refusal = read_new(body, &limits).map(|_| ()).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.param(), refusal.message()),
        (
            404,
            Some("previous_response_id"),
            "the response `resp_1` is not kept here (any more); send the whole conversation as input"
        )
    );
    let small = Limits {
        content_bytes: 3,
        ..Limits::default()
    };
    let body = r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"four"}]}]}"#;
    let refusal = read_new(body, &small).map(|_| ()).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.param()),
        (413, Some("input[0].content"))
    );
}
