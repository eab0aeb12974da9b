#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::chat_request;
use crate::config::Limits;
use crate::dialect::tests::{Step, call, content, reasoning, refuses, streamed, whole};
use crate::dialect::{Dialect, Parsed};
use crate::error::Code;
use crate::invocation::{Arguments, Content, Finish, Part, ResponseFormat, Role, Task};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const PLAIN: &str =
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
const USAGE: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;

fn read(body: &str) -> Parsed<'_> {
    chat_request(body, &Limits::default()).unwrap()
}

fn stream(body: &str, steps: &[Step], finish: Finish) -> String {
    streamed(read(body), Dialect::OpenAi, steps, Ok(finish))
}

#[test]
fn a_text_is_streamed_role_first_and_done_last() {
    assert_eq!(
        stream(
            PLAIN,
            &[
                content("Hel"),
                Step::KeepAlive,
                content("l\\u00f6 \\\"you\\\"")
            ],
            Finish::Stop
        ),
        r#"data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}

: keep-alive

data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"l\u00f6 \"you\""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

data: [DONE]

"#
    );
}

#[test]
fn usage_is_null_until_a_last_chunk_without_choices() {
    assert_eq!(
        stream(USAGE, &[content("Hello")], Finish::Length),
        r#"data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}

data: {"id":"chatcmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}

data: [DONE]

"#
    );
}

/// The deltas of a stream, a line each.
fn deltas(steps: &[Step], finish: Finish) -> String {
    let stream = stream(PLAIN, steps, finish);
    let delta = |record: &str| {
        let (_, rest) = record.split_once("\"delta\":")?;
        let (delta, rest) = rest.split_once(",\"logprobs\":null,\"finish_reason\":")?;
        Some(format!("{delta} {}\n", rest.strip_suffix("}]}")?))
    };
    stream.split("\n\n").filter_map(delta).collect()
}

#[test]
fn reasoning_and_refusals_have_fields_of_their_own() {
    assert_eq!(
        deltas(
            &[
                reasoning("Hm"),
                content("No"),
                Step::Refusal(String::from("I must not"))
            ],
            Finish::ContentFilter
        ),
        r#"{"role":"assistant","content":"","refusal":null} null
{"reasoning_content":"Hm","reasoning":"Hm"} null
{"content":"No"} null
{"refusal":"I must not"} null
{} "content_filter"
"#
    );
}

#[test]
fn tool_calls_are_numbered_from_0_and_named_once() {
    assert_eq!(
        deltas(
            &[
                call(4, "call_x", "look", ""),
                call(4, "call_x", "look", "{\\\"at\\\":"),
                call(4, "", "", "\\\"sky\\\"}"),
                call(9, "", "wait", ""),
            ],
            Finish::Stop
        ),
        r#"{"role":"assistant","content":"","refusal":null} null
{"tool_calls":[{"index":0,"id":"call_x","type":"function","function":{"name":"look","arguments":""}}]} null
{"tool_calls":[{"index":0,"function":{"arguments":"{\"at\":"}}]} null
{"tool_calls":[{"index":0,"function":{"arguments":"\"sky\"}"}}]} null
{"tool_calls":[{"index":1,"id":"call_dead0001000000000001_1","type":"function","function":{"name":"wait","arguments":""}}]} null
{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]} null
{} "tool_calls"
"#
    );
}

#[test]
fn a_stream_that_fails_ends_with_the_error() {
    let failed = streamed(
        read(PLAIN),
        Dialect::OpenAi,
        &[content("Hel")],
        Err((Code::AgentLost, "the agent's connection was \"lost\"")),
    );
    let (_, last) = failed.trim_end().rsplit_once("\n\n").unwrap();
    assert_eq!(
        last,
        r#"data: {"error":{"message":"the agent's connection was \"lost\"","type":"server_error","param":null,"code":"agent_lost"}}"#
    );
}

#[test]
fn a_whole_answer_is_one_body() {
    let body = |steps: &[Step], finish| whole(read(PLAIN), steps, finish);
    assert_eq!(
        body(&[content("Hello")], Finish::Stop),
        r#"{"id":"chatcmpl-dead0001000000000001","object":"chat.completion","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#
    );
    let steps = [
        reasoning("Hm"),
        call(2, "a", "look", "{\\\"at\\\":1}"),
        call(3, "b", "wait", ""),
    ];
    assert_eq!(
        body(&steps, Finish::Stop),
        r#"{"id":"chatcmpl-dead0001000000000001","object":"chat.completion","created":1767225900,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"reasoning_content":"Hm","reasoning":"Hm","tool_calls":[{"id":"a","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}},{"id":"b","type":"function","function":{"name":"wait","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#
    );
}

