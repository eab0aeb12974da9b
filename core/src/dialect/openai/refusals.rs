//! Tests of the requests that are refused, with the exact words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::chat_request;
use crate::config::Limits;
use crate::dialect::body::ELEMENTS;
use crate::dialect::tests::refuses;
use alloc::format;

#[test]
fn a_malformed_body_is_refused_in_clear_words() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    let deep_in_text = format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"\\\"{}\"}}]}}",
        "[".repeat(99)
    );
    assert!(chat_request(&deep_in_text, &Limits::default()).is_ok());
    refuses(
        chat_request,
        &Limits::default(),
        &[
            ("", None, "the body is empty; send a JSON object"),
            (" \n", None, "the body is empty; send a JSON object"),
            ("[]", None, "the body is a list; send a JSON object"),
            ("\"x\"", None, "the body is a string; send a JSON object"),
            ("model=m", None, "the body is not JSON; send a JSON object"),
            (
                "{\"model\":\"m",
                None,
                "the body is cut off: EOF while parsing a string at line 1 column 11",
            ),
            (
                "{\"model\":\"m\"} x",
                None,
                "the body is not one JSON object: trailing characters at line 1 column 15",
            ),
            (
                "{\"model\":}",
                None,
                "the body is not one JSON object: expected value at line 1 column 10",
            ),
            (
                &deep,
                None,
                "the body is nested 65 deep or more; limits.json_depth is 64",
            ),
        ],
    );
}

#[test]
fn a_wrong_field_is_named() {
    let with = |fields: &str| {
        format!(
            "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],{fields}}}"
        )
    };
    let table = [
        (
            r#""temperature":2.5"#,
            "temperature",
            "temperature: expected a number from 0 to 2, found 2.5",
        ),
        (
            r#""temperature":"1""#,
            "temperature",
            "temperature: expected a number from 0 to 2, found a string",
        ),
        (
            r#""temperature":1e999"#,
            "temperature",
            "temperature: expected a number from 0 to 2, found 1e999",
        ),
        (
            r#""top_p":-0.1"#,
            "top_p",
            "top_p: expected a number from 0 to 1, found -0.1",
        ),
        (
            r#""presence_penalty":3"#,
            "presence_penalty",
            "presence_penalty: expected a number from -2 to 2, found 3",
        ),
        (
            r#""frequency_penalty":[]"#,
            "frequency_penalty",
            "frequency_penalty: expected a number from -2 to 2, found a list",
        ),
        (
            r#""max_tokens":0"#,
            "max_tokens",
            "max_tokens: expected a positive whole number, or -1 for no limit, found 0",
        ),
        (
            r#""max_completion_tokens":1.5"#,
            "max_completion_tokens",
            "max_completion_tokens: expected a whole number of at most 64 bits, found 1.5",
        ),
        (
            r#""n":2"#,
            "n",
            "n: expected 1, as an agent gives one answer, found 2",
        ),
        (
            r#""seed":"x""#,
            "seed",
            "seed: expected a whole number of at most 64 bits, found a string",
        ),
        (
            r#""stop":["a","b","c","d","e"]"#,
            "stop",
            "stop: 5 strings; at most 4 are allowed",
        ),
        (
            r#""stop":7"#,
            "stop",
            "stop: expected a string or a list of at most 4 strings, found 7",
        ),
        (
            r#""stop":["a",7]"#,
            "stop[1]",
            "stop[1]: expected a string, found 7",
        ),
        (
            r#""stream":"yes""#,
            "stream",
            "stream: expected true or false, found a string",
        ),
        (
            r#""stream_options":{"include_usage":1}"#,
            "stream_options.include_usage",
            "stream_options.include_usage: expected true or false, found 1",
        ),
        (
            r#""stream_options":[]"#,
            "stream_options",
            "stream_options: expected an object, found a list",
        ),
        (
            r#""user":{}"#,
            "user",
            "user: expected a string, found an object",
        ),
        (
            r#""metadata":"x""#,
            "metadata",
            "metadata: expected an object, found a string",
        ),
        (
            r#""tools":{}"#,
            "tools",
            "tools: expected a list, found an object",
        ),
        (
            r#""tools":[{"type":"function"}]"#,
            "tools[0].function",
            "tools[0].function: missing; expected an object with the function's name",
        ),
        (
            r#""tools":[{"type":"custom"}]"#,
            "tools[0].type",
            "tools[0].type: only tools of type function are supported",
        ),
        (
            r#""tools":[{"function":{"name":""}}]"#,
            "tools[0].function.name",
            "tools[0].function.name: expected a name, found an empty string",
        ),
        (
            r#""tools":[{"function":{"name":"a","parameters":[]}}]"#,
            "tools[0].function.parameters",
            "tools[0].function.parameters: expected a JSON Schema object, found a list",
        ),
        (
            r#""tool_choice":"any""#,
            "tool_choice",
            "tool_choice: unknown choice; expected none, auto, required or an object that names a function",
        ),
        (
            r#""tool_choice":{"type":"function"}"#,
            "tool_choice.function",
            "tool_choice.function: missing; expected an object with the function's name",
        ),
        (
            r#""parallel_tool_calls":0"#,
            "parallel_tool_calls",
            "parallel_tool_calls: expected true or false, found 0",
        ),
        (
            r#""response_format":{"type":"xml"}"#,
            "response_format.type",
            "response_format.type: unknown type; expected text, json_object or json_schema",
        ),
        (
            r#""response_format":{"type":"json_schema"}"#,
            "response_format.json_schema",
            "response_format.json_schema: missing; expected an object with name and schema",
        ),
        (
            r#""reasoning_effort":3"#,
            "reasoning_effort",
            "reasoning_effort: expected a string, found 3",
        ),
        (
            r#""top_logprobs":21"#,
            "top_logprobs",
            "top_logprobs: expected a whole number from 0 to 20, found 21",
        ),
        (
            r#""functions":[{"name":"f"}]"#,
            "functions",
            "functions: this legacy field is not supported; send tools instead",
        ),
    ];
    for (fields, param, message) in table {
        refuses(
            chat_request,
            &Limits::default(),
            &[(&with(fields), Some(param), message)],
        );
    }
}

