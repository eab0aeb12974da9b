//! The commands that ask the running program, or give it orders.

use crate::PROGRAM;
use crate::agent::{Agent, dial};
use crate::program::{Answer, BRIDGE, CLIENT, Folder, OPERATOR, Program, program, write_config};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Exit code, standard output and standard error of a command against the running program.
fn command(running: &Program, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = running.command(&[arguments, &["--listen", &running.address.to_string()]].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The output of a command that succeeds.
fn printed(running: &Program, arguments: &[&str]) -> String {
    let (code, out, error) = command(running, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{error}");
    out
}

/// Starts a command that waits for an agent, with this on its standard input.
fn asking(running: &Program, arguments: &[&str], input: &str) -> Child {
    let mut child = Command::new(program())
        .args(arguments)
        .args(["--listen", &running.address.to_string(), "--config"])
        .arg(&running.config)
        .env("HOME", &running.folder.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child
}

/// A program that makes its keys at the first start.
fn first_start(extra: &str) -> Program {
    let folder = Folder::new();
    let config = folder.0.join("config.yaml");
    let second = if PROGRAM.ends_with("tiny-http") { ", \"127.0.0.1:0\"" } else { "" };
    let text = format!("listen: {{ http: [\"127.0.0.1:0\"{second}] }}\ndata_dir: ./data\naudit: off\n{extra}");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

fn kept(running: &Program, name: &str) -> PathBuf {
    running.folder.0.join("data").join(name)
}

#[test]
fn models_agents_and_the_state_are_told() {
    let running = Program::start("");
    let _agent = Agent::connect(&running);
    let list = printed(&running, &["list"]);
    let mut lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["NAME", "ID", "SIZE", "MODIFIED"]);
    let model = lines.next().unwrap();
    assert_eq!((model[0], model[1].len(), model[2]), ("m", 12, "-"), "{list}");
    assert_eq!(printed(&running, &["list", "x"]), "");
    let json: Value = serde_json::from_str(&printed(&running, &["list", "--json"])).unwrap();
    assert_eq!(json["models"][0]["name"], "m:latest");
    let agents = printed(&running, &["ps"]);
    assert!(agents.lines().any(|line| line.split_whitespace().eq(["it", "connection", "active", "0", "0", "m"])), "{agents}");
    let state = printed(&running, &["status"]);
    assert!(state.contains(&format!("runs at http://{}", running.address)), "{state}");
    assert!(state.contains("sessions  1 active") && state.contains("0 open"), "{state}");
    let unknown = Command::new(program())
        .args(["status", "--listen", &running.address.to_string()])
        .env("HOME", &running.folder.0)
        .env("LOCAL_PROVIDER_KEY", "not-a-key")
        .output()
        .unwrap();
    let (code, state) = (unknown.status.code(), String::from_utf8_lossy(&unknown.stdout).into_owned());
    assert!(code == Some(0) && state.contains("sessions  1 active"), "{state}");
    let json: Value = serde_json::from_str(&printed(&running, &["status", "--json"])).unwrap();
    assert_eq!(json["status"], "healthy", "{json}");
}

#[test]
fn a_prompt_on_the_line_and_on_standard_input_is_answered() {
    let running = Program::start("");
    let mut agent = Agent::connect(&running);
    let mut asked = |arguments: &[&str], input: &str, expected: &str| {
        let child = asking(&running, arguments, input);
        let (id, invocation) = agent.invocation();
        assert_eq!(invocation["payload"]["messages"][0]["content"], expected, "{invocation}");
        agent.chunk(&id, 0, "first ");
        agent.chunk(&id, 1, "and\u{1b}[1m last");
        agent.finish(&id, 2);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        // A pipe gets the bytes of the model.
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "first and\u{1b}[1m last\n");
    };
    asked(&["run", "m", "Why", "blue?"], "", "Why blue?");
    asked(&["run", "m"], "From a file.\n", "From a file.");
    asked(&["run", "m", "Sum up."], "From a file.\n", "From a file.\n\nSum up.");
    let nothing = asking(&running, &["run", "m"], "").wait_with_output().unwrap();
    assert_eq!(nothing.status.code(), Some(1));
    let (code, _, error) = command(&running, &["run", "other", "x"]);
    assert!(code == Some(1) && error.contains("`other`"), "{error}");
}

#[test]
fn a_prompt_that_is_interrupted_is_cancelled() {
    let running = Program::start("");
    let mut agent = Agent::connect(&running);
    let mut killed = asking(&running, &["run", "m", "x"], "");
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "begun");
    let interrupted = Command::new("kill").args(["-TERM", &killed.id().to_string()]).status();
    assert!(interrupted.unwrap().success() && !killed.wait().unwrap().success());
    assert_eq!(agent.receive()["type"], "model_cancel");
}

#[test]
fn where_nothing_runs_the_command_that_starts_it_is_named() {
    let running = Program::start("");
    for line in [&["run", "m", "x"][..], &["list"], &["ps"], &["status"], &["stop"], &["reload"]] {
        let output = running.command(&[line, &["--listen", "127.0.0.1:1"]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line:?}: {error}");
        assert!(error.contains("runs at 127.0.0.1:1") && error.contains(&format!("`{PROGRAM} serve`")), "{error}");
    }
}

#[test]
fn a_key_is_known_at_once_and_a_removed_one_is_forgotten_at_once() {
    let running = first_start("");
    let status = |key: &str| running.request("GET", "/v1/models", Some(key.trim()), "").status;
    assert_eq!(status("not-a-key"), 401);
    let add = ["keys", "add", "laptop", "--requests-per-minute", "1", "--models", "a,b"];
    let key = printed(&running, &add);
    assert_eq!(status(&key), 200);
    let list = printed(&running, &["keys", "list"]);
    let row = list.lines().find(|line| line.starts_with("laptop")).unwrap();
    assert!(row.split_whitespace().take(6).eq(["laptop", "client", "1", "-", "models", "a,b"]), "{list}");
    let bridge = printed(&running, &["keys", "add", "agent", "--role", "bridge"]);
    let mut agent = dial(&running, Some(bridge.trim())).unwrap();
    let removed = printed(&running, &["keys", "remove", "laptop"]);
    assert!(removed.contains("has forgotten it"), "{removed}");
    assert_eq!(status(&key), 401);
    printed(&running, &["keys", "remove", "agent"]);
    let closed = std::iter::from_fn(|| agent.read().ok()).find(tungstenite::Message::is_close);
    assert!(closed.is_some(), "the link of a key that is gone goes on");
}

#[test]
fn a_new_operator_key_renews_the_file_that_keeps_it() {
    let running = first_start("");
    let token = kept(&running, "operator.token");
    let before = std::fs::read_to_string(&token).unwrap();
    printed(&running, &["keys", "remove", "operator"]);
    assert!(!token.exists());
    let (code, _, error) = command(&running, &["ps"]);
    assert!(code == Some(1) && error.contains("keys add operator"), "{error}");
    printed(&running, &["keys", "add", "operator", "--role", "operator"]);
    let after = std::fs::read_to_string(&token).unwrap();
    assert_ne!(before, after);
    printed(&running, &["ps"]);
    std::fs::write(&token, before).unwrap();
    let doctor = command(&running, &["doctor"]).1;
    let told = doctor.lines().find(|line| line.contains("operator.token"));
    assert!(told.is_some_and(|line| line.starts_with("warn") && line.contains("keys add operator")), "{doctor}");
}

#[test]
fn reload_takes_the_configuration_over_or_says_why_not() {
    let running = first_start("");
    let key = std::fs::read_to_string(kept(&running, "client.key")).unwrap();
    let text = std::fs::read_to_string(&running.config).unwrap();
    std::fs::write(&running.config, format!("{text}models: {{ aliases: {{ mine: m }} }}\n")).unwrap();
    printed(&running, &["reload"]);
    let models = running.request("GET", "/v1/models", Some(key.trim()), "");
    assert_eq!(models.json()["data"][0]["id"], "mine", "{}", models.body);
    // The configuration of the command is right; that of the running program is not any more.
    let other = running.folder.0.join("other.yaml");
    std::fs::write(&other, &text).unwrap();
    std::fs::write(&running.config, format!("{text}limit: 1\n")).unwrap();
    let mut reload = Command::new(program());
    reload.args(["reload", "--listen", &running.address.to_string(), "--config"]).arg(&other);
    let refused = reload.env("HOME", &running.folder.0).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && error.contains("limit"), "{error}");
}

#[test]
fn stop_waits_for_open_answers_and_a_second_one_does_not() {
    let mut running = Program::start("");
    for path in ["/control/stop", "/control/reload", "/control/keys/reload"] {
        for key in [CLIENT, BRIDGE] {
            assert_eq!(running.request("POST", path, Some(key), "").status, 403, "{path}");
        }
        assert_eq!(running.request("POST", path, None, "").status, 401, "{path}");
    }
    let (code, _, error) = command(&running, &["stop", "m"]);
    assert!(code == Some(1) && error.contains("`stop` alone ends the program"), "{error}");
    let mut agent = Agent::connect(&running);
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let _open = running.open("POST", "/v1/chat/completions", Some(CLIENT), body);
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "begun");
    let mut first = asking(&running, &["stop"], "");
    let mut told = [0; 64];
    let length = first.stdout.as_mut().unwrap().read(&mut told).unwrap();
    assert!(told[..length].starts_with(b"1 open requests have 30 s to end"));
    assert!(printed(&running, &["stop"]).ends_with("stopped\n"));
    assert!(first.wait().unwrap().success() && running.wait().0.success());
}

#[test]
fn a_port_that_this_program_holds_is_told_and_a_demo_takes_another() {
    let running = Program::start("");
    let address = running.address.to_string();
    let second = running.command(&["--listen", &address]);
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{error}");
    let told = format!("MCP Local Provider runs already at http://{address}");
    assert!(error.contains(&told) && error.contains(&format!("`{PROGRAM} stop`")), "{error}");
    let folder = Folder::new();
    let config = folder.0.join("none.yaml");
    let mut demo = Command::new(program());
    demo.args(["--demo", "--listen", &address]);
    let demo = Program::spawn(demo, folder, config);
    assert_ne!(demo.address, running.address);
    assert_eq!(demo.request("GET", "/health", None, "").status, 200);
}

/// Sends `GET /` and reads the whole answer.
fn page(running: &Program, host: &str, headers: &str) -> Answer {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    let mut bytes = Vec::new();
    running.raw(&request).read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn a_browser_is_shown_how_to_ask_and_nothing_secret() {
    let running = Program::start("models: { aliases: { \"<b>x\": m } }\n");
    let _agent = Agent::connect(&running);
    let html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let shown = page(&running, "127.0.0.1:8788", html);
    assert_eq!(shown.status, 200);
    assert_eq!(shown.header("content-type"), Some("text/html; charset=utf-8"));
    for text in ["http://127.0.0.1:8788/v1", "<code>m</code>", "&lt;b&gt;x", "Continue", "curl -N"] {
        assert!(shown.body.contains(text), "{text} is not in {}", shown.body);
    }
    for secret in [CLIENT, BRIDGE, OPERATOR, "<b>", "<script", "src="] {
        assert!(!shown.body.contains(secret), "{secret} is in {}", shown.body);
    }
    let afar = page(&running, "127.0.0.1", &format!("{html}X-Forwarded-For: 203.0.113.7\r\n"));
    assert!(afar.status == 200 && !afar.body.contains("<code>m</code>"), "{}", afar.body);
    assert_eq!(page(&running, "evil.example", html).status, 403);
    let origin = format!("{html}Origin: https://evil.example\r\n");
    assert_eq!(page(&running, "127.0.0.1", &origin).status, 403);
    for accept in ["", "Accept: */*\r\n", "Accept: application/json, text/html\r\n"] {
        assert_eq!(page(&running, "127.0.0.1", accept).body, "Ollama is running", "{accept}");
    }
}

#[test]
fn the_page_is_opened_in_the_browser_of_the_system() {
    let folder = Folder::new();
    let told = folder.0.join("told");
    assert!(Command::new("mkfifo").arg(&told).status().unwrap().success());
    let script = format!("#!/bin/sh\necho \"$1\" >'{}'\n", told.display());
    executable(&folder.0.join("xdg-open"), &script);
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let mut command = Command::new(program());
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.0.display());
    command.args(["--open", "--config"]).arg(&config).env("PATH", path);
    let running = Program::spawn(command, folder, config);
    let url = std::fs::read_to_string(told).unwrap();
    assert_eq!(url, format!("http://{}/\n", running.address));
}

fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn bash_completes_what_the_running_program_knows() {
    let running = Program::start("");
    let agent = Agent::connect(&running);
    printed(&running, &["keys", "add", "laptop"]);
    let address = running.address.to_string();
    let config = running.config.to_str().unwrap();
    let complete = |words: &[&str]| {
        let script = r#"source <("$0" completions bash); name=${0##*/}; COMP_WORDS=("$name" "$@"); COMP_CWORD=$#
            "_$name" "$name" "${@: -1}" "${COMP_WORDS[COMP_CWORD-1]}"; echo "${COMPREPLY[*]}""#;
        let folder = program().parent().unwrap().display();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).arg(program()).args(["--config", config, "--listen", &address]);
        let output = bash.args(words).env("PATH", path).env("HOME", &running.folder.0).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete(&["run", ""]), "m");
    assert_eq!(complete(&["approve", ""]), agent.session);
    assert_eq!(complete(&["keys", "remove", "l"]), "laptop");
    assert_eq!(complete(&["--agent", "=", "gem"]), "gemini");
    assert_eq!(complete(&["rel"]), "reload");
}
