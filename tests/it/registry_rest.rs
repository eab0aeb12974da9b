//! The registry over REST: entries that stay, runs of tools, resources, prompts, and who may do what.

use crate::agent::Agent;
use crate::child_process::ends;
use crate::gateway::client::{server, until};
use crate::program::{Answer, CLIENT, Folder, Program, program, write_config};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

pub const ADMIN: &str = "admin-key-for-tests";
pub const NARROW: &str = "narrow-key-for-tests";
pub const OTHER: &str = "other-registry-key-for-tests";
pub const USER: &str = "registry-key-for-tests";

/// Starts the program over what a folder holds.
pub fn start_in(folder: Folder, registry: &str, more: &str) -> Program {
    let extra = format!("registry: {{ {registry} }}\n{more}");
    let config = write_config(&folder.0, "127.0.0.1:0", &extra);
    let keys = format!(
        "  keys:\n    - {{ name: owner, key: \"{ADMIN}\", role: admin }}\n    - {{ name: user, key: \"{USER}\", role: client, allow: [models, mcp, registry] }}\n    - {{ name: other, key: \"{OTHER}\", role: client, allow: [models, registry], models: [m] }}\n    - {{ name: narrow, key: \"{NARROW}\", role: client, models: [integration/helper] }}\n"
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("  keys:\n", &keys)).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

pub fn start(registry: &str) -> Program {
    start_in(Folder::new(), registry, "")
}

pub fn register(program: &Program, path: &str, body: &Value) -> Answer {
    program.request("POST", path, Some(ADMIN), &body.to_string())
}

/// Registers what is expected to be taken.
pub fn made(program: &Program, path: &str, body: &Value) {
    let answer = register(program, path, body);
    assert_eq!(answer.status, 201, "{answer:?}");
}

pub fn ask(program: &Program, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    program.request(method, path, Some(USER), &body)
}

pub fn execute(program: &Program, tool: &str, arguments: &Value) -> Answer {
    let body = json!({ "arguments": arguments });
    ask(program, "POST", &format!("/tools/{tool}/execute"), &body)
}

pub fn assert_refused(answer: &Answer, status: u16, code: Option<&str>, param: Option<&str>) {
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"], &error["param"]), (status, &json!(code), &json!(param)), "{answer:?}");
}

fn date() -> Value {
    json!({ "name": "say", "kind": "command", "command": ["/bin/echo", "{{ args.text }}"],
        "input_schema": { "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] } })
}

#[test]
fn entries_are_made_shown_replaced_and_deleted() {
    let program = start("commands: [/bin/echo]");
    let answer = register(&program, "/tools", &date());
    assert_eq!((answer.status, answer.header("location")), (201, Some("/tools/say")));
    assert_refused(&register(&program, "/registry/tools", &date()), 409, Some("conflict"), Some("name"));
    let shown = ask(&program, "GET", "/tools/say", &Value::Null);
    assert_eq!((shown.status, &shown.json()["kind"]), (200, &json!("command")));
    let listed = ask(&program, "GET", "/v1/tools?limit=1", &Value::Null).json();
    assert_eq!((&listed["tools"][0]["name"], &listed["total_count"]), (&json!("say"), &json!(1)));
    let mut other = date();
    other["description"] = json!("Says it.");
    let replaced = program.request("PUT", "/tools/say", Some(ADMIN), &other.to_string());
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_eq!(ask(&program, "GET", "/tools/say", &Value::Null).json()["description"], "Says it.");
    let deleted = program.request("DELETE", "/tools/say", Some(ADMIN), "");
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "name": "say", "status": "deleted" })));
    assert_refused(&ask(&program, "GET", "/tools/say", &Value::Null), 404, Some("tool_not_found"), None);
    // All of an array, or none.
    let two = json!([date(), { "name": "bad name", "kind": "command", "command": ["/bin/echo"] }]);
    assert_refused(&register(&program, "/tools", &two), 400, None, Some("[1].name"));
    assert_eq!(ask(&program, "GET", "/tools", &Value::Null).json()["total_count"], 0);
}

