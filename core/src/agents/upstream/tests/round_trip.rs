//! A request of any client, said in any API, is the same request to this program's own reader of that API, but for what the API
//! has no word for.

use super::*;
use crate::dialect::{anthropic, ollama, openai};
use crate::invocation::{
    Arguments, Content, Invocation, Message, Parameters, Part, ResponseFormat, Role, Task, ToolCall,
};
use alloc::format;
use alloc::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The start of a PNG image, by which Ollama's reader knows one.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAA";

fn text() -> impl Strategy<Value = String> {
    "([ -~]|\n|\u{e9}|\u{1f600}|\u{2028}){1,10}"
}

/// The turns of a conversation, before they are written in a dialect.
#[derive(Clone, Debug)]
enum Turn {
    User(String, bool),
    Assistant(String),
    /// Calls of tools, and their results.
    Calls(Option<String>, Vec<(String, String)>),
}

#[derive(Clone, Debug)]
struct Chat {
    system: Option<String>,
    turns: Vec<Turn>,
    tools: bool,
    choice: Option<&'static str>,
    alone: bool,
    effort: Option<&'static str>,
    format: Option<bool>,
    stops: Vec<String>,
    numbers: Vec<Option<u8>>,
    user: Option<String>,
    stream: bool,
}

fn chat() -> impl Strategy<Value = Chat> {
    let turn = prop_oneof![
        (text(), any::<bool>()).prop_map(|(text, image)| Turn::User(text, image)),
        text().prop_map(Turn::Assistant),
        (
            prop::option::of(text()),
            prop::collection::vec((text(), text()), 1..3)
        )
            .prop_map(|(text, calls)| Turn::Calls(text, calls)),
    ];
    let choice = prop::sample::select(vec!["auto", "none", "required", "lookup"]);
    let effort = prop::sample::select(vec!["none", "low", "medium", "high"]);
    let first = (
        prop::option::of(text()),
        prop::collection::vec(turn, 1..5),
        any::<bool>(),
        prop::option::of(choice),
        any::<bool>(),
        prop::option::of(effort),
    );
    let second = (
        prop::option::of(any::<bool>()),
        prop::collection::vec("[a-z ]{0,3}x", 0..5),
        prop::collection::vec(prop::option::of(1..9_u8), 12),
        prop::option::of(text()),
        any::<bool>(),
    );
    (first, second).prop_map(|(first, second)| {
        let (system, turns, tools, choice, alone, effort) = first;
        let (format, stops, numbers, user, stream) = second;
        Chat {
            system,
            turns,
            tools,
            choice,
            alone,
            effort,
            format,
            stops,
            numbers,
            user,
            stream,
        }
    })
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"a": {"type": "string"}}})
}

impl Chat {
    /// One of the numbers, as a share of ten.
    fn share(&self, at: usize) -> Value {
        self.numbers[at].map_or(Value::Null, |it| json!(f64::from(it) / 10.0))
    }

    fn whole(&self, at: usize) -> Value {
        self.numbers[at].map_or(Value::Null, |it| json!(it))
    }

    fn function_tools(&self) -> Value {
        match self.tools {
            false => Value::Null,
            true => json!([
                {"type": "function", "function": {"name": "lookup", "description": "d\u{e9}", "parameters": schema(), "strict": true}},
            ]),
        }
    }

