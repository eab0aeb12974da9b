//! The demo agent, and the example of how to write an agent.
//!
//! It is an ordinary client of the agent protocol: it dials `GET /agent` of its own provider over a real WebSocket and
//! uses nothing of the provider's code. An agent of your own does the same four things, in any language:
//!
//! 1. Dial with a bridge key as the bearer token, and send `register`. Keep the `session_token` of the answer: with
//!    it a lost connection is resumed without registering ([`Agent::register`], [`Agent::token`]).
//! 2. Answer each `model_invoke` by `model_stream_chunk`s with a `chunk_index` from 0, the last of which has a
//!    `finish_reason` and the usage; or by one `model_result` (`Agent::invoke`, [`Agent::speak`]).
//! 3. Forget an answer when `model_cancel` names its id ([`Agent::receive`]).
//! 4. Answer `ping` by `pong`. Ignore every message and every field that you do not know.
//!
//! Its messages are made here; its connection is in [`connection`].

// Indexing a JSON value gives null for a missing member; only objects made here are written to.
#![allow(clippy::indexing_slicing)]

pub mod connection;

use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Name of the demo agent's model.
pub const MODEL: &str = "demo";

/// Time between two words of an answer; 25 words a second.
pub const PACE: Duration = Duration::from_millis(40);

/// Time that a start waits for the demo agent to register.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Characters of the prompt that an answer quotes.
const QUOTED: usize = 200;

/// State of the agent across its connections.
pub struct Agent {
    bridge_key: String,
    /// Token that resumes the session on the next connection.
    session_token: Option<String>,
    /// Told of each new session.
    registered: Sender<()>,
    /// Unfinished answers by the id of their `model_invoke`.
    answers: BTreeMap<String, Answer>,
}

impl fmt::Debug for Agent {
    /// Omits keys and prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({} answers)", self.answers.len())
    }
}

/// The part of an answer that is not yet sent.
struct Answer {
    chunk_index: u64,
    pieces: VecDeque<Piece>,
    finish_reason: &'static str,
    usage: Value,
}

/// Content of one chunk.
enum Piece {
    Word(String),
    ToolCall(Value),
}

impl Agent {
    /// Makes an agent that has never been connected. A message goes to `registered` for each new session.
    #[must_use]
    pub const fn new(bridge_key: String, registered: Sender<()>) -> Self {
        Self {
            bridge_key,
            session_token: None,
            registered,
            answers: BTreeMap::new(),
        }
    }

    /// Returns the bearer token to dial with: the session's, else the bridge key.
    #[must_use]
    pub fn token(&self) -> &str {
        self.session_token.as_ref().unwrap_or(&self.bridge_key)
    }

    /// Handles a handshake that was refused with this HTTP status. Returns true when that ended the session, so that
    /// the agent can dial again at once with the bridge key.
    pub fn refused(&mut self, status: u16) -> bool {
        matches!(status, 401 | 403) && self.session_token.take().is_some()
    }

    /// Returns the `register` message for a new connection, or nothing when a session is resumed. Unfinished answers
    /// are dropped.
    pub fn register(&mut self) -> Option<String> {
        self.answers.clear();
        let register = json!({
            "type": "register",
            "agent_id": "demo",
            "label": "Demo agent",
            "requested_scopes": ["inference"],
            "models": [MODEL],
            "max_concurrency": 64,
            "capabilities": {"tools": true, "vision": false, "embeddings": false},
        });
        self.session_token.is_none().then(|| register.to_string())
    }

    /// Returns true while there are answers to send; [`Agent::speak`] is then called every [`PACE`].
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Handles one message of the provider and returns the reply to send at once, if any.
    pub fn receive(&mut self, text: &str) -> Option<String> {
        let message = serde_json::from_str::<Value>(text).ok()?;
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        let answer = match message["type"].as_str()? {
            "registered" => {
                self.session_token = message["session_token"].as_str().map(str::to_owned);
                // The start may have stopped waiting.
                let _ = self.registered.send(());
                None
            }
            "model_invoke" => self.invoke(id, &message["payload"]),
            "model_cancel" => {
                self.answers.remove(&id);
                None
            }
            "ping" => Some(json!({"type": "pong", "timestamp": message["timestamp"]})),
            _ => None,
        };
        answer.map(|answer| answer.to_string())
    }

