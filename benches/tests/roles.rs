//! The processes of the comparison do what their scripts say, so that the figures compare like
//! with like.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::result_large_err
)]

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use mcp_local_provider_benches::load::Load;
use mcp_local_provider_benches::process::Process;
use mcp_local_provider_benches::script::{CONTENT, Script};
use tungstenite::Message;

const COMPARE: &str = env!("CARGO_BIN_EXE_compare");

fn role(arguments: &[&str]) -> Process {
    let name = arguments.first().unwrap();
    let log = std::env::temp_dir().join(format!("compare-test-{name}-{}", std::process::id()));
    let process = Process::spawn(Command::new(COMPARE).args(arguments), 0, &log).unwrap();
    std::fs::remove_file(log).unwrap();
    process
}

#[test]
fn the_splice_carries_every_kind_of_answer_whole() {
    let mut backend = role(&["backend"]);
    let splice = role(&["splice", &backend.addr.to_string()]);
    for (script, chunks) in [
        (Script::whole(), 1),
        (Script::stream(200, 1), 200),
        (Script::stream(100, 16), 100),
        (Script::paced(3, Duration::from_millis(1)), 3),
    ] {
        let mut load = Load::new(splice.addr, "key", &script.request_body()).unwrap();
        load.open(4).unwrap();
        let tally = load.finish(Duration::from_secs(20)).unwrap();
        assert_eq!((tally.answers, tally.chunks), (4, 4 * chunks), "{script:?}");
        assert_eq!((tally.first_chunk.len(), tally.latency.len()), (4, 4));
    }

    let mut held = Load::new(splice.addr, "key", &Script::held().request_body()).unwrap();
    held.open(300).unwrap();
    held.wait_begun(Duration::from_secs(20)).unwrap();
    backend.release().unwrap();
    assert_eq!(held.finish(Duration::from_secs(20)).unwrap().answers, 300);

    assert!(splice.resident_kib().unwrap() > 0);
    let before = splice.cpu().unwrap();
    let mut more = Load::new(splice.addr, "key", &Script::stream(200, 1).request_body()).unwrap();
    more.open(4).unwrap();
    more.finish(Duration::from_secs(20)).unwrap();
    assert!(splice.cpu().unwrap().since(before) > Duration::ZERO);
}

#[test]
fn the_least_code_gives_every_kind_of_answer_whole() {
    let ideal = role(&["ideal"]);
    let mut agent = role(&["agent", &ideal.addr.to_string(), "key"]);
    for (script, chunks) in [
        (Script::whole(), 1),
        (Script::whole().with_request(300_000), 1),
        (Script::stream(200, 1), 200),
        (Script::stream(200, 1).turns(), 200),
        (Script::stream(200, 1).ahead(), 200),
        (Script::stream(100, 16), 100),
        (Script::paced(3, Duration::from_millis(1)), 3),
    ] {
        let mut load = Load::new(ideal.addr, "key", &script.request_body()).unwrap();
        load.open(4).unwrap();
        let tally = load.finish(Duration::from_secs(20)).unwrap();
        assert_eq!((tally.answers, tally.chunks), (4, 4 * chunks), "{script:?}");
        assert_eq!(tally.transit.is_empty(), !script.is_stream(), "{script:?}");
    }
    let mut held = Load::new(ideal.addr, "key", &Script::held().request_body()).unwrap();
    held.open(300).unwrap();
    held.wait_begun(Duration::from_secs(20)).unwrap();
    agent.release().unwrap();
    assert_eq!(held.finish(Duration::from_secs(20)).unwrap().answers, 300);
}

#[test]
fn the_agent_registers_and_answers_in_the_words_of_the_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut agent = Command::new(COMPARE)
        .args(["agent", &addr, "the-bridge-key"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let check = |request: &tungstenite::handshake::server::Request, response| {
        assert_eq!(request.uri().path(), "/agent");
        assert_eq!(request.headers()["authorization"], "Bearer the-bridge-key");
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, check).unwrap();
    let mut receive = |send: &[String]| -> serde_json::Value {
        for text in send {
            socket.send(Message::text(text.clone())).unwrap();
        }
        serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap()
    };
    assert_eq!(receive(&[])["type"], "register");

    let invoke = |id: &str, script: Script| {
        let payload = script.request_body();
        format!(r#"{{"type":"model_invoke","id":"{id}","payload":{payload}}}"#)
    };
    let registered =
        r#"{"type":"registered","session_id":"s","session_token":"t","status":"active"}"#;
    let first = receive(&[registered.to_owned(), invoke("a", Script::stream(3, 2))]);
    assert_eq!(first["type"], "model_stream_chunk");
    assert_eq!(
        (&first["id"], &first["chunk_index"]),
        (&"a".into(), &0.into())
    );
    assert_eq!(
        first["delta"]["content"].as_str().unwrap().len(),
        CONTENT.len()
    );
    assert_eq!(receive(&[])["chunk_index"], 1);
    assert_eq!(receive(&[])["chunk_index"], 2);
    let last = receive(&[]);
    assert_eq!(
        (&last["chunk_index"], &last["finish_reason"]),
        (&3.into(), &"stop".into())
    );

    let whole = receive(&[invoke("b", Script::whole())]);
    assert_eq!(
        (&whole["type"], &whole["status"]),
        (&"model_result".into(), &"ok".into())
    );

    assert_eq!(receive(&[invoke("c", Script::held())])["chunk_index"], 0);
    let cancel = r#"{"type":"model_cancel","id":"c","reason":"client_disconnected"}"#.to_owned();
    let after = receive(&[cancel, invoke("d", Script::whole())]);
    assert_eq!(after["id"], "d");

    drop(agent.stdin.take());
    assert!(
        agent.wait().unwrap().success(),
        "the end of its standard input ends the agent"
    );
}
