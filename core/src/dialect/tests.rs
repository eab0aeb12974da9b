//! Promises that both dialects keep, and the script that the golden transcripts are played from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::*;
use crate::config::Limits;
use crate::id::Ids;
use crate::wire::Framing;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// One step of an answer; texts are escaped already.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Content(String),
    Reasoning(String),
    Refusal(String),
    Call(u32, &'static str, &'static str, String),
    KeepAlive,
}

pub(super) fn content(text: &str) -> Step {
    Step::Content(text.to_string())
}

pub(super) fn reasoning(text: &str) -> Step {
    Step::Reasoning(text.to_string())
}

pub(super) fn call(index: u32, id: &'static str, name: &'static str, arguments: &str) -> Step {
    Step::Call(index, id, name, arguments.to_string())
}

const USAGE: Usage = Usage {
    prompt_tokens: 9,
    completion_tokens: 3,
    estimated: false,
};

/// A request at 00:05:00, its first chunk a quarter of a second later, its end after another half.
const TIMING: Timing = Timing {
    started: Instant::from_micros(1_000_000),
    first_chunk: Some(Instant::from_micros(1_250_000)),
    now: Instant::from_micros(1_750_000),
};

static WALL: LazyLock<WallClock> =
    LazyLock::new(|| WallClock::new(TIMING.started, Duration::from_secs(1_767_225_900)));

fn opening(model: &str) -> Opening<'_> {
    Opening {
        id: Ids::new(0xdead_0001).next(),
        model,
        created: TIMING.started,
        wall: &WALL,
    }
}

/// The bytes of a streamed answer. Steps come 0.1 s apart, from the first chunk on.
pub(super) fn streamed(
    parsed: Parsed<'_>,
    dialect: Dialect,
    steps: &[Step],
    end: Result<Finish, (Code, &str)>,
) -> String {
    played(parsed, dialect, steps, end).1
}

/// The encoder after it has streamed an answer, and what it wrote.
pub(super) fn played(
    parsed: Parsed<'_>,
    dialect: Dialect,
    steps: &[Step],
    end: Result<Finish, (Code, &str)>,
) -> (Box<dyn Encoder + Send>, String) {
    let mut encoder = parsed.encoder;
    let framing = match dialect {
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Mcp | Dialect::Rest | Dialect::Tool => {
            Framing::Sse
        }
        Dialect::Ollama => Framing::Ndjson,
    };
    let mut bytes = Vec::new();
    let mut out = Records::new(&mut bytes, framing);
    encoder.open(&opening(&parsed.invocation.model), &mut out);
    let mut now = TIMING.first_chunk.unwrap();
    for step in steps {
        match step {
            Step::Content(text) => encoder.content(now, text.as_bytes(), &mut out),
            Step::Reasoning(text) => encoder.reasoning(now, text.as_bytes(), &mut out),
            Step::Refusal(text) => encoder.refusal(now, text.as_bytes(), &mut out),
            Step::Call(index, id, name, arguments) => encoder.tool_call(
                now,
                *index,
                id.as_bytes(),
                name.as_bytes(),
                arguments.as_bytes(),
                &mut out,
            ),
            Step::KeepAlive => encoder.keep_alive(now, &mut out),
        }
        now = now + Duration::from_millis(100);
    }
    match end {
        Ok(finish) => encoder.end(TIMING.now, finish, USAGE, &TIMING, &mut out),
        Err((code, message)) => encoder.failed(TIMING.now, code, message, &mut out),
    }
    (encoder, String::from_utf8(bytes).unwrap())
}