    /// Begins an answer. A request that does not stream gets all of it at once.
    fn invoke(&mut self, id: String, payload: &Value) -> Option<Value> {
        if !matches!(payload["kind"].as_str(), Some("chat" | "completion")) {
            let error = json!({"code": "invalid_request", "message": "the demo agent answers chats and completions only"});
            return Some(
                json!({"type": "model_result", "id": id, "status": "error", "error": error}),
            );
        }
        let parameters = &payload["parameters"];
        let prompt = Prompt::of(payload);
        let mut finish_reason = "stop";
        let mut call = None;
        let mut words = Vec::new();
        if let Some(tool) = prompt.asks_for(parameters) {
            finish_reason = "tool_calls";
            call = Some(json!({
                "id": format!("call_{id}"),
                "type": "function",
                "function": {"name": tool["name"], "arguments": arguments(&tool["parameters"]).to_string()},
            }));
        } else {
            words = words_of(&prompt.answer());
            let most = parameters["max_tokens"].as_u64().unwrap_or(u64::MAX);
            if let Ok(most) = usize::try_from(most)
                && most < words.len()
            {
                words.truncate(most);
                finish_reason = "length";
            }
        }
        let said = words.len().max(1);
        let usage = json!({"prompt_tokens": prompt.words, "completion_tokens": said, "total_tokens": prompt.words + said});
        if parameters["stream"].as_bool() != Some(true) {
            let message = json!({"role": "assistant", "content": words.concat(), "tool_calls": call.map(|call| vec![call])});
            let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason});
            let result = json!({"choices": [choice], "usage": usage});
            return Some(
                json!({"type": "model_result", "id": id, "status": "ok", "result": result}),
            );
        }
        let mut pieces: VecDeque<Piece> = words.into_iter().map(Piece::Word).collect();
        if let Some(mut call) = call {
            // Models send a call in pieces: first the name, then the arguments.
            let arguments = call["function"]["arguments"].take();
            call["function"]["arguments"] = json!("");
            call["index"] = json!(0);
            let rest = json!({"index": 0, "function": {"arguments": arguments}});
            pieces.extend([Piece::ToolCall(call), Piece::ToolCall(rest)]);
        }
        let answer = Answer {
            chunk_index: 0,
            pieces,
            finish_reason,
            usage,
        };
        self.answers.insert(id, answer);
        None
    }

    /// Returns the next chunk of every answer.
    pub fn speak(&mut self) -> Vec<String> {
        let mut chunks = Vec::new();
        self.answers.retain(|id, answer| {
            let piece = answer.pieces.pop_front();
            let is_last = piece.is_none();
            let delta = match piece {
                Some(Piece::Word(word)) => json!({"content": word}),
                Some(Piece::ToolCall(call)) => json!({"tool_calls": [call]}),
                None => json!({}),
            };
            let mut chunk = json!({
                "type": "model_stream_chunk",
                "id": id,
                "chunk_index": answer.chunk_index,
                "delta": delta,
                "finish_reason": is_last.then_some(answer.finish_reason),
            });
            if is_last {
                chunk["usage"] = answer.usage.take();
            }
            answer.chunk_index += 1;
            chunks.push(chunk.to_string());
            !is_last
        });
        chunks
    }
}

/// The last message of a conversation, which is all that the agent reads.
struct Prompt {
    text: String,
    is_tool_result: bool,
    words: usize,
}

impl Prompt {
    fn of(payload: &Value) -> Self {
        let none = Vec::new();
        let messages = payload["messages"].as_array().unwrap_or(&none);
        let mut words = 0;
        for message in messages {
            words += text_of(&message["content"]).split_whitespace().count();
        }
        let last = messages.last().unwrap_or(&Value::Null);
        let text = match payload["prompt"].as_str() {
            Some(prompt) => prompt.to_owned(),
            None => text_of(&last["content"]),
        };
        Self {
            words: words.max(text.split_whitespace().count()),
            is_tool_result: matches!(last["role"].as_str(), Some("tool" | "function")),
            text,
        }
    }

    /// Returns the tool to call, in OpenAI's form: one that `tool_choice` demands, or one that the person names as "the
    /// NAME tool" or "tool NAME". A weaker hint is not enough: a tool may write, and the arguments are made up.
    fn asks_for<'p>(&self, parameters: &'p Value) -> Option<&'p Value> {
        let choice = &parameters["tool_choice"];
        if self.is_tool_result || choice == "none" {
            return None;
        }
        let tools = parameters["tools"].as_array()?;
        let functions = || tools.iter().map(|tool| &tool["function"]);
        let named = |name: &str| functions().find(|function| function["name"] == name);
        if let Some(name) = choice["function"]["name"].as_str() {
            return named(name);
        }
        // Coding agents put their own reminders, with names of tools, before the person's words.
        let last = self.text.rsplit("\n").find(|line| !line.trim().is_empty());
        let said = last.unwrap_or_default().to_lowercase();
        let asked_for = functions().find(|function| {
            let name = function["name"].as_str().unwrap_or_default().to_lowercase();
            let phrases = [format!("{name} tool"), format!("tool {name}")];
            !name.is_empty() && phrases.iter().any(|phrase| said.contains(phrase.as_str()))
        });
        asked_for.or_else(|| functions().next().filter(|_| choice == "required"))
    }

    fn answer(&self) -> String {
        let quote: String = self.text.chars().take(QUOTED).collect();
        let cut = if quote.len() < self.text.len() {
            "…"
        } else {
            ""
        };
        let what = if self.is_tool_result {
            "The tool said"
        } else {
            "You said"
        };
        format!(
            "This is the demo agent of MCP Local Provider, so nothing here was thought about. {what}: \"{quote}{cut}\". Connect an agent of your own to get real answers."
        )
    }
}

