#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::create_request;
use crate::config::Limits;
use crate::dialect::tests::{
    Step, call, content, finishes, played, reasoning, steps, streamed, text, whole,
};
use crate::dialect::{Dialect, Parsed};
use crate::error::{Code, Refusal};
use crate::invocation::Finish;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const PLAIN: &str = r#"{"model":"gpt","input":"hi","stream":true}"#;

/// Reads a request that continues no other.
pub(in crate::dialect) fn read_new<'a>(
    body: &'a str,
    limits: &Limits,
) -> Result<Parsed<'a>, Refusal> {
    create_request(body, None, limits)
}

pub(super) fn read(body: &str) -> Parsed<'_> {
    read_new(body, &Limits::default()).unwrap()
}

fn stream(steps: &[Step], finish: Finish) -> String {
    streamed(read(PLAIN), Dialect::OpenAi, steps, Ok(finish))
}

/// Settings that every response repeats of a request that gave none.
const SETTINGS: &str = r#""id":"resp_dead0001000000000001","object":"response","created_at":1767225900,"model":"gpt","instructions":null,"max_output_tokens":null,"metadata":{},"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"store":true,"background":false,"max_tool_calls":null,"service_tier":"default","top_logprobs":0,"truncation":"disabled","#;
const USAGE: &str = r#""usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":12}"#;

/// The stream with ids and settings shortened.
fn short(stream: &str) -> String {
    stream
        .replace(SETTINGS, "…")
        .replace(USAGE, "\"usage\":…")
        .replace("dead0001000000000001_", "")
}

#[test]
fn a_text_is_streamed_as_one_item_with_one_part() {
    assert_eq!(
        short(&stream(
            &[
                content("Hel"),
                Step::KeepAlive,
                content("l\\u00f6 \\\"you\\\"")
            ],
            Finish::Stop
        )),
        r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{…"status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}

event: response.in_progress
data: {"type":"response.in_progress","sequence_number":1,"response":{…"status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_0","type":"message","status":"in_progress","role":"assistant","content":[]}}

event: response.content_part.added
data: {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_0","output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}

: keep-alive

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_0","output_index":0,"content_index":0,"delta":"l\u00f6 \"you\"","logprobs":[]}

event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":6,"item_id":"msg_0","output_index":0,"content_index":0,"text":"Hell\u00f6 \"you\"","logprobs":[]}

event: response.content_part.done
data: {"type":"response.content_part.done","sequence_number":7,"item_id":"msg_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hell\u00f6 \"you\"","annotations":[],"logprobs":[]}}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"id":"msg_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hell\u00f6 \"you\"","annotations":[],"logprobs":[]}]}}

event: response.completed
data: {"type":"response.completed","sequence_number":9,"response":{…"status":"completed","error":null,"incomplete_details":null,"output":[{"id":"msg_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hell\u00f6 \"you\"","annotations":[],"logprobs":[]}]}],"usage":…}}

"#
    );
}

/// The data between the first two events and the last, without their numbers.
fn items(steps: &[Step], finish: Finish) -> String {
    let stream = short(&stream(steps, finish));
    stream
        .split("\n\n")
        .filter(|event| !event.contains("\"response\":{"))
        .filter_map(|event| {
            let (name, data) = event.split_once("\ndata: ")?;
            let name = name.strip_prefix("event: ")?;
            let (kind, rest) = data.split_once(",\"sequence_number\":")?;
            assert_eq!(kind, format!("{{\"type\":\"{name}\""));
            let (_, rest) = rest.split_once(',')?;
            Some(format!(
                "{} {rest}\n",
                name.strip_prefix("response.").unwrap()
            ))
        })
        .collect()
}

