//! Runs that are left at each of their steps: all that they have begun ends, and nothing that others have begun.

use crate::agent::Agent;
use crate::child_process::ends;
use crate::gateway::client::{server, until};
use crate::program::{Folder, Program};
use crate::registry_rest::{USER, execute, made, start_in};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// The next connection to a server, once its request names the run.
fn asked(listener: &TcpListener, run: &str) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    assert!(head.starts_with(&format!("GET /{run} ")), "{head}");
    stream
}

/// Messages that the MCP server has got which name this method or tool.
fn heard(program: &Program, what: &str) -> usize {
    let heard = execute(program, "heard", &json!({})).json();
    heard["content"][0]["text"].as_str().unwrap().matches(what).count()
}

#[test]
fn a_run_that_is_left_at_any_step_ends_what_it_has_begun_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = Folder::new();
    let pids = folder.0.clone();
    let lists = format!("http: [\"{address}\"], commands: [/bin/sh]");
    let servers = format!("gateway: {{ scope: shared }}\nmcpServers:\n{}", server("suite", ""));
    let program = start_in(folder, &lists, &servers);
    let script = format!("echo $$ > {}/pid-$1; exec sleep 600", pids.display());
    let run = json!({ "run": "{{ args.run }}" });
    made(&program, "/tools", &json!([
        { "name": "wait", "kind": "command", "command": ["/bin/sh", "-c", script, "sh", "{{ args.run }}"] },
        { "name": "held", "kind": "gateway", "server": "suite", "tool": "hold", "arguments": { "text": "{{ args.run }}" } },
        { "name": "heard", "kind": "gateway", "server": "suite", "tool": "heard", "arguments": {} },
        { "name": "release", "kind": "gateway", "server": "suite", "tool": "release", "arguments": {} },
        { "name": "think", "kind": "prompt", "model": "test-model", "prompt": "For {{ args.run }}" },
        { "name": "far", "kind": "http", "method": "GET", "url": format!("http://{address}/{{{{ args.run }}}}") },
        { "name": "all", "kind": "parallel", "need": "all", "branches": [
            { "id": "held", "tool": "held", "arguments": run }, { "id": "think", "tool": "think", "arguments": run }, { "id": "far", "tool": "far", "arguments": run }] },
        { "name": "chain", "kind": "chain", "steps": [
            { "id": "first", "tool": "wait", "arguments": run, "if": "args.waits" }, { "id": "then", "tool": "all", "arguments": run }] },
    ]));
    let mut agent = Agent::connect_as(&program, json!({ "agent_id": "a", "models": ["test-model"] }));
    let begin = |run: &str, waits: bool| {
        let body = json!({ "arguments": { "run": run, "waits": waits } });
        program.open("POST", "/tools/chain/execute", Some(USER), &body.to_string())
    };
    // The one that nobody leaves is at its second step, with all three open, from now on.
    let mut stays = begin("stays", false);
    let mut answers = asked(&listener, "stays");
    let (stays_id, prompt) = agent.invocation();
    assert!(prompt.to_string().contains("For stays"), "{prompt}");
    until(|| (heard(&program, "\"hold\"") == 1).then_some(()));

    // Left at the first step.
    let first = begin("first", true);
    let pid = until(|| std::fs::read_to_string(pids.join("pid-first")).ok().filter(|pid| pid.ends_with('\n')));
    drop(first);
    assert!(ends(pid.trim()), "the command runs on");

    // Left at the second.
    let second = begin("second", false);
    let mut far = asked(&listener, "second");
    let (id, _) = agent.invocation();
    until(|| (heard(&program, "\"hold\"") == 2).then_some(()));
    drop(second);
    let told = agent.receive();
    assert_eq!((&told["type"], &told["id"]), (&json!("model_cancel"), &json!(id)), "{told}");
    assert!(matches!(far.read(&mut [0]), Ok(0) | Err(_)), "the server's connection is open");
    until(|| (heard(&program, "notifications/cancelled") == 1).then_some(()));

    // The first one has lost nothing.
    answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nfar!").unwrap();
    agent.chunk(&stays_id, 0, "thought");
    agent.finish(&stays_id, 1);
    assert_eq!(execute(&program, "release", &json!({})).status, 200);
    let mut bytes = Vec::new();
    stays.read_to_end(&mut bytes).unwrap();
    let answer = crate::program::Answer::parse(&bytes).json();
    let texts: Vec<&Value> = answer["content"].as_array().unwrap().iter().map(|part| &part["text"]).collect();
    assert_eq!((&answer["is_error"], texts), (&json!(false), vec![&json!("stays"), &json!("thought"), &json!("far!")]), "{answer}");
    assert_eq!(heard(&program, "notifications/cancelled"), 1);
}
