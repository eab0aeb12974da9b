#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::{count_tokens_request, messages_request};
use crate::config::Limits;
use crate::dialect::tests::{
    Read, Step, call, content, finishes, parsed, reasoning, steps, streamed, text, whole,
};
use crate::dialect::{Dialect, Parsed};
use crate::error::Code;
use crate::invocation::{Arguments, Content, Finish, Part, ResponseFormat, Role, Task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;
use serde_json::{Value, json};

const PLAIN: &str = r#"{"model":"claude","max_tokens":64,"messages":[{"role":"user","content":"hi there"}],"stream":true,"stop_sequences":["\n\n","END"]}"#;
const THINKING: &str = r#"{"model":"claude","max_tokens":64,"messages":[{"role":"user","content":"hi there"}],"thinking":{"type":"adaptive"}}"#;

fn read(body: &str) -> Parsed<'_> {
    messages_request(body, &Limits::default()).unwrap()
}

fn stream(body: &str, steps: &[Step], finish: Finish) -> String {
    streamed(read(body), Dialect::Anthropic, steps, Ok(finish))
}

#[test]
fn a_text_is_streamed_as_one_block_of_a_message() {
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
        r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_dead0001000000000001","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":2,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"l\u00f6 \"you\""}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"}

"#
    );
}

/// The data of the events between the first and the last two.
fn blocks(body: &str, steps: &[Step], finish: Finish) -> String {
    let stream = stream(body, steps, finish);
    stream
        .split("\n\n")
        .filter_map(|event| {
            let (event, data) = event.split_once("\ndata: ")?;
            let name = event.strip_prefix("event: ")?;
            assert!(
                data.starts_with(&format!("{{\"type\":\"{name}\"")),
                "{data}"
            );
            name.starts_with("content_block")
                .then(|| format!("{data}\n"))
        })
        .collect()
}

#[test]
fn blocks_follow_one_another() {
    assert_eq!(
        blocks(
            THINKING,
            &[
                reasoning("Hm"),
                content("Let me "),
                content("look"),
                call(4, "toolu_1", "look", ""),
                call(4, "", "", "{\\\"at\\\":"),
                call(4, "", "", "\\\"sky\\\"}"),
                call(9, "", "wait", ""),
                content("now"),
            ],
            Finish::ToolCalls
        ),
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me "}}
{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"look"}}
{"type":"content_block_stop","index":1}
{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}
{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"at\":"}}
{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"sky\"}"}}
{"type":"content_block_stop","index":2}
{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"call_dead0001000000000001_1","name":"wait","input":{}}}
{"type":"content_block_start","index":4,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"now"}}
{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}
{"type":"content_block_stop","index":4}
{"type":"content_block_stop","index":3}
"#
    );
}

