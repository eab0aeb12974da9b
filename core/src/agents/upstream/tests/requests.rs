//! What a server is told in particular: of its own dialect nearly the client's bytes, of another one what fits, and the rest
//! refused by name.

use super::*;
use crate::dialect::{anthropic, ollama, openai, responses};
use alloc::format;
use alloc::string::ToString;
use serde_json::Value;

fn body(call: &Call) -> &str {
    core::str::from_utf8(&call.body).unwrap()
}

#[test]
fn a_body_of_the_own_dialect_goes_as_it_came_but_for_the_model() {
    let cases = [
        (
            Api::OpenAi,
            openai::CHAT,
            r#"{ "model":"up/m", "new_field": {"a": [1 , 2]},"messages":[{"role":"user","content":"h\u00e9"}],"service_tier":"flex"}"#,
            "/chat/completions",
            r#"{"model":"theirs","new_field":{"a": [1 , 2]},"messages":[{"role":"user","content":"h\u00e9"}],"service_tier":"flex"}"#,
        ),
        (
            Api::Custom,
            openai::CHAT,
            r#"{"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false},"top_k":3,"model":"m","model":"n","messages":[{"role":"user","content":"x"}]}"#,
            "/chat/completions",
            r#"{"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true},"top_k":3,"model":"theirs","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            Api::OpenAi,
            openai::CHAT,
            r#"{"messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":null}"#,
            "/chat/completions",
            r#"{"messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true},"model":"theirs"}"#,
        ),
        (
            Api::OpenAi,
            openai::COMPLETION,
            r#"{"model":"m","prompt":["a"],"echo":true,"best_of":1}"#,
            "/completions",
            r#"{"model":"theirs","prompt":["a"],"echo":false,"best_of":1}"#,
        ),
        (
            Api::OpenAi,
            openai::EMBEDDING,
            r#"{"model":"m","input":"a","encoding_format":"base64"}"#,
            "/embeddings",
            r#"{"model":"theirs","input":"a","encoding_format":"float"}"#,
        ),
        (
            Api::Anthropic,
            anthropic::MESSAGES,
            r#"{"model":"m","max_tokens":9,"tools":[{"type":"web_search_20250305","name":"web_search"}],"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]}"#,
            "/v1/messages",
            r#"{"model":"theirs","max_tokens":9,"tools":[{"type":"web_search_20250305","name":"web_search"}],"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]}"#,
        ),
        (
            Api::Ollama,
            ollama::GENERATE,
            r#"{"model":"m","prompt":"x","template":"{{ .Prompt }}","context":[1,2],"options":{"mirostat":1}}"#,
            "/api/generate",
            r#"{"model":"theirs","prompt":"x","template":"{{ .Prompt }}","context":[1,2],"options":{"mirostat":1}}"#,
        ),
        (
            Api::Ollama,
            ollama::EMBEDDINGS,
            r#"{"model":"m","prompt":"x"}"#,
            "/api/embeddings",
            r#"{"model":"theirs","prompt":"x"}"#,
        ),
        (
            Api::Ollama,
            ollama::EMBED,
            r#"{"model":"m","input":"x","truncate":false}"#,
            "/api/embed",
            r#"{"model":"theirs","input":"x","truncate":false}"#,
        ),
        (
            Api::Ollama,
            ollama::CHAT,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"keep_alive":-1}"#,
            "/api/chat",
            r#"{"model":"theirs","messages":[{"role":"user","content":"x"}],"keep_alive":-1}"#,
        ),
    ];
    for (api, form, sent, path, expected) in cases {
        let call = said(api, &form, sent).unwrap();
        assert_eq!((call.path, body(&call)), (path, expected));
    }
}

