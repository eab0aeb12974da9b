//! The audit file: what it tells, and that serving goes on when the disk does not want it.

use crate::agent::{Agent, dial};
use crate::program::{Answer, BRIDGE, CLIENT, Folder, OPERATOR, PATIENCE, Program, write_config};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The text of the audit file, and of the one for strangers beside it.
pub fn audited(path: &Path) -> [String; 2] {
    [path.to_owned(), path.with_file_name("audit-strangers.jsonl")]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default())
}

/// The records of both files, once one of them fits.
pub fn records(path: &Path, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let text = audited(path);
        let whole = text
            .each_ref()
            .map(|text| text.rfind('\n').map_or("", |end| &text[..=end]));
        let records: Vec<Value> = whole
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        if records.iter().any(&fits) {
            return records;
        }
        assert!(begun.elapsed() < PATIENCE, "no such record in\n{text:?}");
        std::thread::yield_now();
    }
}

fn chat(model: &str) -> String {
    json!({ "model": model, "messages": [{ "role": "user", "content": "a prompt" }] }).to_string()
}

fn read(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn a_status_that_one_dialect_has_alone_is_the_same_everywhere() {
    let program = Program::start("log: { level: debug }\nlimits: { exchanges: 1, queue: { length: 0 } }\n");
    let file = program.folder.0.join("audit.jsonl");
    let mut agent = Agent::connect(&program);
    let _open = program.open("POST", "/v1/chat/completions", Some(CLIENT), &chat("m"));
    agent.invocation();
    let mut body: Value = serde_json::from_str(&chat("m")).unwrap();
    body["max_tokens"] = json!(9);
    let refused = program.post("/v1/messages", &body);
    assert_eq!(refused.status, 529, "{}", refused.body);
    assert_eq!(refused.json()["error"]["type"], "overloaded_error", "{}", refused.body);
    let id = refused.header("x-request-id").unwrap().to_owned();
    let records = records(&file, |record| record["request_id"] == *id);
    let record = records.iter().find(|record| record["request_id"] == *id).unwrap();
    assert_eq!(record["status"], 529, "{record}");
    let counted = "endpoint=\"POST /v1/messages\",dialect=\"anthropic\",status=\"529\"} 1";
    let metrics = program.get("/metrics").body;
    assert!(metrics.contains(counted), "no {counted} in {metrics}");
    program.wait_for_log(&id);
    let log = program.log();
    let line = log.lines().find(|line| line.contains(&id)).unwrap_or_default();
    assert!(line.contains("\"status\":529"), "no 529 of {id} in {log}");
}

#[test]
fn every_event_is_a_record_that_says_who_did_what() {
    let program = Program::start(
        "sessions: { approval: manual }\n\
         limits: { requests_per_minute: 2, burst: 2 }\n\
         audit: { file: ../audit.jsonl, authentication: all }\n",
    );
    let file = program.folder.0.join("audit.jsonl");
    let mut agent = Agent::connect(&program);
    let session = agent.session.clone();
    let operate = |action: &str| {
        let body = json!({ "session_id": session }).to_string();
        let path = format!("/control/{action}");
        program.request("POST", &path, Some(OPERATOR), &body)
    };
    assert_eq!(operate("approve").status, 200);
    assert_eq!(agent.receive()["status"], "active");
    let client = program.raw(&format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Editor/1.0\r\nAuthorization: Bearer {CLIENT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        chat("m").len(),
        chat("m")
    ));
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "an answer");
    agent.finish(&id, 1);
    let answer = read(client);
    // What is wrong with a request is known before its agent is.
    let wrong = program.request("POST", "/api/chat", Some(CLIENT), "{\"model\":7}");
    assert_eq!(wrong.status, 400);
    let client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &chat("m"));
    agent.invocation();
    drop(client);
    assert_eq!(agent.receive()["type"], "model_cancel");
    let limited = program.request("POST", "/api/chat", Some(CLIENT), &chat("m"));
    assert_eq!(limited.status, 429);
    let unknown = program.request("POST", "/api/chat", Some("no-such-key"), &chat("m"));
    assert_eq!(unknown.status, 401);
    let role = program.request("GET", "/control/sessions", Some(CLIENT), "");
    assert_eq!(role.status, 403);
    let foreign = read(program.raw(
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n",
    ));
    assert_eq!(foreign.status, 403);
    let rebound = read(program.raw(
        "HEAD /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ));
    assert_eq!(rebound.status, 403);
    let unclear = read(program.raw(
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ));
    assert_eq!(unclear.status, 400);
    assert_eq!(operate("revoke").status, 200);
    let short = json!({ "session_id": "short", "agent_id": "a", "ttl_seconds": 1 }).to_string();
    let registered = program.request("POST", "/control/register", Some(BRIDGE), &short);
    assert_eq!(registered.status, 200, "{}", registered.body);
    drop(agent);
    records(&file, |record| record["what"] == "down");
    records(&file, |record| record["outcome"] == "malformed_request");
    let records = records(&file, |record| record["what"] == "expired");

    let find = |event: &str, fields: Value| {
        let found = records.iter().find(|record| {
            let fields = fields.as_object().unwrap();
            record["event"] == event && fields.iter().all(|(name, value)| record[name] == *value)
        });
        found.unwrap_or_else(|| panic!("no {event} with {fields} in {records:#?}"))
    };
    let request = find(
        "request",
        json!({ "request_id": answer.header("x-request-id"), "key": "editor", "address": "127.0.0.1", "user_agent": "Editor/1.0",
            "method": "POST", "endpoint": "/v1/chat/completions", "status": 200, "outcome": "ok", "bytes_in": chat("m").len(),
            "bytes_out": answer.body.len(), "prompt_tokens": 9, "completion_tokens": 3, "source": "http", "agent_id": "it",
            "model": "m", "stream": false, "estimated_tokens": 2, "flags": null, "limit": null }),
    );
    assert!(request["duration_ms"].is_u64() && request["session_id"].is_string());
    assert_eq!(request["prompt_sha256"].as_str().unwrap().len(), 64);
    assert!(request["timestamp"].as_str().unwrap().ends_with('Z'));
    find(
        "request",
        json!({ "status": 400, "outcome": "invalid_request", "key": "editor", "endpoint": "/api/chat" }),
    );
    find("request", json!({ "status": 499, "key": "editor" }));
    find(
        "request",
        json!({ "status": 200, "key": "me", "endpoint": "/control/approve" }),
    );
    find(
        "rate_limit",
        json!({ "status": 429, "key": "editor", "request_id": limited.header("x-request-id"), "model": "m", "stream": true,
            "limit": "requests_per_minute", "limit_value": 2, "current": 2, "retry_after": 30 }),
    );
    find(
        "authentication_failed",
        json!({ "status": 401, "endpoint": "/api/chat", "request_id": unknown.header("x-request-id") }),
    );
    find(
        "violation",
        json!({ "status": 403, "outcome": "role_denied", "key": "editor", "endpoint": "/control/sessions", "flags": ["role"] }),
    );
    find(
        "violation",
        json!({ "status": 403, "outcome": "origin_denied", "method": "GET", "address": "127.0.0.1", "flags": ["origin"] }),
    );
    find(
        "violation",
        json!({ "status": 400, "outcome": "malformed_request", "request_id": unclear.header("x-request-id"), "flags": ["framing"] }),
    );
    find(
        "violation",
        json!({ "outcome": "origin_denied", "flags": ["host"] }),
    );
    find(
        "authentication",
        json!({ "source": "http", "request_id": answer.header("x-request-id"), "key": "editor", "outcome": "ok" }),
    );
    find(
        "session",
        json!({ "what": "registered", "status": "pending", "key": "bridge", "agent_id": "it" }),
    );
    find(
        "session",
        json!({ "what": "approved", "status": "active", "key": "me" }),
    );
    find(
        "session",
        json!({ "what": "revoked", "status": "revoked", "key": "me" }),
    );
    find(
        "session",
        json!({ "what": "registered", "session_id": "short", "key": "bridge" }),
    );
    find(
        "session",
        json!({ "what": "expired", "status": "expired", "session_id": "short" }),
    );
    find(
        "link",
        json!({ "what": "up", "key": "bridge", "from": "agent" }),
    );
    find("link", json!({ "what": "down", "key": "bridge" }));
}

/// An agent that tells each caller where it found that caller's tools, with which token, and then is silent.
const TELLER: &str = r#"
number=0
while read -r line; do
    id=${line#*'"id":'}; id=${id%%,*}
    case $line in
    *'"method":"initialize"'*)
        printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"agentCapabilities":{"mcpCapabilities":{"http":true}}}}\n' "$id" ;;
    *'"method":"session/new"'*)
        url=${line#*'"url":"'}; url=${url%%'"'*}
        token=${line#*'Bearer '}; token=${token%%'"'*}
        number=$((number + 1))
        printf '{"jsonrpc":"2.0","id":%s,"result":{"sessionId":"s%s"}}\n' "$id" "$number" ;;
    *'"method":"session/prompt"'*)
        session=${line#*'"sessionId":"'}; session=${session%%'"'*}
        printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"%s","update":' "$session"
        printf '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"<%s %s>"}}}}\n' "$url" "$token" ;;
    esac
done
"#;

/// Asks the agent `teller`; the stream of the answer, and where the agent finds the tools that the question brought.
fn find_tools(program: &Program) -> (TcpStream, String, String) {
    while program.get("/v1/models/teller").status != 200 {
        std::thread::yield_now();
    }
    let question = json!({ "model": "teller", "stream": true, "messages": [{ "role": "user", "content": "where?" }],
        "tools": [{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }] });
    let body = question.to_string();
    let mut stream = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    while !text.contains('>') {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "it said no more than {text}");
        text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    let told = text[text.find('<').unwrap() + 1..].split('>').next().unwrap();
    let (url, token) = told.split_once(' ').unwrap();
    let path = url.find("/agents/").unwrap();
    (stream, url[path..].to_owned(), token.to_owned())
}

#[test]
fn each_request_is_one_record_with_the_status_and_the_bytes_that_were_sent() {
    let agent = json!([{ "name": "teller", "command": ["/bin/sh", "-c", TELLER] }]);
    let mut program = Program::start(&format!("agents: {agent}\n"));
    let file = program.folder.0.join("audit.jsonl");
    let raw = |head: &str| read(program.raw(&format!("{head}\r\nConnection: close\r\n\r\n")));
    let refused = |headers: &str| {
        let mut stream = Program::connect_to(program.agents);
        let request = format!("GET /agent HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read(stream)
    };
    let (stream, tools, token) = find_tools(&program);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let listed = program.request("POST", &tools, Some(&token), call);
    assert!(listed.body.contains("look"), "{}", listed.body);
    let socket = dial(&program, Some(BRIDGE)).unwrap();
    let answers = [
        (
            raw("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\nAccess-Control-Request-Method: GET"),
            (204, "request", "OPTIONS", "ok"),
        ),
        (raw("GET /health HTTP/1.1\r\nHost: localhost"), (200, "request", "/health", "ok")),
        (raw("GET /metrics HTTP/1.1\r\nHost: localhost"), (200, "request", "/metrics", "ok")),
        (raw("GET /nowhere HTTP/1.1\r\nHost: localhost"), (404, "request", "unknown route", "not_found")),
        (
            raw("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"),
            (400, "violation", "malformed request", "malformed_request"),
        ),
        (
            program.request("POST", "/v1/chat/completions", Some("wrong"), &chat("m")),
            (401, "authentication_failed", "/v1/chat/completions", "invalid_api_key"),
        ),
        (
            program.request("POST", "/v1/chat/completions", Some(CLIENT), "{"),
            (400, "request", "/v1/chat/completions", "invalid_request"),
        ),
        (
            refused("Authorization: Bearer wrong\r\nUpgrade: websocket\r\n"),
            (400, "request", "/agent", "invalid_request"),
        ),
        (listed, (200, "request", "/agents/{agent}/mcp/{server}", "ok")),
        (
            program.request("POST", &tools, Some("wrong"), call),
            (401, "authentication_failed", "/agents/{agent}/mcp/{server}", "invalid_api_key"),
        ),
    ];
    let (status, body) = dial(&program, Some("wrong")).unwrap_err();
    let last = program.get("/v1/models");
    records(&file, |record| record["request_id"] == *last.header("x-request-id").unwrap());
    // Strangers' records come when their second is over.
    program.signal("TERM");
    program.wait();
    let records = records(&file, |_| true);
    for (answer, (status, event, endpoint, outcome)) in answers {
        assert_eq!(answer.status, status, "{endpoint}");
        if event == "authentication_failed" {
            continue;
        }
        let id = answer.header("x-request-id").unwrap();
        let own: Vec<_> = records.iter().filter(|record| record["request_id"] == *id).collect();
        assert_eq!(own.len(), 1, "{endpoint}: {own:#?}");
        let record = own[0];
        assert_eq!(record["bytes_out"], answer.body.len(), "{endpoint}");
        assert_eq!(
            (&record["event"], &record["endpoint"], &record["outcome"]),
            (&json!(event), &json!(endpoint), &json!(outcome))
        );
        assert_eq!((answer.status, &record["status"]), (status, &json!(status)), "{endpoint}");
    }
    let upgrades = |status: u16| {
        let of = |record: &&Value| record["endpoint"] == "/agent" && record["status"] == status;
        records.iter().filter(of).collect::<Vec<_>>()
    };
    assert_eq!((upgrades(101).len(), &upgrades(101)[0]["bytes_out"]), (1, &json!(0)));
    // Those of one address become one a second.
    let failed: Vec<_> = records.iter().filter(|record| record["event"] == "authentication_failed").collect();
    let counts = failed.iter().map(|record| record["count"].as_u64().unwrap());
    assert_eq!((status, counts.sum::<u64>()), (401, 3), "{failed:#?}");
    assert!(body.contains("invalid_api_key"), "{body}");
    drop((stream, socket));
}

/// Starts the program through a shell, with the audit file somewhere else.
fn start(shell: &str, file: &str) -> Program {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let mut command = Command::new("sh");
    command.arg("-c").arg(shell).arg(crate::program::program());
    command.arg("--config").arg(&config);
    command.env("MLP_AUDIT__FILE", file);
    Program::spawn(command, folder, config)
}

/// Asks until the audit is found to have lost records; every answer is as if nothing had happened.
fn loses_records(program: &Program) {
    let begun = Instant::now();
    loop {
        for _ in 0..20 {
            assert_eq!(program.get("/v1/models").status, 200);
        }
        let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
        assert_eq!(health.status, 200, "{}", health.body);
        let audit = &health.json()["components"]["audit"];
        let metrics = program.get("/metrics").body;
        let lost = metrics.lines().find_map(|line| {
            line.strip_prefix(r#"mcp_local_provider_audit_records_total{result="lost"} "#)
        });
        let lost: u64 = lost.unwrap().parse().unwrap();
        if audit["error_count"].as_u64().unwrap() > 0 && lost > 0 {
            assert_eq!(audit["status"], "degraded", "{audit}");
            assert!(
                audit["message"].as_str().unwrap().contains("lost"),
                "{audit}"
            );
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "no loss is seen: {audit}");
    }
}

const PLAIN: &str = r#"exec "$0" "$@""#;

#[test]
fn serving_goes_on_when_the_audit_file_cannot_be_written() {
    let folder = Folder::new();
    let blocked = folder.0.join("blocked");
    std::fs::write(&blocked, "a file where a directory should be").unwrap();
    let below = blocked.join("audit.jsonl");
    for file in [
        "/proc/version",
        below.to_str().unwrap(),
        folder.0.to_str().unwrap(),
    ] {
        let program = start(PLAIN, file);
        loses_records(&program);
        program.wait_for_log("audit records are being lost");
    }
}

#[test]
fn a_fifo_or_a_device_as_audit_file_is_refused_at_start() {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let fifo = folder.0.join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for file in [fifo.to_str().unwrap(), "/dev/full"] {
        let refused = Command::new(crate::program::program())
            .arg("--config")
            .arg(&config)
            .env("MLP_AUDIT__FILE", file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(file) && said.contains("audit.file"), "{said}");
    }
}

#[test]
fn serving_goes_on_when_no_file_may_grow() {
    let program = start(r#"ulimit -f 8 && exec "$0" "$@""#, "./audit.jsonl");
    loses_records(&program);
    // What was written before is whole.
    let text = std::fs::read_to_string(program.folder.0.join("data/audit.jsonl")).unwrap();
    assert!(text.ends_with("}\n") && text.lines().count() > 5, "{text}");
}

#[test]
fn a_deleted_audit_file_is_begun_anew_and_its_records_count_as_lost() {
    let program = Program::start("");
    let file = program.folder.0.join("audit.jsonl");
    let models = |record: &Value| record["endpoint"] == "/v1/models";
    program.get("/v1/models");
    records(&file, models);
    std::fs::remove_file(&file).unwrap();
    loses_records(&program);
    records(&file, models);
}

#[test]
fn audit_files_are_put_aside_by_size() {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let mut command = Command::new(crate::program::program());
    command.arg("--config").arg(&config);
    command
        .env("MLP_AUDIT__MAX_BYTES", "4KiB")
        .env("MLP_AUDIT__KEEP", "2");
    let mut program = Program::spawn(command, folder, config);
    let directory = program.folder.0.clone();
    let named = |number: u32| directory.join(format!("audit.jsonl.{number}"));
    let begun = Instant::now();
    while !named(2).exists() {
        assert!(begun.elapsed() < PATIENCE, "no file is put aside twice");
        program.get("/v1/models");
    }
    for _ in 0..100 {
        program.get("/v1/models");
    }
    program.signal("TERM");
    assert!(program.wait().0.success());
    assert!(!named(3).exists());
    for file in [named(1), named(2)] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() <= 4096 && text.ends_with("}\n"));
    }
}

/// Whatever the end of the program is, all that happened is in the file: answered requests, streams that the end cuts,
/// sessions and links.
#[test]
fn a_stop_loses_no_record() {
    for signals in [&["TERM"][..], &["TERM", "TERM"]] {
        let mut program = Program::start("timeouts: { drain: 300ms }\n");
        let file = program.folder.0.join("audit.jsonl");
        let mut agent = Agent::connect(&program);
        let mut stream = program.open(
            "POST",
            "/v1/chat/completions",
            Some(CLIENT),
            &json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "x" }] })
                .to_string(),
        );
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "begun");
        let mut begun = [0; 16];
        stream.read_exact(&mut begun).unwrap();
        let answered = 50;
        for _ in 0..answered {
            assert_eq!(program.get("/v1/models").status, 200);
        }
        for signal in signals {
            program.signal(signal);
        }
        program.wait();
        let written = records(&file, |_| true);
        let count = |fits: &dyn Fn(&Value) -> bool| written.iter().filter(|it| fits(it)).count();
        let of = |it: &Value, event: &str, key: &str, value: &str| {
            it["event"] == event && it[key] == value
        };
        assert_eq!(
            count(&|it| of(it, "request", "endpoint", "/v1/models")),
            answered,
            "{signals:?}"
        );
        assert_eq!(
            count(&|it| of(it, "request", "endpoint", "/v1/chat/completions")),
            1,
            "{signals:?}: {written:?}"
        );
        assert_eq!(count(&|it| of(it, "link", "what", "up")), 1, "{written:?}");
        assert_eq!(count(&|it| of(it, "link", "what", "down")), 1, "{signals:?}: {written:?}");
        drop(stream);
    }
}