#[test]
fn changes_are_the_admins_and_reading_wants_the_registry_in_the_key() {
    let program = start("commands: [/bin/echo]");
    let denied = program.request("POST", "/tools", Some(USER), &date().to_string());
    assert_eq!(denied.status, 403, "{denied:?}");
    let denied = program.request("GET", "/tools", Some(CLIENT), "");
    assert_refused(&denied, 403, Some("scope_denied"), None);
    assert_eq!(program.request("GET", "/tools", None, "").status, 401);
    assert_eq!(ask(&program, "GET", "/tools", &Value::Null).status, 200);
}

#[test]
fn a_registry_that_is_off_says_so() {
    let program = start("enabled: false");
    let answer = ask(&program, "GET", "/tools", &Value::Null);
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("registry: { enabled: true }"), "{answer:?}");
}

#[test]
fn what_the_configuration_does_not_list_is_not_registered() {
    let program = start("enabled: true");
    let answer = register(&program, "/tools", &date());
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("registry.commands"), "{answer:?}");
    let http = json!({ "name": "far", "kind": "http", "method": "GET", "url": "http://127.0.0.1:1/" });
    let answer = register(&program, "/tools", &http);
    assert!(answer.status == 400 && answer.body.contains("registry.http"), "{answer:?}");
    let file = json!({ "uri": "file:///etc/passwd", "name": "p", "kind": "file", "path": "/etc/passwd" });
    let answer = register(&program, "/resources", &file);
    assert!(answer.status == 400 && answer.body.contains("registry.files"), "{answer:?}");
}

#[test]
fn tools_run_alone_in_chains_and_side_by_side() {
    let program = start("commands: [/bin/echo, /bin/false]");
    made(&program, "/tools", &date());
    let answer = execute(&program, "say", &json!({ "text": "a b; $(id)" }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["content"][0]["text"], "a b; $(id)\n");
    assert_eq!(answer.json()["is_error"], false);
    let wrong = execute(&program, "say", &json!({ "text": 7 }));
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (400, &json!("invalid_arguments")));
    assert_eq!(wrong.json()["error"]["errors"][0]["path"], "/text", "{wrong:?}");
    made(&program, "/tools", &json!([
        { "name": "fail", "kind": "command", "command": ["/bin/false"] },
        { "name": "twice", "kind": "chain", "steps": [
            { "id": "one", "tool": "say", "arguments": { "text": "{{ args.text }}" } },
            { "id": "off", "tool": "fail", "if": "false" },
            { "id": "bad", "tool": "fail", "on_error": "continue" },
            { "id": "two", "tool": "say", "arguments": { "text": "again: {{ steps.one.text }}" } },
        ] },
        { "name": "both", "kind": "parallel", "branches": [
            { "id": "a", "tool": "say", "arguments": { "text": "1" } },
            { "id": "b", "tool": "say", "arguments": { "text": "2" } },
        ] },
    ]));
    let chain = execute(&program, "twice", &json!({ "text": "x" })).json();
    let states: Vec<&str> = chain["steps"].as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["ok", "skipped", "error", "ok"], "{chain}");
    assert!(chain["content"][0]["text"].as_str().unwrap().starts_with("again: x"), "{chain}");
    let both = execute(&program, "both", &json!({})).json();
    let texts: Vec<&str> = both["content"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["1\n", "2\n"]);
    let failed = execute(&program, "fail", &json!({}));
    assert_eq!((failed.status, &failed.json()["is_error"]), (200, &json!(true)));
}

#[test]
fn what_was_acknowledged_is_there_after_the_program_was_killed() {
    let mut program = start("commands: [/bin/echo]");
    made(&program, "/tools", &date());
    made(&program, "/prompts", &json!({ "name": "hi", "template": "Hello {{ who }}", "arguments": [{ "name": "who" }] }));
    program.signal("KILL");
    program.wait();
    let folder = Folder::new();
    std::fs::remove_dir_all(folder.0.join("data")).ok();
    let from = program.folder.0.join("data");
    std::fs::create_dir_all(folder.0.join("data")).unwrap();
    for name in ["registry.redb", "secret.key"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), folder.0.join("data").join(name)).unwrap();
        }
    }
    // `auto`: something is stored.
    let again = start_in(folder, "commands: [/bin/echo]", "");
    assert_eq!(execute(&again, "say", &json!({ "text": "still" })).json()["content"][0]["text"], "still\n");
    assert_eq!(ask(&again, "GET", "/prompts", &Value::Null).json()["total_count"], 1);
}