#[test]
fn a_body_that_does_not_say_all_is_written_anew() {
    // Several prompts are asked one by one.
    let several = request(
        &openai::COMPLETION,
        r#"{"model":"m","prompt":["a","b"],"x":1}"#,
    );
    let second = call(
        Api::Custom,
        &several,
        PromptIndex(1),
        "theirs",
        ClientHeaders::default(),
    );
    assert_eq!(
        body(&second.unwrap()),
        r#"{"model":"theirs","prompt":"b","stream":false}"#
    );
    // The Responses API and Mistral's are answered by the chat and the completions of the server.
    let response = said(
        Api::Custom,
        &responses::CREATE,
        r#"{"model":"m","input":"x","x":1}"#,
    );
    assert_eq!(
        body(&response.unwrap()),
        r#"{"model":"theirs","messages":[{"role":"user","content":"x"}],"stream":false}"#
    );
    let fim = said(
        Api::Custom,
        &openai::FIM,
        r#"{"model":"m","prompt":"a","suffix":"b"}"#,
    )
    .unwrap();
    assert_eq!(
        (fim.path, body(&fim)),
        (
            "/completions",
            r#"{"model":"theirs","prompt":"a","suffix":"b","stream":false}"#
        )
    );
}

#[test]
fn the_limit_of_tokens_has_the_name_that_the_server_knows() {
    let sent = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    for (api, name) in [
        (Api::OpenAi, "max_completion_tokens"),
        (Api::Custom, "max_tokens"),
    ] {
        let call = said(api, &anthropic::MESSAGES, sent).unwrap();
        let written: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(written[name], 9);
    }
}

#[test]
fn headers_of_the_client_go_on_in_the_same_dialect_only() {
    let headers = ClientHeaders {
        anthropic_version: Some("2024-01-01"),
        anthropic_beta: Some("a,b"),
        openai_beta: Some("c"),
    };
    let told = |api, form: &Form, sent| {
        let request = request(form, sent);
        let call = call(api, &request, PromptIndex(0), "m", headers).unwrap();
        let all = call.headers.iter();
        all.map(|(name, value)| format!("{name}: {value}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let openai = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let anthropic = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    let json = "content-type: application/json, accept: ";
    assert_eq!(
        told(Api::OpenAi, &openai::CHAT, openai),
        format!("{json}text/event-stream, openai-beta: c")
    );
    assert_eq!(
        told(Api::OpenAi, &anthropic::MESSAGES, anthropic),
        format!("{json}application/json")
    );
    assert_eq!(
        told(Api::Anthropic, &anthropic::MESSAGES, anthropic),
        format!("{json}application/json, anthropic-version: 2024-01-01, anthropic-beta: a,b")
    );
    assert_eq!(
        told(Api::Anthropic, &openai::CHAT, openai),
        format!("{json}text/event-stream, anthropic-version: 2023-06-01")
    );
    assert_eq!(
        told(Api::Ollama, &openai::CHAT, openai),
        format!("{json}application/x-ndjson")
    );
    assert_eq!(
        authorization(Api::Ollama, "k"),
        ("authorization", "Bearer k".to_string())
    );
    assert_eq!(
        authorization(Api::Anthropic, "k"),
        ("x-api-key", "k".to_string())
    );
}

#[test]
fn what_an_api_has_no_form_for_is_refused_by_name() {
    let audio = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}]}"#;
    let address = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a/b.png"}}]}]}"#;
    let bitmap =
        r#"{"model":"m","messages":[{"role":"user","content":"x","images":["Qk0AAAAA"]}]}"#;
    let function = r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"function","name":"f","content":"y"}]}"#;
    let tool = r#"{"type":"function","function":{"name":"f"}}"#;
    let allowed = format!(
        r#"{{"model":"m","tools":[{tool}],"tool_choice":{{"type":"allowed_tools"}},"messages":[{{"role":"user","content":"x"}}]}}"#
    );
    let cases = [
        (
            Api::Ollama,
            openai::CHAT,
            audio,
            "messages",
            "messages: a part of type input_audio, which an Ollama server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            openai::CHAT,
            audio,
            "messages",
            "messages: a part of type input_audio, which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::Ollama,
            openai::CHAT,
            address,
            "messages",
            "messages: the address of an image (send the image as a data URL), which an Ollama server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            ollama::CHAT,
            bitmap,
            "messages",
            "messages: an image of type image/bmp, which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            openai::CHAT,
            function,
            "messages",
            "messages: a result that names no call (tool_call_id), which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            openai::CHAT,
            &*allowed,
            "tool_choice",
            "tool_choice: a choice that is none of auto, required, none and one function, which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            openai::COMPLETION,
            r#"{"model":"m","prompt":"a","suffix":"b"}"#,
            "suffix",
            "suffix: a gap to fill in, which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            openai::EMBEDDING,
            r#"{"model":"m","input":"a"}"#,
            "input",
            "input: text to turn into vectors, which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::Anthropic,
            ollama::CHAT,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"format":"json"}"#,
            "format",
            "format: JSON without a schema, which an Anthropic server does not take; the model is on one",
        ),
        (
            Api::OpenAi,
            ollama::GENERATE,
            r#"{"model":"m","prompt":"x","raw":true,"format":"json"}"#,
            "format",
            "format: a form of a completion's text, which an OpenAI-compatible server does not take; the model is on one",
        ),
    ];
    for (api, form, sent, param, message) in cases {
        let refusal = said(api, &form, sent).unwrap_err();
        assert_eq!(
            (refusal.status(), refusal.param(), refusal.message()),
            (400, Some(param), message)
        );
    }
}

