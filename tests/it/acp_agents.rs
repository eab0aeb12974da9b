//! Agents that the program starts itself, in front of clients: whatever the process does, every client gets its answer or its
//! error, the next request works, and nothing stays behind.

use crate::program::{Answer, CLIENT, Folder, OPERATOR, PATIENCE, Program};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// An agent that speaks the Agent Client Protocol and does what a word of the prompt says.
pub const AGENT: &str = r#"
[ -z "$ALIVE" ] || exec 9>"$ALIVE"
number=0
while read -r line; do
    id=${line#*'"id":'}; id=${id%%,*}
    case $line in
    *'"method":"initialize"'*)
        printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"agentCapabilities":{"mcpCapabilities":{"http":true},"sessionCapabilities":{"close":{}}}}}\n' "$id" ;;
    *'"method":"session/new"'*)
        number=$((number + 1))
        place=${line#*'"cwd":"'}; place=${place%%'"'*}; [ -d "$place" ] || place=missing
        eval "place$number=\$place"
        server=${line#*'"url":"'}; server=${server%%'"'*}; bearer=${line#*'Bearer '}; bearer=${bearer%%'"'*}
        printf '{"jsonrpc":"2.0","id":%s,"result":{"sessionId":"s%s"}}\n' "$id" "$number" ;;
    *'"method":"session/prompt"'*)
        session=${line#*'"sessionId":"'}; session=${session%%'"'*}
        say() {
            printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"%s","update":' "$session"
            printf '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"%s"}}}}\n' "$1"
        }
        case $line in
        *COMPLAIN*) echo 'I was asked for CANARY' >&2; say done ;;
        *EXIT*) exit 3 ;;
        *KILL*) kill -9 $$ ;;
        *BEGUN*) say begun; exit 4 ;;
        *HALF*) say half; printf '{"jsonrpc":"2.0","method":"session/up'; exit 0 ;;
        *CLOSE*) exec >&-; sleep 600 ;;
        *HANG*) sleep 600 ;;
        *FLOOD*) yes 'not a message' | head -n 100000; say done ;;
        *GARBAGE*) printf '\377\376 hello\n[1,2]\n{"method":"x/y","id":"z","jsonrpc":"2.0"}\n{"jsonrpc":"2.0","id":99,"result":{}}\n'; say done ;;
        *LONG*) say "$(head -c 1048576 /dev/zero | tr '\0' x)" ;;
        *PLACE*) eval "say \"$session \$place${session#s}\"" ;;
        *SERVER*) say "$server $bearer"; asked=$id; continue ;;
        *WHERE*) say "$PWD" ;;
        *PROXIES*) say "$NO_PROXY $no_proxy" ;;
        *ENVIRONMENT*) say "$MCP_LOCAL_PROVIDER_AGENT,$LOCAL_PROVIDER_KEY,$GIVEN" ;;
        *) say hello ;;
        esac
        printf '{"jsonrpc":"2.0","id":%s,"result":{"stopReason":"end_turn"}}\n' "$id" ;;
    *'"method":"session/cancel"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"stopReason":"cancelled"}}\n' "$asked" ;;
    *'"method":"session/close"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
    esac
done
"#;

fn start_with(command: &[&str], more: &str) -> Program {
    let agent = json!([{ "name": "mine", "command": command, "models": ["also-mine"], "env": { "GIVEN": "given" } }]);
    Program::start(&format!("agents: {agent}\n{more}"))
}

fn start() -> Program {
    let program = start_with(&["/bin/sh", "-c", AGENT], "");
    wait_for_model(&program);
    program
}

/// Until the agent has registered.
fn wait_for_model(program: &Program) {
    // Its name is offered from the start on, another name for its model too.
    let active = "mcp_local_provider_sessions{status=\"active\"} 1";
    while !program.get("/metrics").body.contains(active)
        || program.get("/v1/models/mine").status != 200
    {
        std::thread::yield_now();
    }
}