#[test]
fn a_wrong_message_is_named() {
    let with = |message: &str| {
        format!(
            "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}},{message}]}}"
        )
    };
    let table = [
        (
            r#""x""#,
            "messages[1]",
            "messages[1]: expected an object, found a string",
        ),
        (
            r#"["user","x"]"#,
            "messages[1]",
            "messages[1]: expected an object, found a list",
        ),
        (
            r#"{"content":"x"}"#,
            "messages[1].role",
            "messages[1].role: missing; expected system, developer, user, assistant, tool or function",
        ),
        (
            r#"{"role":"wizard","content":"x"}"#,
            "messages[1].role",
            "messages[1].role: unknown role; expected system, developer, user, assistant, tool or function",
        ),
        (
            r#"{"role":"user","content":5}"#,
            "messages[1].content",
            "messages[1].content: expected a string or a list of parts, found 5",
        ),
        (
            r#"{"role":"user"}"#,
            "messages[1].content",
            "messages[1].content: missing or null; expected a string or a list of parts",
        ),
        (
            r#"{"role":"user","content":["x"]}"#,
            "messages[1].content[0]",
            "messages[1].content[0]: expected an object, found a string",
        ),
        (
            r#"{"role":"user","content":[{"text":"x"}]}"#,
            "messages[1].content[0].type",
            "messages[1].content[0].type: missing; expected text, image_url, input_audio, file or refusal",
        ),
        (
            r#"{"role":"user","content":[{"type":"video"}]}"#,
            "messages[1].content[0].type",
            "messages[1].content[0].type: unknown type of part; expected text, image_url, input_audio, file or refusal",
        ),
        (
            r#"{"role":"user","content":[{"type":"text"}]}"#,
            "messages[1].content[0].text",
            "messages[1].content[0].text: missing; expected a string",
        ),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":"u"}]}"#,
            "messages[1].content[0].image_url",
            "messages[1].content[0].image_url: expected an object, found a string",
        ),
        (
            r#"{"role":"user","content":"x","name":1}"#,
            "messages[1].name",
            "messages[1].name: expected a string, found 1",
        ),
        (
            r#"{"role":"tool","content":"x"}"#,
            "messages[1].tool_call_id",
            "messages[1].tool_call_id: missing; a tool message names the call that it answers",
        ),
        (
            r#"{"role":"function","content":"x"}"#,
            "messages[1].name",
            "messages[1].name: missing; expected the function's name",
        ),
        (
            r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}"#,
            "messages[1].tool_calls[0].id",
            "messages[1].tool_calls[0].id: missing; expected the call's id",
        ),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"a","function":{}}]}"#,
            "messages[1].tool_calls[0].function.name",
            "messages[1].tool_calls[0].function.name: missing; expected the function's name",
        ),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":7}}]}"#,
            "messages[1].tool_calls[0].function.arguments",
            "messages[1].tool_calls[0].function.arguments: expected a string, found 7",
        ),
    ];
    for (message, param, words) in table {
        refuses(
            chat_request,
            &Limits::default(),
            &[(&with(message), Some(param), words)],
        );
    }
    let long = format!("{{\"model\":\"{}\"}}", "m".repeat(257));
    refuses(
        chat_request,
        &Limits::default(),
        &[
            (
                r#"{"model":7}"#,
                Some("model"),
                "model: expected a string, found 7",
            ),
            (
                r#"{"model":7}"#,
                Some("model"),
                "model: expected a string, found 7",
            ),
            (
                &long,
                Some("model"),
                "model: 257 bytes; a model's name has at most 256",
            ),
            (
                r#"{"model":"a\u0000"}"#,
                Some("model"),
                "model: a model's name has no blanks or control characters",
            ),
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
                r#"{"model":"m","messages":{}}"#,
                Some("messages"),
                "messages: expected a list, found an object",
            ),
        ],
    );
}