/// An answer of vectors as one body.
pub(super) fn vectors(parsed: Parsed<'_>, vectors: &[&str]) -> String {
    let answer = Answer {
        embeddings: vectors
            .iter()
            .map(|vector| vector.as_bytes().to_vec())
            .collect(),
        ..Answer::default()
    };
    let usage = Usage {
        completion_tokens: 0,
        ..USAGE
    };
    let (mut encoder, mut out) = (parsed.encoder, Vec::new());
    encoder.whole(
        &opening(&parsed.invocation.model),
        &answer,
        Finish::Stop,
        usage,
        &TIMING,
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

/// The same answer as one body.
pub(super) fn whole(parsed: Parsed<'_>, steps: &[Step], finish: Finish) -> String {
    let mut answer = Answer::default();
    for step in steps {
        match step {
            Step::Content(text) => answer.content.extend_from_slice(text.as_bytes()),
            Step::Reasoning(text) => answer.reasoning.extend_from_slice(text.as_bytes()),
            Step::Refusal(text) => answer.refusal.extend_from_slice(text.as_bytes()),
            Step::Call(index, id, name, arguments) => {
                answer.tool_call(*index, id.as_bytes(), name.as_bytes(), arguments.as_bytes());
            }
            Step::KeepAlive => {}
        }
    }
    let mut encoder = parsed.encoder;
    let mut out = Vec::new();
    encoder.whole(
        &opening(&parsed.invocation.model),
        &answer,
        finish,
        USAGE,
        &TIMING,
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

pub(super) type Read = for<'a> fn(&'a str, &Limits) -> Result<Parsed<'a>, Refusal>;

/// Asserts that each body is refused with 400 at the field and in the words of the table.
pub(super) fn refuses(read: Read, limits: &Limits, table: &[(&str, Option<&str>, &str)]) {
    for (body, param, message) in table {
        let refusal = read(body, limits).map(|_| ()).expect_err(body);
        assert_eq!(refusal.message(), *message, "{body}");
        assert_eq!(refusal.param(), *param, "{body}");
        assert_eq!(refusal.status(), 400, "{body}");
    }
}

const OPENAI: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;
const OLLAMA: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const ANTHROPIC: &str = r#"{"model":"m","max_tokens":9,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA=="}}]},{"role":"assistant","content":[{"type":"tool_use","id":"u","name":"n","input":{}}]}],"tools":[{"name":"n","input_schema":{}}],"tool_choice":{"type":"tool","name":"n"},"thinking":{"type":"enabled","budget_tokens":9}}"#;
const GENERATE: &str = r#"{"model":"m","prompt":"hi"}"#;

pub(super) fn parsed(read: Read, body: &'static str) -> Parsed<'static> {
    read(body, &Limits::default()).unwrap()
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Folds OpenAI's chunks as a client does: the message, the finish reason, the usage.
fn fold_openai(stream: &str) -> (Value, Value, Value) {
    let mut message =
        json!({"role": null, "content": "", "reasoning": "", "refusal": "", "tool_calls": []});
    let (mut finish, mut usage) = (Value::Null, Value::Null);
    let mut done = false;
    for record in stream.split("\n\n").filter(|record| !record.is_empty()) {
        assert!(!done, "nothing follows [DONE]");
        let Some(data) = record.strip_prefix("data: ") else {
            assert_eq!(record, ": keep-alive");
            continue;
        };
        done = data == "[DONE]";
        if done {
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        assert_eq!(chunk["id"], "chatcmpl-dead0001000000000001");
        assert_eq!(chunk["created"], 1_767_225_900);
        if !chunk["usage"].is_null() {
            assert_eq!(chunk["choices"], json!([]));
            usage = chunk["usage"].clone();
            continue;
        }
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        assert_eq!(delta["reasoning"], delta["reasoning_content"]);
        if message["role"].is_null() {
            message["role"] = delta["role"].clone();
        }
        for key in ["content", "reasoning", "refusal"] {
            message[key] = json!(text(&message[key]) + &text(&delta[key]));
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
            let calls = message["tool_calls"].as_array_mut().unwrap();
            if !piece["id"].is_null() {
                assert!(
                    calls.len() <= at || calls[at].is_null(),
                    "id and name come once"
                );
                calls.resize(calls.len().max(at + 1), Value::Null);
                calls[at] = piece.clone();
                calls[at].as_object_mut().unwrap().remove("index");
            } else {
                let more = text(&piece["function"]["arguments"]);
                let arguments = &mut calls[at]["function"]["arguments"];
                *arguments = json!(text(arguments) + &more);
            }
        }
        if !choice["finish_reason"].is_null() {
            assert!(finish.is_null(), "one finish reason");
            finish = choice["finish_reason"].clone();
        }
    }
    assert!(done, "the stream ends with [DONE]");
    (message, finish, usage)
}

fn read_openai(body: &str) -> (Value, Value, Value) {
    let body: Value = serde_json::from_str(body).unwrap();
    let choice = &body["choices"][0];
    let said = &choice["message"];
    let message = json!({
        "role": said["role"], "content": text(&said["content"]), "reasoning": text(&said["reasoning"]),
        "refusal": text(&said["refusal"]),
        "tool_calls": said.get("tool_calls").cloned().unwrap_or(json!([])),
    });
    (
        message,
        choice["finish_reason"].clone(),
        body["usage"].clone(),
    )
}

/// Folds Ollama's lines as a client does: text, thinking and calls, and the last line without its text.
fn fold_ollama(stream: &str) -> (String, String, Value, Value) {
    let (mut said, mut thought, mut calls) = (String::new(), String::new(), vec![]);
    let mut lines = stream.lines().peekable();
    while let Some(line) = lines.next() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let message = match line.get("message") {
            Some(message) => message.clone(),
            None => line.clone(),
        };
        said += &text(&message["content"]);
        said += &text(&message["response"]);
        thought += &text(&message["thinking"]);
        calls.extend(
            message["tool_calls"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        assert_eq!(line["done"], lines.peek().is_none());
        if lines.peek().is_none() {
            let line = line.as_object_mut().unwrap();
            for key in ["message", "response", "thinking", "tool_calls"] {
                line.remove(key);
            }
            return (said, thought, json!(calls), json!(line));
        }
    }
    panic!("no last line")
}

fn escaped() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|plain| {
        let mut out = Vec::new();
        text::escape_into(&mut out, &plain);
        String::from_utf8(out).unwrap()
    })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = prop::sample::select(vec!["", "", "call_a", "call_b"]);
    let name = prop::sample::select(vec!["", "", "look", "read"]);
    let arguments = prop::sample::select(vec!["", "{}", "{\\\"a\\\":", "1}", "no json", "[1]"]);
    let step = prop_oneof![
        4 => escaped().prop_map(Step::Content),
        2 => escaped().prop_map(Step::Reasoning),
        3 => (0u32..3, id, name, arguments).prop_map(|(index, id, name, arguments)| call(index, id, name, arguments)),
        1 => Just(Step::KeepAlive),
    ];
    (
        prop::collection::vec(step, 0..12),
        prop::collection::vec(escaped(), 0..3),
    )
        .prop_map(|(mut steps, refusals)| {
            steps.extend(refusals.into_iter().map(Step::Refusal));
            steps
        })
}

pub(super) fn finishes() -> impl Strategy<Value = Finish> {
    prop::sample::select(vec![
        Finish::Stop,
        Finish::StopSequence(0),
        Finish::Length,
        Finish::ToolCalls,
        Finish::ContentFilter,
    ])
}

/// Values of all kinds at all the places where the dialects look.
fn hostile_body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "m",
            "user",
            "assistant",
            "tool",
            "text",
            "image_url",
            "function",
            "auto",
            "json_schema",
            "json",
            "image",
            "document",
            "tool_use",
            "tool_result",
            "message",
            "function_call",
            "function_call_output",
            "input_text",
            "input_image",
            "base64",
            "url",
            "custom",
            "enabled",
            "0",
            "a b\n"
        ])
        .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let key = prop::sample::select(vec![
            "model",
            "messages",
            "role",
            "content",
            "type",
            "text",
            "image_url",
            "tool_calls",
            "function",
            "name",
            "id",
            "arguments",
            "tool_call_id",
            "tool_name",
            "images",
            "tools",
            "tool_choice",
            "response_format",
            "json_schema",
            "stop",
            "options",
            "num_predict",
            "temperature",
            "seed",
            "n",
            "stream",
            "stream_options",
            "prompt",
            "suffix",
            "echo",
            "input",
            "encoding_format",
            "dimensions",
            "best_of",
            "system",
            "raw",
            "think",
            "format",
            "keep_alive",
            "max_tokens",
            "parameters",
            "functions",
            "system",
            "source",
            "media_type",
            "data",
            "input",
            "tool_use_id",
            "input_schema",
            "instructions",
            "call_id",
            "output",
            "file_data",
            "thinking",
            "output_config",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8).prop_map(|fields| {
                let mut object = json!({"model": "m", "role": "user"});
                for (key, value) in fields {
                    object[key] = value;
                }
                object
            }),
        ]
    })
}