    fn openai(&self) -> Value {
        let mut messages = Vec::new();
        messages.extend(
            self.system
                .iter()
                .map(|it| json!({"role": "system", "content": it})),
        );
        for (at, turn) in self.turns.iter().enumerate() {
            match turn {
                Turn::User(text, false) => messages.push(json!({"role": "user", "content": text})),
                Turn::User(text, true) => messages.push(json!({"role": "user", "content": [
                    {"type": "text", "text": text},
                    {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PNG}")}},
                ]})),
                Turn::Assistant(text) => {
                    messages.push(json!({"role": "assistant", "content": text}));
                }
                Turn::Calls(text, calls) => {
                    let each = calls.iter().enumerate();
                    let each = each.map(|(n, (argument, _))| {
                        let arguments = json!({"a": argument}).to_string();
                        json!({"id": format!("call_{at}_{n}"), "type": "function", "function": {"name": "lookup", "arguments": arguments}})
                    });
                    let each: Vec<Value> = each.collect();
                    messages.push(json!({"role": "assistant", "content": text, "tool_calls": each}));
                    for (n, (_, result)) in calls.iter().enumerate() {
                        messages.push(json!({"role": "tool", "tool_call_id": format!("call_{at}_{n}"), "content": result}));
                    }
                }
            }
        }
        let choice = match self.choice {
            Some("lookup") => json!({"type": "function", "function": {"name": "lookup"}}),
            Some(other) => json!(other),
            None => Value::Null,
        };
        let format = match self.format {
            None => Value::Null,
            Some(true) => {
                json!({"type": "json_schema", "json_schema": {"name": "response", "schema": schema()}})
            }
            Some(false) => json!({"type": "json_object"}),
        };
        json!({
            "model": "ours", "messages": messages, "stream": self.stream, "tools": self.function_tools(),
            "tool_choice": choice, "parallel_tool_calls": !self.alone, "reasoning_effort": self.effort,
            "response_format": format, "stop": self.stops.get(..4).unwrap_or(&self.stops), "user": self.user,
            "max_tokens": self.whole(0), "temperature": self.share(1), "top_p": self.share(2),
            "presence_penalty": self.share(3), "frequency_penalty": self.share(4), "seed": self.whole(5),
            "logit_bias": {"50256": -100}, "logprobs": self.alone, "top_logprobs": self.whole(6),
        })
    }

    fn ollama(&self) -> Value {
        let mut messages = Vec::new();
        messages.extend(
            self.system
                .iter()
                .map(|it| json!({"role": "system", "content": it})),
        );
        for turn in &self.turns {
            match turn {
                Turn::User(text, image) => {
                    let images: Vec<&str> = image.then_some(PNG).into_iter().collect();
                    messages.push(json!({"role": "user", "content": text, "images": images}));
                }
                Turn::Assistant(text) => {
                    messages.push(json!({"role": "assistant", "content": text}));
                }
                Turn::Calls(text, calls) => {
                    let each = calls.iter().map(|(argument, _)| json!({"function": {"name": "lookup", "arguments": {"a": argument}}}));
                    let each: Vec<Value> = each.collect();
                    messages
                        .push(json!({"role": "assistant", "content": text, "tool_calls": each}));
                    for (_, result) in calls {
                        messages.push(
                            json!({"role": "tool", "tool_name": "lookup", "content": result}),
                        );
                    }
                }
            }
        }
        let format = match self.format {
            None => Value::Null,
            Some(true) => schema(),
            Some(false) => json!("json"),
        };
        let think = match self.effort {
            Some("none") => json!(false),
            Some(level) => json!(level),
            None => Value::Null,
        };
        json!({
            "model": "ours", "messages": messages, "stream": self.stream, "tools": self.function_tools(),
            "format": format, "think": think, "options": {
                "num_predict": self.whole(0), "temperature": self.share(1), "top_p": self.share(2),
                "presence_penalty": self.share(3), "frequency_penalty": self.share(4), "seed": self.whole(5),
                "top_k": self.whole(6), "min_p": self.share(7), "repeat_penalty": self.share(8), "num_ctx": self.whole(9),
                "stop": self.stops,
            },
        })
    }

