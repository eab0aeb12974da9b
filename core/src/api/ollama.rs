//! Ollama's routes that ask no model: lists, versions, and the store of models, which this program has not.

use super::answered::{Answered, Input, read};
use super::models::{ARCHITECTURE, context_length, find, known};
use super::page;
use super::route::Route;
use crate::config::Area;
use crate::dialect::Dialect;
use crate::dialect::body::{Path, raw_fields};
use crate::error::{Code, Refusal};
use crate::hub::keys::digest;
use crate::hub::lists::{Lists, Model};
use crate::text::JsonValue;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use serde_json::{Value, json};

/// The version that `/api/version` tells. Clients ask for at least 0.13.4.
const VERSION: &str = "0.13.4";
/// Models here are agents, which cannot be pushed, made, copied or deleted.
const STORE: &str = "/api/{push,create,copy,delete}";

pub(super) const ROUTES: &[Route] = &[
    Route::read("GET /", &["/"], root)
        .in_dialect(Dialect::Ollama)
        .open(),
    Route::read("GET /api/tags", &["/api/tags"], tags)
        .in_dialect(Dialect::Ollama)
        .in_area(Area::Models),
    Route::read("POST /api/show", &["/api/show"], show)
        .in_dialect(Dialect::Ollama)
        .in_area(Area::Models)
        .by_post(),
    Route::read("GET /api/ps", &["/api/ps"], ps)
        .in_dialect(Dialect::Ollama)
        .in_area(Area::Models),
    Route::read("GET /api/version", &["/api/version"], version).in_dialect(Dialect::Ollama),
    Route::read("POST /api/pull", &["/api/pull"], pull)
        .in_dialect(Dialect::Ollama)
        .by_post(),
    Route::read(STORE, &["/api/push", "/api/create", "/api/copy"], store)
        .in_dialect(Dialect::Ollama)
        .by_post(),
    Route::read(STORE, &["/api/delete"], store)
        .in_dialect(Dialect::Ollama)
        .by(&["DELETE", "POST"])
        .with_body(),
];

fn root(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    Ok(input
        .page_at
        .map_or(Answered::Text("Ollama is running"), |host| {
            page::page(lists, input, host)
        }))
}

fn version(_: &Lists, _: &Input<'_>) -> Result<Answered, Refusal> {
    Ok(Answered::ok(json!({ "version": VERSION })))
}

fn tags(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let models: Vec<Value> = known(lists, input).map(|model| tag(lists, model)).collect();
    Ok(Answered::ok(json!({ "models": models })))
}

fn ps(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let models: Vec<Value> = known(lists, input)
        .filter(|model| model.agent.is_some())
        .map(|model| running(lists, input.now, model))
        .collect();
    Ok(Answered::ok(json!({ "models": models })))
}

fn pull(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let (name, stream) = ModelFields::read(input)?;
    // Programs pull before they ask; what is here already needs no more than the last line.
    find(lists, input, &name).map_err(|_| not_kept())?;
    let done = json!({ "status": "success" });
    Ok(if stream {
        Answered::Line(done)
    } else {
        Answered::ok(done)
    })
}

fn store(_: &Lists, _: &Input<'_>) -> Result<Answered, Refusal> {
    Err(not_kept())
}

fn show(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let name = ModelFields::read(input)?.0;
    let model = find(lists, input, &name)?;
    let can = &model.capabilities;
    let mut capabilities = alloc::vec!["completion"];
    for (has, name) in [
        (can.tools, "tools"),
        (can.insert, "insert"),
        (can.vision, "vision"),
        (can.thinking, "thinking"),
        (can.embeddings, "embedding"),
    ] {
        if has {
            capabilities.push(name);
        }
    }
    let context = context_length(model);
    Ok(Answered::ok(json!({
        "license": "",
        "modelfile": format!(
            "# {} is answered by an agent\nFROM {}\n",
            model.name,
            model.agent.as_deref().unwrap_or("nobody")
        ),
        "parameters": format!("num_ctx {context}"),
        // Clients look for the suffix here to learn whether a model fills in the middle.
        "template": if can.insert { "{{ .Prompt }}{{ .Suffix }}" } else { "{{ .Prompt }}" },
        "details": details(),
        "model_info": {
            "general.architecture": ARCHITECTURE,
            "general.basename": &*model.name,
            "general.parameter_count": 0,
            "agent.context_length": context,
        },
        "capabilities": capabilities,
        "modified_at": lists.wall.rfc3339(model.created_at),
    })))
}

fn not_kept() -> Refusal {
    Refusal::new(
        Code::NotImplemented,
        "models here are agents: they are connected, not pulled, pushed, created, copied or deleted",
    )
}

raw_fields! {
    /// A request about one model, which older clients name in `name`.
    ModelFields { model: "model", name: "name", stream: "stream" }
}

impl ModelFields<'_> {
    /// The model's name, and whether the answer is a stream.
    fn read(input: &Input<'_>) -> Result<(String, bool), Refusal> {
        let fields: ModelFields<'_> = read(input)?;
        let says_nothing = |model: JsonValue<'_>| model.is_null() || model.get() == "\"\"";
        let named = match (fields.model, fields.name) {
            // Clients that know both names send both, and one of them empty.
            (Some(model), Some(_)) if says_nothing(model) => Path::root("name").find(fields.name),
            (Some(_), _) => Path::root("model").find(fields.model),
            (None, _) => Path::root("name").find(fields.name),
        };
        let name = named
            .ok_or_else(|| Refusal::invalid("model: the request names no model").at("model"))?
            .string()?;
        let stream = Path::root("stream").find(fields.stream);
        let stream = stream.map_or(Ok(true), |value| value.boolean())?;
        Ok((name.decode().into_owned(), stream))
    }
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "agent",
        "family": ARCHITECTURE,
        "families": [ARCHITECTURE],
        "parameter_size": "unknown",
        "quantization_level": "none",
    })
}

/// Ollama names every model with a tag.
fn tagged(name: &str) -> String {
    if name.contains(':') {
        name.into()
    } else {
        format!("{name}:latest")
    }
}

/// A stable stand-in for the digest of weights.
fn model_digest(name: &str) -> String {
    let mut digits = Vec::with_capacity(64);
    crate::text::hex(&mut digits, &digest(name.as_bytes()));
    String::from_utf8(digits).unwrap_or_default()
}

fn tag(lists: &Lists, model: &Model) -> Value {
    json!({
        "name": tagged(&model.name),
        "model": tagged(&model.name),
        "modified_at": lists.wall.rfc3339(model.created_at),
        "size": 0,
        "digest": model_digest(&model.name),
        "details": details(),
    })
}

fn running(lists: &Lists, now: Instant, model: &Model) -> Value {
    json!({
        "name": tagged(&model.name),
        "model": tagged(&model.name),
        "size": 0,
        "size_vram": 0,
        "digest": model_digest(&model.name),
        "details": details(),
        "expires_at": lists.wall.rfc3339(now + Duration::from_secs(300)),
        "context_length": context_length(model),
    })
}