fn ask(program: &Program, word: &str) -> Answer {
    program.post("/v1/chat/completions", &question(word, false))
}

fn question(word: &str, stream: bool) -> Value {
    json!({ "model": "mine", "stream": stream, "messages": [{ "role": "user", "content": word }] })
}

fn content(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = &answer.json()["choices"][0]["message"]["content"];
    text.as_str().unwrap().to_string()
}

/// Reads an answer to `SERVER` on into `seen` until its text is there, without the scheme.
fn said_of_server(client: &mut impl Read, seen: &mut Vec<u8>) -> String {
    loop {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
        if let Some(text) = String::from_utf8_lossy(seen).split_once("\"content\":\"http://")
            && let Some((text, _)) = text.1.split_once('"')
        {
            return text.to_owned();
        }
    }
}

#[test]
fn an_agent_answers_under_its_names_and_sees_no_key() {
    let program = start();
    let mut also = question("ENVIRONMENT", false);
    also["model"] = json!("also-mine");
    let answer = program.post("/v1/chat/completions", &also);
    assert_eq!(content(&answer), "mine,,given");
    let answer = program.post("/v1/chat/completions", &question("x", true));
    assert_eq!(answer.text(), "hello");
}

#[test]
fn a_conversation_goes_on_in_its_session_for_the_key_that_began_it_alone() {
    let program = start();
    // The operator becomes a second client, while the first one stays who it is.
    let config = std::fs::read_to_string(&program.config).unwrap();
    std::fs::write(&program.config, config.replace("role: operator", "role: admin")).unwrap();
    program.signal("HUP");
    let asks = || program.request("POST", "/v1/chat/completions", Some(OPERATOR), "{}");
    while asks().status == 403 {}
    let user = |text: &str| json!({ "role": "user", "content": text });
    let ask = |key, messages: Value| {
        let body = json!({ "model": "mine", "messages": messages }).to_string();
        content(&program.request("POST", "/v1/chat/completions", Some(key), &body))
    };
    let told = ask(CLIENT, json!([user("PLACE")]));
    let (session, place) = told.split_once(' ').unwrap();
    assert!(std::path::Path::new(place).is_dir(), "{told}");
    let more = json!([user("PLACE"), { "role": "assistant", "content": told }, user("PLACE again")]);
    let other = ask(OPERATOR, more.clone());
    let (other_session, other_place) = other.split_once(' ').unwrap();
    assert!(std::path::Path::new(other_place).is_dir(), "{other}");
    assert!(session != other_session && place != other_place, "{told}, {other}");
    assert_eq!(ask(CLIENT, more), told);
}

#[test]
fn a_call_that_waits_for_a_key_that_is_removed_ends_at_once() {
    let program = start();
    let mut question = question("SERVER", true);
    question["tools"] = json!([{ "type": "function", "function": { "name": "now" } }]);
    let body = question.to_string();
    let mut client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let mut seen = Vec::new();
    let text = said_of_server(&mut client, &mut seen);
    let (place, bearer) = text.split_once(' ').unwrap();
    let path = &place[place.find('/').unwrap()..];
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "now" } });
    let mut tool = program.open("POST", path, Some(bearer), &call.to_string());
    client.read_to_end(&mut seen).unwrap();
    let answer = Answer::parse(&seen);
    assert!(answer.body.contains("tool_calls"), "{}", answer.body);

    let config = std::fs::read_to_string(&program.config).unwrap();
    std::fs::write(&program.config, config.replace(CLIENT, "another-client-key")).unwrap();
    program.signal("HUP");
    // Signs of life come meanwhile, so the end of patience is not the socket's.
    let until = Instant::now() + PATIENCE;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = tool.read(&mut piece) {
        bytes.extend_from_slice(&piece[..read]);
        assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&bytes));
    }
    let answer = Answer::parse(&bytes);
    assert!(answer.body.contains("the caller is gone"), "{}", answer.body);
}

