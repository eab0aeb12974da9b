//! A scripted MCP server: its process, what it was asked, and what it says.

use super::SHARED;
use crate::exchange::Alarm;
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::gateway::{Child, Exit, Work};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// One call of a tool that is not answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// As the program wrote it.
    id: Value,
    token: Option<Value>,
    /// Who asks for what: nobody else may see it.
    pub(super) canary: String,
    progress: u32,
}

impl Asked {
    /// The canary of the session that asks.
    pub(super) fn session(&self) -> &str {
        self.canary.split('-').next().unwrap_or_default()
    }
}

/// A process that runs.
#[derive(Debug, Default)]
pub(super) struct Running {
    input: VecDeque<String>,
    pub(super) asked: Vec<Asked>,
    /// Ids of calls that were answered or cancelled.
    over: Vec<Value>,
    is_greeted: bool,
    questions: u32,
    /// The canary of the session whose calls came, where the process serves no other.
    session: Option<String>,
    /// It serves several sessions.
    is_shared: bool,
    /// Names of the resources to which it is subscribed.
    subscribed: BTreeSet<String>,
    /// Its standard input is closed.
    is_told: bool,
    /// The latest change of its tools.
    change: u64,
}

/// One process of a server, with the thread that runs it.
pub(super) struct Process {
    child: Child,
    work: Work,
    /// Changes of the lists of all servers.
    changes: Rc<Cell<u64>>,
    pub(super) alarm: Alarm,
    pub(super) running: Option<Running>,
    /// The thread has ended.
    pub(super) is_over: bool,
    /// The program cannot be started.
    pub(super) is_broken: bool,
    /// It goes on though its standard input is closed, and ignores SIGTERM.
    pub(super) is_stubborn: bool,
}

impl Process {
    pub(super) fn new(
        child: Child,
        changes: Rc<Cell<u64>>,
        is_broken: bool,
        is_stubborn: bool,
    ) -> Self {
        Self {
            child,
            changes,
            work: Work::default(),
            alarm: Alarm::new(),
            running: None,
            is_over: false,
            is_broken,
            is_stubborn,
        }
    }

    /// The thread takes its work and does it.
    pub(super) fn turn(&mut self) {
        loop {
            self.child.take(&self.alarm.waker, &mut self.work);
            self.alarm.until = self.work.until;
            let orders = std::mem::take(&mut self.work.orders);
            let obeyed = !orders.is_empty();
            for order in orders {
                self.obey(order);
            }
            self.write();
            if self.work.ended {
                assert!(self.running.is_none(), "a process without its thread");
                self.is_over = true;
                return;
            }
            if !obeyed {
                return;
            }
        }
    }

    fn write(&mut self) {
        match &mut self.running {
            Some(running) => running.input.extend(self.work.lines.drain(..)),
            None => self.work.lines.clear(),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Spawn if self.is_broken => {
                self.work.lines.clear();
                self.child
                    .handle_exited(Exit::NotStarted, "it is not there");
            }
            Order::Spawn => {
                assert!(self.running.is_none(), "two processes on one thread");
                self.running = Some(Running {
                    is_shared: **self.child.server() == *SHARED,
                    change: self.changes.get(),
                    ..Running::default()
                });
                self.child.handle_started(Some(1));
            }
            Order::CloseInput => {
                self.write();
                if let Some(running) = &mut self.running {
                    running.is_told = true;
                }
            }
            Order::Terminate if self.is_stubborn => {}
            Order::Terminate => self.exit(Exit::Signal(15)),
            Order::Kill => self.exit(Exit::Signal(9)),
        }
    }

    /// The process ends.
    pub(super) fn exit(&mut self, how: Exit) {
        if self.running.take().is_some() {
            self.work.lines.clear();
            self.child.handle_exited(how, "it has ended");
            // The thread that notices it looks for work again.
            self.alarm.waker.wake_by_ref();
        }
    }

    pub(super) fn say(&self, message: &Value) {
        let line = message.to_string();
        self.child.handle_line(Line::Whole(line.as_bytes()));
    }