#[test]
fn limits_are_named_with_their_values() {
    let limits = Limits {
        messages: 2,
        content_bytes: 10,
        ..Limits::default()
    };
    let with = |content: &str| {
        format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":{content}}}]}}")
    };
    // Ten bytes of text, however they are escaped; media do not count.
    for fits in [
        "\"0123456789\"",
        "\"\\u0041\\u0041\\u0041\"",
        r#"[{"type":"text","text":"01234"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAAAAAAAAAA"}},{"type":"text","text":"56789"}]"#,
    ] {
        assert!(chat_request(&with(fits), &limits).is_ok(), "{fits}");
    }
    for over in [
        "\"0123456789a\"",
        r#"[{"type":"text","text":"01234"},{"type":"text","text":"56789a"}]"#,
    ] {
        let refusal = chat_request(&with(over), &limits).unwrap_err();
        assert_eq!(
            refusal.message(),
            "messages[0].content: 11 bytes; limits.content_bytes is 10"
        );
        assert_eq!(
            (refusal.status(), refusal.param()),
            (413, Some("messages[0].content"))
        );
    }
    let three = r#"{"model":"m","messages":[{"role":"user","content":""},{"role":"user","content":""},{"role":"user","content":""}]}"#;
    refuses(
        chat_request,
        &limits,
        &[(
            three,
            Some("messages"),
            "messages: 3 messages; limits.messages is 2",
        )],
    );
}

#[test]
fn lists_are_bounded() {
    let parts = "{},".repeat(ELEMENTS) + "{}";
    let body =
        format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":[{parts}]}}]}}");
    let message = "messages[0].content: 1025 elements; at most 1024 are allowed";
    refuses(
        chat_request,
        &Limits::default(),
        &[(&body, Some("messages[0].content"), message)],
    );
}