#[test]
fn strangers_do_not_erase_what_others_did() {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let mut command = Command::new(crate::program::program());
    command.arg("--config").arg(&config);
    command.env("MLP_AUDIT__MAX_BYTES", "8KiB");
    command.env("MLP_AUDIT__KEEP", "1");
    let mut program = Program::spawn(command, folder, config);
    let file = program.folder.0.join("audit.jsonl");
    let first = program.get("/v1/models");
    for number in 0..100 {
        let key = format!("wrong-{number}");
        let refused = program.request("GET", "/v1/models", Some(&key), "");
        assert_eq!(refused.status, 401);
        assert_eq!(program.request("GET", "/health", None, "").status, 200);
        assert_eq!(program.request("GET", "/nowhere", None, "").status, 404);
    }
    program.signal("TERM");
    assert!(program.wait().0.success());
    let [own, strangers] = audited(&file);
    assert!(own.contains(first.header("x-request-id").unwrap()), "{own}");
    let count = |event: &str, endpoint: &str| -> u64 {
        let records = strangers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let alike = records.filter(|it| it["event"] == event && it["endpoint"] == endpoint);
        alike.map(|it| it["count"].as_u64().unwrap()).sum()
    };
    assert_eq!(count("authentication_failed", "/v1/models"), 100);
    assert_eq!(count("request", "/health"), 100);
    assert_eq!(count("request", "unknown route"), 100);
    assert!(strangers.lines().count() < 150, "{strangers}");
}
