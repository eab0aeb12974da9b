//! What a server of each API is told of a request in each dialect, as people can read it in `upstream/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mcp-local-provider-tests --test upstream` writes the outputs anew; look at the difference.
//! Lines `client> …` are the request: its path, then its body. Lines `server< …` are what comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mcp_local_provider_core::agents::upstream::{Api, ClientHeaders, call};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::dialect::{Form, anthropic, ollama, openai};
use mcp_local_provider_core::{Exchange, Ids, Instant, PromptIndex, WallClock};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

const APIS: [Api; 3] = [Api::OpenAi, Api::Ollama, Api::Anthropic];

/// A transcript with what comes of its request in an API.
fn played(transcript: &str, api: Api) -> String {
    let lines = transcript.lines();
    let mut lines = lines.filter_map(|line| line.strip_prefix("client> "));
    let path = lines.next().expect("a path");
    let body: Vec<&str> = lines.collect();
    let form: &Form = match path {
        "/v1/chat/completions" => &openai::CHAT,
        "/api/chat" => &ollama::CHAT,
        "/v1/messages" => &anthropic::MESSAGES,
        _ => panic!("no form for {path}"),
    };
    let mut out = format!("client> {path}\n");
    for line in &body {
        writeln!(out, "client> {line}").unwrap();
    }
    let now = Instant::from_micros(1);
    let wall = WallClock::new(now, Duration::from_secs(1_767_225_600));
    let (id, config) = (Ids::new(1).next(), HubConfig::default());
    let body = body.join("\n").into_bytes();
    let (_, intent) = Exchange::parse(&config, wall, id, form, now, body).unwrap();
    let headers = ClientHeaders {
        anthropic_version: None,
        anthropic_beta: Some("context-1m-2025-08-07"),
        openai_beta: None,
    };
    let call = call(api, &intent.request, PromptIndex(0), "theirs", headers).unwrap();
    writeln!(out, "server< {}", call.path).unwrap();
    for (name, value) in &call.headers {
        writeln!(out, "server< {name}: {value}").unwrap();
    }
    let ignored: Vec<&str> = call.ignored.names().collect();
    writeln!(out, "server< (ignored: {})", ignored.join(", ")).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
    for line in serde_json::to_string_pretty(&body).unwrap().lines() {
        writeln!(out, "server< {line}").unwrap();
    }
    out
}

#[test]
fn each_server_is_told_what_the_client_of_each_dialect_asks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("upstream");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for dialect in ["openai", "ollama", "anthropic"] {
        for api in APIS {
            let name = format!("{dialect}_on_{}.txt", api.as_str());
            let expected = std::fs::read_to_string(folder.join(&name)).expect(&name);
            let played = played(&expected, api);
            if update {
                std::fs::write(folder.join(&name), &played).unwrap();
            } else if played != expected {
                changed.push(format!("{name}:\n{played}"));
            }
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}