    /// The process reads what was written to it, all or one line.
    pub(super) fn read(&mut self, most: usize) {
        for _ in 0..most {
            let Some(running) = &mut self.running else {
                return;
            };
            let Some(line) = running.input.pop_front() else {
                // One that reads the end of its input ends.
                if running.is_told && !self.is_stubborn {
                    self.exit(Exit::Code(0));
                }
                return;
            };
            let message: Value = serde_json::from_str(&line).expect("a line is one message");
            assert!(
                line.ends_with('\n') && line.matches('\n').count() == 1,
                "{line:?}"
            );
            if let Some(answer) = running.hear(&message) {
                self.say(&answer);
            }
        }
    }

    /// The process does one of the things that a server does, or must not do.
    pub(super) fn act(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let how = u.int_in_range(0..=23u8)?;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if !running.is_greeted {
            return Ok(());
        }
        let mut at = None;
        if !running.asked.is_empty() {
            at = Some(u.choose_index(running.asked.len())?);
        }
        let mut owner = running.session.clone();
        if running.is_shared {
            let asked = at.map(|at| &running.asked[at]);
            owner = asked.map(|asked| asked.session().to_owned());
        }
        let said = match (how, at) {
            (0..=7, Some(at)) => {
                let asked = running.asked.remove(at);
                running.over.push(asked.id.clone());
                answer(&asked)
            }
            (8, Some(at)) => {
                let asked = running.asked.remove(at);
                running.over.push(asked.id.clone());
                json!({ "jsonrpc": "2.0", "id": asked.id, "error": { "code": 7, "message": asked.canary } })
            }
            (9..=14, Some(at)) => {
                let asked = &mut running.asked[at];
                let Some(token) = &asked.token else {
                    return Ok(());
                };
                asked.progress += 1;
                json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params":
                    { "progressToken": token, "progress": asked.progress, "message": asked.canary } })
            }
            // What it must not: an answer again, or to a number that nobody has given.
            (15, _) => match running.over.last() {
                Some(id) => json!({ "jsonrpc": "2.0", "id": id, "result": { "canary": "TWICE" } }),
                None => {
                    json!({ "jsonrpc": "2.0", "id": 1_000_000, "result": { "canary": "TWICE" } })
                }
            },
            (16, _) => {
                self.child.handle_line(Line::Whole(b"Listening on port 80"));
                return Ok(());
            }
            (17, _) | (18, None) => {
                running.questions += 1;
                let id = running.questions;
                json!({ "jsonrpc": "2.0", "id": id, "method": "sampling/createMessage",
                    "params": { "canary": owner } })
            }
            (18 | 19, _) => json!({ "jsonrpc": "2.0", "method": "notifications/message",
                "params": { "level": "error", "data": { "canary": owner } } }),
            (20, _) => {
                // It stays with the session, and the first `STEP` of each share of `limits.memory` is free.
                self.changes.set(self.changes.get() + 1);
                running.change = self.changes.get();
                let params = json!({ "change": running.change, "long": "x".repeat(2 * STEP) });
                json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params })
            }
            (21, _) if running.is_shared => {
                let all: Vec<&String> = running.subscribed.iter().collect();
                if all.is_empty() {
                    return Ok(());
                }
                let name = *u.choose(&all)?;
                json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated",
                    "params": { "uri": format!("file:///{name}"), "canary": name } })
            }
            (21, _) => json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated",
                "params": { "uri": "file:///canary", "canary": owner } }),
            (22, _) if running.questions > 0 => {
                json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
                "params": { "requestId": running.questions, "canary": owner } })
            }
            _ => return Ok(()),
        };
        self.say(&said);
        Ok(())
    }

    /// The process answers all that it was asked.
    pub(super) fn answer_all(&mut self) {
        self.read(usize::MAX);
        let Some(running) = &mut self.running else {
            return;
        };
        for asked in std::mem::take(&mut running.asked) {
            self.say(&answer(&asked));
        }
    }

    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        !self.is_over && self.alarm.take(now)
    }
}

fn answer(asked: &Asked) -> Value {
    json!({ "jsonrpc": "2.0", "id": asked.id, "result": { "content": [], "canary": asked.canary } })
}