#[test]
fn a_request_with_everything_is_read_and_borrowed() {
    let body = r#" {
        "model": "gpt-4o", "unknown": {"a": [1]}, "temperature": 0.5, "top_p": 1, "presence_penalty": -2, "frequency_penalty": null,
        "max_tokens": 5, "max_completion_tokens": 7.0, "stop": ["a\n", ""], "seed": -3, "n": 1, "user": "u", "metadata": {"k": "v"},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}], "tool_choice": "auto",
        "parallel_tool_calls": false, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "reasoning_effort": "low", "logprobs": false, "top_logprobs": 3, "logit_bias": {}, "stream": false, "functions": [],
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "developer", "content": [{"type": "text", "text": "d\"", "cache_control": null}]},
            {"role": "user", "name": "me", "anthropicReasoning": null, "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}},
                {"id": "call_2", "function": {"name": "look", "arguments": {"at": 2}}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": ""},
            {"role": "function", "name": "look", "content": "r"}
        ]
    } "#;
    let Parsed {
        invocation,
        stream,
        digest_of,
        load_only,
        ..
    } = read(body);
    assert!(!stream && !invocation.stream && !load_only);
    assert!(digest_of.starts_with("[\n") && digest_of.ends_with(']'));
    assert!(matches!(invocation.model, Cow::Borrowed("gpt-4o")));
    let Task::Chat { messages } = &invocation.task else {
        panic!("not a chat");
    };
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [
            Role::System,
            Role::Developer,
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::Function
        ]
    );
    assert!(matches!(&messages[0].content, Content::Text(text) if text.as_escaped() == "s"));
    assert!(matches!(&messages[1].content, Content::Parts(parts)
        if matches!(&parts[..], [Part::Text(text)] if text.as_escaped() == "d\\\"")));
    assert!(matches!(&messages[2].content, Content::Parts(parts)
        if matches!(&parts[..], [Part::Other(image), Part::Other(_), Part::Other(_)] if image.get().contains("data:image/png"))));
    let calls = &messages[3].tool_calls;
    assert!(matches!(messages[3].content, Content::None));
    assert!(matches!(&calls[0].arguments, Arguments::Text(text) if text.decode() == "{\"at\":1}"));
    assert!(matches!(&calls[1].arguments, Arguments::Object(raw) if raw.get() == "{\"at\": 2}"));
    assert_eq!(messages[4].tool_call_id.as_deref(), Some("call_1"));
    let given = &invocation.parameters;
    assert_eq!(given.max_tokens, Some(7));
    assert_eq!((given.temperature, given.top_p), (Some(0.5), Some(1.0)));
    assert_eq!(
        (given.presence_penalty, given.frequency_penalty),
        (Some(-2.0), None)
    );
    assert_eq!(
        (given.seed, given.parallel_tool_calls),
        (Some(-3), Some(false))
    );
    assert_eq!(given.stop, ["a\n"]);
    assert_eq!(given.tools.len(), 1);
    assert_eq!(given.tool_choice.map(|raw| raw.get()), Some("\"auto\""));
    assert!(matches!(
        given.response_format,
        Some(ResponseFormat::OpenAi(_))
    ));
    assert_eq!(
        given.reasoning_effort.map(|effort| effort.decode()),
        Some("low".into())
    );
}

#[test]
fn what_clients_send_for_nothing_is_nothing() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi","tool_calls":null,"name":null}],"max_tokens":-1,
        "max_completion_tokens":null,"stop":null,"tools":null,"tool_choice":null,"stream_options":null,"stream":null,"n":null}"#;
    let given = read(body).invocation.parameters;
    assert_eq!((given.max_tokens, given.n), (None, None));
    assert!(given.stop.is_empty() && given.tools.is_empty() && given.tool_choice.is_none());
}

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
                "{}",
                Some("model"),
                "model: missing; expected the name of a model",
            ),
            (
                r#"{"model":7}"#,
                Some("model"),
                "model: expected a string, found 7",
            ),
            (
                r#"{"model":""}"#,
                Some("model"),
                "model: 0 characters; a model's name has 1 to 256",
            ),
            (
                &long,
                Some("model"),
                "model: 257 characters; a model's name has 1 to 256",
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