    fn anthropic(&self) -> Value {
        let mut messages = Vec::new();
        for (at, turn) in self.turns.iter().enumerate() {
            match turn {
                Turn::User(text, false) => messages.push(json!({"role": "user", "content": text})),
                Turn::User(text, true) => messages.push(json!({"role": "user", "content": [
                    {"type": "text", "text": text},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ]})),
                Turn::Assistant(text) => {
                    messages.push(json!({"role": "assistant", "content": text}));
                }
                Turn::Calls(text, calls) => {
                    let mut said = Vec::new();
                    said.extend(text.iter().map(|text| json!({"type": "text", "text": text})));
                    said.extend(calls.iter().enumerate().map(|(n, (argument, _))| {
                        json!({"type": "tool_use", "id": format!("toolu_{at}_{n}"), "name": "lookup", "input": {"a": argument}})
                    }));
                    messages.push(json!({"role": "assistant", "content": said}));
                    let results = calls.iter().enumerate().map(|(n, (_, result))| {
                        json!({"type": "tool_result", "tool_use_id": format!("toolu_{at}_{n}"), "content": result})
                    });
                    messages.push(json!({"role": "user", "content": results.collect::<Vec<_>>()}));
                }
            }
        }
        let mut choice = match self.choice {
            Some("lookup") => json!({"type": "tool", "name": "lookup"}),
            Some("required") => json!({"type": "any"}),
            Some(other) => json!({"type": other}),
            None => json!({"type": "auto"}),
        };
        choice["disable_parallel_tool_use"] = json!(self.alone);
        let mut tools = Value::Null;
        if self.tools {
            tools = json!([{"name": "lookup", "description": "d\u{e9}", "input_schema": schema(), "strict": true}]);
        }
        let thinking = match self.effort {
            None => Value::Null,
            Some("none") => json!({"type": "disabled"}),
            Some(_) => json!({"type": "adaptive"}),
        };
        let effort = self.effort.filter(|effort| *effort != "none");
        let format = self
            .format
            .map(|_| json!({"type": "json_schema", "schema": schema()}));
        json!({
            "model": "ours", "system": self.system, "messages": messages, "stream": self.stream,
            "max_tokens": self.numbers[0].unwrap_or(9), "temperature": self.share(1), "top_p": self.share(2),
            "top_k": self.whole(6), "stop_sequences": self.stops, "metadata": {"user_id": self.user},
            "tools": tools, "tool_choice": choice, "thinking": thinking,
            "output_config": {"effort": effort, "format": format},
        })
    }
}

/// A conversation as JSON, in one form for all dialects.
fn told(invocation: &Invocation<'_>) -> Value {
    let mut all = match &invocation.task {
        Task::Chat { messages } => {
            json!({"messages": messages.iter().map(message).collect::<Vec<_>>()})
        }
        Task::Completion { prompt, suffix } => {
            json!({"prompt": prompt.decode(), "suffix": suffix.map(JsonStr::decode)})
        }
        Task::Embedding { input } => {
            json!({"input": input.iter().map(|text| text.decode()).collect::<Vec<_>>()})
        }
    };
    all["stream"] = json!(invocation.stream);
    all["parameters"] = parameters(&invocation.parameters);
    all
}

fn message(message: &Message<'_>) -> Value {
    let parts = match &message.content {
        Content::None => Vec::new(),
        Content::Text(text) => vec![json!(text.decode())],
        Content::Parts(parts) => parts.iter().map(part).collect(),
    };
    let parts: Vec<Value> = parts
        .into_iter()
        .filter(|part| *part != json!(""))
        .collect();
    json!({
        "role": if message.role == Role::Developer { "system" } else { message.role.as_str() },
        "content": parts,
        "calls": message.tool_calls.iter().map(call).collect::<Vec<_>>(),
        "answers": message.tool_call_id,
    })
}

fn part(part: &Part<'_>) -> Value {
    match part {
        Part::Text(text) => json!(text.decode()),
        Part::Image { media_type, base64 } => {
            json!({"image": format!("data:{media_type};base64,{}", base64.decode())})
        }
        Part::Other(raw) => {
            let part: Value = serde_json::from_str(raw.get()).unwrap();
            json!({"image": part["image_url"]["url"]})
        }
    }
}

