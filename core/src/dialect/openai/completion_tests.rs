//! The legacy completions API as clients see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::{completion_request, fim_request};
use crate::config::Limits;
use crate::dialect::tests::{Step, call, content, reasoning, refuses, streamed, whole};
use crate::dialect::{Dialect, Parsed};
use crate::error::Code;
use crate::invocation::{Finish, Task};
use alloc::format;
use alloc::string::String;

/// As Void sends it.
const FILL: &str = r#"{"model":"qwen2.5-coder","prompt":"def f(x):\n    ","suffix":"\nprint(f(1))","stop":["\n\n"],"max_tokens":300}"#;
const STREAM: &str = r#"{"model":"m","prompt":["hi"],"stream":true}"#;
const USAGE: &str =
    r#"{"model":"m","prompt":"hi","stream":true,"stream_options":{"include_usage":true}}"#;

fn read(body: &str) -> Parsed<'_> {
    completion_request(body, &Limits::default()).unwrap()
}

fn stream(body: &str, steps: &[Step], finish: Finish) -> String {
    streamed(read(body), Dialect::OpenAi, steps, Ok(finish))
}

#[test]
fn a_gap_is_asked_for_with_what_is_round_it() {
    let parsed = read(FILL);
    let Task::Completion { prompt, suffix } = parsed.invocation.task else {
        panic!("not a completion");
    };
    assert_eq!(prompt.decode(), "def f(x):\n    ");
    assert_eq!(suffix.unwrap().decode(), "\nprint(f(1))");
    assert_eq!(parsed.digest_of, r#""def f(x):\n    ""#);
    assert!(!parsed.stream && !parsed.load_only);
    let parameters = &parsed.invocation.parameters;
    assert_eq!(parameters.max_tokens, Some(300));
    assert_eq!(parameters.stop, ["\n\n"]);
    assert_eq!(
        whole(
            read(FILL),
            &[reasoning("Hm"), content("return x")],
            Finish::Stop
        ),
        r#"{"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"qwen2.5-coder","choices":[{"text":"return x","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#
    );
}

#[test]
fn a_text_is_streamed_in_choices_of_text() {
    assert_eq!(
        stream(
            STREAM,
            &[
                content("Hel"),
                Step::KeepAlive,
                reasoning("Hm"),
                call(0, "a", "look", "{}"),
                content("l\\u00f6")
            ],
            Finish::ToolCalls
        ),
        r#"data: {"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"m","choices":[{"text":"Hel","index":0,"logprobs":null,"finish_reason":null}]}

: keep-alive

data: {"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"m","choices":[{"text":"l\u00f6","index":0,"logprobs":null,"finish_reason":null}]}

data: {"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"m","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}

data: [DONE]

"#
    );
}

#[test]
fn usage_is_null_until_a_last_chunk_without_choices() {
    assert_eq!(
        stream(USAGE, &[content("Hi")], Finish::Length),
        r#"data: {"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"m","choices":[{"text":"Hi","index":0,"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"m","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"usage":null}

data: {"id":"cmpl-dead0001000000000001","object":"text_completion","created":1767225900,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}

data: [DONE]

"#
    );
}

#[test]
fn a_gap_is_filled_in_mistrals_form_where_every_delta_has_a_content() {
    let body = |stream| {
        format!(
            r#"{{"model":"m","prompt":"def f(x):","suffix":"f(1)","random_seed":7,"min_tokens":1,"stop":"\n\n","stream":{stream},"stream_options":{{"include_usage":true}}}}"#
        )
    };
    let (body, whole_body) = (body(true), body(false));
    let read = |body| fim_request(body, &Limits::default()).unwrap();
    let parsed = read(&body);
    assert_eq!(parsed.invocation.parameters.seed, Some(7));
    assert!(matches!(
        parsed.invocation.task,
        Task::Completion {
            suffix: Some(_),
            ..
        }
    ));
    let steps = [reasoning("Hm"), content("return "), content("x")];
    assert_eq!(
        streamed(parsed, Dialect::OpenAi, &steps, Ok(Finish::Stop)),
        concat!(
            r#"data: {"id":"cmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"return "},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"cmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"cmpl-dead0001000000000001","object":"chat.completion.chunk","created":1767225900,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#,
            "\n\ndata: [DONE]\n\n",
        )
    );
    assert_eq!(
        whole(read(&whole_body), &steps, Finish::Stop),
        r#"{"id":"cmpl-dead0001000000000001","object":"chat.completion","created":1767225900,"model":"m","choices":[{"index":0,"message":{"role":"assistant","tool_calls":null,"content":"return x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#
    );
}

#[test]
fn an_echo_comes_before_the_text() {
    let body = |stream| {
        format!(
            r#"{{"model":"m","prompt":"one\u2028\ud83d","echo":true,"best_of":1,"stream":{stream}}}"#
        )
    };
    let steps = [content(", two")];
    let stream = stream(&body(true), &steps, Finish::Stop);
    assert!(stream.contains(r#""text":"one\u2028\ufffd","index""#));
    assert!(
        whole(read(&body(false)), &steps, Finish::Stop)
            .contains(r#""text":"one\u2028\ufffd, two","index""#)
    );
    assert!(!format!("{:?}", read(&body(true))).contains("one"));
}

#[test]
fn a_refusal_is_text_because_there_is_no_other_field() {
    let body = whole(
        read(STREAM),
        &[Step::Refusal(String::from("I must not"))],
        Finish::ContentFilter,
    );
    assert!(body.contains(
        r#""text":"I must not","index":0,"logprobs":null,"finish_reason":"content_filter""#
    ));
}

#[test]
fn a_stream_that_fails_ends_with_the_error() {
    let failed = streamed(
        read(STREAM),
        Dialect::OpenAi,
        &[content("Hel")],
        Err((Code::AgentLost, "the agent's connection was lost")),
    );
    let (_, last) = failed.trim_end().rsplit_once("\n\n").unwrap();
    assert_eq!(
        last,
        r#"data: {"error":{"message":"the agent's connection was lost","type":"server_error","param":null,"code":"agent_lost"}}"#
    );
}

#[test]
fn editors_may_send_many_stop_sequences_and_odd_numbers() {
    let stops: alloc::vec::Vec<String> = (0..32).map(|at| format!("\"<{at}>\"")).collect();
    let body = format!(
        r#"{{"model":"m","prompt":"","suffix":null,"max_tokens":-1,"logprobs":3,"n":1,"stop":[{}]}}"#,
        stops.join(",")
    );
    let parsed = read(&body);
    let parameters = &parsed.invocation.parameters;
    assert_eq!(parameters.stop.len(), 32);
    assert_eq!(parameters.max_tokens, None);
    assert_eq!(
        (parameters.logprobs, parameters.top_logprobs),
        (Some(true), Some(3))
    );
    assert!(matches!(
        parsed.invocation.task,
        Task::Completion { suffix: None, .. }
    ));
}

#[test]
fn what_an_agent_cannot_do_is_refused_in_clear_words() {
    let limits = Limits {
        content_bytes: 8,
        ..Limits::default()
    };
    let tokens = "prompt: lists of tokens are not supported, as agents have no tokenizer in common; send text";
    refuses(
        completion_request,
        &limits,
        &[
            (
                r#"{"model":"m"}"#,
                Some("prompt"),
                "prompt: missing; expected a string or a list of strings",
            ),
            (
                r#"{"model":"m","prompt":3}"#,
                Some("prompt"),
                "prompt: expected a string or a list of strings, found 3",
            ),
            (
                r#"{"model":"m","prompt":[]}"#,
                Some("prompt"),
                "prompt: expected one prompt, found none",
            ),
            (
                r#"{"model":"m","prompt":["a",{}]}"#,
                Some("prompt[1]"),
                "prompt[1]: expected a string, found an object",
            ),
            (r#"{"model":"m","prompt":[1,2,3]}"#, Some("prompt"), tokens),
            (r#"{"model":"m","prompt":[1]}"#, Some("prompt"), tokens),
            (r#"{"model":"m","prompt":[[1,2]]}"#, Some("prompt"), tokens),
            (
                r#"{"model":"m","prompt":[null]}"#,
                Some("prompt[0]"),
                "prompt[0]: expected a string, found null",
            ),
            (
                r#"{"model":"m","prompt":"a","n":2}"#,
                Some("n"),
                "n: expected 1, as an agent gives one answer, found 2",
            ),
            (
                r#"{"model":"m","prompt":"a","best_of":3}"#,
                Some("best_of"),
                "best_of: expected 1, as an agent gives one answer, found 3",
            ),
            (
                r#"{"model":"m","prompt":"a","logprobs":6}"#,
                Some("logprobs"),
                "logprobs: expected a whole number from 0 to 5, found 6",
            ),
            (
                r#"{"model":"m","prompt":"a","echo":"yes"}"#,
                Some("echo"),
                "echo: expected true or false, found a string",
            ),
            (
                r#"{"model":"m","prompt":"a","suffix":["b"]}"#,
                Some("suffix"),
                "suffix: expected a string, found a list",
            ),
        ],
    );
    for (body, param) in [
        (r#"{"model":"m","prompt":"123456789"}"#, "prompt"),
        (
            r#"{"model":"m","prompt":"","suffix":"123456789"}"#,
            "suffix",
        ),
    ] {
        let refusal = completion_request(body, &limits).map(|_| ()).unwrap_err();
        assert_eq!((refusal.status(), refusal.param()), (413, Some(param)));
    }
}
