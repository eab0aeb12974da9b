//! Tests of what an agent is told.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::id::{Authority, Ids, SessionId};
use crate::invocation::{Arguments, Content, Message, Part, ToolCall};
use crate::invocation::{Invocation, Role};
use crate::link::Permits;
use crate::request::{PromptIndex, Request};
use alloc::borrow::Cow;
use alloc::vec;
use core::time::Duration;

fn raw(json: &str) -> RawJson<'_> {
    RawJson::from_text(json)
}

fn text(escaped: &str) -> JsonStr<'_> {
    JsonStr::from_escaped(escaped)
}

fn written_in(
    form: InvokeForm,
    task: Task<'_>,
    stream: bool,
    parameters: Parameters<'_>,
) -> String {
    let invocation = Invocation {
        model: Cow::Borrowed("alias"),
        task,
        stream,
        parameters,
    };
    let now = Instant::from_micros(1_000_000);
    let session = SessionId::new("s-5f0c2a").unwrap();
    let to = Invoke {
        id: Ids::new(0x6f1a_2b3c).next(),
        permit: Permits::default().issue(session, Authority::Anyone),
        label: "Cursor \"agent\"".into(),
        model: "cursor-agent".into(),
        form,
        request: Request::of(&invocation).into(),
        prompt: PromptIndex::default(),
    };
    let wall = WallClock::new(now, Duration::from_secs(1_767_225_601));
    let frame = invoke(&to, now, &wall);
    serde_json::from_str::<serde_json::Value>(&frame).unwrap();
    frame
}

fn written(task: Task<'_>, stream: bool, parameters: Parameters<'_>) -> String {
    let frame = written_in(InvokeForm::Nested, task, stream, parameters);
    let head = r#"{"type":"model_invoke","id":"6f1a2b3c000000000001","session_id":"s-5f0c2a","timestamp":"2026-01-01T00:00:01.000000Z","model_meta":{"provider":"mcp-local-provider","label":"Cursor \"agent\"","requested_scopes":["inference"]},"payload":"#;
    frame
        .strip_prefix(head)
        .unwrap()
        .strip_suffix("}")
        .unwrap()
        .into()
}

