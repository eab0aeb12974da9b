//! An MCP server over standard input and output, for the suite of the gateway: its tools do what servers do, good and bad.
//!
//! `mcp_server [WORD…]`, where each word is a habit: `mute` answers nothing, not even `initialize`; `brief` exits with code 7 on its first
//! line; `loud` writes lines to standard output that are no messages and 10 MiB to standard error before anything else; `stubborn`
//! goes on when its input has ended; `deaf` reads no more once it has answered `initialize`.
//!
//! Tools, with their arguments: `echo {text}`; `pid {}`; `heard {}` tells what came before; `hold {text}` answers when `release {}` is
//! called; `progress {steps, hold}` tells steps under the token of the call, then answers or holds; `log {text}`; `change {text}` tells
//! that its tools have changed; `ask {id, text}`
//! asks the client's model under that id and answers with the client's answer; `exit {code}`; `die {}` by SIGKILL; `long {bytes}`
//! answers with so much text; `broken {}` writes a line that is cut; `flood {lines}` writes log messages before its answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test's own program

use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::process::{ExitCode, exit};

/// The server's memory.
#[derive(Default)]
struct Server {
    /// Everything that came, in its order.
    heard: Vec<Value>,
    /// Calls that wait for `release`: id and text.
    held: Vec<(Value, String)>,
    /// Calls that wait for the client: the id of the call, and of the question.
    asked: Vec<(Value, Value)>,
}

fn main() -> ExitCode {
    let habits: Vec<String> = std::env::args().skip(1).collect();
    let has = |habit: &str| habits.iter().any(|own| own == habit);
    if has("loud") {
        say("this server starts now");
        say("{\"level\":\"info\"}");
        say("{\"jsonrpc\":\"2.0\",\"id\":");
        let mut errors = std::io::stderr().lock();
        for _ in 0..10 << 10 {
            // Whoever reads it may have gone.
            let _ = errors.write_all(&[b'e'; 1023]);
            let _ = errors.write_all(b"\n");
        }
    }
    let mut server = Server::default();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if has("brief") {
            return ExitCode::from(7);
        }
        if !has("mute") {
            server.take(serde_json::from_str(&line).unwrap());
        }
        while has("deaf") {
            std::thread::park();
        }
    }
    while has("stubborn") {
        std::thread::park();
    }
    ExitCode::SUCCESS
}

/// Writes one line.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody reads.
        exit(0);
    }
}

fn tell(method: &str, params: &Value) {
    say(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
}

fn result(id: &Value, result: &Value) {
    say(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string());
}

fn text(id: &Value, text: &str) {
    let content = json!([{ "type": "text", "text": text }]);
    result(id, &json!({ "content": content }));
}

impl Server {
    fn take(&mut self, message: Value) {
        self.heard.push(message.clone());
        let id = &message["id"];
        match message["method"].as_str() {
            Some("initialize") => {
                let capabilities = json!({ "tools": { "listChanged": true }, "logging": {} });
                let hello = json!({
                    "protocolVersion": message["params"]["protocolVersion"],
                    "capabilities": capabilities,
                    "serverInfo": { "name": "suite", "version": "1" },
                });
                result(id, &hello);
            }
            Some("tools/call") => {
                let params = &message["params"];
                self.call(id, params, &params["arguments"]);
            }
            Some("tools/list") => result(id, &json!({ "tools": [] })),
            Some("logging/setLevel") => result(id, &json!({})),
            Some(_) if id.is_null() => {}
            Some(method) => {
                let error =
                    json!({ "code": -32601, "message": format!("no {method} here"), "data": [1] });
                say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string());
            }
            None => {
                let at = self.asked.iter().position(|(_, asked)| asked == id);
                if let Some(at) = at {
                    let (call, _) = self.asked.remove(at);
                    text(&call, &message["result"].to_string());
                }
            }
        }
    }

    fn call(&mut self, id: &Value, params: &Value, arguments: &Value) {
        let given = arguments["text"].as_str().unwrap_or_default();
        match params["name"].as_str().unwrap_or_default() {
            "echo" => text(id, given),
            "pid" => text(id, &std::process::id().to_string()),
            "heard" => text(id, &Value::from(self.heard.clone()).to_string()),
            "hold" => self.held.push((id.clone(), given.to_owned())),
            "release" => {
                for (held, given) in self.held.drain(..) {
                    text(&held, &given);
                }
                text(id, "released");
            }
            "progress" => {
                let token = &params["_meta"]["progressToken"];
                for step in 1..=arguments["steps"].as_u64().unwrap_or_default() {
                    let progress =
                        json!({ "progressToken": token, "progress": step, "message": given });
                    tell("notifications/progress", &progress);
                }
                match arguments["hold"].as_bool() {
                    Some(true) => self.held.push((id.clone(), given.to_owned())),
                    Some(false) | None => text(id, given),
                }
            }
            "log" => {
                tell(
                    "notifications/message",
                    &json!({ "level": "info", "data": given }),
                );
                text(id, given);
            }
            "change" => {
                tell("notifications/tools/list_changed", &json!({}));
                text(id, given);
            }
            "ask" => {
                let question = &arguments["id"];
                let messages =
                    json!([{ "role": "user", "content": { "type": "text", "text": given } }]);
                let params = json!({ "messages": messages, "maxTokens": 9 });
                let asks = json!({ "jsonrpc": "2.0", "id": question, "method": "sampling/createMessage", "params": params });
                self.asked.push((id.clone(), question.clone()));
                say(&asks.to_string());
            }
            "exit" => {
                let code = arguments["code"].as_i64().unwrap_or_default();
                exit(i32::try_from(code).unwrap());
            }
            "die" => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            }
            "long" => {
                let bytes = arguments["bytes"].as_u64().unwrap_or_default();
                text(id, &"x".repeat(usize::try_from(bytes).unwrap()));
            }
            "broken" => say("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":["),
            "flood" => {
                for line in 0..arguments["lines"].as_u64().unwrap_or_default() {
                    tell(
                        "notifications/message",
                        &json!({ "level": "info", "data": line }),
                    );
                }
                text(id, given);
            }
            name => {
                let error = json!({ "code": -32602, "message": format!("no tool {name}") });
                say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string());
            }
        }
    }
}