/// A server that counts its requests, and answers each with its head.
fn echo_server(listener: TcpListener) {
    thread::spawn(move || {
        for (count, stream) in (1..).zip(listener.incoming()) {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let line = head.lines().next().unwrap();
            let body = format!("{count} {line}");
            let response = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"v1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(response.as_bytes()).unwrap();
        }
    });
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_listed_server_is_asked_and_its_answers_are_kept() {
    let (listener, address) = listening();
    echo_server(listener);
    let program = start(&format!("http: [\"{address}\"]"));
    made(&program, "/tools", &json!({ "name": "far", "kind": "http", "method": "POST", "url": format!("http://{address}/a/{{{{ args.id }}}}"), "query": { "q": "{{ args.q }}" }, "body": "{{ args.q }}" }));
    let answer = execute(&program, "far", &json!({ "id": "1 2", "q": "x y" })).json();
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("1 POST /a/1%202?q=x"), "{answer}");
    made(&program, "/resources", &json!({ "uri": "far://r", "name": "r", "kind": "http", "url": format!("http://{address}/r") }));
    let first = ask(&program, "GET", "/resources/far%3A%2F%2Fr", &Value::Null);
    assert_eq!((first.status, &first.json()["text"], &first.json()["cached"]), (200, &json!("2 GET /r HTTP/1.1"), &json!(false)));
    let etag = first.header("etag").unwrap().to_owned();
    let second = ask(&program, "GET", "/resources/far%3A%2F%2Fr", &Value::Null).json();
    assert_eq!((&second["text"], &second["cached"]), (&json!("2 GET /r HTTP/1.1"), &json!(true)));
    let mut stream = program.raw(&format!(
        "GET /resources/far%3A%2F%2Fr HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {USER}\r\nIf-None-Match: {etag}\r\nConnection: close\r\n\r\n"
    ));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let unchanged = Answer::parse(&bytes);
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
}

#[test]
fn files_below_listed_folders_are_read() {
    let folder = Folder::new();
    let files = folder.0.join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("a.txt"), "für dich").unwrap();
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
    let (listed, inside) = (path(""), path("a.txt"));
    let program = start_in(folder, &format!("files: [{listed:?}]"), "");
    made(&program, "/resources", &json!({ "uri": "file:///a.txt", "name": "a", "kind": "file", "path": inside }));
    let read = ask(&program, "GET", "/resources/file%3A%2F%2F%2Fa.txt", &Value::Null);
    assert_eq!((read.status, &read.json()["text"]), (200, &json!("für dich")), "{read:?}");
    // A link that leads out, put there after the registration.
    std::fs::remove_file(Path::new(&inside)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &inside).unwrap();
    made(&program, "/resources", &json!({ "uri": "file:///b.txt", "name": "b", "kind": "file", "path": inside }));
    let read = ask(&program, "GET", "/resources/file%3A%2F%2F%2Fb.txt", &Value::Null);
    assert!(read.status >= 400 && !read.body.contains("root:"), "{read:?}");
}

#[test]
fn prompts_are_made_of_their_arguments_and_resources() {
    let program = start("enabled: true");
    made(&program, "/resources", &json!({ "uri": "note://1", "name": "n", "kind": "text", "text": "the note" }));
    made(&program, "/prompts", &json!({ "name": "greet", "arguments": [
        { "name": "who", "required": true }, { "name": "mood", "type": "enum", "values": ["glad", "sad"], "default": "glad" }
    ], "messages": [{ "role": "user", "content": "Hello {{ who }}, {{ mood }}" }] }));
    let body = json!({ "arguments": { "who": "you" }, "resources": ["note://1"] });
    let made_of = ask(&program, "POST", "/prompts/greet/generate", &body);
    assert_eq!(made_of.status, 200, "{made_of:?}");
    assert!(made_of.body.contains("Hello you, glad") && made_of.body.contains("the note"), "{made_of:?}");
    let missing = ask(&program, "POST", "/prompts/greet/generate", &json!({}));
    assert_refused(&missing, 400, None, Some("arguments.who"));
    let completed = ask(&program, "POST", "/prompts/greet/complete", &json!({ "argument": { "name": "mood", "value": "s" } }));
    assert_eq!(completed.json()["values"], json!(["sad"]), "{completed:?}");
}

