#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::{chat_request, generate_request};
use crate::config::Limits;
use crate::dialect::tests::{Step, call, content, reasoning, refuses, streamed, whole};
use crate::dialect::{Dialect, Parsed};
use crate::error::Code;
use crate::invocation::{
    Arguments, Content, Finish, Invocation, Message, Part, ResponseFormat, Role, Task,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const CHAT: &str = r#"{"model":"llama3:latest","messages":[{"role":"user","content":"hi"}]}"#;
const GENERATE: &str = r#"{"model":"llama3:latest","prompt":"hi"}"#;

fn chat(body: &str) -> Parsed<'_> {
    chat_request(body, &Limits::default()).unwrap()
}

fn generate(body: &str) -> Parsed<'_> {
    generate_request(body, &Limits::default()).unwrap()
}

fn messages(invocation: Invocation<'_>) -> Vec<Message<'_>> {
    match invocation.task {
        Task::Chat { messages } => messages,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chat_is_streamed_line_by_line_with_true_times() {
    let steps = [
        reasoning("Hm"),
        content("Hel"),
        Step::KeepAlive,
        content("lo"),
    ];
    assert_eq!(
        streamed(chat(CHAT), Dialect::Ollama, &steps, Ok(Finish::Stop)),
        r#"{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.250000Z","message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}
{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.350000Z","message":{"role":"assistant","content":"Hel"},"done":false}
{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.450000Z","message":{"role":"assistant","content":""},"done":false}
{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.550000Z","message":{"role":"assistant","content":"lo"},"done":false}
{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.750000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":250000000,"eval_count":3,"eval_duration":500000000}
"#
    );
}

#[test]
fn the_time_goes_on_past_the_second() {
    let steps: Vec<Step> = (0..12).map(|_| content("a")).collect();
    let stream = streamed(chat(CHAT), Dialect::Ollama, &steps, Ok(Finish::Stop));
    let times: Vec<&str> = stream
        .lines()
        .filter_map(|line| Some(line.split_once("T00:05:0")?.1.split_once('Z')?.0))
        .collect();
    assert_eq!(
        times[6..10],
        ["0.850000", "0.950000", "1.050000", "1.150000"]
    );
}

#[test]
fn tool_calls_come_whole_with_arguments_as_objects() {
    let steps = [
        call(0, "a", "look", "{ \\\"at\\\":\\n"),
        call(1, "", "say", "\\\"no object\\\""),
        call(0, "", "", " \\\"the \\\\\\\" sky\u{2028}\\\" }"),
        call(2, "c", "wait", ""),
    ];
    let calls = r#""tool_calls":[{"id":"a","function":{"index":0,"name":"look","arguments":{"at":"the \" sky\u2028"}}},{"id":"call_dead0001000000000001_1","function":{"index":1,"name":"say","arguments":{"input":"\"no object\""}}},{"id":"c","function":{"index":2,"name":"wait","arguments":{}}}]"#;
    assert_eq!(
        streamed(chat(CHAT), Dialect::Ollama, &steps, Ok(Finish::ToolCalls)),
        format!(
            r#"{{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.750000Z","message":{{"role":"assistant","content":"",{calls}}},"done":false}}
{{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.750000Z","message":{{"role":"assistant","content":""}},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":250000000,"eval_count":3,"eval_duration":500000000}}
"#
        )
    );
    assert_eq!(
        whole(chat(CHAT), &steps, Finish::ToolCalls),
        format!(
            r#"{{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.750000Z","message":{{"role":"assistant","content":"",{calls}}},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":250000000,"eval_count":3,"eval_duration":500000000}}"#
        )
    );
}

#[test]
fn a_generation_has_its_text_in_response() {
    let steps = [reasoning("Hm"), content("Hi")];
    assert_eq!(
        streamed(
            generate(GENERATE),
            Dialect::Ollama,
            &steps,
            Ok(Finish::Length)
        ),
        r#"{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.250000Z","response":"","thinking":"Hm","done":false}
{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.350000Z","response":"Hi","done":false}
{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.750000Z","response":"","done":true,"done_reason":"length","total_duration":750000000,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":250000000,"eval_count":3,"eval_duration":500000000}
"#
    );
    assert_eq!(
        whole(generate(GENERATE), &steps, Finish::ContentFilter),
        r#"{"model":"llama3:latest","created_at":"2026-01-01T00:05:00.750000Z","response":"Hi","thinking":"Hm","done":true,"done_reason":"content_filter","total_duration":750000000,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":250000000,"eval_count":3,"eval_duration":500000000}"#
    );
}

#[test]
fn a_stream_that_fails_ends_with_the_error() {
    let end = Err((Code::AgentLost, "the agent is \"gone\""));
    let stream = streamed(chat(CHAT), Dialect::Ollama, &[content("Hel")], end);
    assert_eq!(
        stream.lines().last().unwrap(),
        r#"{"error":"the agent is \"gone\""}"#
    );
}

#[test]
fn nothing_asked_loads_or_unloads() {
    for (keep_alive, reason) in [
        ("", "load"),
        (r#","keep_alive":null"#, "load"),
        (r#","keep_alive":-1"#, "load"),
        (r#","keep_alive":"10m""#, "load"),
        (r#","keep_alive":0"#, "unload"),
        (r#","keep_alive":"0s""#, "unload"),
    ] {
        for messages in ["", r#","messages":[]"#, r#","messages":null"#] {
            let body = format!(r#"{{"model":"m"{messages}{keep_alive}}}"#);
            let parsed = chat(&body);
            assert!(parsed.load_only, "{body}");
            assert_eq!(
                whole(parsed, &[], Finish::Stop),
                format!(
                    r#"{{"model":"m","created_at":"2026-01-01T00:05:00.750000Z","message":{{"role":"assistant","content":""}},"done":true,"done_reason":"{reason}"}}"#
                )
            );
        }
        let body = format!(r#"{{"model":"m","prompt":""{keep_alive}}}"#);
        let parsed = generate(&body);
        assert!(parsed.load_only, "{body}");
        assert_eq!(
            whole(parsed, &[], Finish::Stop),
            format!(
                r#"{{"model":"m","created_at":"2026-01-01T00:05:00.750000Z","response":"","done":true,"done_reason":"{reason}"}}"#
            )
        );
    }
    assert!(!chat(CHAT).load_only && !generate(GENERATE).load_only);
}

#[test]
fn the_stream_is_on_unless_it_is_switched_off() {
    for (stream, on) in [
        ("", true),
        (r#","stream":null"#, true),
        (r#","stream":true"#, true),
        (r#","stream":false"#, false),
    ] {
        let body = format!(r#"{{"model":"m","prompt":"a"{stream}}}"#);
        assert_eq!(generate(&body).stream, on, "{body}");
    }
}

#[test]
fn options_become_parameters() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[],"keep_alive":-1,"format":"json","think":true,
        "options":{"num_predict":-2,"temperature":0.1,"top_p":0.9,"top_k":40,"min_p":0,"stop":["\n\n"],"seed":7,"num_ctx":8192,
        "repeat_penalty":1.1,"presence_penalty":1,"frequency_penalty":null,"mirostat":1}}"#;
    let given = chat(body).invocation.parameters;
    assert_eq!(
        (given.max_tokens, given.temperature, given.top_p),
        (None, Some(0.1), Some(0.9))
    );
    assert_eq!(
        (given.top_k, given.min_p, given.seed, given.num_ctx),
        (Some(40), Some(0.0), Some(7), Some(8192))
    );
    assert_eq!(
        (
            given.repeat_penalty,
            given.presence_penalty,
            given.frequency_penalty
        ),
        (Some(1.1), Some(1.0), None)
    );
    assert_eq!(given.stop, ["\n\n"]);
    assert!(matches!(given.response_format, Some(ResponseFormat::Json)));
    assert_eq!(given.reasoning_effort.unwrap().decode(), "medium");

    let body = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"options":{"num_predict":300},"format":{"type":"object"},"think":"high"}"#;
    let given = chat(body).invocation.parameters;
    assert_eq!(given.max_tokens, Some(300));
    assert!(
        matches!(given.response_format, Some(ResponseFormat::Schema(schema)) if schema.get() == r#"{"type":"object"}"#)
    );
    assert_eq!(given.reasoning_effort.unwrap().decode(), "high");
    for (options, tokens) in [
        (r#"{"max_tokens":40}"#, Some(40)),
        (r#"{"max_tokens":40,"num_predict":30}"#, Some(30)),
        (r#"{"max_tokens":40,"num_predict":-1}"#, None),
        (r#"{"max_tokens":-1}"#, None),
    ] {
        let body = format!(r#"{{"model":"m","prompt":"a","options":{options}}}"#);
        assert_eq!(
            generate(&body).invocation.parameters.max_tokens,
            tokens,
            "{options}"
        );
    }
}

#[test]
fn who_wants_no_thinking_gets_none() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"think":false}"#;
    assert_eq!(
        chat(body)
            .invocation
            .parameters
            .reasoning_effort
            .unwrap()
            .decode(),
        "none"
    );
    let steps = [reasoning("Hm"), content("Hi")];
    assert!(!whole(chat(body), &steps, Finish::Stop).contains("Hm"));
    assert!(!streamed(chat(body), Dialect::Ollama, &steps, Ok(Finish::Stop)).contains("Hm"));
}

#[test]
fn results_find_their_calls_without_ids() {
    let body = r#"{"model":"m","messages":[
        {"role":"assistant","content":"","tool_calls":[
            {"function":{"name":"look","arguments":{"at":1}}}, {"function":{"name":"wait"}},
            {"function":{"name":"look","arguments":{"at":2}}}, {"id":"mine","function":{"name":"look","arguments":"{}"}}]},
        {"role":"tool","content":"1","tool_name":"look"},
        {"role":"tool","content":"4","tool_call_id":"mine"},
        {"role":"tool","content":"2","tool_name":"look"},
        {"role":"tool","content":"3"},
        {"role":"tool","content":"nobody asked"},
        {"role":"assistant","content":"","tool_calls":[{"function":{"name":"look","arguments":{}}}]},
        {"role":"tool","content":"5","tool_name":"misspelt"}
    ]}"#;
    let messages = messages(chat(body).invocation);
    let ids: Vec<&str> = messages[0]
        .tool_calls
        .iter()
        .map(|call| &*call.id)
        .collect();
    assert_eq!(ids, ["call_0", "call_1", "call_2", "mine"]);
    assert!(
        matches!(&messages[0].tool_calls[0].arguments, Arguments::Object(raw) if raw.get() == r#"{"at":1}"#)
    );
    let answered: Vec<Option<&str>> = messages
        .iter()
        .filter(|message| message.role == Role::Tool)
        .map(|message| message.tool_call_id.as_deref())
        .collect();
    assert_eq!(
        answered,
        [
            Some("call_0"),
            Some("mine"),
            Some("call_2"),
            Some("call_1"),
            None,
            Some("call_4")
        ]
    );
}

#[test]
fn images_are_known_by_their_first_bytes() {
    for (base64, media_type) in [
        ("iVBORw0KGgoAAAANSUhEUg==", "image/png"),
        ("\\/9j\\/4AAQSkZJRgABAQAAAQ==", "image/jpeg"),
        ("R0lGODlhAQABAIAAAA==", "image/gif"),
        ("UklGRiQAAABXRUJQVlA4", "image/webp"),
        ("aGVsbG8=", "application/octet-stream"),
    ] {
        for data in [base64.to_string(), format!("data:image/x;base64,{base64}")] {
            let body = format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"what?","images":["{data}"]}}]}}"#
            );
            let messages = messages(chat(&body).invocation);
            let Content::Parts(parts) = &messages[0].content else {
                panic!("no parts");
            };
            assert!(matches!(parts[0], Part::Text(text) if text.as_escaped() == "what?"));
            assert!(
                matches!(parts[1], Part::Image { media_type: found, base64: kept } if found == media_type && kept.as_escaped() == base64),
                "{media_type}: {:?}",
                parts[1]
            );
        }
    }
}

#[test]
fn a_prompt_is_a_conversation_unless_it_is_raw_or_has_a_suffix() {
    let body = r#"{"model":"m","prompt":"hi","system":"be brief","template":"{{ .Prompt }}","context":[1,2]}"#;
    let parsed = generate(body);
    assert_eq!(parsed.digest_of, "\"hi\"");
    let messages = messages(parsed.invocation);
    assert_eq!(
        (messages[0].role, messages[1].role),
        (Role::System, Role::User)
    );

    for (body, before, after) in [
        (
            r#"{"model":"m","prompt":"a","suffix":"b","raw":true}"#,
            "a",
            Some("b"),
        ),
        (r#"{"model":"m","prompt":"","suffix":"b"}"#, "", Some("b")),
        (
            r#"{"model":"m","prompt":"a","suffix":"","raw":true,"images":[]}"#,
            "a",
            None,
        ),
    ] {
        let parsed = generate(body);
        assert!(!parsed.load_only);
        match parsed.invocation.task {
            Task::Completion { prompt, suffix } => {
                assert_eq!(prompt.as_escaped(), before);
                assert_eq!(suffix.map(|suffix| suffix.as_escaped()), after);
            }
            other => panic!("{other:?}"),
        }
    }

    // Only a conversation carries images, so `raw` yields.
    let parsed = generate(
        r#"{"model":"m","prompt":"a","raw":true,"images":["iVBORw0KGgo="],"context":[1]}"#,
    );
    let pictured = self::messages(parsed.invocation);
    assert!(matches!(&pictured[0].content, Content::Parts(parts) if parts.len() == 2));
}

#[test]
fn what_is_wrong_is_named() {
    let with = |fields: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{fields}}}"#)
    };
    for (fields, param, message) in [
        (
            r#""options":[]"#,
            "options",
            "options: expected an object, found a list",
        ),
        (
            r#""options":{"temperature":-1}"#,
            "options.temperature",
            "options.temperature: expected a number from 0 to 2, found -1",
        ),
        (
            r#""options":{"num_predict":"many"}"#,
            "options.num_predict",
            "options.num_predict: expected a whole number of at most 64 bits, found a string",
        ),
        (
            r#""options":{"stop":[1]}"#,
            "options.stop[0]",
            "options.stop[0]: expected a string, found 1",
        ),
        (
            r#""format":"xml""#,
            "format",
            "format: unknown format; expected json or a JSON Schema object",
        ),
        (
            r#""think":"hard""#,
            "think",
            "think: unknown level; expected true, false, low, medium, high or max",
        ),
        (
            r#""think":1"#,
            "think",
            "think: expected true, false, low, medium, high or max, found 1",
        ),
        (
            r#""stream":1"#,
            "stream",
            "stream: expected true or false, found 1",
        ),
        (
            r#""tools":[{}]"#,
            "tools[0].function",
            "tools[0].function: missing; expected an object with the function's name",
        ),
    ] {
        refuses(
            chat_request,
            &Limits::default(),
            &[(&with(fields), Some(param), message)],
        );
    }
    let limits = Limits {
        messages: 1,
        content_bytes: 3,
        ..Limits::default()
    };
    refuses(
        chat_request,
        &limits,
        &[
            ("", None, "the body is empty; send a JSON object"),
            (
                r#"{"model":7}"#,
                Some("model"),
                "model: expected a string, found 7",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":[]}]}"#,
                Some("messages[0].content"),
                "messages[0].content: expected a string, found a list",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","images":["no base64"]}]}"#,
                Some("messages[0].images[0]"),
                "messages[0].images[0]: expected an image in base64",
            ),
            (
                r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"a","arguments":[]}}]}]}"#,
                Some("messages[0].tool_calls[0].function.arguments"),
                "messages[0].tool_calls[0].function.arguments: expected an object, found a list",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user"},{"role":"user"}]}"#,
                Some("messages"),
                "messages: 2 messages; limits.messages is 1",
            ),
        ],
    );
    refuses(
        generate_request,
        &limits,
        &[
            (
                r#"{"model":"m","prompt":7}"#,
                Some("prompt"),
                "prompt: expected a string, found 7",
            ),
            (
                r#"{"model":"m","prompt":"a","suffix":"b","images":["AAAA"]}"#,
                Some("images"),
                "images: images cannot be sent with suffix",
            ),
        ],
    );
    for (refusal, param) in [
        (
            chat_request(
                r#"{"model":"m","messages":[{"role":"user","content":"four"}]}"#,
                &limits,
            ),
            "messages[0].content",
        ),
        (
            generate_request(r#"{"model":"m","prompt":"four"}"#, &limits),
            "prompt",
        ),
    ] {
        let refusal = refusal.unwrap_err();
        assert_eq!(
            refusal.message(),
            format!("{param}: 4 bytes; limits.content_bytes is 3")
        );
        assert_eq!((refusal.status(), refusal.param()), (413, Some(param)));
    }
}

#[test]
fn nothing_of_a_prompt_is_shown() {
    let body = r#"{"model":"m","messages":[{"role":"secret","content":"secret"},"secret"],"think":"secret","format":"secret","options":"secret"}"#;
    let parsed = format!("{:?}", generate(r#"{"model":"m","prompt":"secret"}"#));
    assert!(!parsed.contains("secret"), "{parsed}");
    let refusal: String = format!("{:?}", chat_request(body, &Limits::default()).unwrap_err());
    assert!(!refusal.contains("secret"), "{refusal}");
}
