//! Agents that the library serves, and commands that `mcp-local-agent` turns into agents.

use crate::agent::Agent as ByHand;
use crate::child_process::ends;
use crate::program::{BRIDGE, CLIENT, PATIENCE, Program, build};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;

/// Folder with the programs of the package.
fn built() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let [one, other] = EXAMPLES;
        build(&["--bin", "mcp-local-agent", "--example", one, "--example", other])
    })
}

const EXAMPLES: [&str; 2] = ["parrot", "parrot_smol"];

/// A running agent. It is killed when the test ends.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        let command = command.env("PROVIDER_TOKEN", BRIDGE).stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    fn example(name: &str, url: &str) -> Self {
        let mut command = Command::new(built().join("examples").join(name));
        command.env("PROVIDER_URL", url);
        Self::spawn(command)
    }

    /// A shell script as an agent for the model `m`, once it has a session.
    fn script(program: &Program, options: &[&str], script: &str) -> Self {
        let mut agent = Self::spawn(command(program, options, script));
        assert!(agent.line().contains(" is active"));
        agent
    }

    /// The next line that it tells the person.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    fn wait(&mut self) -> (Option<i32>, String) {
        let mut told = String::new();
        self.stderr.read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap().code(), told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn url(program: &Program) -> String {
    format!("ws://{}/agent", program.agents)
}

fn command(program: &Program, options: &[&str], script: &str) -> Command {
    let mut command = Command::new(built().join("mcp-local-agent"));
    command
        .args(["--url", &url(program), "--model", "m"])
        .args(["--token", "env:PROVIDER_TOKEN"])
        .args(options)
        .args(["--", "/bin/sh", "-c", script]);
    command
}

fn chat(model: &str, prompt: &str, stream: bool) -> Value {
    json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": prompt }] })
}

fn ask(program: &Program, body: &Value) -> crate::program::Answer {
    program.post("/v1/chat/completions", body)
}

/// Waits until a session answers for the model.
fn until_there(program: &Program, model: &str) {
    let patience = std::time::Instant::now() + PATIENCE;
    while !program.get("/v1/models").body.contains(model) {
        assert!(std::time::Instant::now() < patience, "no model {model}");
        std::thread::yield_now();
    }
}