/// A program that asks without a key is one caller, before and after the keys of others have changed.
#[test]
fn a_call_of_a_program_without_a_key_gets_its_result_from_such_a_program() {
    let mut program = start_with(&["/bin/sh", "-c", AGENT], "");
    let text = std::fs::read_to_string(&program.config).unwrap();
    let listen = "listen: { ollama: \"127.0.0.1:0\", ";
    std::fs::write(&program.config, text.replacen("listen: { ", listen, 1)).unwrap();
    let folder = std::mem::replace(&mut program.folder, Folder::new());
    let config = program.config.clone();
    drop(program);
    let mut command = Command::new(crate::program::program());
    command.arg("--config").arg(&config);
    let program = Program::spawn(command, folder, config);
    wait_for_model(&program);
    let open = |question: &Value| {
        let body = question.to_string();
        let mut stream = Program::connect_to(program.last);
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer noop\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream
    };
    let mut question = question("SERVER", true);
    question["tools"] = json!([{ "type": "function", "function": { "name": "now" } }]);
    let mut client = open(&question);
    let mut seen = Vec::new();
    let text = said_of_server(&mut client, &mut seen);
    let (place, bearer) = text.split_once(' ').unwrap();
    let path = &place[place.find('/').unwrap()..];
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "now" } });
    let mut tool = program.open("POST", path, Some(bearer), &call.to_string());
    client.read_to_end(&mut seen).unwrap();
    let answer = Answer::parse(&seen);
    let events = answer.events();
    let mut calls = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0]["id"]);
    let id = calls.find_map(Value::as_str).unwrap();

    let config = std::fs::read_to_string(&program.config).unwrap();
    std::fs::write(&program.config, config.replace(CLIENT, "another-client-key")).unwrap();
    program.signal("HUP");
    while program.get("/v1/models").status != 401 {
        std::thread::yield_now();
    }
    let messages = question["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": format!("http://{text}"), "tool_calls": [{ "id": id, "type": "function", "function": { "name": "now", "arguments": "{}" } }] }));
    messages.push(json!({ "role": "tool", "tool_call_id": id, "content": "twelve o'clock" }));
    let _client = open(&question);
    let mut bytes = Vec::new();
    tool.read_to_end(&mut bytes).unwrap();
    let answer = Answer::parse(&bytes);
    assert!(answer.body.contains("twelve o'clock"), "{}", answer.body);
}

#[test]
fn an_agent_registers_again_whenever_it_has_no_session() {
    let more = "sessions: { max: 1, max_requests: 1 }\n";
    let program = start_with(&["/bin/sh", "-c", AGENT], more);
    wait_for_model(&program);
    let ask_until_answered = || {
        let mut answer = ask(&program, "x");
        while answer.status != 200 {
            assert_eq!(answer.status, 503, "{}", answer.body);
            // It gives its session back before it registers again.
            let why = ["requests used up", "was revoked"];
            assert!(why.iter().any(|why| answer.body.contains(why)), "{}", answer.body);
            answer = ask(&program, "x");
        }
        assert_eq!(content(&answer), "hello");
    };
    for _ in 0..3 {
        // The one session that there may be is used up each time.
        ask_until_answered();
    }
    wait_for_model(&program);

    // What an operator has ended is the operator's to allow again.
    let control = |action: &str| {
        let sessions = program.request("GET", "/control/sessions", Some(OPERATOR), "").json();
        let live = |session: &&Value| matches!(session["status"].as_str(), Some("active" | "pending"));
        let session = sessions["sessions"].as_array().unwrap().iter().find(live).unwrap();
        let body = json!({ "session_id": session["session_id"] }).to_string();
        let path = format!("/control/{action}");
        assert_eq!(program.request("POST", &path, Some(OPERATOR), &body).status, 200);
    };
    let part = || {
        let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
        health.json()["components"]["agent:mine"].clone()
    };
    control("revoke");
    while !part()["message"].to_string().contains("waits for approval") {}
    assert_eq!(part()["status"], "degraded", "{}", part());
    let refused = ask(&program, "x");
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("waits for approval"), "{}", refused.body);
    control("approve");
    ask_until_answered();
    wait_for_model(&program);
    while part()["status"] != "healthy" {}
}