/// Name of the session whose resource the parameters name.
fn resource(params: &Value) -> String {
    let uri = params["uri"].as_str().unwrap_or_default();
    let name = uri.strip_prefix("file:///").expect("a resource of ours");
    name.to_owned()
}

impl Running {
    /// Takes a message, and gives the answer to it if it has one at once.
    fn hear(&mut self, message: &Value) -> Option<Value> {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str() {
            Some("initialize") => {
                self.is_greeted = true;
                let declared = params["capabilities"].as_object().map(|all| all.len());
                // Requests without sessions have a process that may be told to ask, and serves all of them.
                let is_pooled = !self.is_shared && declared == Some(3);
                let declares = if self.is_shared { 0 } else { 1 };
                assert!(
                    is_pooled || declared == Some(declares),
                    "who can be asked: {params}"
                );
                self.is_shared |= is_pooled;
                Some(json!({ "jsonrpc": "2.0", "id": id, "result": {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": { "tools": { "listChanged": true }, "logging": {}, "resources": { "subscribe": true } },
                    "serverInfo": { "name": "world", "version": "1" } } }))
            }
            Some("server/discover") => Some(json!({ "jsonrpc": "2.0", "id": id, "error":
                { "code": -32601, "message": "not known" } })),
            Some("tools/list") => {
                self.over.push(id.clone());
                let canary = json!({ "type": "string", "x-mcp-header": "Canary" });
                let echo = json!({ "name": "echo", "inputSchema": { "properties": { "canary": canary } } });
                let tools = json!([echo, { "name": format!("v{}", self.change) }]);
                Some(json!({ "jsonrpc": "2.0", "id": id, "result": { "tools": tools } }))
            }
            Some("resources/subscribe") => {
                self.subscribed.insert(resource(params));
                self.over.push(id.clone());
                let canary = &params["canary"];
                Some(json!({ "jsonrpc": "2.0", "id": id, "result": { "canary": canary } }))
            }
            Some("resources/unsubscribe") => {
                // A subscription that was taken back early may never have come.
                self.subscribed.remove(&resource(params));
                Some(json!({ "jsonrpc": "2.0", "id": id, "result": {} }))
            }
            // A process that does not read it in time is killed.
            Some("ping") => Some(json!({ "jsonrpc": "2.0", "id": id, "result": {} })),
            Some("tools/call") => {
                let canary = params["arguments"]["canary"].as_str().expect("a canary");
                if !self.is_shared {
                    let session = canary.split('-').next().unwrap_or_default();
                    let own = self.session.get_or_insert_with(|| session.to_owned());
                    assert_eq!(own, session, "a process serves another session");
                }
                let is_known = |asked: &Asked| asked.id == *id;
                assert!(
                    !self.asked.iter().any(is_known) && !self.over.contains(id),
                    "id {id} comes twice"
                );
                let token = params["_meta"].get("progressToken").cloned();
                let is_used = |asked: &Asked| token.is_some() && asked.token == token;
                assert!(
                    !self.asked.iter().any(is_used),
                    "two requests have the token {token:?}"
                );
                self.asked.push(Asked {
                    id: id.clone(),
                    token,
                    canary: canary.to_owned(),
                    progress: 0,
                });
                None
            }
            Some("notifications/cancelled") => {
                let request = &params["requestId"];
                let at = self.asked.iter().position(|asked| asked.id == *request);
                let known = at.is_some() || self.over.contains(request);
                assert!(known, "{request} is cancelled, which nobody has sent");
                if let Some(at) = at {
                    self.over.push(self.asked.remove(at).id);
                }
                None
            }
            Some(other) if !id.is_null() => panic!("the process is asked {other}"),
            Some(_) => None,
            // An answer of the client.
            None => {
                let number = id.as_u64().expect("the id of a question");
                assert!(
                    number >= 1 && number <= u64::from(self.questions),
                    "an answer to no question: {message}"
                );
                if let (Some(canary), Some(own)) =
                    (message["result"]["canary"].as_str(), &self.session)
                {
                    assert_eq!(canary, own, "an answer of another session");
                }
                None
            }
        }
    }
}