#[test]
fn the_agents_of_ten_lines_answer() {
    let program = Program::start("");
    for name in EXAMPLES {
        let mut agent = Running::example(name, &url(&program));
        until_there(&program, "parrot");
        let whole = ask(&program, &chat("parrot", "one two é🦀", false)).json();
        let choice = &whole["choices"][0];
        assert_eq!(choice["message"]["content"], "one two é🦀", "{whole}");
        assert_eq!(choice["finish_reason"], "stop");
        let long = "word ".repeat(100_000);
        let streamed = ask(&program, &chat("parrot", &long, true));
        assert_eq!(streamed.text(), long);
        agent.child.kill().unwrap();
        agent.wait();
        let sessions = || program.get("/v1/models").body.contains("parrot");
        while sessions() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_session_goes_on_over_another_connection() {
    for name in EXAMPLES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/agent", listener.local_addr().unwrap());
        let _agent = Running::example(name, &url);
        let (mut provider, authorization) = accept(&listener);
        assert_eq!(authorization, format!("Bearer {BRIDGE}"));
        let register = provider.receive();
        assert_eq!(register["type"], "register");
        assert_eq!(register["models"], json!(["parrot"]));
        provider.send(&json!({"type": "registered", "session_id": "s", "session_token": "st", "status": "active"}));
        provider.send(&json!({"type": "model_invoke", "id": "a", "payload": {"messages": [{"role": "user", "content": "x"}]}}));
        let chunk = provider.receive();
        assert_eq!((&chunk["id"], &chunk["delta"]["content"]), (&json!("a"), &json!("x")));
        drop(provider);
        let (mut provider, authorization) = accept(&listener);
        assert_eq!(authorization, "Bearer st");
        // A flat one, as a first message: it has not registered again.
        provider.send(&json!({"type": "model_invoke", "id": "b", "model": "parrot", "prompt": "y"}));
        let chunk = provider.receive();
        assert_eq!((&chunk["id"], &chunk["chunk_index"]), (&json!("b"), &json!(0)));
        assert_eq!(provider.receive()["finish_reason"], "stop");
    }
}

/// Takes the next connection of an agent, with its authorization.
fn accept(listener: &TcpListener) -> (ByHand, String) {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut authorization = String::new();
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let agree = |request: &tungstenite::handshake::server::Request,
                 response: tungstenite::handshake::server::Response| {
        authorization = request.headers()["authorization"].to_str().unwrap().into();
        Ok(response)
    };
    let socket = tungstenite::accept_hdr(stream, agree).unwrap();
    let agent = ByHand {
        socket,
        session: String::new(),
        token: String::new(),
    };
    (agent, authorization)
}

#[test]
fn a_command_answers_with_what_it_prints() {
    let program = Program::start("");
    let _agent = Running::script(&program, &[], "printf 'you said: '; cat; printf ' \\360\\237'; printf '\\246\\200'");
    let whole = ask(&program, &chat("m", "hello é", false)).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "you said: hello é 🦀");
    let body = json!({ "model": "m", "stream": true, "messages": [
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "text", "text": "one" }] },
        { "role": "assistant", "content": "two" },
        { "role": "user", "content": "three" },
    ] });
    let told = "you said: system: Be brief.\n\nuser: one\n\nassistant: two\n\nuser: three 🦀";
    assert_eq!(ask(&program, &body).text(), told);
    // As Void asks.
    let body = json!({ "model": "m", "stream": true, "max_tokens": -1, "temperature": null, "stop": null, "tools": null,
        "seed": null, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "from Void" }] }] });
    assert_eq!(ask(&program, &body).text(), "you said: from Void 🦀");
    // Ollama's generate, as another dialect.
    let body = json!({ "model": "m", "prompt": "x", "stream": false });
    let generated = program.post("/api/generate", &body).json();
    assert_eq!(generated["response"], "you said: x 🦀", "{generated}");
    let wrong = program.post("/v1/embeddings", &json!({ "model": "m", "input": "x" }));
    assert!(wrong.status >= 400, "{wrong:?}");
    let large = "x".repeat(1 << 20);
    let whole = ask(&program, &chat("m", &large, false)).json();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text.len(), large.len() + "you said:  🦀".len());
}

#[test]
fn a_prompt_is_an_argument_and_the_token_is_no_variable_of_the_command() {
    let program = Program::start("");
    let script = "printf '%s|%s|%s' \"$1\" \"$PROVIDER_TOKEN\" \"$OTHER\"";
    let mut spawned = command(&program, &["--prompt", "argument"], script);
    spawned.arg("sh").env("OTHER", "stays");
    let mut agent = Running::spawn(spawned);
    assert!(agent.line().contains(" is active"));
    let prompt = "$(exit 1) 'quoted' é";
    let whole = ask(&program, &chat("m", prompt, false)).json();
    let text = &whole["choices"][0]["message"]["content"];
    assert_eq!(text, &format!("{prompt}||stays"), "{whole}");
    let long = ask(&program, &chat("m", &"x".repeat(200_000), false));
    assert_eq!(long.status, 400);
    assert_eq!(long.json()["error"]["code"], "context_length_exceeded");
}

#[test]
fn json_lines_call_tools_think_and_count() {
    let program = Program::start("");
    let script = r#"echo '{"reasoning_content":"Hm"}'
        echo '{"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"weather","arguments":"{}"}}]}}'
        printf '%s' '{"finish_reason":"tool_calls","usage":{"prompt_tokens":3,"completion_tokens":4}}'"#;
    let agent = Running::script(&program, &["--output", "json"], script);
    let whole = ask(&program, &chat("m", "x", false)).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{whole}");
    let call = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("weather"), &json!("{}")));
    assert_eq!(choice["message"]["reasoning_content"], "Hm");
    assert_eq!(whole["usage"]["completion_tokens"], 4);
    drop(agent);
    let program = Program::start("");
    let _agent = Running::script(&program, &["--output", "json"], "echo '[secret'; cat");
    let wrong = ask(&program, &chat("m", "x", false));
    assert_eq!(wrong.status, 502);
    assert!(wrong.body.contains("a line that is no delta"), "{}", wrong.body);
    assert!(!wrong.body.contains("secret"));
}

