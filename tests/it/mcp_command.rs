//! `mcp serve`, `mcp list`, `mcp call` and `mcp add`, as a person uses them.

use crate::gateway::client::until;
use crate::program::{Answer, Folder, Program, program};
use serde_json::{Value, json};
use std::io::Read;
use std::process::{Command, Output};

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(&folder.0);
    command.env("HOME", &folder.0).env_remove("XDG_CONFIG_HOME");
    command.env_remove("LOCAL_PROVIDER_CONFIG").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn one_server_is_served_with_a_key_for_mcp_alone_and_nothing_is_written() {
    let folder = Folder::new();
    // No file counts.
    let config = folder.0.join(".config/mcp-local-provider/config.yaml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "nonsense: true\n").unwrap();
    let before = files(&folder);
    let mut command = Command::new(program());
    command.args(["mcp", "serve", "--listen", "127.0.0.1:0", "--", "/bin/cat", "-u"]);
    let mut program = Program::spawn(command, folder, config);
    program.wait_for_log("Ctrl-C stops it.");
    let banner = program.log();
    let key = banner
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("mlp-") && word.len() > 20)
        .unwrap_or_else(|| panic!("no key in {banner}"));
    let line = format!(
        "claude mcp add --transport http cat http://{}/mcp --header 'Authorization: Bearer {key}'",
        program.address
    );
    assert!(banner.contains(&line), "{line} is not in {banner}");
    let models = |key| program.request("GET", "/v1/models", key, "").status;
    assert_eq!(models(None), 401);
    assert_eq!(models(Some(key)), 403, "the key is for MCP alone");
    program.signal("TERM");
    assert!(program.wait().0.success());
    let mut after = files(&program.folder);
    after.retain(|name| name != "stderr.log");
    assert_eq!(after, before, "nothing was written");
}

/// Returns the names of all files below a folder.
fn files(folder: &Folder) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.0.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn no_key_is_asked_for_on_this_machine_alone() {
    let folder = Folder::new();
    let config = folder.0.join("none.yaml");
    let mut command = Command::new(program());
    command.args(["mcp", "serve", "--no-auth", "--listen", "127.0.0.1:0", "--", "/bin/cat"]);
    let running = Program::spawn(command, folder, config);
    running.wait_for_log("Ctrl-C stops it.");
    let banner = running.log();
    assert!(banner.contains("none is needed") && !banner.contains("mlp-"), "{banner}");
    assert_eq!(running.request("GET", "/v1/models", None, "").status, 200);

    let folder = Folder::new();
    let refused = run(
        &folder,
        &["mcp", "serve", "--no-auth", "--listen", "0.0.0.0:0", "--", "/bin/cat"],
    );
    assert_eq!(refused.status.code(), Some(2));
    let text = said(&refused);
    assert!(text.contains("can be reached from other machines"), "{text}");
    let missing = run(&folder, &["mcp", "serve", "--", "no-such-server"]);
    assert_eq!(missing.status.code(), Some(1));
    let text = said(&missing);
    assert!(text.contains("`no-such-server` is not on the PATH"), "{text}");
}

#[test]
fn servers_are_listed_from_the_configuration_and_none_is_started() {
    let folder = Folder::new();
    let config = folder.0.join("c.yaml");
    let text = "mcpServers:\n  files: { command: ./server, args: [-x], env: { TOKEN: swordfish } }\n  off: { command: x, disabled: true }\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let listed = run(&folder, &["mcp", "list", "--json", "--config", config]);
    assert_eq!(listed.status.code(), Some(0), "{}", said(&listed));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let place = folder.0.join("server");
    assert_eq!(listed["servers"][0]["command"][0], place.to_str().unwrap());
    assert_eq!(listed["servers"][0]["state"], "missing");
    assert_eq!(listed["servers"][1]["state"], "disabled");
    let text = said(&run(&folder, &["mcp", "list", "--config", config]));
    assert!(text.starts_with("NAME   STATE     COMMAND"), "{text}");
    let checked = said(&run(&folder, &["check-config", "--config", config]));
    assert!(checked.contains("mcpServers.files.env.TOKEN"), "{checked}");
    assert!(!checked.contains("swordfish"), "{checked}");
}

/// An MCP server in the language of the shell: a tool answers with a variable and the process's id, another one ends it.
const SERVER: &str = r#"while read -r line; do
  case "$line" in *'"id":'*) ;; *) continue ;; esac
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"greet"},{"name":"die"}]}' ;;
    *'"fail"'*) result='{"isError":true,"content":[{"type":"text","text":"no such luck"}]}' ;;
    *'"die"'*) echo token=swordfish >&2; exit 3 ;;
    *) result="{\"content\":[{\"type\":\"text\",\"text\":\"$GREETING $$\"}]}" ;;
  esac
  echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
