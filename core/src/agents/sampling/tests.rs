//! Requests as clients are asked them, and their results as answers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::HubConfig;
use crate::dialect::{Form, anthropic, ollama, openai};
use crate::error::Code;
use crate::exchange::Exchange;
use crate::id::Ids;
use crate::invocation::{Failure, Finish};
use crate::link::{Ending, FromAgent};
use crate::time::{Instant, WallClock};
use alloc::format;
use alloc::string::ToString;
use core::time::Duration;
use serde_json::{Value, json};

const ABLE: Declared = Declared {
    tools: true,
    lists: true,
};
const OLD: Declared = Declared {
    tools: false,
    lists: false,
};

/// The parameters for a client's request.
fn asked(form: &Form, body: &Value, declared: Declared) -> Result<Value, Failure<'static>> {
    let wall = WallClock::new(Instant::from_micros(1), Duration::from_secs(1_767_225_600));
    let (id, now) = (Ids::new(1).next(), Instant::from_micros(1));
    let config = HubConfig::default();
    let parsed = Exchange::parse(&config, wall, id, form, now, body.to_string().into());
    let request = parsed
        .unwrap_or_else(|refusal| panic!("{refusal:?}"))
        .1
        .request;
    let text = params(&request.invocation(), declared)?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn chat(messages: &Value, more: &Value, declared: Declared) -> Result<Value, Failure<'static>> {
    let mut body = json!({ "model": "m", "messages": messages });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    asked(&openai::CHAT, &body, declared)
}

