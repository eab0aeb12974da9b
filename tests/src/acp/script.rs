//! An ACP agent that answers by itself, and conversations with it that each have a canary.
//!
//! The agent remembers, for each of its sessions, every canary that it has been told there, and tells all of them in every
//! answer. So an answer shows what its session knows, and a canary in the wrong place shows a leak. It thinks of the name of its
//! session, so that a client sees which one answers.

use super::{Bench, NAME};
use mcp_local_provider_core::agents::acp::Order;
use mcp_local_provider_core::agents::acp::tools::ToolAnswer;
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::id::{Authority, KeyId};
use mcp_local_provider_core::invocation::Finish;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;

/// An action that the agent has to take.
#[derive(Debug)]
enum Due {
    /// Write this line.
    Line(String),
    /// Answer a prompt: piece by piece, then its end.
    Prompt(Prompt),
}

#[derive(Debug)]
struct Prompt {
    session: String,
    id: Value,
    pieces: VecDeque<String>,
    /// Use the caller's tool first: to be called, or waiting with this number.
    tool: Option<Option<u64>>,
    cancelled: bool,
}

/// Everything that the agent remembers of a session.
#[derive(Debug, Default)]
struct Memory {
    canaries: BTreeSet<String>,
    /// Name and bearer token of its MCP server.
    server: Option<(String, String)>,
    model: String,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Script {
    sessions: BTreeMap<String, Memory>,
    due: Vec<Due>,
    made: usize,
    /// Working directories that a session was ever given.
    directories: BTreeSet<String>,
    /// Each session must get a directory of its own.
    pub own_directories: bool,
    /// Without `session/close`.
    pub never_closes: bool,
    running: bool,
}

fn update(session: &str, kind: &str, text: &str) -> String {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": {
        "sessionUpdate": kind, "content": {"type": "text", "text": text}}}})
    .to_string()
}

