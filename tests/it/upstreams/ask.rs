//! Clients of the three APIs, and what they are told.

use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;

/// The API that a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    OpenAi,
    Ollama,
    Anthropic,
}

/// Each API, streamed and whole.
pub const EVERY: [(Dialect, bool); 6] = [
    (Dialect::OpenAi, false),
    (Dialect::OpenAi, true),
    (Dialect::Ollama, false),
    (Dialect::Ollama, true),
    (Dialect::Anthropic, false),
    (Dialect::Anthropic, true),
];

/// An error as each API says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fails {
    pub status: u16,
    /// OpenAI's `code`; null when it is empty.
    pub code: &'static str,
    /// Anthropic's `type`.
    pub kind: &'static str,
}

impl Fails {
    pub const LOST: Self = Self::new(502, "agent_lost", "api_error");
    pub const LATE: Self = Self::new(504, "agent_timeout", "timeout_error");
    pub const ERROR: Self = Self::new(502, "agent_error", "api_error");
    pub const FAULT: Self = Self::new(502, "agent_fault", "api_error");
    pub const OVERLOADED: Self = Self::new(503, "overloaded", "overloaded_error");
    pub const LIMITED: Self = Self::new(429, "rate_limit_exceeded", "rate_limit_error");
    pub const NO_MODEL: Self = Self::new(404, "model_not_found", "not_found_error");
    pub const INVALID: Self = Self::new(400, "", "invalid_request_error");

    const fn new(status: u16, code: &'static str, kind: &'static str) -> Self {
        Self { status, code, kind }
    }

    /// The status in an API: Anthropic has one of its own for a server that is overloaded.
    const fn status_in(self, dialect: Dialect) -> u16 {
        match (dialect, self.status) {
            (Dialect::Anthropic, 503) => 529,
            (_, status) => status,
        }
    }
}

/// What a client was told.
#[derive(Debug)]
pub struct Told {
    dialect: Dialect,
    pub answer: Answer,
    pub text: String,
    /// OpenAI's and Anthropic's object, Ollama's text.
    pub error: Option<Value>,
}

impl Told {
    fn of(dialect: Dialect, stream: bool, answer: Answer) -> Self {
        let records = match stream && answer.status == 200 {
            false => vec![answer.json()],
            true => records(dialect, &answer.body),
        };
        let (mut text, mut error) = (String::new(), None);
        for record in &records {
            assert!(error.is_none(), "{record} follows an error: {}", answer.body);
            if let Some(value) = record.get("error").filter(|error| !error.is_null()) {
                error = Some(value.clone());
            } else {
                text.push_str(said(record));
            }
        }
        let is_ok = answer.status == 200;
        assert!(is_ok || error.is_some(), "{} without an error: {}", answer.status, answer.body);
        if stream && is_ok {
            let ends = match dialect {
                Dialect::OpenAi => answer.body.ends_with("data: [DONE]\n\n"),
                Dialect::Ollama => records.last().is_some_and(|last| last["done"] == true),
                Dialect::Anthropic => records.last().is_some_and(|last| last["type"] == "message_stop"),
            };
            assert_eq!(ends, error.is_none(), "the end of {}", answer.body);
        }
        Self {
            dialect,
            answer,
            text,
            error,
        }
    }

    pub fn message(&self) -> &str {
        let error = self.error.as_ref().unwrap_or_else(|| panic!("no error in {self:?}"));
        let message = match self.dialect {
            Dialect::Ollama => error.as_str(),
            Dialect::OpenAi | Dialect::Anthropic => error["message"].as_str(),
        };
        message.unwrap_or_else(|| panic!("no message in {error}"))
    }

    /// Checks an error before the first byte, whose message has all of these.
    pub fn fails(&self, fails: Fails, says: &[&str]) {
        let status = fails.status_in(self.dialect);
        assert_eq!(self.answer.status, status, "{self:?}");
        self.says(fails, says);
    }

    /// Checks an error within the stream, after this text.
    pub fn breaks_off(&self, text: &str, fails: Fails, says: &[&str]) {
        assert_eq!((self.answer.status, &*self.text), (200, text), "{self:?}");
        self.says(fails, says);
    }

    fn says(&self, fails: Fails, says: &[&str]) {
        let message = self.message();
        for part in says {
            assert!(message.contains(part), "no `{part}` in `{message}`");
        }
        let error = self.error.as_ref().unwrap();
        match self.dialect {
            Dialect::OpenAi => assert_eq!(error["code"].as_str().unwrap_or_default(), fails.code, "{self:?}"),
            Dialect::Anthropic => assert_eq!(error["type"], fails.kind, "{self:?}"),
            Dialect::Ollama => {}
        }
    }

    /// Checks an answer without an error.
    pub fn is(&self, text: &str) {
        assert_eq!((self.answer.status, &*self.text), (200, text), "{self:?}");
        assert!(self.error.is_none(), "{self:?}");
    }
}

/// Sends a question, and does not wait for its answer.
pub fn open(program: &Program, (dialect, stream): (Dialect, bool), model: &str) -> TcpStream {
    open_with(program, (dialect, stream), model, "hi")
}

pub fn open_with(program: &Program, (dialect, stream): (Dialect, bool), model: &str, prompt: &str) -> TcpStream {
    let mut body = json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": prompt }] });
    let path = match dialect {
        Dialect::OpenAi => "/v1/chat/completions",
        Dialect::Ollama => "/api/chat",
        Dialect::Anthropic => {
            body["max_tokens"] = 9.into();
            "/v1/messages"
        }
    };
    program.open("POST", path, Some(CLIENT), &body.to_string())
}

/// Reads the answer to a question to its end.
pub fn told((dialect, stream): (Dialect, bool), mut client: TcpStream) -> Told {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    Told::of(dialect, stream, Answer::parse(&bytes))
}

pub fn ask(program: &Program, as_client: (Dialect, bool), model: &str) -> Told {
    told(as_client, open(program, as_client, model))
}

/// Asks in OpenAI's API for a whole answer.
pub fn ask_whole(program: &Program, model: &str) -> Told {
    ask(program, (Dialect::OpenAi, false), model)
}

fn records(dialect: Dialect, body: &str) -> Vec<Value> {
    let read = |data: &str| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
    let lines = body.lines();
    match dialect {
        Dialect::Ollama => lines.map(read).collect(),
        Dialect::OpenAi | Dialect::Anthropic => lines
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(read)
            .collect(),
    }
}

/// The text of an answer, or of a piece of one.
fn said(record: &Value) -> &str {
    let choice = &record["choices"][0];
    let places = [
        &choice["delta"]["content"],
        &choice["message"]["content"],
        &record["message"]["content"],
        &record["content"][0]["text"],
        &record["delta"]["text"],
    ];
    places.iter().find_map(|place| place.as_str()).unwrap_or_default()
}