#[test]
fn an_agent_reaches_its_callers_tools_past_every_proxy() {
    let program = start();
    let lists = content(&ask(&program, "PROXIES"));
    let lists: Vec<&str> = lists.split(' ').collect();
    for list in &lists {
        let hosts: Vec<&str> = list.split(',').collect();
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(hosts.contains(&host), "{lists:?}");
        }
    }
}

#[test]
fn a_process_that_ends_fails_its_clients_and_the_next_one_answers() {
    let program = start();
    for (word, why) in [
        ("EXIT", "exit code 3"),
        ("KILL", "signal 9"),
        ("HALF", "exit code 0"),
        ("CLOSE", "closed its standard output"),
    ] {
        let answer = ask(&program, word);
        assert_eq!(answer.status, 502, "{word}: {}", answer.body);
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(why), "{word}: {message}");
        assert_eq!(content(&ask(&program, "x")), "hello", "after {word}");
    }
    // A stream that has begun ends with an error.
    let answer = program.post("/v1/chat/completions", &question("BEGUN", true));
    assert_eq!(answer.text(), "begun");
    assert!(answer.body.contains("exit code 4"), "{}", answer.body);
    assert!(!answer.body.contains("[DONE]"), "{}", answer.body);
}

#[test]
fn health_and_metrics_tell_how_the_process_does_and_how_often_it_was_started() {
    let program = start();
    let part = || {
        let health = program.request("GET", "/health/deep", Some(crate::program::OPERATOR), "");
        health.json()["components"]["agent:mine"].clone()
    };
    assert_eq!(part()["status"], "healthy", "{}", part());
    assert_eq!(ask(&program, "EXIT").status, 502);
    assert_eq!(content(&ask(&program, "x")), "hello");
    assert_eq!((&part()["status"], &part()["error_count"]), (&json!("healthy"), &json!(1)));
    let metrics = program.get("/metrics").body;
    for line in [
        "mcp_local_provider_agent_running{agent=\"mine\"} 1",
        "mcp_local_provider_agent_starts_total{agent=\"mine\"} 2",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
}

#[test]
fn an_agent_keeps_no_more_sessions_than_it_may_and_says_so() {
    let agent = json!([{
        "name": "mine", "command": ["/bin/sh", "-c", AGENT], "sessions": { "keep": 3, "idle": "1h", "memory": "1GiB" },
    }]);
    let program = Program::start(&format!("agents: {agent}\n"));
    wait_for_model(&program);
    // Conversations that go on, because those of one request are kept for some seconds only.
    let places: Vec<PathBuf> = (0..5)
        .map(|number| {
            let mut question = question(&format!("PLACE {number}"), false);
            let messages = question["messages"].as_array_mut().unwrap();
            messages.insert(0, json!({ "role": "assistant", "content": "yes" }));
            messages.insert(0, json!({ "role": "user", "content": "there?" }));
            let told = content(&program.post("/v1/chat/completions", &question));
            told.split_once(' ').unwrap().1.into()
        })
        .collect();
    let details = || {
        let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
        health.json()["components"]["agent:mine"]["details"].clone()
    };
    // The two latest conversations and the empty session.
    let sessions = json!({ "running": 0, "kept": 3, "keep": 3, "idle_seconds": 3600.0 });
    while details()["sessions"] != sessions {}
    assert_eq!(details()["memory"]["limit_bytes"], 1 << 30);
    while places[..3].iter().any(|place| place.exists()) {}
    assert!(places[3..].iter().all(|place| place.exists()), "{places:?}");
    if cfg!(target_os = "linux") {
        while details()["memory"]["pss_bytes"].is_null() {}
        assert!(details()["memory"]["pss_bytes"].as_u64() > Some(0), "{}", details());
        assert!(details()["processes"].as_u64() > Some(0), "{}", details());
    }
    let metrics = program.get("/metrics").body;
    for line in [
        "mcp_local_provider_agent_sessions{agent=\"mine\",state=\"kept\"} 3",
        "mcp_local_provider_agent_sessions_keep{agent=\"mine\"} 3",
        "mcp_local_provider_agent_memory_limit_bytes{agent=\"mine\"} 1073741824",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
}

#[test]
fn noise_and_long_lines_change_no_answer() {
    let program = start();
    assert_eq!(content(&ask(&program, "FLOOD")), "done");
    assert_eq!(content(&ask(&program, "GARBAGE")), "done");
    assert_eq!(content(&ask(&program, "LONG")).len(), 1 << 20);
}

#[test]
fn a_process_that_hangs_is_started_anew() {
    let program = start_with(
        &["/bin/sh", "-c", AGENT],
        "timeouts: { first_chunk: 200ms, idle: 200ms }\n",
    );
    wait_for_model(&program);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ask(&program, "HANG")))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for answer in answers {
        assert_eq!(answer.status, 504, "{}", answer.body);
    }
    while ask(&program, "x").status != 200 {
        std::thread::yield_now();
    }
}

