//! A server of models in memory: the request on each of its connections, and what it writes.

use crate::memory_pipe::FarEnd;
use mcp_local_provider_core::agents::upstream::Api;
use serde_json::{Value, json};

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) server: usize,
    pub(super) far: FarEnd,
    unread: Vec<u8>,
    /// The request that is to be answered.
    pub(super) job: Option<Job>,
    /// The server has ended or reset it.
    pub(super) is_over: bool,
}

/// A request, and how far its answer is.
#[derive(Debug)]
pub(super) struct Job {
    /// The call that it is asked for.
    pub(super) call: usize,
    /// Number among all requests of the run.
    pub(super) number: usize,
    pub(super) stream: bool,
    /// The head of a good answer was written.
    pub(super) begun: bool,
    /// Pieces of text that were written.
    pub(super) pieces: usize,
}

impl Connection {
    pub(super) fn new(server: usize, far: FarEnd) -> Self {
        Self {
            server,
            far,
            unread: Vec::new(),
            job: None,
            is_over: false,
        }
    }

    /// Reads what has come; the body of a request that is whole.
    pub(super) fn read(&mut self) -> Option<Value> {
        self.unread.extend(self.far.receive());
        let (_, body) = take_request(&mut self.unread)?;
        Some(serde_json::from_str(&body).expect("JSON"))
    }
}

/// Takes the first request, once it is whole: its head and its body.
pub(crate) fn take_request(unread: &mut Vec<u8>) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(unread).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse::<usize>().unwrap())
    });
    let length = length.unwrap_or(0);
    let body = body.get(..length)?;
    unread.drain(..head.len() + 4 + length);
    Some((head.to_owned(), body.to_owned()))
}

/// The call of a request: the number in its prompt.
pub(super) fn call_of(body: &Value) -> usize {
    let text = body.to_string();
    let (_, rest) = text.split_once("question ").expect("a question");
    let end = rest.find('.').expect("its end");
    rest[..end].parse().expect("its number")
}

/// A piece of text that no other request has.
pub(super) fn piece(job: &Job, at: usize) -> String {
    format!("[{}.{at}]", job.number)
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn event(data: &Value) -> String {
    match data["type"].as_str() {
        Some(kind) => format!("event: {kind}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

/// The head of a streamed answer, and what comes before its text.
pub(super) fn opening(api: Api) -> String {
    let (kind, first) = match api {
        Api::OpenAi | Api::Custom => ("text/event-stream", String::new()),
        Api::Ollama => ("application/x-ndjson", String::new()),
        Api::Anthropic => (
            "text/event-stream",
            chunk(
                &[
                    json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant", "model": "m",
                        "content": [], "usage": { "input_tokens": 3, "output_tokens": 1 } } }),
                    json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
                ]
                .iter()
                .map(event)
                .collect::<String>(),
            ),
        ),
    };
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{first}")
}

/// A piece of a streamed answer.
pub(super) fn more(api: Api, text: &str) -> String {
    chunk(&match api {
        Api::OpenAi | Api::Custom => event(
            &json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }),
        ),
        Api::Ollama => {
            json!({ "message": { "role": "assistant", "content": text }, "done": false })
                .to_string()
                + "\n"
        }
        Api::Anthropic => event(
            &json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }),
        ),
    })
}

/// The end of a streamed answer.
pub(super) fn ending(api: Api) -> String {
    let last = match api {
        Api::OpenAi | Api::Custom => {
            event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }))
                + "data: [DONE]\n\n"
        }
        Api::Ollama => {
            json!({ "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": "stop",
                "prompt_eval_count": 3, "eval_count": 2 })
            .to_string()
                + "\n"
        }
        Api::Anthropic => [
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 2 } }),
            json!({ "type": "message_stop" }),
        ]
        .iter()
        .map(event)
        .collect(),
    };
    chunk(&last) + "0\r\n\r\n"
}

/// A whole answer.
pub(crate) fn whole(api: Api, text: &str) -> String {
    let body = match api {
        Api::OpenAi | Api::Custom => {
            json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": text },
            "finish_reason": "stop" }], "usage": { "prompt_tokens": 3, "completion_tokens": 2 } })
        }
        Api::Ollama => {
            json!({ "message": { "role": "assistant", "content": text }, "done": true, "done_reason": "stop",
            "prompt_eval_count": 3, "eval_count": 2 })
        }
        Api::Anthropic => json!({ "id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn",
            "usage": { "input_tokens": 3, "output_tokens": 2 } }),
    };
    response(200, "application/json", "", &body.to_string())
}

/// A response with its length.
pub(crate) fn response(status: u16, kind: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} S\r\nContent-Type: {kind}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// An error that a server reports.
pub(crate) fn error(status: u16, headers: &str) -> String {
    let body = json!({ "error": { "message": "it says no", "type": "it" } });
    response(status, "application/json", headers, &body.to_string())
}
