//! Scripted clients of revision 2026-07-28: one request each, and what must come of it.

use crate::exchange::Exchange;
use serde_json::{Value, json};

/// A request without a session.
pub(super) struct Alone {
    pub(super) exchange: Exchange,
    pub(super) canary: String,
    unread: Vec<u8>,
    progress: u64,
    pub(super) answers: u32,
    /// Its client has closed the answer, which takes it back.
    pub(super) is_cut: bool,
    /// Its header says something else than the argument that it repeats.
    lies: bool,
}

/// The body of a call of a tool.
pub(super) fn body(tool: &str, canary: &str) -> Value {
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}, "progressToken": canary });
    json!({ "jsonrpc": "2.0", "id": canary, "method": "tools/call", "params":
        { "name": tool, "arguments": { "canary": canary }, "_meta": meta } })
}

impl Alone {
    pub(super) const fn new(exchange: Exchange, canary: String, lies: bool) -> Self {
        Self {
            exchange,
            canary,
            unread: Vec::new(),
            progress: 0,
            answers: 0,
            is_cut: false,
            lies,
        }
    }

    /// The client closes the answer.
    pub(super) fn cut(&mut self) {
        self.is_cut |= self.answers == 0;
        self.exchange.cut();
    }

    /// The client reads what has arrived.
    pub(super) fn read(&mut self) {
        let Some(head) = self.exchange.head.clone() else {
            return;
        };
        let mut is_stream = false;
        head.headers(|name, value| {
            is_stream |= name == "content-type" && value.starts_with(b"text/event-stream");
        });
        self.unread.append(&mut self.exchange.arrived);
        if !is_stream {
            if self.exchange.is_whole && !self.unread.is_empty() {
                let body = std::mem::take(&mut self.unread);
                self.hear(&serde_json::from_slice(&body).expect("the body is JSON"));
            }
            return;
        }
        while let Some(end) = memchr::memmem::find(&self.unread, b"\n\n") {
            let event: Vec<u8> = self.unread.drain(..end + 2).collect();
            let event = String::from_utf8(event).expect("events are UTF-8");
            for data in event.lines().filter_map(|line| line.strip_prefix("data: ")) {
                self.hear(&serde_json::from_str(data).expect("data is JSON"));
            }
        }
    }

    fn hear(&mut self, message: &Value) {
        let canary = &self.canary;
        assert_eq!(self.answers, 0, "{canary}: {message} behind the answer");
        match message["method"].as_str() {
            None => {
                self.answers += 1;
                let error = &message["error"];
                // A server that does not list its tools in time has no calls refused.
                let is_refused = error["data"]["reason"] == "header_mismatch";
                assert!(self.lies || !is_refused, "{canary} says what it is");
                if error["data"]["reason"].is_null() {
                    assert_eq!(message["id"], **canary, "{message}");
                    let said = message["result"]["canary"].as_str();
                    let said = said.or(error["message"].as_str());
                    assert_eq!(said, Some(&**canary), "the answer of another one");
                }
            }
            Some("notifications/progress") => {
                let params = &message["params"];
                self.progress += 1;
                let told = (&params["progressToken"], &params["message"]);
                assert_eq!(told, (&json!(canary), &json!(canary)), "another's progress");
                assert_eq!(params["progress"], self.progress, "progress is missing");
            }
            Some(_) => panic!("{canary} hears {message}, for which it has not asked"),
        }
    }

    /// It has one answer, unless it was taken back.
    pub(super) fn check(&self) {
        let canary = &self.canary;
        assert!(self.is_cut || self.answers == 1, "{canary} has no answer");
    }
}
