//! Lists of models, and counts of tokens.

use super::*;
use crate::dialect::{anthropic, openai};
use crate::link::MAX_MODELS;
use alloc::format;

#[test]
fn the_models_of_each_api_are_listed() {
    let cases = [
        (
            Api::OpenAi,
            "/models",
            r#"{"object":"list","data":[{"id":"a"},{"id":"b","object":"model"},{"id":"a"},{"id":""},{"id":"c d"},{}]}"#,
        ),
        (
            Api::Custom,
            "/models",
            r#"{"data":[{"id":"a"},{"id":"b"}],"has_more":true,"last_id":"b"}"#,
        ),
        (
            Api::Ollama,
            "/api/tags",
            r#"{"models":[{"name":"a","model":"a"},{"model":"b"}]}"#,
        ),
        (
            Api::Anthropic,
            "/v1/models?limit=1000",
            r#"{"data":[{"type":"model","id":"a"},{"id":"b"}],"has_more":false,"first_id":"a","last_id":"b"}"#,
        ),
    ];
    for (api, path, body) in cases {
        let mut list = ModelList::new(api);
        assert_eq!(list.path(), path);
        assert!(!list.take(body.as_bytes()).unwrap(), "{body}");
        assert_eq!(list.into_names(), ["a", "b"]);
    }
}

#[test]
fn the_pages_of_anthropic_are_read_to_the_end() {
    let mut list = ModelList::new(Api::Anthropic);
    let page = |name: &str| {
        format!(r#"{{"data":[{{"id":"{name}"}}],"has_more":true,"last_id":"{name}"}}"#)
    };
    assert!(
        list.take(page("a b/\u{e9}").as_bytes())
            .is_ok_and(|more| !more)
    );
    assert!(list.take(page("a/1").as_bytes()).unwrap());
    assert_eq!(list.path(), "/v1/models?limit=1000&after_id=a%2F1");
    assert!(list.take(page("b").as_bytes()).unwrap());
    // A server that gives the same page again and again.
    assert!(!list.take(page("b").as_bytes()).unwrap());
    assert_eq!(list.into_names(), ["a/1", "b"]);
}

#[test]
fn a_list_is_bounded_and_damage_is_told() {
    let all: Vec<String> = (0..2 * MAX_MODELS)
        .map(|at| format!(r#"{{"id":"m{at}"}}"#))
        .collect();
    let mut list = ModelList::new(Api::Anthropic);
    let body = format!(
        r#"{{"data":[{}],"has_more":true,"last_id":"z"}}"#,
        all.join(",")
    );
    assert!(!list.take(body.as_bytes()).unwrap());
    assert_eq!(list.into_names().len(), MAX_MODELS);
    for (body, message) in [
        (&b"<html>"[..], "the answer is not the JSON of its API"),
        (b"\xff", "the answer is not the JSON of its API"),
        (b"{}", "the answer is no list of models"),
        (br#"{"data":{}}"#, "the answer is no list of models"),
    ] {
        let trouble = ModelList::new(Api::OpenAi).take(body).unwrap_err();
        assert_eq!(
            (trouble.fault, &*trouble.message),
            (Fault::Protocol, message)
        );
    }
}

#[test]
fn tokens_are_counted_by_an_anthropic_server() {
    let sent = r#"{"model":"m","x":1,"messages":[{"role":"user","content":"x"}]}"#;
    let asked = |form: &Form, sent| {
        let headers = ClientHeaders {
            anthropic_beta: Some("b"),
            ..ClientHeaders::default()
        };
        let call = count_tokens(&request(form, sent), "theirs", headers).unwrap();
        assert_eq!(call.path, "/v1/messages/count_tokens");
        (String::from_utf8(call.body).unwrap(), call.headers.len())
    };
    assert_eq!(
        asked(&anthropic::COUNT_TOKENS, sent),
        (
            r#"{"model":"theirs","x":1,"messages":[{"role":"user","content":"x"}]}"#.into(),
            4
        )
    );
    assert_eq!(
        asked(&openai::CHAT, sent),
        (
            r#"{"model":"theirs","messages":[{"role":"user","content":"x"}]}"#.into(),
            3
        )
    );
    assert_eq!(counted(br#"{"input_tokens":14}"#), Ok(14));
    assert!(counted(b"{}").is_err() && counted(b"\xff").is_err());
}