#[test]
fn media_and_odd_messages_reach_an_anthropic_server() {
    let sent = r#"{"model":"m","messages":[
        {"role":"developer","content":"one"},{"role":"user","content":""},{"role":"user","content":[{"type":"text","text":""},
        {"type":"image_url","image_url":{"url":"https:\/\/a/b.png"}},
        {"type":"image_url","image_url":{"url":"data:image\/jpg;base64,AA=="}},
        {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,BB=="}}]},
        {"role":"assistant","content":[{"type":"refusal","refusal":"no"}],"tool_calls":[
            {"id":"functions.f:0","type":"function","function":{"name":"f","arguments":"not json"}},
            {"id":"b","type":"function","function":{"name":"f","arguments":""}}]},
        {"role":"system","content":"two"},
        {"role":"tool","tool_call_id":"functions.f:0","content":""},{"role":"tool","tool_call_id":"b","content":"r"}]}"#;
    let call = said(Api::Anthropic, &openai::CHAT, sent).unwrap();
    let written: Value = serde_json::from_slice(&call.body).unwrap();
    let expected = serde_json::json!({
        "model": "theirs", "max_tokens": 8192, "stream": false,
        "system": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        "messages": [
            {"role": "user", "content": [
                {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BB=="}, "title": "a.pdf"},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "no"},
                {"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {"input": "not json"}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "functions_f_0"},
                {"type": "tool_result", "tool_use_id": "b", "content": "r"},
            ]},
        ],
    });
    assert_eq!(written, expected);
}

#[test]
fn a_client_is_told_what_an_api_leaves_out() {
    let sent = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"seed":1,"temperature":1.5,"logprobs":true,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","parallel_tool_calls":false}"#;
    let ignored = |api| {
        let call = said(api, &openai::CHAT, sent).unwrap();
        call.ignored.names().collect::<Vec<_>>()
    };
    assert_eq!(ignored(Api::OpenAi), ["logprobs"]);
    assert_eq!(ignored(Api::Anthropic), ["seed", "logprobs"]);
    assert_eq!(
        ignored(Api::Ollama),
        ["logprobs", "parallel_tool_calls", "tool_choice"]
    );
    let call = said(Api::Anthropic, &openai::CHAT, sent).unwrap();
    let written: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(written["temperature"], 1.0);
    let thinks = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.5,"reasoning_effort":"high"}"#;
    let call = said(Api::Anthropic, &openai::CHAT, thinks).unwrap();
    assert_eq!(call.ignored.names().collect::<Vec<_>>(), ["temperature"]);
}

#[test]
fn nothing_of_a_prompt_is_in_a_debug_form() {
    let call = said(
        Api::OpenAi,
        &openai::CHAT,
        r#"{"model":"m","messages":[{"role":"user","content":"secret"}]}"#,
    )
    .unwrap();
    assert_eq!(format!("{call:?}"), "Call(/chat/completions, 66 bytes)");
}
