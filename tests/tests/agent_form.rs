//! Another form of agent is one short file: `tests/src/echo.rs`. What it supports is one value, which decides what clients are told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::{Capabilities, ParameterSet, Supports};
use mcp_local_provider_tests::client::Client;
use mcp_local_provider_tests::driver::{Answered, Driver};
use mcp_local_provider_tests::echo::Echo;

/// The answer to a request of one message, from an agent that supports this.
fn asked(supports: Supports, route: &str, more: &str) -> Client {
    let mut driver = Driver::new(HubConfig::default());
    let mut echo = Echo::register(driver.engine(), supports);
    let body = format!(r#"{{"model":"echo",{more}}}"#);
    match driver.ask(route, &body) {
        Answered::Call(at) => {
            echo.answer();
            driver.flow();
            driver.calls[at].client.clone()
        }
        Answered::Answer(answer) => {
            let mut client = Client::default();
            client.head(&answer.head);
            client.feed(&answer.body);
            client.finish();
            client
        }
    }
}

#[test]
fn what_an_agent_declares_is_what_clients_are_told() {
    const CHAT: &str =
        r#""temperature":1,"seed":2,"messages":[{"role":"user","content":"Hi \u00e9"}]"#;
    let route = "POST /v1/chat/completions";
    let takes = |parameters| Supports {
        parameters,
        ..Supports::words(Capabilities::default())
    };
    for (supports, ignored) in [
        (Supports::default(), None),
        (takes(ParameterSet::ALL), None),
        (
            takes(ParameterSet::EMPTY),
            Some("temperature, seed".to_owned()),
        ),
    ] {
        let client = asked(supports, route, CHAT);
        assert_eq!((client.content.as_str(), client.ignored), ("Hi é", ignored));
    }
    let vectors = asked(Supports::default(), "POST /v1/embeddings", r#""input":"x""#);
    assert!(vectors.error.unwrap().contains("capability `embeddings`"));
    let nothing = Supports {
        scopes: Vec::new().into(),
        ..Supports::default()
    };
    assert!(
        asked(nothing, route, CHAT)
            .error
            .unwrap()
            .contains("has the scope `inference`")
    );
}

#[test]
fn a_form_of_agent_is_one_file_under_a_hundred_lines() {
    let lines = include_str!("../src/echo.rs").lines().count();
    assert!(lines < 100, "{lines} lines");
}
