#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::chat_request;
use crate::config::Limits;
use crate::dialect::tests::{Step, call, content, reasoning, streamed, whole};
use crate::dialect::{Dialect, Parsed};
use crate::error::Code;
use crate::invocation::{Arguments, Content, Finish, Part, ResponseFormat, Role, Task};
use crate::time::{Instant, WallClock};
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

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
    let choice = given.tool_choice.as_ref().map(|raw| raw.get());
    assert_eq!(choice, Some("\"auto\""));
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

/// The messages as an agent is told them.
fn told(parsed: &Parsed<'_>) -> serde_json::Value {
    let session = crate::id::SessionId::new("s").unwrap();
    let invoke = crate::link::Invoke {
        id: crate::id::Ids::new(1).next(),
        permit: crate::link::Permits::default().issue(session, crate::id::Authority::Anyone),
        label: "label".into(),
        model: "m".into(),
        form: crate::invocation::InvokeForm::Nested,
        request: crate::request::Request::of(&parsed.invocation).into(),
        prompt: crate::request::PromptIndex::default(),
    };
    let message = crate::link::ToAgent::Invoke {
        invoke: invoke.into(),
        at: Instant::ZERO,
    };
    let wall = WallClock::new(Instant::ZERO, Duration::ZERO);
    let frame = crate::agents::websocket::encode(&message, &wall).unwrap();
    let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
    frame["payload"]["messages"].clone()
}

#[test]
fn blocks_of_anthropics_messages_mean_what_they_mean_there() {
    // As Void sends them for models with `claude` in their names.
    let messages = r#"[
        {"role":"user","content":[{"type":"text","text":"weather?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"I look."},
            {"type":"tool_use","id":"t1","name":"look","input":{"at":"sky"}},{"type":"tool_use","id":"t2","name":"look","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"blue"},
            {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"grey"}]},{"type":"text","text":"and now?"}]},
        {"role":"assistant","content":[{"type":"tool_use","id":"t3","name":"look","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t3"}]}
    ]"#;
    let body = format!(r#"{{"model":"claude-x","max_tokens":9,"messages":{messages}}}"#);
    let limits = Limits::default();
    let there = crate::dialect::anthropic::messages_request(&body, &limits).unwrap();
    let here = read(&body);
    let roles = |value: &serde_json::Value| -> Vec<String> {
        let messages = value.as_array().unwrap().iter();
        messages
            .map(|message| message["role"].as_str().unwrap().to_owned())
            .collect()
    };
    let (here, there) = (told(&here), told(&there));
    assert_eq!(
        roles(&here),
        [
            "user",
            "assistant",
            "tool",
            "tool",
            "user",
            "assistant",
            "tool"
        ]
    );
    assert_eq!(roles(&here), roles(&there));
    for (at, field) in [
        (1, "tool_calls"),
        (2, "content"),
        (2, "tool_call_id"),
        (3, "content"),
        (5, "tool_calls"),
        (6, "content"),
    ] {
        assert_eq!(here[at][field], there[at][field], "{at} {field}");
    }
    assert_eq!(here[0]["content"], there[0]["content"]);
    assert_eq!(here[5]["content"], serde_json::Value::Null);
    assert_eq!(here[4]["content"][0]["text"], "and now?");
}

#[test]
fn a_refusal_in_the_history_is_what_the_assistant_said() {
    let said = |message: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}},{message}]}}"#);
        let parsed = chat_request(&body, &Limits::default()).unwrap();
        let Task::Chat { messages } = &parsed.invocation.task else {
            panic!("no chat");
        };
        match &messages[1].content {
            Content::None => None,
            Content::Text(text) => Some(text.decode().into_owned()),
            Content::Parts(_) => panic!("parts"),
        }
    };
    for (message, text) in [
        (
            r#"{"role":"assistant","content":null,"refusal":"no\nway"}"#,
            Some("no\nway"),
        ),
        (r#"{"role":"assistant","refusal":"no"}"#, Some("no")),
        (
            r#"{"role":"assistant","content":"yes","refusal":"no"}"#,
            Some("yes"),
        ),
        (
            r#"{"role":"assistant","content":null,"refusal":null}"#,
            None,
        ),
    ] {
        assert_eq!(said(message).as_deref(), text, "{message}");
    }
}

#[test]
fn results_among_parts_count_as_messages_and_only_their_role_says_them() {
    let limits = Limits {
        messages: 2,
        ..Limits::default()
    };
    crate::dialect::tests::refuses(
        crate::dialect::openai::chat_request,
        &limits,
        &[
            (
                r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"},{"type":"tool_result","tool_use_id":"b"},{"type":"text","text":"x"}]}]}"#,
                Some("messages"),
                "messages: 3 messages; limits.messages is 2",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"tool_use","id":"a","name":"n","input":{}}]}]}"#,
                Some("messages[0].content[0].type"),
                "messages[0].content[0].type: tool_use cannot be said by user",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"tool_result"}]}]}"#,
                Some("messages[0].content[0].tool_use_id"),
                "messages[0].content[0].tool_use_id: missing; expected the id of the call that it answers",
            ),
        ],
    );
}