#[test]
fn clients_hear_why_an_agent_cannot_start() {
    for (command, why) in [
        (&["/not/there"][..], "`/not/there` is not there"),
        (
            &["/bin/sh", "-c", "echo begun >&2; echo 'Error: not logged in' >&2; echo '}' >&2; exit 7"],
            "exit code 7; its last words: Error: not logged in | begun | }",
        ),
    ] {
        let program = start_with(command, "");
        wait_for_model(&program);
        let answer = ask(&program, "x");
        assert_eq!(answer.status, 502, "{}", answer.body);
        assert!(answer.body.contains(why), "{}", answer.body);
    }
}

#[test]
fn an_agent_that_would_ask_itself_is_refused() {
    // By its environment: the address is known once the program listens, so a port is taken that will be free.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let agent = json!([{
        "name": "mine", "command": ["/bin/sh", "-c", AGENT],
        "env": { "OPENAI_BASE_URL": format!("http://localhost:{port}/v1") },
    }]);
    let listen = format!("127.0.0.1:{port}");
    let program = Program::start_with(&format!("agents: {agent}\n"), &["--listen", &listen]);
    wait_for_model(&program);
    let answer = ask(&program, "x");
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.body.contains("OPENAI_BASE_URL names this program"), "{}", answer.body);
    // By its mark: a program that an agent started starts no agents.
    let nested = Command::new(crate::program::program())
        .args(["--agent", "/bin/true", "--listen", "127.0.0.1:0"])
        .current_dir(&program.folder.0)
        .env("HOME", &program.folder.0)
        .env("MCP_LOCAL_PROVIDER_AGENT", "outer")
        .output()
        .unwrap();
    assert_eq!(nested.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nested.stderr).into_owned();
    assert!(said.contains("was started by `outer`"), "{said}");
}