#[test]
fn a_command_that_fails_is_an_error_with_its_last_words() {
    let program = Program::start("");
    let _agent = Running::script(&program, &[], "echo 'Error: no such model' >&2; exit 3");
    let failed = ask(&program, &chat("m", "x", false));
    assert_eq!(failed.status, 502);
    let message = failed.json()["error"]["message"].to_string();
    assert!(message.contains("exit code 3: Error: no such model"), "{message}");
}

/// Asks a script that prints its process's id and waits, and gives the connection and the id.
fn asked(program: &Program) -> (TcpStream, String) {
    let body = chat("m", "x", true).to_string();
    let stream = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let pid = loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "no id came");
        let Some(event) = line.strip_prefix("data: ") else {
            continue;
        };
        let event: Value = serde_json::from_str(event).unwrap();
        if let Some(text) = event["choices"][0]["delta"]["content"].as_str()
            && let Some(pid) = text.trim().strip_prefix("pid ")
        {
            break pid.to_owned();
        }
    };
    (stream, pid)
}

/// The one that is told is a child of the script, which neither ends by itself nor at SIGTERM.
const WAITS: &str = "trap '' TERM; sleep 600 & echo \"pid $!\"; wait; sleep 600";

#[test]
fn a_client_that_leaves_ends_the_script_and_all_that_it_started() {
    let program = Program::start("");
    let _agent = Running::script(&program, &[], WAITS);
    let (stream, pid) = asked(&program);
    let left = std::time::Instant::now();
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    assert!(ends(&pid));
    eprintln!("the script was gone {:?} after its client", left.elapsed());
}

#[test]
fn an_agent_that_is_killed_or_stopped_leaves_no_process() {
    let program = Program::start("");
    for signal in ["KILL", "TERM"] {
        let mut agent = Running::script(&program, &[], WAITS);
        let (stream, pid) = asked(&program);
        let id = agent.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
        let (code, told) = agent.wait();
        assert_eq!(code, (signal == "TERM").then_some(0), "{told}");
        assert!(ends(&pid));
        drop(stream);
    }
}

#[test]
fn wrong_options_and_tokens_are_told() {
    let program = Program::start("");
    let run = |arguments: &[&str], token: &str| -> (Option<i32>, String) {
        let mut command = Command::new(built().join("mcp-local-agent"));
        let Output { status, stderr, .. } = command
            .args(arguments)
            .args(["--", "true"])
            .env("PROVIDER_TOKEN", token)
            .output()
            .unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    let url = url(&program);
    let with = |source| ["--url", &url, "--token", source];
    let (code, told) = run(&with("env:PROVIDER_TOKEN"), "wrong");
    assert_eq!(code, Some(1));
    assert!(told.contains("status 401: check the token"), "{told}");
    let (code, told) = run(&with("wrong"), "");
    assert_eq!(code, Some(2));
    assert!(told.contains("a token is `env:NAME` or `file:PATH`"), "{told}");
    let (code, told) = run(&with("env:NOT_SET_ANYWHERE"), "");
    assert_eq!(code, Some(2));
    assert!(told.contains("`NOT_SET_ANYWHERE` is not set"), "{told}");
    let (code, told) = run(&["--url", "http://127.0.0.1/agent"], "");
    assert_eq!(code, Some(2));
    assert!(told.contains("it must start with ws:// or wss://"), "{told}");
    let (code, told) = run(&["--url", &url.replace("/agent", "/elsewhere")], "");
    assert_eq!(code, Some(1));
    assert!(told.contains("check the URL"), "{told}");
}

#[test]
fn a_client_that_does_not_read_holds_up_no_other() {
    let program = Program::start("");
    let _agent = Running::script(&program, &[], "read -r line; if [ \"$line\" = flood ]; then yes flood; fi; printf 'heard %s' \"$line\"");
    let body = chat("m", "flood\n", true).to_string();
    let mut slow = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let mut some = [0; 4096];
    slow.read_exact(&mut some).unwrap();
    let whole = ask(&program, &chat("m", "other\n", false)).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "heard other", "{whole}");
    drop(slow);
}