fn message<'a>(role: Role, content: Content<'a>) -> Message<'a> {
    Message {
        role,
        content,
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

#[test]
fn what_the_caller_did_not_give_is_absent() {
    let messages = vec![message(Role::User, Content::Text(text(r"Hello \u00e9\n")))];
    assert_eq!(
        written(Task::Chat { messages }, true, Parameters::default()),
        r#"{"kind":"chat","model":"cursor-agent","messages":[{"role":"user","content":"Hello \u00e9\n"}],"parameters":{"stream":true}}"#
    );
    let completion = Task::Completion {
        prompt: text("def add"),
        suffix: Some(text(r"\n")),
    };
    assert_eq!(
        written(completion, false, Parameters::default()),
        r#"{"kind":"completion","model":"cursor-agent","prompt":"def add","suffix":"\n","parameters":{"stream":false}}"#
    );
    let embedding = Task::Embedding {
        input: vec![text("one"), text("two")],
    };
    assert_eq!(
        written(embedding, false, Parameters::default()),
        r#"{"kind":"embedding","model":"cursor-agent","input":["one","two"],"parameters":{}}"#
    );
}

#[test]
fn a_flat_invocation_has_everything_at_its_top() {
    let head = r#"{"type":"model_invoke","id":"6f1a2b3c000000000001","session_id":"s-5f0c2a","timestamp":"2026-01-01T00:00:01.000000Z","model":"cursor-agent""#;
    let messages = vec![message(Role::User, Content::Text(text("Hello")))];
    let completion = Task::Completion {
        prompt: text("def add"),
        suffix: Some(text(r"\n")),
    };
    let input = vec![text("one")];
    for (task, stream, expected) in [
        (
            Task::Chat { messages },
            true,
            r#","messages":[{"role":"user","content":"Hello"}],"stream":true,"max_tokens":5,"stop":["x"]}"#,
        ),
        (
            completion,
            false,
            r#","prompt":"def add","suffix":"\n","stream":false,"max_tokens":5,"stop":["x"]}"#,
        ),
        (
            Task::Embedding { input },
            false,
            r#","input":["one"],"max_tokens":5,"stop":["x"]}"#,
        ),
    ] {
        let parameters = Parameters {
            max_tokens: Some(5),
            stop: vec!["x".into()],
            ..Parameters::default()
        };
        let written = written_in(InvokeForm::Flat, task, stream, parameters);
        assert_eq!(written.strip_prefix(head), Some(expected));
    }
}

#[test]
fn a_conversation_is_told_in_openai_s_form() {
    let parts = vec![
        Part::Text(text("see")),
        Part::Image {
            media_type: "image/png",
            base64: text("AAAA"),
        },
        Part::Other(raw(r#"{"type":"file","file":{}}"#)),
    ];
    let calls = vec![
        ToolCall {
            id: Cow::Borrowed("call_1"),
            name: text("weather"),
            arguments: Arguments::Object(raw(r#"{"city":"\"x\""}"#)),
        },
        ToolCall {
            id: Cow::Borrowed("call_2"),
            name: text("time"),
            arguments: Arguments::Text(text(r#"{\"a\":1}"#)),
        },
    ];
    let messages = vec![
        message(Role::Developer, Content::Text(text(r"cut \ud83d"))),
        Message {
            name: Some(text("me")),
            ..message(Role::User, Content::Parts(parts))
        },
        Message {
            tool_calls: calls,
            ..message(Role::Assistant, Content::None)
        },
        Message {
            tool_call_id: Some(Cow::Borrowed("call_1")),
            ..message(Role::Tool, Content::Text(text("4 °C")))
        },
    ];
    assert_eq!(
        written(Task::Chat { messages }, true, Parameters::default()),
        concat!(
            r#"{"kind":"chat","model":"cursor-agent","messages":[{"role":"developer","content":"cut \ufffd"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"file","file":{}}],"name":"me"},"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"\\\"x\\\"\"}"}},"#,
            r#"{"id":"call_2","type":"function","function":{"name":"time","arguments":"{\"a\":1}"}}]},"#,
            r#"{"role":"tool","content":"4 °C","tool_call_id":"call_1"}],"parameters":{"stream":true}}"#,
        )
    );
}

#[test]
fn half_a_surrogate_pair_is_mended_wherever_a_client_puts_it() {
    let half = raw;
    let parts = vec![
        Part::Image {
            media_type: "image/png",
            base64: text(r"\ude00"),
        },
        Part::Other(half(r#"{"type":"file","x":"\ud83d"}"#)),
    ];
    let arguments = Arguments::Object(raw(r#"{"a":"\ud83d"}"#));
    let call = ToolCall {
        id: Cow::Borrowed("call_1"),
        name: text(r"\ud83d"),
        arguments,
    };
    let messages = vec![Message {
        tool_calls: vec![call],
        ..message(Role::Assistant, Content::Parts(parts))
    }];
    let parameters = Parameters {
        metadata: Some(raw(r#"{"\ud83d":"\udc00\ud83d\ude00"}"#)),
        tools: vec![half(r#"{"name":"\ud83d"}"#)],
        tool_choice: Some(half(r#""\ud83d""#)),
        response_format: Some(ResponseFormat::Schema(raw(r#"["\ud83d"]"#))),
        logit_bias: Some(raw(r#"{"\ud83d":1}"#)),
        ..Parameters::default()
    };
    // `written` reads the frame with a reader that refuses such halves.
    let payload = written(Task::Chat { messages }, true, parameters);
    assert!(
        payload.contains(r#""arguments":"{\"a\":\"\\ufffd\"}""#),
        "{payload}"
    );
    assert!(
        payload.contains(r#"{"\ufffd":"\ufffd\ud83d\ude00"}"#),
        "{payload}"
    );
}

#[test]
fn every_parameter_has_openai_s_name() {
    let parameters = Parameters {
        max_tokens: Some(512),
        temperature: Some(0.8),
        top_p: Some(1.0),
        top_k: Some(40),
        min_p: Some(f64::NAN),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(0.0),
        repeat_penalty: Some(1.1),
        seed: Some(-7),
        n: Some(1),
        num_ctx: Some(4096),
        stop: vec!["\n\n".into(), "\"".into()],
        user: Some(text("u")),
        metadata: Some(raw("{\"a\":1}")),
        tools: vec![raw("{\"type\":\"function\"}"), raw("{}")],
        tool_choice: Some(raw("\"auto\"")),
        parallel_tool_calls: Some(false),
        response_format: Some(ResponseFormat::Schema(raw("{\"type\":\"object\"}"))),
        reasoning_effort: Some(text("low")),
        logprobs: Some(true),
        top_logprobs: Some(2),
        logit_bias: Some(raw("{\"5\":1}")),
        dimensions: Some(64),
    };
    let messages = Vec::new();
    assert_eq!(
        written(Task::Chat { messages }, true, parameters),
        concat!(
            r#"{"kind":"chat","model":"cursor-agent","messages":[],"parameters":{"stream":true,"max_tokens":512,"temperature":0.8,"top_p":1.0,"top_k":40,"#,
            r#""presence_penalty":-2.0,"frequency_penalty":0.0,"repeat_penalty":1.1,"seed":-7,"n":1,"num_ctx":4096,"stop":["\n\n","\""],"user":"u","metadata":{"a":1},"#,
            r#""tools":[{"type":"function"},{}],"tool_choice":"auto","parallel_tool_calls":false,"#,
            r#""response_format":{"type":"json_schema","json_schema":{"name":"response","schema":{"type":"object"}}},"reasoning_effort":"low","#,
            r#""logprobs":true,"top_logprobs":2,"logit_bias":{"5":1},"dimensions":64}}"#,
        )
    );
}
