//! An MCP server over standard input and output that has something of everything that servers list, for the suite of several servers
//! under one address.
//!
//! `mcp_shelf TITLE [WORD…]`, where each word is a habit: `paged` lists one tool a page; `plain` has tools alone; `missing=PATH` exits
//! with code 7 on its first line where there is no such file.
//!
//! Tools: `read {}` answers with a link to `file:///TITLE` and with that resource; `write {text}`; `heard {}` tells the methods that
//! came before; `touch {}` tells that the resource has changed; `grow {}` adds the tool `new` and tells that; `ask {}` asks the client's
//! model and answers with the client's answer; `pid {}`; `crash {}` exits with code 3.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test's own program

use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::process::exit;

/// The server's memory.
struct Shelf {
    title: String,
    habits: Vec<String>,
    tools: Vec<&'static str>,
    heard: Vec<Value>,
    /// The call that waits for the client's answer.
    asked: Option<Value>,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut shelf = Shelf {
        title: words.next().unwrap(),
        habits: words.collect(),
        tools: vec![
            "read", "write", "heard", "touch", "grow", "ask", "pid", "crash",
        ],
        heard: Vec::new(),
        asked: None,
    };
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let missing = shelf.habits.iter();
        let mut missing = missing.filter_map(|habit| habit.strip_prefix("missing="));
        if missing.any(|path| !std::path::Path::new(path).exists()) {
            exit(7);
        }
        let message: Value = serde_json::from_str(&line).unwrap();
        if let Some(answer) = shelf.take(&message) {
            say(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": answer }));
        }
    }
}

/// Writes one line.
fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{message}")
        .and_then(|()| out.flush())
        .is_err()
    {
        // Nobody reads.
        exit(0);
    }
}

fn tell(method: &str, params: &Value) {
    say(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
}

impl Shelf {
    fn has(&self, habit: &str) -> bool {
        self.habits.iter().any(|own| own == habit)
    }

    fn uri(&self) -> String {
        format!("file:///{}", self.title)
    }

    fn link(&self) -> Value {
        json!({ "type": "resource_link", "uri": self.uri(), "name": "a" })
    }

    fn text(&self, text: &str) -> Value {
        json!({ "content": [{ "type": "text", "text": format!("{}: {text}", self.title) }] })
    }

    fn take(&mut self, message: &Value) -> Option<Value> {
        self.heard.push(message["method"].clone());
        let params = &message["params"];
        if message["method"].is_null() {
            let call = self.asked.take()?;
            let text = self.text(&message["result"]["said"].to_string());
            say(&json!({ "jsonrpc": "2.0", "id": call, "result": text }));
            return None;
        }
        Some(match message["method"].as_str().unwrap() {
            "initialize" => {
                let all = json!({ "tools": {}, "prompts": {}, "resources": { "subscribe": true }, "completions": {}, "logging": {} });
                let capabilities = if self.has("plain") {
                    json!({ "tools": {} })
                } else {
                    all
                };
                json!({
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": capabilities,
                    "serverInfo": { "name": self.title, "version": "1" },
                    "instructions": format!("This is {}.", self.title),
                })
            }
            "tools/list" => self.tools(params["cursor"].as_str()),
            "tools/call" => return self.call(&message["id"], params),
            "prompts/list" => json!({ "prompts": [{ "name": "advise" }] }),
            "prompts/get" => {
                let name = params["name"].as_str().unwrap();
                let content = [json!({ "type": "text", "text": name }), self.link()];
                let messages = content.map(|content| json!({ "role": "user", "content": content }));
                json!({ "messages": messages })
            }
            "resources/list" => json!({ "resources": [{ "uri": self.uri(), "name": "a" }] }),
            "resources/templates/list" => {
                json!({ "resourceTemplates": [{ "uriTemplate": "file:///{path}", "name": "t" }] })
            }
            "resources/read" => {
                json!({ "contents": [{ "uri": params["uri"], "text": self.title }] })
            }
            "resources/subscribe" | "logging/setLevel" => json!({}),
            "completion/complete" => {
                let of = &params["ref"];
                let of = of["uri"].as_str().or(of["name"].as_str()).unwrap();
                json!({ "completion": { "values": [format!("{} {of}", self.title)] } })
            }
            _ if message["id"].is_null() => return None,
            method => {
                let error = json!({ "code": -32601, "message": format!("no {method} here") });
                say(&json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }));
                return None;
            }
        })
    }

    fn tools(&self, cursor: Option<&str>) -> Value {
        let schema = json!({ "type": "object" });
        let meta = json!({ "ui": { "resourceUri": "ui://show" } });
        let tool = |name| json!({ "name": name, "inputSchema": schema, "_meta": meta });
        if !self.has("paged") {
            return json!({ "tools": self.tools.iter().map(tool).collect::<Vec<_>>() });
        }
        let page = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let next = page + 1;
        if next < self.tools.len() {
            json!({ "tools": [tool(&self.tools[page])], "nextCursor": next.to_string() })
        } else {
            json!({ "tools": [tool(&self.tools[page])] })
        }
    }

    fn call(&mut self, id: &Value, params: &Value) -> Option<Value> {
        Some(match params["name"].as_str().unwrap() {
            "read" => {
                let resource = json!({ "uri": self.uri(), "text": self.title });
                json!({ "content": [self.link(), { "type": "resource", "resource": resource }] })
            }
            "write" => self.text(params["arguments"]["text"].as_str().unwrap_or_default()),
            "heard" => self.text(&Value::from(self.heard.clone()).to_string()),
            "touch" => {
                tell(
                    "notifications/resources/updated",
                    &json!({ "uri": self.uri() }),
                );
                self.text("touched")
            }
            "grow" => {
                self.tools.push("new");
                tell("notifications/tools/list_changed", &json!({}));
                self.text("grown")
            }
            "new" => self.text("new"),
            "pid" => self.text(&std::process::id().to_string()),
            "ask" => {
                self.asked = Some(id.clone());
                // Every server asks under this id.
                say(
                    &json!({ "jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": { "messages": [], "maxTokens": 1 } }),
                );
                return None;
            }
            "crash" => exit(3),
            _ => {
                let error = json!({ "code": -32602, "message": "no such tool" });
                say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
                return None;
            }
        })
    }
}