#[test]
fn items_follow_one_another() {
    assert_eq!(
        items(
            &[
                reasoning("H"),
                reasoning("m"),
                content("I look"),
                call(4, "call_x", "look", ""),
                call(4, "", "", "{\\\"at\\\":"),
                call(4, "", "", "1}"),
                call(9, "", "wait", ""),
            ],
            Finish::Stop
        ),
        r#"output_item.added "output_index":0,"item":{"id":"rs_0","type":"reasoning","summary":[]}}
reasoning_summary_part.added "item_id":"rs_0","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}
reasoning_summary_text.delta "item_id":"rs_0","output_index":0,"summary_index":0,"delta":"H"}
reasoning_summary_text.delta "item_id":"rs_0","output_index":0,"summary_index":0,"delta":"m"}
reasoning_summary_text.done "item_id":"rs_0","output_index":0,"summary_index":0,"text":"Hm"}
reasoning_summary_part.done "item_id":"rs_0","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":"Hm"}}
output_item.done "output_index":0,"item":{"id":"rs_0","type":"reasoning","summary":[{"type":"summary_text","text":"Hm"}]}}
output_item.added "output_index":1,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}
content_part.added "item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
output_text.delta "item_id":"msg_1","output_index":1,"content_index":0,"delta":"I look","logprobs":[]}
output_text.done "item_id":"msg_1","output_index":1,"content_index":0,"text":"I look","logprobs":[]}
content_part.done "item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"I look","annotations":[],"logprobs":[]}}
output_item.done "output_index":1,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"I look","annotations":[],"logprobs":[]}]}}
output_item.added "output_index":2,"item":{"id":"fc_2","type":"function_call","status":"in_progress","call_id":"call_x","name":"look","arguments":""}}
function_call_arguments.delta "item_id":"fc_2","output_index":2,"delta":"{\"at\":"}
function_call_arguments.delta "item_id":"fc_2","output_index":2,"delta":"1}"}
function_call_arguments.done "item_id":"fc_2","output_index":2,"name":"look","arguments":"{\"at\":1}"}
output_item.done "output_index":2,"item":{"id":"fc_2","type":"function_call","status":"completed","call_id":"call_x","name":"look","arguments":"{\"at\":1}"}}
output_item.added "output_index":3,"item":{"id":"fc_3","type":"function_call","status":"in_progress","call_id":"call_1","name":"wait","arguments":""}}
function_call_arguments.delta "item_id":"fc_3","output_index":3,"delta":"{}"}
function_call_arguments.done "item_id":"fc_3","output_index":3,"name":"wait","arguments":"{}"}
output_item.done "output_index":3,"item":{"id":"fc_3","type":"function_call","status":"completed","call_id":"call_1","name":"wait","arguments":"{}"}}
"#
    );
}

#[test]
fn a_refusal_is_a_part_of_its_own() {
    let steps = [content("Well"), Step::Refusal("I must not".to_string())];
    assert_eq!(
        items(&steps, Finish::ContentFilter)
            .lines()
            .skip(3)
            .collect::<Vec<_>>(),
        [
            r#"output_text.done "item_id":"msg_0","output_index":0,"content_index":0,"text":"Well","logprobs":[]}"#,
            r#"content_part.done "item_id":"msg_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Well","annotations":[],"logprobs":[]}}"#,
            r#"content_part.added "item_id":"msg_0","output_index":0,"content_index":1,"part":{"type":"refusal","refusal":""}}"#,
            r#"refusal.delta "item_id":"msg_0","output_index":0,"content_index":1,"delta":"I must not"}"#,
            r#"refusal.done "item_id":"msg_0","output_index":0,"content_index":1,"refusal":"I must not"}"#,
            r#"content_part.done "item_id":"msg_0","output_index":0,"content_index":1,"part":{"type":"refusal","refusal":"I must not"}}"#,
            r#"output_item.done "output_index":0,"item":{"id":"msg_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Well","annotations":[],"logprobs":[]},{"type":"refusal","refusal":"I must not"}]}}"#,
        ]
    );
}

#[test]
fn the_end_says_whether_the_response_is_complete() {
    let refusal = Step::Refusal("no".to_string());
    for (step, finish, status, details) in [
        (content("a"), Finish::Stop, "completed", "null"),
        (content("a"), Finish::StopSequence(0), "completed", "null"),
        (
            call(0, "a", "look", "{}"),
            Finish::ToolCalls,
            "completed",
            "null",
        ),
        (
            content("a"),
            Finish::Length,
            "incomplete",
            r#"{"reason":"max_output_tokens"}"#,
        ),
        (
            content("a"),
            Finish::ContentFilter,
            "incomplete",
            r#"{"reason":"content_filter"}"#,
        ),
        (refusal, Finish::ContentFilter, "completed", "null"),
    ] {
        let steps = [step];
        let end = format!(
            "\"status\":\"{status}\",\"error\":null,\"incomplete_details\":{details},\"output\":[{{"
        );
        let stream = stream(&steps, finish);
        let (_, last) = stream.trim_end().rsplit_once("\n\n").unwrap();
        assert!(
            last.starts_with(&format!("event: response.{status}\n")),
            "{last}"
        );
        assert!(last.contains(&end), "{last}");
        assert!(
            last.contains(&format!("\"status\":\"{status}\",\"role\"")) || finish != Finish::Length
        );
        let body = whole(read(PLAIN), &steps, finish);
        assert!(body.contains(&end), "{body}");
    }
}