fn call(call: &ToolCall<'_>) -> Value {
    let arguments: Value = match &call.arguments {
        Arguments::Text(text) => serde_json::from_str(&text.decode()).unwrap(),
        Arguments::Object(raw) => serde_json::from_str(raw.get()).unwrap(),
    };
    json!({"id": call.id, "name": call.name.decode(), "arguments": arguments})
}

fn parameters(it: &Parameters<'_>) -> Value {
    let raw = |json: &str| -> Value { serde_json::from_str(json).unwrap() };
    let tools: Vec<Value> = it.tools.iter().map(|tool| raw(tool.get())).collect();
    let format = match &it.response_format {
        None => Value::Null,
        Some(ResponseFormat::Json) => json!("json"),
        Some(ResponseFormat::Schema(schema)) => raw(schema.get()),
        Some(ResponseFormat::OpenAi(format)) => {
            let format = raw(format.get());
            match format["type"].as_str().unwrap() {
                "json_object" => json!("json"),
                _ => format["json_schema"]["schema"].clone(),
            }
        }
    };
    let all = json!({
        "max_tokens": it.max_tokens, "temperature": it.temperature, "top_p": it.top_p, "top_k": it.top_k,
        "min_p": it.min_p, "presence_penalty": it.presence_penalty, "frequency_penalty": it.frequency_penalty,
        "repeat_penalty": it.repeat_penalty, "seed": it.seed, "num_ctx": it.num_ctx, "stop": it.stop,
        "user": it.user.map(JsonStr::decode), "tools": tools,
        "tool_choice": it.tool_choice.as_ref().map(|choice| raw(choice.get())),
        "parallel_tool_calls": it.parallel_tool_calls.filter(|parallel| !parallel),
        "format": format, "effort": it.reasoning_effort.map(JsonStr::decode),
        "logprobs": it.logprobs, "top_logprobs": it.top_logprobs,
        "logit_bias": it.logit_bias.as_ref().map(|bias| raw(bias.get())), "dimensions": it.dimensions,
    });
    let Value::Object(all) = all else { panic!() };
    let given = all.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.collect())
}

/// What is left of an invocation in an API, and the parameters that are not there to be told of.
fn expressed(api: Api, mut said: Value) -> Value {
    let Some(parameters) = said["parameters"].as_object_mut() else {
        panic!()
    };
    let has_tools = parameters["tools"] != json!([]);
    let drop = |parameters: &mut Map<String, Value>, names: &[&str]| {
        parameters.retain(|name, _| !names.contains(&&**name));
    };
    drop(parameters, &["logprobs", "top_logprobs"]);
    if !has_tools {
        drop(parameters, &["tool_choice", "parallel_tool_calls"]);
    }
    match api {
        Api::OpenAi | Api::Custom => {
            drop(parameters, &["top_k", "min_p", "repeat_penalty", "num_ctx"]);
            let stops = parameters["stop"].as_array_mut().unwrap();
            stops.truncate(4);
        }
        Api::Anthropic => {
            let others = [
                "min_p",
                "presence_penalty",
                "frequency_penalty",
                "repeat_penalty",
                "seed",
                "num_ctx",
                "logit_bias",
            ];
            drop(parameters, &others);
            let forced = !matches!(
                parameters.get("tool_choice").and_then(Value::as_str),
                Some("auto" | "none")
            ) && parameters.contains_key("tool_choice");
            let thinks = parameters
                .get("effort")
                .is_some_and(|effort| effort != "none");
            if thinks && !forced {
                drop(parameters, &["temperature", "top_p", "top_k"]);
            }
            // What says the same as nothing: the choice beside `disable_parallel_tool_use`.
            if parameters.get("tool_choice") == Some(&json!("none")) {
                drop(parameters, &["parallel_tool_calls"]);
            } else if parameters.contains_key("parallel_tool_calls") {
                parameters.entry("tool_choice").or_insert(json!("auto"));
            }
            parameters.entry("max_tokens").or_insert(json!(8192));
        }
        Api::Ollama => {
            if parameters.get("tool_choice") == Some(&json!("none")) {
                parameters["tools"] = json!([]);
            }
            drop(
                parameters,
                &["tool_choice", "parallel_tool_calls", "logit_bias", "user"],
            );
        }
    }
    said
}