fn result(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// The canaries in a text: `CANARY-` and digits.
#[must_use]
pub fn canaries(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("CANARY-") {
        let digits = text[at + 7..]
            .chars()
            .take_while(char::is_ascii_digit)
            .count();
        found.insert(text[at..at + 7 + digits].to_owned());
    }
    found
}

impl Script {
    /// Reads everything that it was told, and does what its supervisor is told to do with it.
    pub fn read(&mut self, bench: &mut Bench) {
        for order in std::mem::take(&mut bench.orders) {
            match order {
                Order::Start => {
                    *self = Self {
                        made: self.made,
                        directories: std::mem::take(&mut self.directories),
                        own_directories: self.own_directories,
                        never_closes: self.never_closes,
                        running: true,
                        ..Self::default()
                    };
                    bench.started();
                }
                Order::CloseInput | Order::Terminate | Order::Kill if self.running => {
                    self.die(bench);
                }
                Order::CloseInput
                | Order::Terminate
                | Order::Kill
                | Order::Measure
                | Order::MakeDirectory(_)
                | Order::RemoveDirectory(_) => {}
            }
        }
        let lines = std::mem::take(&mut bench.written);
        for line in &lines {
            self.told(&serde_json::from_str(line).unwrap());
        }
        if !bench.orders.is_empty() || !bench.written.is_empty() {
            self.read(bench);
        }
    }

    /// The process ends.
    pub fn die(&mut self, bench: &mut Bench) {
        if self.running {
            self.running = false;
            bench.exited("code 1");
        }
    }

    fn told(&mut self, message: &Value) {
        let (params, id) = (&message["params"], &message["id"]);
        let session = params["sessionId"].as_str().unwrap_or_default();
        match message["method"].as_str() {
            Some("initialize") => {
                let close = if self.never_closes {
                    Value::Null
                } else {
                    json!({})
                };
                let can = json!({"protocolVersion": 1, "agentCapabilities": {"mcpCapabilities": {"http": true},
                    "sessionCapabilities": {"close": close}}});
                self.due.push(Due::Line(result(id, &can)));
            }
            Some("session/new") => {
                self.made += 1;
                let cwd = params["cwd"].as_str().unwrap().to_owned();
                let is_new = self.directories.insert(cwd);
                assert!(
                    is_new || !self.own_directories,
                    "two sessions in one directory"
                );
                let name = format!("s-{}", self.made);
                let server = params["mcpServers"].get(0).map(|server| {
                    let url = server["url"].as_str().unwrap();
                    let bearer = server["headers"][0]["value"].as_str().unwrap();
                    (
                        url.rsplit('/').next().unwrap().to_owned(),
                        bearer.trim_start_matches("Bearer ").to_owned(),
                    )
                });
                let memory = Memory {
                    server,
                    model: "a".into(),
                    ..Memory::default()
                };
                self.sessions.insert(name.clone(), memory);
                let made = json!({"sessionId": name, "configOptions": [{"id": "model", "category": "model", "type": "select",
                    "currentValue": "a", "options": [{"value": "a"}, {"value": "b"}]}]});
                self.due.push(Due::Line(result(id, &made)));
            }
            Some("session/set_config_option") => {
                let memory = self.sessions.get_mut(session).unwrap();
                memory.model = params["value"].as_str().unwrap().to_owned();
                self.due.push(Due::Line(result(id, &json!({}))));
            }
            Some("session/prompt") => {
                let text = params["prompt"][0]["text"].as_str().unwrap();
                let busy = self
                    .due
                    .iter()
                    .any(|due| matches!(due, Due::Prompt(prompt) if prompt.session == session));
                assert!(!busy, "two prompts at once in one session");
                let memory = self.sessions.get_mut(session).unwrap();
                memory.canaries.extend(canaries(text));
                let last = text.rsplit("</conversation>\n\n").next().unwrap();
                let knows: Vec<_> = memory.canaries.iter().map(String::as_str).collect();
                let answer = format!("{} of {last} knowing {}", memory.model, knows.join(" "));
                let tool = last.contains("use the tool") && memory.server.is_some();
                self.due.push(Due::Prompt(Prompt {
                    session: session.to_owned(),
                    id: id.clone(),
                    pieces: answer.split_inclusive(' ').map(str::to_owned).collect(),
                    tool: tool.then_some(None),
                    cancelled: false,
                }));
            }
            Some("session/cancel") => {
                for due in &mut self.due {
                    if let Due::Prompt(prompt) = due
                        && prompt.session == session
                    {
                        prompt.cancelled = true;
                    }
                }
            }
            Some("session/close") => {
                self.sessions.remove(session);
                self.due.push(Due::Line(result(id, &json!({}))));
            }
            _ => {}
        }
    }

    /// Returns the number of actions that are possible now.
    #[must_use]
    pub fn due(&self) -> usize {
        self.due.len()
    }

    /// Returns the calls of the caller's tools whose results it waits for.
    pub fn open_calls(&self) -> impl Iterator<Item = u64> {
        self.due.iter().filter_map(|due| match due {
            Due::Prompt(prompt) => prompt.tool.flatten(),
            Due::Line(_) => None,
        })
    }

    /// Does one of the things that are due. False when there was nothing that can be done now.
    pub fn step(&mut self, bench: &mut Bench, which: usize) -> bool {
        self.read(bench);
        if self.due.is_empty() {
            return false;
        }
        let which = which % self.due.len();
        let did = match &mut self.due[which] {
            Due::Line(_) => {
                let Due::Line(line) = self.due.remove(which) else {
                    unreachable!("it is a line");
                };
                bench.writes_line(&line);
                true
            }
            Due::Prompt(prompt) => {
                let memory = self.sessions.get(&prompt.session);
                if prompt.cancelled {
                    let line = result(&prompt.id, &json!({"stopReason": "cancelled"}));
                    self.due.remove(which);
                    bench.writes_line(&line);
                    true
                } else if let Some(tool) = &mut prompt.tool {
                    let (server, bearer) = memory.unwrap().server.as_ref().unwrap();
                    match tool {
                        None => {
                            let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look"}});
                            let answer = bench.http(server, bearer, "POST", &call.to_string());
                            match answer {
                                ToolAnswer::Stream(call) => *tool = Some(call.0),
                                // Its turn was given up.
                                ToolAnswer::Refused(Code::NotFound) => prompt.tool = None,
                                answer => panic!("{answer:?}"),
                            }
                            true
                        }
                        Some(call) => {
                            let (body, ended) =
                                bench.replies.get(call).cloned().unwrap_or_default();
                            if ended {
                                let said = canaries(&String::from_utf8(body).unwrap());
                                let said: Vec<_> = said.into_iter().collect();
                                prompt
                                    .pieces
                                    .push_back(format!(" tool said {}", said.join(" ")));
                                prompt.tool = None;
                            }
                            ended
                        }
                    }
                } else if let Some(piece) = prompt.pieces.pop_front() {
                    let name = format!("{} ", prompt.session);
                    let lines = [
                        ("agent_thought_chunk", name),
                        ("agent_message_chunk", piece),
                    ]
                    .map(|(kind, text)| update(&prompt.session, kind, &text));
                    lines.iter().for_each(|line| bench.writes_line(line));
                    true
                } else {
                    let line = result(
                        &prompt.id,
                        &json!({"stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 4}}),
                    );
                    self.due.remove(which);
                    bench.writes_line(&line);
                    true
                }
            }
        };
        self.read(bench);
        did
    }

    /// Does all that is due.
    pub fn rest(&mut self, bench: &mut Bench) {
        self.read(bench);
        while (0..self.due.len()).any(|which| self.step(bench, which)) {}
    }
}

/// A conversation of one client, which never has more than one request under way.
#[derive(Debug)]
pub struct Conversation {
    canary: String,
    messages: Vec<Value>,
    model: &'static str,
    /// It brings a tool.
    tools: bool,
    turns: usize,
    /// The permission with which it asks.
    caller: Authority,
    /// All that it has asked, by their places among the bench's clients.
    clients: Vec<usize>,
    /// Sessions of the agent that have answered it.
    pub sessions: BTreeSet<String>,
    /// The request that is under way, by its place among the bench's clients.
    pub client: Option<usize>,
    /// Every answer that it has had.
    pub answers: Vec<String>,
}

impl Conversation {
    /// The conversation of this number.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self {
            canary: format!("CANARY-{number}"),
            messages: Vec::new(),
            model: if number % 3 == 2 { "/b" } else { "" },
            tools: number % 2 == 1,
            turns: 0,
            caller: Authority::Anyone,
            clients: Vec::new(),
            sessions: BTreeSet::new(),
            client: None,
            answers: Vec::new(),
        }
    }

    /// The conversation of this number, asked by the key of that id.
    #[must_use]
    pub fn of_key(number: usize, key: NonZeroU32) -> Self {
        Self {
            caller: Authority::Key(KeyId(key)),
            ..Self::new(number)
        }
    }

    /// Tells everything that another one has told and heard as if it were its own, unless it still waits.
    pub fn copy(&mut self, other: &Self) {
        if self.client.is_none() {
            self.messages.clone_from(&other.messages);
            self.turns = other.turns;
        }
    }

    /// True when it was told this call of a tool.
    #[must_use]
    pub fn was_told(&self, call: u64, bench: &Bench) -> bool {
        let end = format!("_{call:x}");
        let clients = self.clients.iter().map(|place| &bench.clients[*place]);
        clients
            .flat_map(|client| &client.calls)
            .any(|(id, _, _)| id.ends_with(&end))
    }

    /// Asks the next thing, unless it still waits.
    pub fn ask(&mut self, bench: &mut Bench) {
        self.hear(bench);
        if self.client.is_some() {
            return;
        }
        if self
            .messages
            .last()
            .is_none_or(|message| message["role"] == "assistant")
        {
            self.turns += 1;
            let wish = if self.turns.is_multiple_of(2) {
                ", use the tool"
            } else {
                ""
            };
            let text = format!("turn {} of {}{wish}", self.turns, self.canary);
            self.messages.push(json!({"role": "user", "content": text}));
        }
        let mut body = json!({"model": format!("{NAME}{}", self.model), "messages": self.messages});
        if self.tools {
            body["tools"] = json!([{"type": "function", "function": {"name": "look"}}]);
        }
        bench.caller = self.caller;
        self.client = bench.ask(&body.to_string()).ok();
        self.clients.extend(self.client);
    }

    /// True when its last answer was a call of its tool, whose result it has.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.messages
            .last()
            .is_some_and(|message| message["role"] == "tool")
    }

    /// Takes what has come of its request.
    ///
    /// # Panics
    /// Fails when it was told another conversation's canary.
    pub fn hear(&mut self, bench: &Bench) {
        let Some(client) = self.client.map(|place| &bench.clients[place]) else {
            return;
        };
        let known = canaries(&client.text);
        assert!(
            known.iter().all(|canary| *canary == self.canary),
            "{} was told {:?}",
            self.canary,
            client.text
        );
        let sessions = client.reasoning.split_whitespace().map(str::to_owned);
        self.sessions.extend(sessions);
        if !client.is_over() {
            return;
        }
        self.client = None;
        match &client.end {
            Some(Ok(end)) if end.finish == Finish::ToolCalls => {
                let calls: Vec<_> = client
                    .calls
                    .iter()
                    .map(|(id, name, arguments)| {
                        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
                    })
                    .collect();
                self.messages.push(
                    json!({"role": "assistant", "content": client.text, "tool_calls": calls}),
                );
                for (id, _, _) in &client.calls {
                    let text = format!("{} was seen", self.canary);
                    self.messages
                        .push(json!({"role": "tool", "tool_call_id": id, "content": text}));
                }
            }
            Some(Ok(_)) => {
                self.answers.push(client.text.clone());
                self.messages
                    .push(json!({"role": "assistant", "content": client.text}));
            }
            // It asks again.
            Some(Err(_)) | None => {}
        }
    }
}
