//! An MCP server over standard input and output, for the suite of the gateway: its tools do what servers do, good and bad.
//!
//! `mcp_server [WORD…]`, where each word is a habit: `mute` answers nothing, not even `initialize`; `brief` exits with code 7 on its first
//! line; `loud` writes lines to standard output that are no messages and 10 MiB to standard error before anything else; `stubborn`
//! goes on when its input has ended; `deaf` reads no more once it has answered `initialize`; `mirrors` has clients repeat the argument of `echo`
//! in the header `Mcp-Param-Text`; `modern` speaks revision 2026-07-28
//! alone, with these tools: `ask {text}` asks the client's model in
//! a round of its own, `log`, `change`, `touch {uri}` tell those who listen and those who gave a level, and those that follow but for
//! `hold`, `release`, `flood` do the same.
//!
//! Tools, with their arguments: `echo {text}`; `pid {}`; `heard {}` tells what came before; `hold {text}` answers when `release {log}` is
//! called, and says so on standard error; `await {path}` says so too, and answers with the id of the process once that file is there; `progress {steps, hold}` tells steps under the token of the call, then answers or holds; `log {text}`; `change {text}` tells
//! that its tools have changed; `update {uri}`
//! tells that a resource has; `ask {id, text, method}`
//! asks the client under that id, its model where no method is given, and answers with the client's answer; `spew {method}` writes that
//! notification again and again and never answers; `exit {code}`; `die {}` by SIGKILL; `long {bytes}`
//! answers with so much text; `shape {result}` answers with that result; `broken {}` writes a line that is cut; `flood {lines}` writes log messages before its answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test's own program

use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::process::{ExitCode, exit};

/// The server's memory.
#[derive(Default)]
struct Server {
    /// It speaks revision 2026-07-28.
    is_modern: bool,
    /// It lists `echo` with a header for its argument.
    mirrors: bool,
    /// The request that listens, and what it listens for.
    listens: Option<(Value, Value)>,
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
    let mut server = Server {
        is_modern: has("modern"),
        mirrors: has("mirrors"),
        ..Server::default()
    };
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

/// Answers as revision 2026-07-28 has it.
fn modern(id: &Value, all: &Value) {
    let mut all = all.clone();
    all["resultType"] = json!("complete");
    result(id, &all);
}

fn text(id: &Value, text: &str) {
    let content = json!([{ "type": "text", "text": text }]);
    result(id, &json!({ "content": content }));
}

fn has_cursor(message: &Value) -> bool {
    message["params"]["cursor"] == "more"
}

/// A tool as the list has it.
fn tool(name: &str) -> Value {
    let properties = match name {
        "tree" => json!({ "root": { "$ref": "#/$defs/Node" } }),
        _ => json!({ "text": { "type": "string" } }),
    };
    let node = json!({ "type": "object", "properties": { "next": { "$ref": "#/$defs/Node" } } });
    let mut schema = json!({ "type": "object", "properties": properties });
    if name == "tree" {
        schema["$defs"] = json!({ "Node": node });
    }
    json!({ "name": name, "description": "A <tool>", "inputSchema": schema })
}

impl Server {
    /// The tool `echo` as the list has it.
    fn echo(&self) -> Value {
        let mut echo = tool("echo");
        if self.mirrors {
            echo["inputSchema"]["properties"]["text"]["x-mcp-header"] = json!("Text");
        }
        echo
    }