fn agrees(api: Api, dialect: Reader, body: &Value) {
    let body = body.to_string();
    let limits = Limits::default();
    let parsed = dialect(&body, &limits).unwrap_or_else(|refusal| panic!("{refusal:?}: {body}"));
    let request = Request::of(&parsed.invocation);
    let written = super::super::call(
        api,
        &request,
        PromptIndex(0),
        "theirs",
        ClientHeaders::default(),
    );
    let wants_json = parameters(&parsed.invocation.parameters)["format"] == json!("json");
    let call = match written {
        Err(refusal) => {
            assert!(api == Api::Anthropic && wants_json, "{refusal:?}");
            return;
        }
        Ok(call) => call,
    };
    let text = core::str::from_utf8(&call.body).unwrap();
    let (path, back): (_, Reader) = match (api, &parsed.invocation.task) {
        (Api::OpenAi | Api::Custom, Task::Chat { .. }) => {
            ("/chat/completions", openai::chat_request)
        }
        (Api::OpenAi | Api::Custom, Task::Completion { .. }) => {
            ("/completions", openai::completion_request)
        }
        (Api::OpenAi | Api::Custom, Task::Embedding { .. }) => {
            ("/embeddings", openai::embedding_request)
        }
        (Api::Anthropic, _) => ("/v1/messages", anthropic::messages_request),
        (Api::Ollama, Task::Chat { .. }) => ("/api/chat", ollama::chat_request),
        (Api::Ollama, Task::Completion { .. }) => ("/api/generate", ollama::generate_request),
        (Api::Ollama, Task::Embedding { .. }) => ("/api/embed", ollama::embed_request),
    };
    assert_eq!(call.path, path);
    let read = back(text, &limits).unwrap_or_else(|refusal| panic!("{refusal:?}: {text}"));
    assert_eq!(read.invocation.model, "theirs");
    let (read, meant) = (told(&read.invocation), told(&parsed.invocation));
    assert_eq!(read, expressed(api, meant), "{api:?}: {body}\n{text}");
    // The client is told of all that was left out.
    let given = parsed.invocation.parameters.given();
    assert!(
        call.ignored
            .names()
            .all(|name| given.names().any(|it| it == name))
    );
    assert!(call.ignored.contains(given.without(takes(api).parameters)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_conversation_of_any_dialect_is_the_same_in_any_api(chat in chat()) {
        for api in APIS {
            agrees(api, openai::chat_request, &chat.openai());
            agrees(api, ollama::chat_request, &chat.ollama());
            agrees(api, anthropic::messages_request, &chat.anthropic());
        }
    }

    #[test]
    fn texts_to_continue_and_to_embed_too(prompt in text(), suffix in prop::option::of(text()), stream in any::<bool>(), input in prop::collection::vec(text(), 1..4)) {
        let completion = json!({"model": "ours", "prompt": prompt, "suffix": suffix, "stream": stream, "max_tokens": 7});
        let generate = json!({"model": "ours", "prompt": prompt, "suffix": suffix, "raw": true, "stream": stream, "options": {"top_k": 3}});
        let embedding = json!({"model": "ours", "input": input, "dimensions": 3, "user": "u"});
        let embed = json!({"model": "ours", "input": input, "options": {"num_ctx": 4}});
        for api in [Api::OpenAi, Api::Custom, Api::Ollama] {
            agrees(api, openai::completion_request, &completion);
            agrees(api, ollama::generate_request, &generate);
            agrees(api, openai::embedding_request, &embedding);
            agrees(api, ollama::embed_request, &embed);
        }
    }
}