/// Returns the text of a message's content: a string, or the text parts of a list.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect();
            texts.join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// Splits a text into words with the space that follows each, so that joined they are the text.
fn words_of(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

/// Makes arguments that roughly fit a tool's JSON Schema, to show the form of a call.
fn arguments(schema: &Value) -> Value {
    let none = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let value = |schema: &Value| match (&schema["enum"][0], schema["type"].as_str()) {
        (Value::Null, Some("integer" | "number")) => json!(1),
        (Value::Null, Some("boolean")) => json!(true),
        (Value::Null, Some("array")) => json!([]),
        (Value::Null, Some("object")) => json!({}),
        (Value::Null, _) => json!("demo"),
        (first, _) => first.clone(),
    };
    let mut arguments = serde_json::Map::new();
    for (name, schema) in properties {
        arguments.insert(name.clone(), value(schema));
    }
    Value::Object(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        Agent::new("key".into(), std::sync::mpsc::channel().0)
    }

    fn invoke(agent: &mut Agent, payload: &Value) -> Value {
        let message = json!({"type": "model_invoke", "id": "x1", "payload": payload});
        let answer = agent.receive(&message.to_string()).unwrap_or_default();
        serde_json::from_str(&answer).unwrap_or_default()
    }

    fn chunks(agent: &mut Agent) -> Vec<Value> {
        let mut all = Vec::new();
        while agent.is_speaking() {
            all.extend(
                agent
                    .speak()
                    .iter()
                    .map(|chunk| serde_json::from_str::<Value>(chunk).unwrap_or_default()),
            );
        }
        all
    }

    #[test]
    fn a_session_goes_on_until_it_is_refused() {
        let mut agent = agent();
        assert_eq!(agent.token(), "key");
        assert!(agent.register().is_some());
        agent.receive(r#"{"type":"registered","session_token":"session"}"#);
        assert_eq!(agent.token(), "session");
        assert!(agent.register().is_none());
        assert!(agent.refused(401));
        assert_eq!(agent.token(), "key");
        assert!(!agent.refused(401));
    }

    #[test]
    fn an_answer_is_streamed_word_by_word_and_ends_with_its_usage() {
        let mut agent = agent();
        let payload = json!({"kind": "chat", "messages": [{"role": "user", "content": "say hello"}], "parameters": {"stream": true}});
        assert!(invoke(&mut agent, &payload).is_null());
        let chunks = chunks(&mut agent);
        let mut text = String::new();
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk["chunk_index"], index);
            text.push_str(chunk["delta"]["content"].as_str().unwrap_or_default());
        }
        assert!(
            text.contains("demo agent") && text.contains("\"say hello\""),
            "{text}"
        );
        let last = chunks.last().cloned().unwrap_or_default();
        assert_eq!(last["finish_reason"], "stop");
        assert_eq!(last["usage"]["prompt_tokens"], 2);
        assert_eq!(last["usage"]["completion_tokens"], chunks.len() - 1);
    }

    #[test]
    fn a_cancelled_answer_is_silent_at_once() {
        let mut agent = agent();
        let payload = json!({"kind": "completion", "prompt": "x", "parameters": {"stream": true}});
        invoke(&mut agent, &payload);
        assert_eq!(agent.speak().len(), 1);
        agent.receive(r#"{"type":"model_cancel","id":"x1","reason":"client_disconnected"}"#);
        assert!(agent.speak().is_empty());
    }

    #[test]
    fn a_tool_is_called_when_it_is_asked_for_and_its_result_is_told() {
        let mut agent = agent();
        let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]);
        let mut payload = json!({"kind": "chat", "messages": [{"role": "user", "content": "use the weather tool"}], "parameters": {"tools": tools}});
        let result = invoke(&mut agent, &payload);
        let message = &result["result"]["choices"][0]["message"];
        let call = &message["tool_calls"][0]["function"];
        assert_eq!(call["name"], "weather");
        assert_eq!(call["arguments"], r#"{"city":"demo","days":1}"#);
        for harmless in [
            "call me a taxi, tool user",
            "<reminder>the weather tool</reminder>\nhow is the weather?",
        ] {
            payload["messages"] = json!([{"role": "user", "content": harmless}]);
            let message = &invoke(&mut agent, &payload)["result"]["choices"][0]["message"];
            assert_eq!(message["tool_calls"], Value::Null, "{harmless}");
        }
        payload["messages"] = json!([{"role": "tool", "content": "sunny"}]);
        let result = invoke(&mut agent, &payload);
        let text = result["result"]["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default();
        assert!(text.contains("The tool said: \"sunny\""), "{text}");
    }
}