    fn take(&mut self, message: Value) {
        self.heard.push(message.clone());
        let id = &message["id"];
        if self.is_modern {
            return self.take_modern(id, &message);
        }
        match message["method"].as_str() {
            Some("initialize") => {
                let capabilities = json!({ "tools": { "listChanged": true }, "logging": {}, "resources": { "subscribe": true } });
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
            Some("tools/list") if has_cursor(&message) => {
                result(id, &json!({ "tools": [tool("tree"), tool("shape")] }));
            }
            Some("tools/list") => {
                let first = json!({ "tools": [self.echo()], "nextCursor": "more" });
                result(id, &first);
            }
            Some("resources/list") => {
                result(id, &json!({ "resources": [{ "uri": "a:b", "name": "b" }] }))
            }
            Some("resources/read") => {
                let uri = &message["params"]["uri"];
                result(id, &json!({ "contents": [{ "uri": uri, "text": "read" }] }));
            }
            Some("resources/subscribe" | "resources/unsubscribe") => result(id, &json!({})),
            Some("prompts/list") => result(id, &json!({ "prompts": [{ "name": "greet" }] })),
            Some("prompts/get") => result(id, &json!({ "messages": [message["params"]] })),
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

    /// Takes a message of revision 2026-07-28.
    fn take_modern(&mut self, id: &Value, message: &Value) {
        let params = &message["params"];
        let meta = |name: &str| &params["_meta"][format!("io.modelcontextprotocol/{name}")];
        let refuse = |code: i64, data: Value| {
            let error = json!({ "code": code, "message": "refused", "data": data });
            say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string());
        };
        let method = message["method"].as_str().unwrap_or_default();
        if method == "initialize" {
            return refuse(-32022, json!({ "supported": ["2026-07-28"] }));
        }
        if method == "notifications/cancelled" {
            let listens = self.listens.as_ref();
            if listens.is_some_and(|(listen, _)| *listen == params["requestId"]) {
                self.listens = None;
            }
            return;
        }
        if meta("protocolVersion") != "2026-07-28" || !meta("clientCapabilities").is_object() {
            return refuse(-32602, json!("_meta"));
        }
        match method {
            "server/discover" => {
                let capabilities = json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {} });
                let own = json!({ "io.modelcontextprotocol/serverInfo": { "name": "suite", "version": "1" } });
                modern(
                    id,
                    &json!({ "supportedVersions": ["2026-07-28"], "capabilities": capabilities, "ttlMs": 0, "_meta": own }),
                );
            }
            "subscriptions/listen" => {
                self.listens = Some((id.clone(), params["notifications"].clone()));
                self.told("notifications/subscriptions/acknowledged", json!({}));
            }
            "tools/list" if self.mirrors => modern(
                id,
                &json!({ "tools": [self.echo()], "ttlMs": 0, "cacheScope": "public" }),
            ),
            "resources/read" => refuse(-32602, json!({ "uri": params["uri"] })),
            "tools/call" => {
                let arguments = &params["arguments"];
                let given = arguments["text"].as_str().unwrap_or_default();
                match params["name"].as_str().unwrap_or_default() {
                    "ask" => match params["inputResponses"].get("answer") {
                        Some(answer) => {
                            let heard = json!([answer, params["requestState"]]);
                            modern(
                                id,
                                &json!({ "content": [{ "type": "text", "text": heard.to_string() }] }),
                            );
                        }
                        None => {
                            let params = json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": given } }], "maxTokens": 9 });
                            let asks = json!({ "answer": { "method": "sampling/createMessage", "params": params } });
                            result(
                                id,
                                &json!({ "resultType": "input_required", "inputRequests": asks, "requestState": given }),
                            );
                        }
                    },
                    "log" => {
                        if let Some(level) = meta("logLevel").as_str() {
                            tell(
                                "notifications/message",
                                &json!({ "level": level, "data": given }),
                            );
                        }
                        modern(id, &json!({ "content": [] }));
                    }
                    "change" => {
                        self.told("notifications/tools/list_changed", json!({}));
                        modern(id, &json!({ "content": [] }));
                    }
                    "touch" => {
                        let listens = self.listens.as_ref();
                        let uris =
                            listens.and_then(|(_, of)| of["resourceSubscriptions"].as_array());
                        if uris.is_some_and(|uris| uris.contains(&arguments["uri"])) {
                            self.told(
                                "notifications/resources/updated",
                                json!({ "uri": arguments["uri"] }),
                            );
                        }
                        modern(id, &json!({ "content": [] }));
                    }
                    _ => self.call(id, params, arguments),
                }
            }
            _ if id.is_null() => {}
            _ => refuse(-32601, Value::Null),
        }
    }

    /// Tells it who listens.
    fn told(&self, method: &str, mut params: Value) {
        if let Some((listen, _)) = &self.listens {
            params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": listen });
            tell(method, &params);
        }
    }

    fn call(&mut self, id: &Value, params: &Value, arguments: &Value) {
        let given = arguments["text"].as_str().unwrap_or_default();
        match params["name"].as_str().unwrap_or_default() {
            "echo" => text(id, given),
            "pid" => text(id, &std::process::id().to_string()),
            "heard" => text(id, &Value::from(self.heard.clone()).to_string()),
            "hold" => {
                eprintln!("holds {given}");
                self.held.push((id.clone(), given.to_owned()));
            }
            "await" => {
                let path = arguments["path"].as_str().unwrap();
                eprintln!("awaits {path}");
                while !std::path::Path::new(path).exists() {
                    std::thread::yield_now();
                }
                text(id, &std::process::id().to_string());
            }
            "release" => {
                for (held, given) in self.held.drain(..) {
                    if arguments["log"] == true {
                        let line = json!({ "level": "info", "data": given });
                        tell("notifications/message", &line);
                    }
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
            "update" => {
                let params = json!({ "uri": arguments["uri"] });
                tell("notifications/resources/updated", &params);
                text(id, given);
            }
            "spew" => {
                let method = arguments["method"].as_str().unwrap();
                let params = json!({ "level": "info", "data": "x".repeat(4000) });
                loop {
                    tell(method, &params);
                }
            }
            "ask" => {
                let question = &arguments["id"];
                let method = arguments["method"].as_str();
                let method = method.unwrap_or("sampling/createMessage");
                let messages =
                    json!([{ "role": "user", "content": { "type": "text", "text": given } }]);
                let params = json!({ "messages": messages, "maxTokens": 9, "message": given });
                let asks =
                    json!({ "jsonrpc": "2.0", "id": question, "method": method, "params": params });
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
            "shape" => {
                // The result is the argument.
                result(id, &arguments["result"]);
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
