//! Fifty clients at once: no message of one reaches another, on one process for all and on a process each.

use super::client::{Client, KEY, NEWEST, OTHER, request, server, start};
use crate::program::Program;
use serde_json::{Value, json};
use std::sync::Barrier;
use std::thread;

const CLIENTS: usize = 50;

/// Rounds of each client.
const ROUNDS: usize = 2;

/// Room for so many clients.
const SETTINGS: &str = "rate: { requests: 0 }, sessions: { per_client: 64 }, processes: { max: 64, starts_at_once: 16 }";

/// One of them, with the word that stands in everything that is its own.
struct Member<'p> {
    client: Client<'p>,
    canary: String,
}

impl<'p> Member<'p> {
    fn open(program: &'p Program, number: usize, capabilities: &Value) -> Self {
        let mut client = Client::new(program, [KEY, OTHER][number % 2]);
        let hello = json!({ "protocolVersion": NEWEST, "capabilities": capabilities, "clientInfo": { "name": "c", "version": "1" } });
        let opened = client.post(&request(0, "initialize", &hello));
        client.session = opened.header("mcp-session-id").map(str::to_owned);
        assert!(client.session.is_some(), "{opened:?}");
        let canary = format!("canary-{number:03}");
        Self { client, canary }
    }

    /// What came to it is its own.
    fn check(&self, text: &str) {
        let own = text.matches(&self.canary).count();
        assert!(own > 0 && text.matches("canary-").count() == own, "{} has heard {text}", self.canary);
    }

    /// Calls a tool under an id and with a token that all others have too, and returns what came for it.
    fn call(&self, id: usize, tool: &str, arguments: &Value) -> String {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": 1 } });
        let answer = self.client.post(&request(id, "tools/call", &params));
        assert_eq!(answer.status, 200, "{answer:?}");
        self.check(&answer.body);
        answer.body
    }

    /// The server asks in a call, and is answered.
    fn ask(&self, method: &str) {
        let arguments = json!({ "id": "q", "text": self.canary, "method": method });
        let params = json!({ "name": "ask", "arguments": arguments });
        let mut events = self.client.stream(&request(7, "tools/call", &params));
        let question = events.message().unwrap();
        assert_eq!(question["method"], method);
        self.check(&question.to_string());
        let said = json!({ "said": format!("{} to {method}", self.canary) });
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": said });
        assert_eq!(self.client.post(&answer).status, 202);
        let result = events.message().unwrap();
        assert_eq!(result["id"], 7);
        assert_eq!(result["result"]["content"][0]["text"], said.to_string());
        assert_eq!(events.message(), None);
    }

    /// All that a client does. Everybody has done it when the barrier opens, and then nothing more may come but the last update.
    fn live(&self, questions: &[&str], all: &Barrier) {
        let mut listening = self.client.listen(None);
        let uri = format!("file:///{}", self.canary);
        let subscribed = self.client.post(&request(1, "resources/subscribe", &json!({ "uri": uri })));
        assert_eq!(subscribed.json()["result"], json!({}), "{subscribed:?}");
        for round in 0..ROUNDS {
            let text = json!({ "text": self.canary, "steps": 3, "uri": uri });
            let answer = self.call(round, "echo", &text);
            assert_eq!(answer.matches("canary-").count(), 1, "{answer}");
            let answer = self.call(round, "progress", &text);
            assert_eq!(answer.matches("canary-").count(), 4, "{answer}");
            // Where several work, nothing says whose a message of the log is, and it may be missing.
            self.call(round, "log", &text);
            self.call(round, "update", &text);
            for method in questions {
                self.ask(method);
            }
        }
        all.wait();
        self.call(99, "update", &json!({ "text": self.canary, "uri": uri }));
        for _ in 0..=ROUNDS {
            let updated = listening.message().unwrap();
            assert_eq!(updated["method"], "notifications/resources/updated");
            self.check(&updated.to_string());
        }
        assert_eq!(self.client.delete().status, 204);
        assert_eq!(listening.message(), None, "{} has heard more", self.canary);
    }
}

fn crowd(program: &Program, capabilities: &Value, questions: &[&str]) {
    let all = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let all = &all;
            scope.spawn(move || {
                let member = Member::open(program, number, capabilities);
                member.live(questions, all);
            });
        }
    });
}

#[test]
fn fifty_clients_of_one_process_hear_their_own_alone() {
    let program = start(&format!("gateway: {{ scope: shared, {SETTINGS} }}\n"), &[server("suite", "")]);
    crowd(&program, &json!({}), &[]);
}

#[test]
fn fifty_clients_with_a_process_each_hear_their_own_alone() {
    let program = start(&format!("gateway: {{ {SETTINGS} }}\n"), &[server("suite", "")]);
    let capabilities = json!({ "sampling": {}, "elicitation": {} });
    crowd(&program, &capabilities, &["sampling/createMessage", "elicitation/create"]);
}
