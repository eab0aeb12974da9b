//! The client's side: reads an answer as it comes and keeps what a person would see.

use crate::response::Head;
use mcp_local_provider_core::exchange::{EVENT_STREAM, JSON, NDJSON};
use serde_json::Value;

/// One tool call as the client has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenCall {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments as JSON text.
    pub arguments: String,
}

/// Everything that a client has understood of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    /// The answer's text.
    pub content: String,
    /// The model's reasoning text.
    pub reasoning: String,
    /// The model's refusal text.
    pub refusal: String,
    /// The tools it called.
    pub tool_calls: Vec<SeenCall>,
    /// Number of vectors.
    pub vectors: usize,
    /// `finish_reason` or `done_reason`.
    pub finish: Option<String>,
    /// `x-ignored-parameters`.
    pub ignored: Option<String>,
    /// The message of an error.
    pub error: Option<String>,
    /// `[prompt, completion]` tokens.
    pub usage: Option<[u64; 2]>,
    /// True once the terminal record has been read.
    pub done: bool,
    form: Form,
    unread: Vec<u8>,
    /// The calls of Anthropic's blocks, by the block's index.
    blocks: Vec<(u64, usize)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Unknown,
    Events,
    Lines,
    Whole,
    /// Nothing that an agent answers.
    Foreign,
}

impl Client {
    /// Takes the response head.
    pub fn head(&mut self, head: &Head) {
        assert_eq!(self.form, Form::Unknown, "a second response head");
        self.form = Form::Foreign;
        head.headers(|name, value| match (name, std::str::from_utf8(value)) {
            ("content-type", Ok(EVENT_STREAM)) => self.form = Form::Events,
            ("content-type", Ok(NDJSON)) => self.form = Form::Lines,
            ("content-type", Ok(JSON)) => self.form = Form::Whole,
            ("x-ignored-parameters", Ok(names)) => self.ignored = Some(names.into()),
            _ => {}
        });
        let records = matches!(self.form, Form::Events | Form::Lines);
        assert!(records || !head.is_streamed(), "a stream of another type");
    }