const READS: [Read; 11] = [
    responses::tests::read_new,
    anthropic::messages_request,
    anthropic::count_tokens_request,
    openai::chat_request,
    openai::completion_request,
    openai::fim_request,
    openai::embedding_request,
    ollama::embed_request,
    ollama::embeddings_request,
    ollama::chat_request,
    ollama::generate_request,
];

fn survives(body: &str) {
    for read in READS {
        match read(body, &Limits::default()) {
            Ok(parsed) => {
                assert!(body.contains(parsed.digest_of));
                assert_eq!(parsed.stream, parsed.invocation.stream);
            }
            Err(refusal) => {
                assert!(matches!(refusal.status(), 400 | 413), "{refusal:?}");
                if let Some(param) = refusal.param() {
                    assert!(refusal.message().starts_with(param), "{refusal:?}");
                }
                let mut out = Vec::new();
                error_body(Dialect::OpenAi, opening("").id, &refusal, &mut out);
                let body: Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(body["error"]["message"], refusal.message());
            }
        }
    }
}

proptest! {
    #[test]
    fn a_whole_answer_is_the_fold_of_the_streamed_one(steps in steps(), finish in finishes()) {
        let stream = streamed(parsed(openai::chat_request, OPENAI), Dialect::OpenAi, &steps, Ok(finish));
        let body = whole(parsed(openai::chat_request, OPENAI), &steps, finish);
        let (openai, other) = (fold_openai(&stream), read_openai(&body));
        prop_assert_eq!(&openai, &other);

        let read: Read = ollama::chat_request;
        let stream = streamed(parsed(read, OLLAMA), Dialect::Ollama, &steps, Ok(finish));
        let ollama = fold_ollama(&stream);
        let body = whole(parsed(read, OLLAMA), &steps, finish);
        prop_assert_eq!(&ollama, &fold_ollama(&body));
        prop_assert_eq!(text(&openai.0["content"]) + &text(&openai.0["refusal"]), ollama.0.as_str());
        prop_assert_eq!(text(&openai.0["reasoning"]), ollama.1.as_str());
        for (one, other) in openai.0["tool_calls"].as_array().unwrap().iter().zip(ollama.2.as_array().unwrap()) {
            prop_assert_eq!(&one["id"], &other["id"]);
            prop_assert_eq!(&one["function"]["name"], &other["function"]["name"]);
            prop_assert!(other["function"]["arguments"].is_object());
        }

        let read: Read = ollama::generate_request;
        let stream = streamed(parsed(read, GENERATE), Dialect::Ollama, &steps, Ok(finish));
        prop_assert_eq!(&fold_ollama(&stream), &ollama);
        let body = whole(parsed(read, GENERATE), &steps, finish);
        prop_assert_eq!(&fold_ollama(&body), &ollama);
    }

    #[test]
    fn no_body_breaks_a_reader(body in hostile_body()) {
        survives(&body.to_string());
    }

    #[test]
    fn no_damage_to_a_body_breaks_a_reader(
        body in prop::sample::select(vec![OPENAI, OLLAMA, GENERATE, ANTHROPIC]),
        at in any::<prop::sample::Index>(),
        len in 0usize..6,
        with in "[\\[\\]{}\",:\\\\0-9a-z\u{0}é ]{0,5}",
    ) {
        let mut body = body.to_string();
        let at = at.index(body.len());
        let end = (at + len).min(body.len());
        body.replace_range(at..end, &with);
        survives(&body);
    }

    #[test]
    fn any_model_name_comes_back_as_it_was_asked(name in "[^\\s\\p{C}]{1,64}") {
        let body = json!({"model": name, "messages": [{"role": "user", "content": "hi"}]}).to_string();
        for (read, key) in [(openai::chat_request as Read, "model"), (ollama::chat_request, "model")] {
            let parsed = read(&body, &Limits::default()).unwrap();
            let answer: Value = serde_json::from_str(&whole(parsed, &[], Finish::Stop)).unwrap();
            prop_assert_eq!(&answer[key], &json!(name));
        }
    }
}