#[test]
fn a_stream_that_fails_ends_with_the_response_that_failed() {
    for (code, name) in [
        (Code::AgentLost, "server_error"),
        (Code::RateLimited, "rate_limit_exceeded"),
        (Code::ContextLength, "context_length_exceeded"),
        (Code::InvalidRequest, "invalid_prompt"),
    ] {
        let failed = streamed(
            read(PLAIN),
            Dialect::OpenAi,
            &[content("Hel")],
            Err((code, "it \"broke\"")),
        );
        let failed = short(&failed);
        let (_, last) = failed.trim_end().rsplit_once("\n\n").unwrap();
        assert_eq!(
            last,
            format!(
                r#"event: response.failed
data: {{"type":"response.failed","sequence_number":5,"response":{{…"status":"failed","error":{{"code":"{name}","message":"it \"broke\""}},"incomplete_details":null,"output":[{{"id":"msg_0","type":"message","status":"incomplete","role":"assistant","content":[{{"type":"output_text","text":"Hel","annotations":[],"logprobs":[]}}]}}],"usage":null}}}}"#
            )
        );
    }
}

#[test]
fn a_whole_answer_is_one_response() {
    let steps = [
        reasoning("Hm"),
        content("Hello"),
        call(2, "a", "look", "{\\\"at\\\":1}"),
        call(3, "b", "wait", ""),
    ];
    assert_eq!(
        short(&whole(read(PLAIN), &steps, Finish::Stop)),
        r#"{…"status":"completed","error":null,"incomplete_details":null,"output":[{"id":"rs_0","type":"reasoning","summary":[{"type":"summary_text","text":"Hm"}]},{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]},{"id":"fc_2","type":"function_call","status":"completed","call_id":"a","name":"look","arguments":"{\"at\":1}"},{"id":"fc_3","type":"function_call","status":"completed","call_id":"b","name":"wait","arguments":"{}"}],"usage":…}"#
    );
}