    /// Takes body bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        assert!(!self.done, "bytes after the terminal record");
        self.unread.extend_from_slice(bytes);
        match self.form {
            Form::Unknown => panic!("body before head"),
            Form::Whole => {}
            Form::Foreign => self.unread.clear(),
            Form::Events => self.records(b"\n\n"),
            Form::Lines => self.records(b"\n"),
        }
    }

    /// The body has ended.
    pub fn finish(&mut self) {
        if self.form == Form::Whole {
            let body = std::mem::take(&mut self.unread);
            let value: Value = serde_json::from_slice(&body).expect("a whole body is JSON");
            self.record(&value);
            self.done = true;
        }
        self.done |= self.form == Form::Foreign;
        assert!(self.unread.is_empty(), "the body ends within a record");
    }

    fn records(&mut self, mark: &[u8]) {
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        while let Some(at) = memchr::memmem::find(rest, mark) {
            assert!(!self.done, "a record after the terminal one");
            let record = &rest[..at];
            rest = &rest[at + mark.len()..];
            let text = std::str::from_utf8(record).expect("records are UTF-8");
            let json = match self.form {
                Form::Events if text.starts_with(':') => continue,
                Form::Events => data(text),
                _ => text,
            };
            assert!(!breaks(json.as_bytes()), "a line break in {json:?}");
            if json == "[DONE]" {
                self.done = true;
                continue;
            }
            let value: Value = serde_json::from_str(json).expect("records are JSON");
            self.record(&value);
        }
        self.unread = rest.to_vec();
    }

    fn record(&mut self, value: &Value) {
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            let message = error.as_str().or_else(|| error["message"].as_str());
            self.error = Some(message.expect("errors have a message").to_owned());
            self.done = true;
            return;
        }
        if value["type"].is_string() {
            self.block_event(value);
            return;
        }
        for vectors in [&value["data"], &value["embeddings"]] {
            self.vectors += vectors.as_array().map_or(0, Vec::len);
        }
        let mut text = |into: fn(&mut Self) -> &mut String, value: &Value| {
            if let Some(text) = value.as_str() {
                into(self).push_str(text);
            }
        };
        text(|client| &mut client.content, &value["response"]);
        text(|client| &mut client.reasoning, &value["thinking"]);
        let choice = &value["choices"][0];
        text(|client| &mut client.content, &choice["text"]);
        for message in [&value["message"], &choice["message"], &choice["delta"]] {
            text(|client| &mut client.content, &message["content"]);
            text(|client| &mut client.reasoning, &message["thinking"]);
            text(
                |client| &mut client.reasoning,
                &message["reasoning_content"],
            );
            text(|client| &mut client.refusal, &message["refusal"]);
        }
        for message in [&value["message"], &choice["message"], &choice["delta"]] {
            for (position, call) in message["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
            {
                self.tool_call(position, call);
            }
        }
        if let Some(finish) = choice["finish_reason"]
            .as_str()
            .or(value["done_reason"].as_str())
        {
            assert!(self.finish.is_none(), "a second finish reason");
            self.finish = Some(finish.to_owned());
        }
        let usage = &value["usage"];
        for (prompt, completion) in [
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&value["prompt_eval_count"], &value["eval_count"]),
        ] {
            if let (Some(prompt), Some(completion)) = (prompt.as_u64(), completion.as_u64()) {
                self.usage = Some([prompt, completion]);
            }
        }
        if value["done"] == Value::Bool(true) {
            self.done = true;
        }
    }

    /// Anthropic's messages and events.
    fn block_event(&mut self, value: &Value) {
        match value["type"].as_str().unwrap() {
            "message" => {
                for block in value["content"].as_array().unwrap() {
                    self.block(block);
                }
                self.stop(value);
                self.count(&value["usage"]);
            }
            "content_block_start" => {
                let index = value["index"].as_u64().unwrap();
                let block = &value["content_block"];
                self.block(block);
                if block["type"] == "tool_use" {
                    // The empty input only stands for what is to come.
                    self.tool_calls.last_mut().unwrap().arguments.clear();
                    self.blocks.push((index, self.tool_calls.len() - 1));
                }
            }
            "content_block_delta" => {
                let delta = &value["delta"];
                if let Some(text) = delta["text"].as_str() {
                    self.content.push_str(text);
                } else if let Some(text) = delta["thinking"].as_str() {
                    self.reasoning.push_str(text);
                } else if let Some(json) = delta["partial_json"].as_str() {
                    let block = value["index"].as_u64().unwrap();
                    let call = self.blocks.iter().find(|(index, _)| *index == block);
                    let (_, at) = call.expect("a delta of a block that has begun");
                    self.tool_calls[*at].arguments.push_str(json);
                }
            }
            "message_delta" => {
                self.stop(&value["delta"]);
                self.count(&value["usage"]);
            }
            "message_stop" => self.done = true,
            "message_start" | "content_block_stop" | "ping" => {}
            other => panic!("an event of type {other}"),
        }
    }

    fn block(&mut self, block: &Value) {
        match block["type"].as_str().unwrap() {
            "text" => self.content.push_str(block["text"].as_str().unwrap()),
            "thinking" => self.reasoning.push_str(block["thinking"].as_str().unwrap()),
            "tool_use" => self.tool_calls.push(SeenCall {
                id: block["id"].as_str().unwrap().to_owned(),
                name: block["name"].as_str().unwrap().to_owned(),
                arguments: block["input"].to_string(),
            }),
            other => panic!("a block of type {other}"),
        }
    }

    fn stop(&mut self, value: &Value) {
        if let Some(reason) = value["stop_reason"].as_str() {
            assert!(self.finish.is_none(), "a second finish reason");
            self.finish = Some(reason.to_owned());
        }
    }

    fn count(&mut self, usage: &Value) {
        let tokens = |name: &str| usage[name].as_u64().expect("a count of tokens");
        self.usage = Some([tokens("input_tokens"), tokens("output_tokens")]);
    }

    fn tool_call(&mut self, position: usize, call: &Value) {
        let at = call["index"]
            .as_u64()
            .or(call["function"]["index"].as_u64())
            .map_or(position, |index| usize::try_from(index).unwrap());
        assert!(at <= self.tool_calls.len(), "tool calls come in order");
        if at == self.tool_calls.len() {
            self.tool_calls.push(SeenCall::default());
            assert!(
                call["function"]["name"].is_string(),
                "the first piece of a call names its tool"
            );
        }
        let seen = &mut self.tool_calls[at];
        if let Some(id) = call["id"].as_str() {
            id.clone_into(&mut seen.id);
        }
        if let Some(name) = call["function"]["name"].as_str() {
            name.clone_into(&mut seen.name);
        }
        match &call["function"]["arguments"] {
            Value::String(text) => seen.arguments.push_str(text),
            Value::Null => {}
            object => seen.arguments.push_str(&object.to_string()),
        }
    }
}

/// The data of an event; Anthropic names its events as the data does.
fn data(event: &str) -> &str {
    match event.strip_prefix("data: ") {
        Some(data) => data,
        None => {
            let (name, data) = event.split_once("\ndata: ").expect("an event with data");
            let name = name.strip_prefix("event: ").expect("an event with a name");
            let start = format!("{{\"type\":\"{name}\"");
            assert!(data.starts_with(&start), "{name} names {data}");
            data
        }
    }
}

/// Returns true at a character after which a client may see a new line: LF, CR, U+0085, U+2028, U+2029.
fn breaks(json: &[u8]) -> bool {
    let separator = |at: usize| {
        matches!(
            json[at..],
            [b'\n' | b'\r', ..] | [0xC2, 0x85, ..] | [0xE2, 0x80, 0xA8 | 0xA9, ..]
        )
    };
    let suspects =
        memchr::memchr3_iter(b'\n', 0xC2, 0xE2, json).chain(memchr::memchr_iter(b'\r', json));
    suspects.into_iter().any(separator)
}