#[test]
fn errors_have_the_shape_of_their_dialect() {
    let refusal = Refusal::new(Code::ModelNotFound, "no model \"x\"\u{2028}").at("model");
    let body = |dialect, refusal: &Refusal| {
        let mut out = Vec::new();
        error_body(dialect, opening("").id, refusal, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        body(Dialect::OpenAi, &refusal),
        r#"{"error":{"message":"no model \"x\"\u2028","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
    );
    assert_eq!(
        body(Dialect::Ollama, &refusal),
        r#"{"error":"no model \"x\"\u2028"}"#
    );
    assert_eq!(
        body(Dialect::Anthropic, &refusal),
        r#"{"type":"error","error":{"type":"not_found_error","message":"no model \"x\"\u2028"},"request_id":"dead0001000000000001"}"#
    );
    assert_eq!(
        body(Dialect::OpenAi, &Refusal::invalid("bad")),
        r#"{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}}"#
    );
}

#[test]
fn calls_that_all_claim_index_0_are_told_apart() {
    for steps in [
        [call(0, "a", "look", "{}"), call(0, "b", "read", "{}")],
        [call(0, "", "look", "{}"), call(0, "", "read", "{}")],
    ] {
        let stream = streamed(
            parsed(openai::chat_request, OPENAI),
            Dialect::OpenAi,
            &steps,
            Ok(Finish::Stop),
        );
        let (message, finish, _) = fold_openai(&stream);
        let names = |calls: &Value| {
            format!(
                "{} {}",
                calls[0]["function"]["name"], calls[1]["function"]["name"]
            )
        };
        assert_eq!(names(&message["tool_calls"]), r#""look" "read""#);
        assert_eq!(finish, "tool_calls");
    }
}

#[test]
fn what_is_held_back_is_charged() {
    let mut encoder = parsed(ollama::chat_request, OLLAMA).encoder;
    let mut bytes = Vec::new();
    let mut out = Records::new(&mut bytes, Framing::Ndjson);
    assert_eq!(encoder.held(), 0);
    encoder.tool_call(TIMING.now, 7, b"a", b"look", &[b'x'; 100_000], &mut out);
    assert!(encoder.held() > 100_000);
    encoder.end(TIMING.now, Finish::Stop, USAGE, &TIMING, &mut out);
    assert_eq!(encoder.held(), 0);
}

/// A reader keeps so many elements of a list in passing, and reads a longer one anew.
#[test]
fn a_list_of_messages_is_as_long_as_it_may_be_and_what_is_odd_in_it_is_named() {
    let limits = Limits {
        messages: 2000,
        ..Limits::default()
    };
    let readers: [(&str, Read); 3] = [
        (r#""model":"m""#, openai::chat_request),
        (r#""model":"m""#, ollama::chat_request),
        (r#""model":"m","max_tokens":9"#, anthropic::messages_request),
    ];
    for (fields, read) in readers {
        let body = |count: usize, last: &str| {
            let message = r#"{"role":"user","content":"a \"line\"\n"},"#;
            format!(
                "{{{fields},\"messages\":[{}{last}]}}",
                message.repeat(count - 1)
            )
        };
        for count in [1, 1024, 1025, 2000] {
            let body = body(count, r#"{"role":"user","content":"b"}"#);
            let parsed = read(&body, &limits).unwrap();
            let crate::invocation::Task::Chat { messages } = &parsed.invocation.task else {
                panic!("it is a conversation");
            };
            assert_eq!(messages.len(), count);
            assert!(body.contains(parsed.digest_of) && parsed.digest_of.ends_with(r#""b"}]"#));
        }
        for (count, last, told) in [
            (
                2001,
                r#"{"role":"user","content":"b"}"#,
                "messages: 2001 messages",
            ),
            (3, "7", "messages[2]: expected an object, found 7"),
            (
                1500,
                "null",
                "messages[1499]: expected an object, found null",
            ),
            (
                2,
                r#"{"role":"user","content":7}"#,
                "messages[1].content: expected",
            ),
        ] {
            let body = body(count, last);
            let refusal = read(&body, &limits).err().unwrap();
            assert!(
                refusal.message().starts_with(told),
                "{told}: {}",
                refusal.message()
            );
        }
    }
}
