//! Servers that want a token of OAuth 2.1: a person logs in, the program sends the token and renews it.

use super::client::{Client, KEY, NEWEST, call, configure, hello, request, start_one, until};
use super::protected::Protected;
use crate::program::{Folder, Program, program};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

/// Times of both gateways, so that nothing is waited for long.
const SOON: &str = "gateway: { restart: { delay: 50ms, attempts: 8 }, timeouts: { retry: 20ms } }\n";

/// A gateway behind, the server that protects it, and a gateway before that.
fn start() -> (Program, Protected, Program) {
    let behind = start_one(SOON);
    let protected = Protected::before(behind.address);
    let folder = Folder::new();
    let far = format!("  far: \"http://{}/mcp\"\n", protected.address);
    let config = configure(&folder, SOON, &[far]);
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    let near = Program::spawn(command, folder, config);
    (behind, protected, near)
}

/// `mcp login far` on its way.
struct Login {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The address for the browser.
    url: String,
}

impl Login {
    /// Begins one with these arguments.
    fn begin(near: &Program, arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["mcp", "login", "far", "--no-browser", "--config"]).arg(&near.config);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut login = Self { child, lines, url: String::new() };
        login.url = login.wait_for("http://");
        login
    }

    /// The next line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "it has ended without {text}");
            if line.contains(text) {
                return line.trim().to_owned();
            }
        }
    }

    /// The end of it: its exit status, and what it wrote since.
    fn end(mut self) -> (bool, String) {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
    }
}

/// Asks for an address as a browser does, and returns where that sends it.
fn visit(url: &str) -> Option<String> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).unwrap();
    write!(socket, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
    location.map(str::to_owned)
}

/// Logs in.
fn log_in(near: &Program, arguments: &[&str]) -> String {
    let login = Login::begin(near, arguments);
    visit(&visit(&login.url).unwrap());
    let (is_in, text) = login.end();
    assert!(is_in, "{text}");
    text
}

fn open(near: &Program) -> Client<'_> {
    let mut client = Client::new(near, KEY);
    let greeting = request(0, "initialize", &hello(NEWEST, "suite"));
    // A server that has just failed is started again after a pause.
    until(|| (client.post(&greeting).status == 200).then_some(()));
    client.initialize(NEWEST, "suite");
    client
}

fn echo(client: &Client<'_>, text: &str) -> String {
    client.text("echo", &json!({ "text": text }))
}

#[test]
fn a_person_logs_in_and_the_token_is_renewed_once_for_all_who_lost_it() {
    let (behind, protected, near) = start();
    // Before that, the error says what is to be done.
    let refused = Client::new(&near, KEY).post(&request(0, "initialize", &hello(NEWEST, "suite")));
    let error = refused.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "server_unavailable", "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("`mcp login far` gets a token"), "{error}");
    let text = log_in(&near, &[]);
    assert!(text.contains(&format!("`far` is logged in at http://{}, for tools", protected.address)), "{text}");
    let kept = near.folder.0.join("data/authorization/far.json");
    let mode = kept.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let client = open(&near);
    assert_eq!(echo(&client, "one"), "one");
    let found = near.command(&["doctor"]);
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("far is logged in at http://") && found.contains("its tokens renew themselves"), "{found}");
    // It ends in the midst of many calls.
    protected.expire();
    thread::scope(|scope| {
        for number in 0..8 {
            let client = &client;
            scope.spawn(move || {
                let answer = client.post(&call(number, "echo", &json!({ "text": "again" })));
                assert_eq!(answer.json()["result"]["content"][0]["text"], "again", "{answer:?}");
            });
        }
    });
    let forms = protected.state().heard("/token");
    assert_eq!(forms.len(), 2, "one for the login, one for all eight: {forms:?}");
    assert!(forms[1].starts_with("grant_type=refresh_token&refresh_token=refresh-secret-1&resource=http%3A"), "{forms:?}");
    assert!(std::fs::read_to_string(&kept).unwrap().contains("refresh-secret-2"));
    // The authorization server ends the login.
    protected.state().refuses = true;
    protected.expire();
    for _ in 0..2 {
        let failed = client.call("echo", &json!({ "text": "no" }));
        let message = failed["error"]["message"].as_str().unwrap();
        assert!(message.contains("HTTP status 401; `mcp login far` gets a token"), "{failed}");
    }
    let asked = protected.state().heard("/token").len();
    assert_eq!(asked, 3, "it was asked once");
    near.wait_for_log("invalid_grant; `mcp login far` gets others");
    // The session goes on after another login.
    protected.state().refuses = false;
    log_in(&near, &[]);
    assert_eq!(echo(&client, "back"), "back");
    // The program registered once.
    assert_eq!(protected.state().heard("/register").len(), 1);
    // Back they go.
    let output = near.command(&["mcp", "logout", "far"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("is logged out") && text.contains("has taken the tokens back"), "{text}");
    assert!(!kept.exists());
    assert!(protected.state().heard("/revoke")[0].starts_with("token=refresh-secret-3&"));
    for place in [near.log(), behind.log(), text, found] {
        assert!(!place.contains("-secret-"), "{place}");
    }
}