#[test]
fn a_prompt_tool_asks_a_model_and_a_gateway_tool_asks_a_server() {
    let servers = format!("mcpServers:\n{}", server("suite", ""));
    let program = start_in(Folder::new(), "enabled: true", &servers);
    made(&program, "/tools", &json!([
        { "name": "think", "kind": "prompt", "model": "test-model", "prompt": "Say {{ args.word }}" },
        { "name": "call", "kind": "gateway", "server": "suite", "tool": "echo", "arguments": { "text": "{{ args.word }}" } },
        { "name": "gone", "kind": "gateway", "server": "nowhere", "tool": "echo" },
    ]));
    let mut agent = Agent::connect_as(&program, json!({ "agent_id": "a", "models": ["test-model"] }));
    let answered = thread::scope(|scope| {
        let asked = scope.spawn(|| execute(&program, "think", &json!({ "word": "hello" })));
        let (id, payload) = agent.invocation();
        assert!(payload.to_string().contains("Say hello"), "{payload}");
        agent.chunk(&id, 0, "hello back");
        agent.finish(&id, 1);
        asked.join().unwrap()
    });
    assert_eq!(answered.json()["content"][0]["text"], "hello back", "{answered:?}");
    let called = execute(&program, "call", &json!({ "word": "für dich" }));
    assert_eq!(called.json()["content"][0]["text"], "für dich", "{called:?}");
    let gone = execute(&program, "gone", &json!({}));
    assert_eq!((gone.status, &gone.json()["is_error"]), (200, &json!(true)), "{gone:?}");
}

#[test]
fn a_caller_that_leaves_ends_what_it_started() {
    let folder = Folder::new();
    let mark = folder.0.join("pid");
    let program = start_in(folder, "commands: [/bin/sh]", "");
    let script = format!("echo $$ > {}; exec sleep 600", mark.display());
    made(&program, "/tools", &json!({ "name": "long", "kind": "command", "command": ["/bin/sh", "-c", script] }));
    let stream = program.open("POST", "/tools/long/execute", Some(USER), "{}");
    let pid = until(|| std::fs::read_to_string(&mark).ok().filter(|pid| pid.ends_with('\n')));
    drop(stream);
    assert!(ends(pid.trim()), "the command runs on");
    // One that takes too long ends in the same way.
    std::fs::remove_file(&mark).unwrap();
    let late = ask(&program, "POST", "/tools/long/execute", &json!({ "timeout": "300ms" }));
    assert_refused(&late, 504, Some("timeout"), None);
    let pid = until(|| std::fs::read_to_string(&mark).ok().filter(|pid| pid.ends_with('\n')));
    assert!(ends(pid.trim()), "the command runs on");
}

#[test]
fn runs_beyond_the_most_wait_for_others_and_more_are_refused() {
    let folder = Folder::new();
    let (first, second) = (folder.0.join("first"), folder.0.join("second"));
    for pipe in [&first, &second] {
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe, 0o600.into()).unwrap();
    }
    let program = start_in(folder, "commands: [/bin/cat], executions: 1", "limits: { queue: { length: 1, wait: 60s } }\n");
    for (name, pipe) in [("one", &first), ("two", &second)] {
        made(&program, "/tools", &json!({ "name": name, "kind": "command", "command": ["/bin/cat", pipe] }));
    }
    let says = |answer: &Answer, text: &str| {
        assert_eq!((answer.status, &answer.json()["content"][0]["text"]), (200, &json!(text)), "{answer:?}");
    };
    let none = json!({});
    thread::scope(|threads| {
        let running = threads.spawn(|| execute(&program, "one", &none));
        // It opens when the command has opened the other end.
        let open = |pipe| std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        let mut to_first = open(&first);
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let tell = tell.clone();
            let (program, none) = (&program, &none);
            threads.spawn(move || tell.send(execute(program, "two", none)));
        }
        let refused = told.recv().unwrap();
        assert_refused(&refused, 503, Some("overloaded"), None);
        assert_eq!(refused.header("retry-after"), Some("1"));
        to_first.write_all(b"A").unwrap();
        drop(to_first);
        says(&running.join().unwrap(), "A");
        open(&second).write_all(b"B").unwrap();
        says(&told.recv().unwrap(), "B");
    });
}