/// The message of a request that the client cannot be asked.
fn refused(messages: &Value, more: &Value, declared: Declared) -> String {
    let failure = chat(messages, more, declared).unwrap_err();
    assert_eq!(failure.code, Code::InvalidRequest);
    failure.message.into_owned()
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// What a result says: text, calls as `id name arguments`, and the end.
fn said(result: &Value) -> Result<(String, Vec<String>, Finish), (Code, String)> {
    let result = result.to_string();
    let mut told = None;
    answer(
        Ids::new(1).next(),
        JsonValue::read(&result).unwrap(),
        &mut |message| {
            assert!(told.is_none());
            told = Some(match message {
                FromAgent::Result(answer) => {
                    let Ending::End(end) = answer.ending else {
                        panic!()
                    };
                    let calls = answer.delta.tool_calls.iter().map(|call| {
                        let parts = [call.id, call.name, call.arguments];
                        parts.map(|part| part.decode().into_owned()).join(" ")
                    });
                    let content = answer.delta.content.decode().into_owned();
                    Ok((content, calls.collect(), end.finish))
                }
                FromAgent::Error { failure, .. } => {
                    Err((failure.code, failure.message.into_owned()))
                }
                other => panic!("{other:?}"),
            });
        },
    );
    told.unwrap()
}

#[test]
fn a_client_says_what_it_can_be_asked() {
    let read = |capabilities: &str, lists| Declared::read(JsonValue::read(capabilities), lists);
    assert_eq!(read("{}", true), None);
    assert_eq!(read(r#"{"sampling":true}"#, true), None);
    assert_eq!(Declared::read(None, true), None);
    assert_eq!(read(r#"{"sampling":{}}"#, false), Some(OLD));
    assert_eq!(read(r#"{"sampling":{"tools":{}}}"#, true), Some(ABLE));
    // A revision without lists of blocks has no tools.
    assert_eq!(read(r#"{"sampling":{"tools":{}}}"#, false), Some(OLD));
    let names = |declared: Declared| {
        let names: Vec<_> = declared.supports().parameters.names().collect();
        names.join(" ")
    };
    assert_eq!(names(OLD), "max_tokens temperature");
    assert_eq!(names(ABLE), "max_tokens temperature tool_choice tools");
}

#[test]
fn the_model_is_the_clients_name() {
    let long = "\u{e9}".repeat(100);
    for (client, model) in [
        ("Visual Studio Code", "Visual-Studio-Code"),
        (" a\u{7}b\n", "a-b"),
        ("", "mcp-client"),
        ("\t", "mcp-client"),
        (&*long, &"\u{e9}".repeat(64)),
    ] {
        let registration = OLD.registration(client, Some(1));
        assert_eq!(
            (&*registration.agent_id, &*registration.models),
            (model, &[model.to_string()][..])
        );
    }
}

#[test]
fn a_conversation_is_told_in_the_protocols_form() {
    let messages = json!([
        { "role": "system", "content": "be \"brief\"" },
        { "role": "user", "content": "hi\n" },
        { "role": "assistant", "content": "hello" },
        { "role": "developer", "content": "and kind" },
        { "role": "user", "content": "" },
        { "role": "user", "content": [{ "type": "text", "text": "see" }, { "type": "image_url", "image_url": { "url": "data:image/png;base64,QUJD" } },
            { "type": "input_audio", "input_audio": { "data": "QUJD", "format": "mp3" } }] },
    ]);
    let more = json!({ "max_tokens": 7, "temperature": 1.5, "stop": ["a", "b"] });
    let image = json!({ "type": "image", "data": "QUJD", "mimeType": "image/png" });
    let audio = json!({ "type": "audio", "data": "QUJD", "mimeType": "audio/mpeg" });
    let mut wanted = json!({
        "messages": [
            { "role": "user", "content": text("hi\n") },
            { "role": "assistant", "content": text("hello") },
            { "role": "user", "content": [text("see"), image, audio] },
        ],
        "systemPrompt": "be \"brief\"\n\nand kind",
        "maxTokens": 7, "temperature": 1.5, "stopSequences": ["a", "b"],
    });
    assert_eq!(chat(&messages, &more, ABLE).unwrap(), wanted);
    // Before revision 2025-11-25 a message has one block.
    let single =
        [text("see"), image, audio].map(|block| json!({ "role": "user", "content": block }));
    let told = wanted["messages"].as_array_mut().unwrap();
    told.pop();
    told.extend(single);
    assert_eq!(chat(&messages, &more, OLD).unwrap(), wanted);
}

#[test]
fn what_a_caller_leaves_out_has_a_value() {
    let instructions = json!([{ "role": "system", "content": "say something" }]);
    assert_eq!(
        chat(&instructions, &json!({}), OLD).unwrap(),
        json!({ "messages": [{ "role": "user", "content": text("say something") }], "maxTokens": 8192 })
    );
    let user = json!([{ "role": "user", "content": "x" }]);
    let format = json!({ "response_format": { "type": "json_object" } });
    assert_eq!(
        chat(&user, &format, OLD).unwrap()["systemPrompt"],
        "Answer with one JSON object and nothing else."
    );
    let completion = json!({ "model": "m", "prompt": "once" });
    assert_eq!(
        asked(&openai::COMPLETION, &completion, OLD).unwrap()["messages"],
        json!([{ "role": "user", "content": text("once") }])
    );
}

#[test]
fn every_dialect_reaches_the_client() {
    let message = json!({ "role": "user", "content": [{ "type": "text", "text": "hi" }] });
    let body = json!({ "model": "m", "max_tokens": 9, "system": "s", "messages": [message] });
    let wanted = json!({ "messages": [{ "role": "user", "content": text("hi") }], "systemPrompt": "s", "maxTokens": 9 });
    assert_eq!(asked(&anthropic::MESSAGES, &body, OLD).unwrap(), wanted);
    let messages =
        json!([{ "role": "system", "content": "s" }, { "role": "user", "content": "hi" }]);
    let body = json!({ "model": "m", "messages": messages, "options": { "num_predict": 9 } });
    assert_eq!(asked(&ollama::CHAT, &body, OLD).unwrap(), wanted);
}

#[test]
fn calls_are_followed_by_their_results_alone() {
    let tools = json!({ "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }] });
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } });
    let result =
        |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": format!("r{id}") });
    let user = json!({ "role": "user", "content": "q" });
    let both = json!({ "role": "assistant", "content": "t", "tool_calls": [call("1"), call("2")] });
    // In any order.
    let told = chat(
        &json!([user, both, result("2"), result("1"), user]),
        &tools,
        ABLE,
    )
    .unwrap();
    let used = |id: &str| json!({ "type": "tool_use", "id": id, "name": "f", "input": { "a": 1 } });
    let had = |id: &str| json!({ "type": "tool_result", "toolUseId": id, "content": [text(&format!("r{id}"))] });
    assert_eq!(
        told["messages"],
        json!([
            { "role": "user", "content": text("q") },
            { "role": "assistant", "content": [text("t"), used("1"), used("2")] },
            { "role": "user", "content": [had("2"), had("1")] },
            { "role": "user", "content": text("q") },
        ])
    );
    assert_eq!(
        told["tools"],
        json!([{ "name": "f", "inputSchema": { "type": "object" } }])
    );
    let no_result = "a call of a tool whose result does not follow it";
    for (messages, why) in [
        (json!([user, both, result("1")]), no_result),
        (
            json!([user, both, result("1"), user, result("2")]),
            no_result,
        ),
        (
            json!([user, result("1")]),
            "a tool's result that follows no call of its id",
        ),
        (
            json!([user, both, result("1"), result("1")]),
            "a tool's result that follows no call of its id",
        ),
        (
            json!([user, { "role": "assistant", "tool_calls": [call("1"), call("1")] }]),
            "two calls of one id",
        ),
    ] {
        let said = refused(&messages, &tools, ABLE);
        assert!(said.contains(why), "{said}");
    }
    let said = refused(
        &json!([user, both, result("1"), result("2")]),
        &json!({}),
        OLD,
    );
    assert!(said.contains("`sampling.tools`"), "{said}");
}

#[test]
fn a_choice_of_tools_is_a_mode() {
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "description": "d" } });
    let user = json!([{ "role": "user", "content": "q" }]);
    let with = |choice: Value| {
        chat(
            &user,
            &json!({ "tools": [tool("a"), tool("b")], "tool_choice": choice }),
            ABLE,
        )
        .unwrap()
    };
    for mode in ["auto", "none", "required"] {
        let told = with(json!(mode));
        assert_eq!(
            (&told["toolChoice"], told["tools"].as_array().unwrap().len()),
            (&json!({ "mode": mode }), 2)
        );
    }
    let told = with(json!({ "type": "function", "function": { "name": "b" } }));
    assert_eq!(told["toolChoice"], json!({ "mode": "required" }));
    assert_eq!(
        told["tools"],
        json!([{ "name": "b", "description": "d", "inputSchema": { "type": "object" } }])
    );
    // Who has no tools is told of none.
    let told = chat(&user, &json!({ "tools": [tool("a")] }), OLD).unwrap();
    assert_eq!((told.get("tools"), told.get("toolChoice")), (None, None));
}

#[test]
fn what_the_protocol_has_no_form_for_is_refused_by_name() {
    let part = |part: Value| json!([{ "role": "user", "content": [part] }]);
    for (messages, why) in [
        (
            part(json!({ "type": "image_url", "image_url": { "url": "https://x.test/a.png" } })),
            "messages: an image at an address",
        ),
        (
            part(
                json!({ "type": "file", "file": { "file_data": "data:application/pdf;base64,QQ==" } }),
            ),
            "messages: a PDF document",
        ),
    ] {
        let said = refused(&messages, &json!({}), ABLE);
        assert!(said.starts_with(why), "{said}");
    }
}

#[test]
fn a_result_is_an_answer() {
    let result = |content: Value, reason: &str| json!({ "role": "assistant", "model": "m", "content": content, "stopReason": reason });
    for (reason, finish) in [
        ("endTurn", Finish::Stop),
        ("stopSequence", Finish::Stop),
        ("maxTokens", Finish::Length),
        ("refusal", Finish::ContentFilter),
        ("ofItsOwn", Finish::Stop),
    ] {
        assert_eq!(
            said(&result(text("a\"\u{e9}"), reason)),
            Ok(("a\"\u{e9}".into(), Vec::new(), finish))
        );
    }
    let call = json!({ "type": "tool_use", "id": "i", "name": "f", "input": { "a": "\"" } });
    let content = json!([text("one "), text("two"), call]);
    let calls = Vec::from(["i f {\"a\":\"\\\"\"}".to_string()]);
    assert_eq!(
        said(&result(content, "toolUse")),
        Ok(("one two".into(), calls, Finish::ToolCalls))
    );
    // An answer may be empty.
    assert_eq!(
        said(&result(text(""), "endTurn")),
        Ok((String::new(), Vec::new(), Finish::Stop))
    );
}

#[test]
fn a_result_without_an_answer_is_a_fault() {
    for result in [
        json!({}),
        json!({ "content": [] }),
        json!({ "content": { "type": "image", "data": "", "mimeType": "image/png" } }),
    ] {
        assert_eq!(said(&result).unwrap_err().0, Code::AgentFault);
    }
}

#[test]
fn an_error_has_its_code_and_its_words() {
    let failed = |code, message: &str| {
        let mut told = None;
        failure(Ids::new(1).next(), code, message, &mut |message| {
            let FromAgent::Error { failure, .. } = message else {
                panic!()
            };
            told = Some((failure.code, failure.message.into_owned()));
        });
        told.unwrap()
    };
    assert_eq!(
        failed(-1, "User rejected"),
        (Code::AgentRefused, "User rejected".into())
    );
    assert_eq!(
        failed(-32603, ""),
        (
            Code::AgentError,
            "the MCP client answered with error -32603".into()
        )
    );
    assert_eq!(failed(7, &"\u{e9}".repeat(4000)).1.len(), 4096);
}