done"#;

const KEY: &str = "mcp-key-for-tests-0123";

fn write_servers(path: &std::path::Path, greeting: &str) {
    let text = json!({
        "listen": { "http": ["127.0.0.1:0"] },
        "auth": { "keys": [
            { "name": "mcp", "key": KEY, "allow": ["mcp"] },
            { "name": "operator", "key": "the-key-of-the-operator", "role": "operator" },
        ] },
        "data_dir": "./data",
        "mcpServers": { "files": { "command": "/bin/sh", "args": ["-c", SERVER], "env": { "GREETING": greeting } } },
    });
    std::fs::write(path, text.to_string()).unwrap();
}

/// Sends one message of MCP and reads the whole answer.
fn send(program: &Program, session: Option<&str>, message: &Value) -> Answer {
    let session = session.map_or(String::new(), |id| format!("Mcp-Session-Id: {id}\r\n"));
    let body = message.to_string();
    let mut stream = program.raw(&format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{session}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

/// Calls a tool. The answer may come as JSON or in a stream.
fn call(program: &Program, session: &str, id: u32, tool: &str) -> Value {
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool } });
    let answer = send(program, Some(session), &message);
    let lines = answer.body.lines();
    let lines = lines.map(|line| line.strip_prefix("data:").unwrap_or(line));
    let mut values = lines.filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    let found = values.find(|value| value["id"] == id);
    found.unwrap_or_else(|| panic!("no answer in {}", answer.body))
}

#[test]
fn a_server_of_the_configuration_is_started_reloaded_and_ended() {
    let folder = Folder::new();
    let config = folder.0.join("c.json");
    write_servers(&config, "one");
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    let mut program = Program::spawn(command, folder, config);
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello });
    let open = |program: &Program| {
        let opened = send(program, None, &hello);
        assert_eq!(opened.status, 200, "{}", opened.body);
        opened.header("mcp-session-id").unwrap().to_owned()
    };
    let mut session = open(&program);
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(send(&program, Some(&session), &initialized).status, 202);
    let greeted = |program: &Program, session: &str, id| {
        let answer = call(program, session, id, "greet");
        let text = answer["result"]["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{answer}"));
        let (greeting, pid) = text.split_once(' ').unwrap();
        (greeting.to_owned(), pid.to_owned())
    };
    let (greeting, first) = greeted(&program, &session, 2);
    assert_eq!(greeting, "one");

    let died = call(&program, &session, 3, "die");
    assert_eq!(died["error"]["data"]["reason"], "server_exited", "{died}");
    assert!(!died.to_string().contains("swordfish"), "{died}");
    program.wait_for_log("token=swordfish");
    program.wait_for_log("a process has ended: it ended with exit code 3");

    let (greeting, second) = greeted(&program, &session, 4);
    assert_eq!(greeting, "one");
    assert_ne!(first, second);

    // Who has a session of the server as it was begins anew.
    write_servers(&program.config, "two");
    program.signal("HUP");
    program.wait_for_log("took the configuration over");
    assert!(crate::child_process::ends(&second));
    assert_eq!(send(&program, Some(&session), &initialized).status, 404);
    session = open(&program);
    let (greeting, last) = greeted(&program, &session, 2);
    assert_eq!(greeting, "two");

    program.signal("TERM");
    assert!(program.wait().0.success());
    for pid in [first, second, last] {
        let place = format!("/proc/{pid}/stat");
        assert!(!std::path::Path::new(&place).exists(), "{pid} is left");
    }
}

