//! Requests of the Responses API as messages, and conversations that go on from a response.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::tests::{PLAIN, read, read_new};
use super::{create_request, previous_response_id};
use crate::config::Limits;
use crate::dialect::tests::{Step, call, content, played, reasoning, steps};
use crate::dialect::{Dialect, Parsed};
use crate::invocation::{Arguments, Content, Finish, Invocation, Part, ResponseFormat, Task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;

fn lines(invocation: &Invocation<'_>) -> Vec<String> {
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
    messages
        .iter()
        .map(|message| {
            let calls: Vec<String> = message
                .tool_calls
                .iter()
                .map(|call| {
                    let Arguments::Text(arguments) = call.arguments else {
                        panic!("an object");
                    };
                    format!(
                        " {}={}{}",
                        call.id,
                        call.name.decode(),
                        arguments.as_escaped()
                    )
                })
                .collect();
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let role = message.role.as_str();
            format!("{role} {id}: {}{}", said(&message.content), calls.concat())
        })
        .collect()
}

#[test]
fn a_request_with_everything_is_read() {
    let body = r#" {
        "model": "gpt", "instructions": "be brief", "max_output_tokens": 70, "temperature": 0.5, "top_p": 1, "user": "u",
        "parallel_tool_calls": false, "metadata": {"k": "v"}, "reasoning": {"effort": "low", "summary": "auto"}, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "service_tier": "auto", "truncation": "auto",
        "background": false, "conversation": null, "prompt": null, "unknown": [],
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "strict": true, "schema": {"type": "object"}}},
        "tools": [
            {"type": "function", "name": "look", "description": "Looks.", "strict": false, "parameters": {"type": "object"}},
            {"type": "function", "name": "wait", "parameters": null},
            {"type": "web_search"}, {"type": "namespace", "name": "x", "tools": []}],
        "tool_choice": {"type": "function", "name": "look"},
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]},
            {"role": "user", "content": "q"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "I look", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": "{\"at\":1}"},
            {"type": "function_call", "call_id": "c2", "name": "wait"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "output": "sky"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "r"}]},
            {"type": "function_call", "call_id": "c3", "name": "look", "arguments": ""},
            {"type": "function_call_output", "call_id": "c3", "output": ""},
            {"role": "user", "content": [
                {"type": "input_text", "text": "and"}, {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {"type": "input_file", "filename": "f.pdf", "file_data": "data:application/pdf;base64,AA=="},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, {"type": "newer"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
        ]
    } "#;
    let Parsed {
        invocation,
        stream,
        digest_of,
        mut encoder,
        ..
    } = read(body);
    assert!(!stream);
    assert!(digest_of.starts_with("[\n") && digest_of.ends_with(']'));
    assert_eq!(
        lines(&invocation),
        [
            "system : be brief",
            "developer : d",
            "user : q",
            r#"assistant : I look c1=look{\"at\":1} c2=wait{}"#,
            "tool c1: sky",
            "tool c2: r",
            "assistant : - c3=look",
            "tool c3: ",
            concat!(
                r#"user : and|{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"low"}}|"#,
                r#"{"type":"file","file":{"filename":"f.pdf","file_data":"data:application/pdf;base64,AA=="}}|"#,
                r#"{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}"#
            ),
            "assistant : no",
        ]
    );
    let given = &invocation.parameters;
    let tools: Vec<&str> = given.tools.iter().map(|tool| tool.get()).collect();
    assert_eq!(
        tools,
        [
            r#"{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type": "object"},"strict":false}}"#,
            r#"{"type":"function","function":{"name":"wait"}}"#,
        ]
    );
    let choice = given.tool_choice.as_ref().map(|raw| raw.get());
    assert_eq!(
        choice,
        Some(r#"{"type":"function","function":{"name":"look"}}"#)
    );
    assert_eq!(
        (given.max_tokens, given.temperature, given.top_p),
        (Some(70), Some(0.5), Some(1.0))
    );
    assert_eq!(given.parallel_tool_calls, Some(false));
    assert_eq!(given.user.map(|user| user.as_escaped()), Some("u"));
    assert_eq!(
        given.reasoning_effort.map(|effort| effort.as_escaped()),
        Some("low")
    );
    assert!(
        matches!(&given.response_format, Some(ResponseFormat::OpenAi(format)) if format.get()
            == r#"{"type":"json_schema","json_schema":{"name":"n","schema":{"type": "object"},"strict":true}}"#)
    );
    assert!(encoder.conversation().is_none(), "store is false");
}

#[test]
fn choices_have_their_openai_forms() {
    for (choice, wanted) in [
        ("null", None),
        (r#""required""#, Some(r#""required""#)),
        (
            r#"{"type":"allowed_tools","mode":"auto","tools":[]}"#,
            Some(r#""auto""#),
        ),
        (r#"{"type":"web_search"}"#, None),
    ] {
        let body = format!(r#"{{"model":"m","input":"x","tool_choice":{choice}}}"#);
        let given = read(&body).invocation.parameters;
        assert_eq!(given.tool_choice.as_ref().map(|raw| raw.get()), wanted);
    }
}

#[test]
fn a_conversation_goes_on_from_its_last_response() {
    let limits = Limits::default();
    let first = r#"{"model":"m","input":"q\u2028","instructions":"be brief","stream":true}"#;
    let mut parsed = read_new(first, &limits).unwrap();
    assert!(
        parsed.encoder.conversation().is_none(),
        "not before the end"
    );
    let steps = [
        reasoning("Hm"),
        content("I look"),
        call(0, "c1", "look", "{\\\"at\\\":1}"),
    ];
    let history = conversation(parsed, &steps);
    let second = r#"{"model":"m","previous_response_id":"resp_1","instructions":"be kind","input":[{"type":"function_call_output","call_id":"c1","output":"sky"}]}"#;
    assert_eq!(
        previous_response_id(second, &limits).as_deref(),
        Some("resp_1")
    );
    let parsed = create_request(second, Some(history.as_bytes()), &limits).unwrap();
    let wanted = [
        "system : be kind",
        "user : q\u{2028}",
        r#"assistant : I look c1=look{\"at\":1}"#,
        "tool c1: sky",
    ];
    assert_eq!(lines(&parsed.invocation), wanted);
    let history = conversation(parsed, &[content("The sky.")]);
    let third = r#"{"model":"m","previous_response_id":"resp_2","input":"thanks"}"#;
    let parsed = create_request(third, Some(history.as_bytes()), &limits).unwrap();
    let mut all = wanted[1..].to_vec();
    all.extend(["assistant : The sky.", "user : thanks"]);
    assert_eq!(lines(&parsed.invocation), all);
    let tight = Limits {
        messages: 4,
        ..Limits::default()
    };
    let refusal = create_request(third, Some(history.as_bytes()), &tight).unwrap_err();
    assert_eq!(refusal.message(), "input: 5 messages; limits.messages is 4");
}

/// Answers a request, streamed, and gives the conversation that is kept.
fn conversation(parsed: Parsed<'_>, steps: &[Step]) -> String {
    let (mut encoder, _) = played(parsed, Dialect::OpenAi, steps, Ok(Finish::Stop));
    let list = encoder.conversation().unwrap();
    assert!(encoder.conversation().is_none(), "given once");
    String::from_utf8(list).unwrap()
}

#[test]
fn what_a_request_continues_is_found_or_left_to_the_reader() {
    let limits = Limits::default();
    for (body, wanted) in [
        (r#"{"input":"x"}"#, None),
        (r#"{"input":"previous_response_id"}"#, None),
        (r#"{"previous_response_id":null}"#, None),
        (r#"{"previous_response_id":7}"#, None),
        (r#"{"previous_response_id":"a"#, None),
        (r#"{"x":{"previous_response_id":"b"}}"#, None),
        (r#"{"previous_response_id":"\u0061"}"#, Some("a")),
    ] {
        assert_eq!(previous_response_id(body, &limits).as_deref(), wanted);
    }
}

proptest! {
    #[test]
    fn what_is_kept_can_be_read_again(steps in steps()) {
        let list = conversation(read(PLAIN), &steps);
        let body = r#"{"model":"m","previous_response_id":"resp_1","input":"on"}"#;
        let parsed = create_request(body, Some(list.as_bytes()), &Limits::default());
        prop_assert!(parsed.is_ok(), "{list}: {:?}", parsed.err());
    }
}