#[test]
fn thinking_is_told_only_to_those_who_asked_for_it() {
    let steps = [reasoning("Hm"), content("Yes")];
    assert!(!blocks(PLAIN, &steps, Finish::Stop).contains("thinking"));
    assert!(!whole(read(PLAIN), &steps, Finish::Stop).contains("thinking"));
    for (thinking, shown) in [
        (r#"{"type":"enabled","budget_tokens":1024}"#, true),
        (r#"{"type":"adaptive","display":"omitted"}"#, false),
        (r#"{"type":"disabled"}"#, false),
    ] {
        let body = THINKING.replace(r#"{"type":"adaptive"}"#, thinking);
        assert_eq!(
            blocks(&body, &steps, Finish::Stop).contains("thinking"),
            shown
        );
    }
}

#[test]
fn the_end_says_why() {
    for (steps, finish, reason) in [
        (
            &[content("a")][..],
            Finish::Stop,
            r#""stop_reason":"end_turn","stop_sequence":null"#,
        ),
        (
            &[content("a")],
            Finish::StopSequence(0),
            r#""stop_reason":"stop_sequence","stop_sequence":"\n\n""#,
        ),
        (
            &[content("a")],
            Finish::StopSequence(1),
            r#""stop_reason":"stop_sequence","stop_sequence":"END""#,
        ),
        (
            &[content("a")],
            Finish::Length,
            r#""stop_reason":"max_tokens","stop_sequence":null"#,
        ),
        (
            &[call(0, "a", "look", "{}")],
            Finish::Stop,
            r#""stop_reason":"tool_use","stop_sequence":null"#,
        ),
        (
            &[Step::Refusal("I must not".to_string())],
            Finish::ContentFilter,
            r#""stop_reason":"refusal","stop_sequence":null"#,
        ),
    ] {
        assert!(stream(PLAIN, steps, finish).contains(&format!("\"delta\":{{{reason}}}")));
        assert!(whole(read(PLAIN), steps, finish).contains(reason));
    }
}

#[test]
fn a_stream_that_fails_ends_with_an_error_event() {
    let failed = streamed(
        read(PLAIN),
        Dialect::Anthropic,
        &[content("Hel")],
        Err((Code::AgentLost, "the agent's connection was \"lost\"")),
    );
    let (_, last) = failed.trim_end().rsplit_once("\n\n").unwrap();
    assert_eq!(
        last,
        r#"event: error
data: {"type":"error","error":{"type":"api_error","message":"the agent's connection was \"lost\""},"request_id":"dead0001000000000001"}"#
    );
}

#[test]
fn a_whole_answer_is_one_message() {
    let steps = [
        reasoning("Hm"),
        content("Hello"),
        call(2, "a", "look", "{\\\"at\\\": [1, \\\"\\\\u2028\\\"]}"),
        call(3, "b", "wait", ""),
    ];
    assert_eq!(
        whole(read(THINKING), &steps, Finish::Stop),
        r#"{"id":"msg_dead0001000000000001","type":"message","role":"assistant","model":"claude","content":[{"type":"thinking","thinking":"Hm","signature":""},{"type":"text","text":"Hello"},{"type":"tool_use","id":"a","name":"look","input":{"at":[1,"\u2028"]}},{"type":"tool_use","id":"b","name":"wait","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}}"#
    );
    assert_eq!(
        whole(read(PLAIN), &[], Finish::Stop),
        r#"{"id":"msg_dead0001000000000001","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}}"#
    );
}

#[test]
fn the_count_of_a_server_goes_before_the_estimate() {
    let body = r#"{"model":"claude","messages":[{"role":"user","content":"12345678"}],"system":"1234","stream":true}"#;
    let parsed = count_tokens_request(body, &Limits::default()).unwrap();
    assert!(parsed.load_only && !parsed.stream);
    assert_eq!(whole(parsed, &[], Finish::Stop), r#"{"input_tokens":9}"#);
}

#[test]
fn a_request_with_everything_is_read() {
    let body = r#" {
        "model": "claude-x", "max_tokens": 7, "temperature": 0.5, "top_p": 1, "top_k": 40, "stream": false,
        "stop_sequences": ["a\n"], "metadata": {"user_id": "u"}, "service_tier": "auto", "unknown": {"a": [1]},
        "system": [{"type": "text", "text": "s1", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "s2"}],
        "tools": [
            {"name": "look", "description": "Looks\u2028.", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "name": "wait", "input_schema": {}, "strict": true},
            {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 10000},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "system", "content": "mind it"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "I look"},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}},
                {"type": "tool_use", "id": "t2", "name": "wait"}]},
            {"role": "user", "content": [
                {"type": "text", "text": "and"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "sky", "is_error": false},
                {"type": "tool_result", "tool_use_id": "t2", "content": [
                    {"type": "text", "text": "r"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}]},
                {"type": "image", "source": {"type": "url", "url": "https://x/\"y"}},
                {"type": "document", "title": "d.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
                {"type": "search_result", "title": "t", "source": "s", "content": [{"type": "text", "text": "found"}]},
                {"type": "newer_than_this_program"}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t4", "name": "look", "input": {}}]}
        ]
    } "#;
    let Parsed {
        invocation,
        stream,
        digest_of,
        load_only,
        ..
    } = read(body);
    assert!(!stream && !load_only);
    assert!(digest_of.starts_with("[\n") && digest_of.ends_with(']'));
    let Task::Chat { messages } = &invocation.task else {
        panic!("not a chat");
    };
    let said = |content: &Content<'_>| match content {
        Content::None => "-".to_string(),
        Content::Text(text) => text.decode().into_owned(),
        Content::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.decode().into_owned(),
                Part::Image { media_type, .. } => (*media_type).to_string(),
                Part::Other(raw) => raw.get().to_string(),
            })
            .collect::<Vec<_>>()
            .join("|"),
    };
    let lines: Vec<String> = messages
        .iter()
        .map(|message| {
            let calls: Vec<String> = message
                .tool_calls
                .iter()
                .map(|call| {
                    let arguments = match &call.arguments {
                        Arguments::Text(text) => text.as_escaped(),
                        Arguments::Object(raw) => raw.get(),
                    };
                    format!(" {}={}{arguments}", call.id, call.name.decode())
                })
                .collect();
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let role = message.role.as_str();
            format!("{role} {id}: {}{}", said(&message.content), calls.concat())
        })
        .collect();
    assert_eq!(
        lines,
        [
            "system : s1|s2",
            "user : q",
            "system : mind it",
            r#"assistant : I look t1=look{"at": 1} t2=wait{}"#,
            "tool t1: sky",
            "tool t2: r|image/png",
            concat!(
                r#"user : and|{"type":"image_url","image_url":{"url":"https://x/\"y"}}|"#,
                r#"{"type":"file","file":{"filename":"d.pdf","file_data":"data:application/pdf;base64,AA=="}}|plain|found"#
            ),
            "tool t3: ",
            "assistant : - t4=look{}",
        ]
    );
    let given = &invocation.parameters;
    let tools: Vec<&str> = given.tools.iter().map(|tool| tool.get()).collect();
    assert_eq!(
        tools,
        [
            r#"{"type":"function","function":{"name":"look","description":"Looks\u2028.","parameters":{"type": "object"}}}"#,
            r#"{"type":"function","function":{"name":"wait","parameters":{},"strict":true}}"#,
        ]
    );
    let choice = given.tool_choice.as_ref().map(|raw| raw.get());
    assert_eq!(
        choice,
        Some(r#"{"type":"function","function":{"name":"look"}}"#)
    );
    assert_eq!(given.parallel_tool_calls, Some(false));
    assert_eq!(
        (
            given.max_tokens,
            given.top_k,
            given.temperature,
            given.top_p
        ),
        (Some(7), Some(40), Some(0.5), Some(1.0))
    );
    assert_eq!(given.stop, ["a\n"]);
    assert_eq!(given.user.map(|user| user.as_escaped()), Some("u"));
    assert_eq!(
        given.reasoning_effort.map(|effort| effort.as_escaped()),
        Some("medium")
    );
    assert!(
        matches!(&given.response_format, Some(ResponseFormat::Schema(schema)) if schema.get() == r#"{"type": "object"}"#)
    );
}

#[test]
fn choices_and_efforts_have_their_openai_names() {
    let given = |fields: &str| {
        let body = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":""}}],"system":"",{fields}}}"#
        );
        let parsed = read(&body);
        let Task::Chat { messages } = &parsed.invocation.task else {
            panic!("not a chat");
        };
        assert_eq!(messages.len(), 1, "an empty system prompt is none");
        assert_eq!(messages[0].role, Role::User);
        let given = parsed.invocation.parameters;
        format!(
            "{:?} {:?} {:?}",
            given.tool_choice.as_ref().map(|raw| raw.get()),
            given.parallel_tool_calls,
            given.reasoning_effort.map(|effort| effort.as_escaped())
        )
    };
    for (fields, wanted) in [
        (r#""tool_choice":null"#, "None None None"),
        (
            r#""tool_choice":{"type":"auto"}"#,
            r#"Some("\"auto\"") None None"#,
        ),
        (
            r#""tool_choice":{"type":"any","disable_parallel_tool_use":false}"#,
            r#"Some("\"required\"") None None"#,
        ),
        (
            r#""tool_choice":{"type":"none"}"#,
            r#"Some("\"none\"") None None"#,
        ),
        (
            r#""thinking":{"type":"disabled"}"#,
            r#"None None Some("none")"#,
        ),
        (
            r#""thinking":{"type":"enabled","budget_tokens":1024}"#,
            r#"None None Some("low")"#,
        ),
        (
            r#""thinking":{"type":"enabled","budget_tokens":32000}"#,
            r#"None None Some("high")"#,
        ),
        (
            r#""thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#,
            r#"None None Some("xhigh")"#,
        ),
    ] {
        assert_eq!(given(fields), wanted, "{fields}");
    }
}

/// The events as a client folds them: thinking, text, calls as (id, name, JSON text), and the last delta.
type Folded = (String, String, Vec<(String, String, String)>, Value);

fn fold(stream: &str) -> Folded {
    let (mut thinking, mut said, mut last) = (String::new(), String::new(), Value::Null);
    let mut blocks: Vec<(Value, String)> = Vec::new();
    let mut open: Vec<u64> = Vec::new();
    let mut names = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.is_empty()) {
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        names.push(name.to_string());
        match name {
            "content_block_start" => {
                assert_eq!(data["index"], blocks.len());
                open.push(data["index"].as_u64().unwrap());
                blocks.push((data["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                let index = data["index"].as_u64().unwrap();
                assert!(open.contains(&index), "a delta of a block that is open");
                let (block, json) = &mut blocks[usize::try_from(index).unwrap()];
                let delta = &data["delta"];
                match block["type"].as_str().unwrap() {
                    "text" => said += delta["text"].as_str().unwrap(),
                    "thinking" => thinking += delta["thinking"].as_str().unwrap(),
                    _ => *json += delta["partial_json"].as_str().unwrap(),
                }
            }
            "content_block_stop" => {
                let index = data["index"].as_u64().unwrap();
                let at = open.iter().position(|open| *open == index).unwrap();
                open.remove(at);
            }
            "message_delta" => last = json!({"delta": data["delta"], "usage": data["usage"]}),
            _ => {}
        }
    }
    assert!(open.is_empty(), "every block ends");
    assert_eq!(names.first().unwrap(), "message_start");
    assert_eq!(names[names.len() - 2..], ["message_delta", "message_stop"]);
    let calls = blocks
        .into_iter()
        .filter(|(block, _)| block["type"] == "tool_use")
        .map(|(block, json)| (text(&block["id"]), text(&block["name"]), json))
        .collect();
    (thinking, said, calls, last)
}

proptest! {
    #[test]
    fn a_whole_answer_is_the_fold_of_the_streamed_one(steps in steps(), finish in finishes()) {
        let read: Read = messages_request;
        let (thinking, said, calls, last) = fold(&streamed(parsed(read, THINKING), Dialect::Anthropic, &steps, Ok(finish)));
        let body: Value = serde_json::from_str(&whole(parsed(read, THINKING), &steps, finish)).unwrap();
        let mut folded = (String::new(), Vec::new());
        let mut thought = String::new();
        for block in body["content"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "text" => folded.0 += &text(&block["text"]),
                "thinking" => thought += &text(&block["thinking"]),
                _ => folded.1.push((text(&block["id"]), text(&block["name"]), block["input"].clone())),
            }
        }
        prop_assert_eq!(thinking, thought);
        // A refusal comes last in a whole answer, and here in the steps too.
        prop_assert_eq!(said, folded.0);
        // Blocks begin in the order in which names came; calls are counted in the order in which they came, and may share
        // an id.
        prop_assert_eq!(calls.len(), folded.1.len());
        let mut left = folded.1;
        for streamed in &calls {
            let input = serde_json::from_str::<Value>(&streamed.2).ok().filter(Value::is_object);
            let same = left.iter().position(|whole| {
                let of_one_call = (&streamed.0, &streamed.1) == (&whole.0, &whole.1);
                let kept_as_text = whole.2.get("input").is_some();
                of_one_call && (kept_as_text || input.as_ref().is_none_or(|input| *input == whole.2))
            });
            prop_assert!(same.is_some(), "{streamed:?} is not in {left:?}");
            left.swap_remove(same.unwrap());
        }
        prop_assert_eq!(&last["delta"]["stop_reason"], &body["stop_reason"]);
        prop_assert_eq!(&last["usage"], &body["usage"]);
    }
}