#[test]
fn a_response_repeats_what_its_request_set_on_one_line() {
    let body = "{\"model\":\"m\",\"input\":\"x\",\"instructions\":\"be\u{2028} brief\",\"tools\":[\n{\"type\":\"function\",\r\n\t\"name\":\"a b\\ud83d\"}],\"metadata\":{\"k\" : \"v w\"},\"temperature\":0.5,\"store\":false,\"max_output_tokens\":16,\"stream\":true}";
    let stream = streamed(read(body), Dialect::OpenAi, &[], Ok(Finish::Stop));
    for line in stream.split("\n\n").filter(|line| !line.is_empty()) {
        assert_eq!(line.lines().count(), 2);
        for part in [
            r#""instructions":"be\u2028 brief","#,
            r#""tools":[{"type":"function","name":"a b\ufffd"}],"#,
            r#""metadata":{"k":"v w"},"#,
            r#""temperature":0.5,"#,
            r#""max_output_tokens":16,"#,
            r#""store":false,"#,
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[test]
fn all_text_is_charged() {
    let steps = [content(&"x".repeat(100_000))];
    let (encoder, _) = played(read(PLAIN), Dialect::OpenAi, &steps, Ok(Finish::Stop));
    assert!(encoder.held() > 100_000);
}

/// Folds the events as a client does: the response at the end, after the events have been held against it.
fn fold(stream: &str) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let mut done: Vec<Value> = Vec::new();
    let mut response = Value::Null;
    let mut number = 0;
    for event in stream.split("\n\n").filter(|event| !event.is_empty()) {
        if event == ": keep-alive" {
            continue;
        }
        assert!(response.is_null(), "nothing follows the end");
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let name = name.strip_prefix("event: response.").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], format!("response.{name}"));
        assert_eq!(data["sequence_number"], number);
        number += 1;
        let at = usize::try_from(data["output_index"].as_u64().unwrap_or(0)).unwrap();
        let place = |key: &str| usize::try_from(data[key].as_u64().unwrap()).unwrap();
        let add = |field: &mut Value| *field = json!(text(field) + &text(&data["delta"]));
        if let Some(id) = data.get("item_id") {
            assert_eq!(&output[at]["id"], id);
            assert!(done[at].is_null(), "an item that is done changes no more");
        }
        match name {
            "output_item.added" => {
                assert_eq!(at, output.len());
                output.push(data["item"].clone());
                done.push(Value::Null);
            }
            "content_part.added" => {
                let parts = output[at]["content"].as_array_mut().unwrap();
                assert_eq!(place("content_index"), parts.len());
                parts.push(data["part"].clone());
            }
            "reasoning_summary_part.added" => output[at]["summary"] = json!([data["part"]]),
            "output_text.delta" => {
                add(&mut output[at]["content"][place("content_index")]["text"]);
            }
            "refusal.delta" => {
                add(&mut output[at]["content"][place("content_index")]["refusal"]);
            }
            "reasoning_summary_text.delta" => add(&mut output[at]["summary"][0]["text"]),
            "function_call_arguments.delta" => add(&mut output[at]["arguments"]),
            "output_text.done" => assert_eq!(
                output[at]["content"][place("content_index")]["text"],
                data["text"]
            ),
            "refusal.done" => assert_eq!(
                output[at]["content"][place("content_index")]["refusal"],
                data["refusal"]
            ),
            "content_part.done" => {
                assert_eq!(output[at]["content"][place("content_index")], data["part"])
            }
            "reasoning_summary_text.done" => {
                assert_eq!(output[at]["summary"][0]["text"], data["text"]);
            }
            "reasoning_summary_part.done" => assert_eq!(output[at]["summary"][0], data["part"]),
            "function_call_arguments.done" => {
                assert_eq!(output[at]["arguments"], data["arguments"]);
            }
            "output_item.done" => {
                assert!(done[at].is_null());
                done[at] = data["item"].clone();
                if output[at]["status"].is_string() {
                    output[at]["status"] = data["item"]["status"].clone();
                }
                assert_eq!(output[at], done[at]);
            }
            "created" => assert_eq!(data["response"]["status"], "in_progress"),
            "in_progress" => assert_eq!(number, 2),
            "completed" | "incomplete" => response = data["response"].clone(),
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        response["output"],
        json!(done),
        "every item is done, and listed"
    );
    response
}

/// Text, refusal, reasoning and calls of a response.
fn said(response: &Value) -> (String, String, String, Vec<(String, String, String)>) {
    let mut said = (String::new(), String::new(), String::new(), Vec::new());
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "reasoning" => said.2 += &text(&item["summary"][0]["text"]),
            "message" => {
                for part in item["content"].as_array().unwrap() {
                    said.0 += &text(&part["text"]);
                    said.1 += &text(&part["refusal"]);
                }
            }
            _ => said.3.push((
                text(&item["call_id"]),
                text(&item["name"]),
                text(&item["arguments"]),
            )),
        }
    }
    said
}

proptest! {
    #[test]
    fn a_whole_answer_is_the_fold_of_the_streamed_one(steps in steps(), finish in finishes()) {
        let streamed = fold(&stream(&steps, finish));
        let whole: Value = serde_json::from_str(&whole(read(PLAIN), &steps, finish)).unwrap();
        for key in ["id", "status", "incomplete_details", "usage", "tools", "created_at"] {
            prop_assert_eq!(&streamed[key], &whole[key]);
        }
        let (streamed, whole) = (said(&streamed), said(&whole));
        prop_assert_eq!((&streamed.0, &streamed.1, &streamed.2), (&whole.0, &whole.1, &whole.2));
        prop_assert_eq!(streamed.3.len(), whole.3.len());
        let mut left = whole.3;
        let mut cut = Vec::new();
        for streamed in streamed.3 {
            match left.iter().position(|whole| *whole == streamed) {
                Some(same) => drop(left.swap_remove(same)),
                None => cut.push(streamed),
            }
        }
        // Behind complete arguments nothing is streamed any more.
        for streamed in cut {
            prop_assert!(serde_json::from_str::<Value>(&streamed.2).is_ok(), "{streamed:?} is not in {left:?}");
            let begun = left.iter().position(|whole| {
                (&streamed.0, &streamed.1) == (&whole.0, &whole.1) && whole.2.starts_with(&streamed.2)
            });
            prop_assert!(begun.is_some(), "{streamed:?} is not in {left:?}");
            left.swap_remove(begun.unwrap());
        }
    }
}