#[test]
fn a_tool_is_called_and_tools_are_listed_with_and_without_a_running_program() {
    let folder = Folder::new();
    let config = folder.0.join("c.json");
    write_servers(&config, "one");
    let place = config.to_str().unwrap().to_owned();
    // Nothing listens at the port of this system's choice, so each server is started for the command.
    let call = |folder: &Folder, more: &[&str]| {
        let mut words = vec!["mcp", "call", "--config", &place];
        words.extend(more);
        run(folder, &words)
    };
    let called = call(&folder, &["files", "greet", "{\"a\": 1}"]);
    assert_eq!(called.status.code(), Some(0), "{}", said(&called));
    let (greeting, pid) = answer_of(&called);
    assert_eq!(greeting, "one");
    assert!(crate::child_process::ends(&pid), "the server is left");
    let whole = call(&folder, &["files", "greet", "--json"]);
    let whole: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(whole["content"][0]["type"], "text");
    for (words, code, why) in [
        (&["files", "fail"][..], 1, "no such luck"),
        (&["files", "die"], 1, "it ended with exit code 3"),
        (&["none", "greet"], 1, "no MCP server `none`"),
        (&["files", "greet", "[]"], 2, "the arguments are an object"),
    ] {
        let failed = call(&folder, words);
        assert_eq!(failed.status.code(), Some(code), "{words:?}: {}", said(&failed));
        assert!(said(&failed).contains(why), "{words:?}: {}", said(&failed));
    }
    let list = |folder: &Folder, more: &[&str]| {
        let mut words = vec!["mcp", "list", "--tools", "--json", "--config", &place];
        words.extend(more);
        let listed = run(folder, &words);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{}", said(&listed)));
        listed["servers"][0].clone()
    };
    let listed = list(&folder, &[]);
    assert_eq!((&listed["state"], &listed["tools"][1]["name"]), (&json!("answers"), &json!("die")));

    // The running program keeps its servers as they were when it read them.
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    let running = Program::spawn(command, folder, config);
    write_servers(&running.config, "two");
    let listen = ["--listen", &running.address.to_string()];
    let called = call(&running.folder, &[&["files", "greet"][..], &listen].concat());
    assert_eq!(answer_of(&called).0, "one", "{}", said(&called));
    let failed = call(&running.folder, &[&["files", "die"][..], &listen].concat());
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(&failed).contains("ended while it worked for this request"), "{}", said(&failed));
    assert_eq!(list(&running.folder, &listen)["tools"][0]["name"], "greet");
    // Without asking them it shows what the running program says of their states.
    let states = |folder: &Folder| {
        let listed = run(folder, &[&["mcp", "list", "--json", "--config", &place][..], &listen].concat());
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{}", said(&listed)));
        listed["servers"][0].clone()
    };
    // The process of a session that has ended takes its time to end.
    let stopped = until(|| Some(states(&running.folder)).filter(|now| now["state"] != "stopping"));
    assert_eq!((&stopped["state"], &stopped["running"]["sessions"]), (&json!("stopped"), &json!(0)));
    let error = stopped["error"].as_str().unwrap();
    assert!(error.contains("exit code 3"), "{stopped}");
}

/// Returns the greeting and the process's id of a call of `greet`.
fn answer_of(called: &Output) -> (String, String) {
    let text = String::from_utf8_lossy(&called.stdout).into_owned();
    let (greeting, pid) = text.trim().split_once(' ').unwrap_or_else(|| panic!("{}", said(called)));
    (greeting.to_owned(), pid.to_owned())
}

#[test]
fn a_server_is_added_to_the_file_which_keeps_its_comments() {
    let folder = Folder::new();
    // Without a file the usual one is made.
    let made = run(&folder, &["mcp", "add", "one", "--env", "TOKEN=swordfish", "--", "/bin/cat", "-u"]);
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    assert!(said(&made).contains("keys add NAME --allow mcp"), "{}", said(&made));
    let usual = folder.0.join(".config/mcp-local-provider/config.yaml");
    let text = std::fs::read_to_string(&usual).unwrap();
    assert_eq!(text, "mcpServers:\n  one: { command: \"/bin/cat\", args: [\"-u\"], env: { \"TOKEN\": \"swordfish\" } }\n");
    let with_comments = format!("# mine\n{text}  # the last one\nlog: debug # loud\n");
    std::fs::write(&usual, &with_comments).unwrap();
    let added = run(&folder, &["mcp", "add", "two", "--", "./server", "x y"]);
    assert_eq!(added.status.code(), Some(0), "{}", said(&added));
    let server = folder.0.canonicalize().unwrap().join("server");
    let line = format!("  two: {{ command: {server:?}, args: [\"x y\"] }}\n");
    let expected = with_comments.replace("  # the last one", &format!("{line}  # the last one"));
    assert_eq!(std::fs::read_to_string(&usual).unwrap(), expected);

    for (words, code, why) in [
        (&["two", "--", "x"][..], 1, "there is a server `two` already"),
        (&["t__o", "--", "x"], 2, "without `__`"),
        (&["three", "--env", "=x", "--", "x"], 2, "NAME=VALUE"),
        (&["three", "--", ""], 1, "nothing was written"),
    ] {
        let refused = run(&folder, &[&["mcp", "add"], words].concat());
        assert_eq!(refused.status.code(), Some(code), "{words:?}: {}", said(&refused));
        assert!(said(&refused).contains(why), "{words:?}: {}", said(&refused));
    }
    std::fs::write(&usual, "mcpServers: [\n").unwrap();
    let refused = run(&folder, &["mcp", "add", "three", "--", "x"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(&usual).unwrap(), "mcpServers: [\n");
}