#[test]
fn a_server_that_wants_more_names_the_login_that_asks_for_it() {
    let (_behind, protected, near) = start();
    log_in(&near, &[]);
    let client = open(&near);
    protected.state().too_little = 1;
    let failed = client.call("echo", &json!({ "text": "x" }));
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("`mcp login far --scope 'files:write'` asks for more"), "{failed}");
    let login = Login::begin(&near, &["--scope", "files:write"]);
    assert!(login.url.contains("&scope=tools%20files%3Awrite"), "{}", login.url);
    visit(&visit(&login.url).unwrap());
    assert!(login.end().0);
    // The token before is still right, and still permits too little.
    assert_eq!(echo(&client, "more"), "more");
    assert_eq!(protected.state().heard("/token").len(), 2);
}

#[test]
fn a_browser_on_another_machine_is_pasted_from_and_a_strange_visit_changes_nothing() {
    let (_behind, protected, near) = start();
    let mut login = Login::begin(&near, &[]);
    let back = visit(&login.url).unwrap();
    // Another page of the browser knocks with a code of its own.
    let (stranger, _) = back.split_once('?').unwrap();
    visit(&format!("{stranger}?code=stolen&state=guessed"));
    login.wait_for("does not belong to this login");
    let mut input = login.child.stdin.take().unwrap();
    writeln!(input, "{back}").unwrap();
    let (is_in, text) = login.end();
    assert!(is_in, "{text}");
    assert!(protected.state().heard("/token")[0].contains("code=the-code&"));
    assert_eq!(echo(&open(&near), "here"), "here");
    // One that comes from another authorization server ends it, and no code goes anywhere.
    let login = Login::begin(&near, &[]);
    let back = visit(&login.url).unwrap();
    visit(&back.replace("&iss=http", "&iss=https"));
    let (is_in, text) = login.end();
    assert!(!is_in && text.contains("its answer was not used"), "{text}");
    assert_eq!(protected.state().heard("/token").len(), 1);
}

#[test]
fn servers_that_take_no_login_say_so() {
    let behind = start_one("");
    let folder = Folder::new();
    let url = format!("http://{}/health", behind.address);
    let servers = [
        "  program: { command: /bin/cat }\n".to_owned(),
        format!("  key: {{ url: \"{url}\", headers: {{ Authorization: x }} }}\n"),
        format!("  open: \"{url}\"\n"),
        "  plain: \"http://far.example/mcp\"\n".to_owned(),
    ];
    let config = configure(&folder, "", &servers);
    for (name, expected) in [
        ("program", "is started here, and takes no login"),
        ("key", "has a header `Authorization`"),
        ("open", "it asks for no login"),
        ("plain", "its address has no TLS"),
        ("nobody", "there is no MCP server `nobody`"),
    ] {
        let mut command = Command::new(program());
        command.args(["mcp", "login", name, "--no-browser", "--config"]).arg(&config).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{name}: {text}");
    }
}
