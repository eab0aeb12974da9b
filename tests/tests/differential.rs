//! One answer of an agent in every dialect, streamed and whole: all clients understand the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_tests::driver::Call;
use mcp_local_provider_tests::transcript;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The routes that ask a model for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Chat,
    Completions,
    Messages,
    OllamaChat,
    OllamaGenerate,
}

const ROUTES: [Route; 5] = [
    Route::Chat,
    Route::Completions,
    Route::Messages,
    Route::OllamaChat,
    Route::OllamaGenerate,
];

impl Route {
    const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Messages => "/v1/messages",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
        }
    }

    /// A body that asks the same on every route.
    fn body(self, model: &Value, stops: &Value, stream: bool) -> Value {
        let text = "Hello?";
        let messages = json!([{ "role": "user", "content": text }]);
        let mut body = match self {
            Self::Chat => json!({ "messages": messages, "stop": stops }),
            Self::Completions => json!({ "prompt": text, "stop": stops }),
            Self::Messages => json!({
                "messages": messages,
                "stop_sequences": stops,
                "max_tokens": 4096,
                "thinking": { "type": "enabled", "budget_tokens": 1024 },
            }),
            Self::OllamaChat => json!({ "messages": messages, "options": { "stop": stops } }),
            Self::OllamaGenerate => json!({ "prompt": text, "options": { "stop": stops } }),
        };
        body["model"] = model.clone();
        body["stream"] = json!(stream);
        if stream && matches!(self, Self::Chat | Self::Completions) {
            body["stream_options"] = json!({ "include_usage": true });
        }
        body
    }

    /// Returns true when its answers have a field for reasoning.
    const fn has_reasoning(self) -> bool {
        !matches!(self, Self::Completions)
    }

    /// Returns true when its answers have a field for tool calls.
    const fn has_tool_calls(self) -> bool {
        !matches!(self, Self::Completions | Self::OllamaGenerate)
    }
}

/// Meaning of an answer for a client.
#[derive(Debug, PartialEq)]
struct Understood {
    text: String,
    reasoning: String,
    /// Name and arguments.
    tool_calls: Vec<(String, Value)>,
    usage: Option<[u64; 2]>,
}

/// An answer, or an error's message.
fn understood(call: &Call) -> Result<Understood, String> {
    let client = &call.client;
    if let Some(message) = &client.error {
        // By these words clients of Anthropic's API know that they have to shorten the conversation.
        let message = message
            .strip_prefix("prompt is too long: ")
            .unwrap_or(message);
        return Err(message.to_owned());
    }
    let calls = client.tool_calls.iter().map(|call| {
        let arguments = serde_json::from_str(&call.arguments).expect("arguments are JSON");
        (call.name.clone(), arguments)
    });
    Ok(Understood {
        // Only OpenAI's chat tells a refusal from other text.
        text: format!("{}{}", client.content, client.refusal),
        reasoning: client.reasoning.clone(),
        tool_calls: calls.collect(),
        usage: client.usage,
    })
}

/// The same transcript with its requests for text sent to another route; `None` when it has none, or one without JSON.
fn elsewhere(script: &str, route: Route, stream: bool) -> Option<String> {
    let mut out = String::new();
    let mut asks = false;
    for line in script.lines() {
        let request = line
            .strip_prefix("client> POST ")
            .filter(|path| ROUTES.iter().any(|route| route.path() == *path));
        if request.is_some() {
            asks = true;
            out.push_str(&format!("client> POST {}", route.path()));
        } else if let Some(body) = line.strip_prefix("client> {") {
            let body: Value = serde_json::from_str(&format!("{{{body}")).ok()?;
            let stops = [
                &body["stop"],
                &body["options"]["stop"],
                &body["stop_sequences"],
            ];
            let stops = match stops.into_iter().find(|stops| !stops.is_null()) {
                Some(Value::String(stop)) => json!([stop]),
                Some(list) => list.clone(),
                None => json!([]),
            };
            let body = route.body(&body["model"], &stops, stream);
            out.push_str(&format!("client> {body}"));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    asks.then_some(out)
}

fn transcripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            transcripts(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The calls of a transcript; `None` when not each of them has ended for its client.
fn calls(script: &str) -> Option<Vec<Call>> {
    let calls = transcript::calls(script);
    let ended = calls
        .iter()
        .all(|call| call.admitted && call.is_over() && !call.gone);
    (ended && !calls.is_empty()).then_some(calls)
}

/// Compares all answers to one transcript; false when it is about something else than answers.
fn compare(name: &str, script: &str) -> bool {
    if script.contains("\nclient> stops reading\n") {
        // Nobody can be slow to a whole answer.
        return false;
    }
    let Some(played) = calls(script) else {
        return false;
    };
    let mut first: Option<Vec<Result<Understood, String>>> = None;
    for route in ROUTES {
        for stream in [false, true] {
            let Some(script) = elsewhere(script, route, stream) else {
                return false;
            };
            let calls = calls(&script).unwrap_or_else(|| panic!("{name}: not every answer ended"));
            if calls.len() != played.len() {
                return false;
            }
            let answers: Vec<_> = calls.iter().map(understood).collect();
            let Some(first) = &first else {
                first = Some(answers);
                continue;
            };
            for (expected, answer) in first.iter().zip(&answers) {
                let way = if stream { "streamed" } else { "whole" };
                let context = format!("{name}: {route:?}, {way}");
                let (Ok(expected), Ok(answer)) = (expected, answer) else {
                    assert_eq!(answer, expected, "{context}");
                    continue;
                };
                assert_eq!(answer.text, expected.text, "{context}");
                assert_eq!(answer.usage, expected.usage, "{context}");
                if route.has_reasoning() {
                    assert_eq!(answer.reasoning, expected.reasoning, "{context}");
                }
                if route.has_tool_calls() {
                    assert_eq!(answer.tool_calls, expected.tool_calls, "{context}");
                }
            }
        }
    }
    true
}

#[test]
fn every_client_understands_the_same_of_an_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths = Vec::new();
    transcripts(&folder, &mut paths);
    paths.sort();
    let mut compared = 0;
    for path in paths {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        // What is about who may ask has no answers; this limit is about whole ones.
        if name.starts_with("admission") || name.ends_with("answer_too_large.txt") {
            continue;
        }
        let same = compare(&name, &std::fs::read_to_string(&path).unwrap());
        eprintln!("{name}: {}", if same { "compared" } else { "no answers" });
        compared += u32::from(same);
    }
    assert!(compared > 40, "only {compared} transcripts were compared");
}