#[test]
fn nothing_is_left_of_an_agent_however_the_program_ends() {
    for signal in ["KILL", "TERM"] {
        let folder = crate::program::Folder::new();
        let alive = folder.0.join("alive");
        let made = Command::new("mkfifo").arg(&alive).status().unwrap();
        assert!(made.success());
        let script = format!("ALIVE='{}'\ntrap '' TERM HUP INT\n{AGENT}", alive.display());
        let mut program = start_with(&["/bin/sh", "-c", &script], "");
        // It stays open as long as the agent or a child of it lives.
        let mut alive = File::open(&alive).unwrap();
        wait_for_model(&program);
        let directory = PathBuf::from(content(&ask(&program, "WHERE")));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "it is empty");
        program.signal(signal);
        assert_eq!(alive.read(&mut [0]).unwrap(), 0);
        program.wait();
        let private = directory.parent().unwrap();
        while private.exists() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn an_agent_that_ignores_the_end_of_its_input_can_clean_up_at_sigterm() {
    let folder = Folder::new();
    let alive = folder.0.join("alive");
    let made = Command::new("mkfifo").arg(&alive).status().unwrap();
    assert!(made.success());
    let script = format!(
        "ALIVE='{}'\ntrap 'echo cleaned >&9; exit 0' TERM\n{AGENT}\necho ended >&9\nsleep 600 & wait",
        alive.display()
    );
    let mut program = start_with(&["/bin/sh", "-c", &script], "");
    let mut alive = File::open(&alive).unwrap();
    wait_for_model(&program);
    program.signal("TERM");
    let mut said = String::new();
    alive.read_to_string(&mut said).unwrap();
    assert_eq!(said, "ended\ncleaned\n");
    program.wait();
}

#[test]
fn an_agent_that_harms_its_supervisor_holds_up_no_shutdown_and_leaves_nothing() {
    for (harm, signal) in [("STOP", "TERM"), ("STOP", "KILL"), ("KILL", "TERM")] {
        let folder = Folder::new();
        let alive = folder.0.join("alive");
        let made = Command::new("mkfifo").arg(&alive).status().unwrap();
        assert!(made.success());
        let script = format!(
            "exec 9>'{}'\ntrap '' TERM HUP INT\nsetsid sleep 600 &\nkill -{harm} $PPID\n{AGENT}",
            alive.display()
        );
        let mut program = start_with(&["/bin/sh", "-c", &script], "");
        // It is open once the agent runs, and for as long as the agent or a child of it lives.
        let mut alive = File::open(&alive).unwrap();
        if harm == "STOP" {
            wait_for_model(&program);
        }
        let begun = Instant::now();
        program.signal(signal);
        program.wait();
        assert!(begun.elapsed() < PATIENCE / 2, "it took {:?}", begun.elapsed());
        assert_eq!(alive.read(&mut [0]).unwrap(), 0, "{harm}");
    }
}

#[test]
fn what_an_agent_complains_about_is_told_to_operators_and_to_no_log() {
    let program = start_with(&["/bin/sh", "-c", AGENT], "log: { level: trace }\n");
    wait_for_model(&program);
    assert_eq!(content(&ask(&program, "COMPLAIN")), "done");
    let begun = Instant::now();
    loop {
        let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
        let details = &health.json()["components"]["agent:mine"]["details"];
        if details["stderr"][0] == "I was asked for CANARY" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", health.body);
        std::thread::yield_now();
    }
    let address = program.address.to_string();
    let doctor = program.command(&["doctor", "--listen", &address]);
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains("wrote: I was asked for CANARY"), "{told}");
    assert!(!program.log().contains("CANARY"), "{}", program.log());
}

#[test]
fn a_start_that_fails_at_once_is_tried_again_after_a_pause() {
    let folder = Folder::new();
    let command = folder.0.join("agent");
    let program = start_with(&[command.to_str().unwrap()], "");
    let begun = Instant::now();
    // The first one is tried again at once, the second one after a pause.
    while program.log().matches("the agent ended").count() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", program.log());
        std::thread::yield_now();
    }
    let script = folder.0.join("script");
    std::fs::write(&script, format!("#!/bin/sh\n{AGENT}")).unwrap();
    let runs = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&script, runs).unwrap();
    std::fs::rename(&script, &command).unwrap();
    // Nobody asks for it, which would start it.
    let there = Instant::now();
    loop {
        let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
        if health.json()["components"]["agent:mine"]["status"] == "healthy" {
            break;
        }
        assert!(there.elapsed() < PATIENCE, "{}", program.log());
        std::thread::yield_now();
    }
    assert_eq!(content(&ask(&program, "x")), "hello");
}
