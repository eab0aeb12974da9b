//! Lists of models, as OpenAI and LM Studio give them.

use super::answered::{Answered, Input};
use super::route::Route;
use crate::config::Area;
use crate::error::Refusal;
use crate::hub::keys::Caller;
use crate::hub::lists::{Lists, Model};
use crate::hub::models::unknown_model;
use alloc::vec::Vec;
use serde_json::{Value, json};

/// The context that a model is said to have when neither its agent nor an alias says.
const CONTEXT_LENGTH: u64 = 131_072;
/// The architecture that is told of a model whose weights nobody knows: LM Studio's `arch`, Ollama's `<arch>`.
pub(super) const ARCHITECTURE: &str = "agent";

pub(super) const ROUTES: &[Route] = &[
    Route::read("GET /v1/models", &["/v1/models"], openai_list).in_area(Area::Models),
    Route::read("GET /v1/models/{id}", &["/v1/models/{id}"], openai_one).in_area(Area::Models),
    // LM Studio's REST API, version 0. Its routes for answers are OpenAI's under another name.
    Route::read("GET /api/v0/models", &["/api/v0/models"], lm_studio_list).in_area(Area::Models),
    Route::read(
        "GET /api/v0/models/{id}",
        &["/api/v0/models/{id}"],
        lm_studio_one,
    )
    .in_area(Area::Models),
];

fn openai_list(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let data: Vec<Value> = known(lists, input)
        .map(|model| openai_model(lists, model))
        .collect();
    Ok(Answered::ok(json!({ "object": "list", "data": data })))
}

fn openai_one(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let model = of_path(lists, input)?;
    Ok(Answered::ok(openai_model(lists, model)))
}

fn lm_studio_list(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let data: Vec<Value> = known(lists, input).map(lm_studio_model).collect();
    Ok(Answered::ok(json!({ "object": "list", "data": data })))
}

fn lm_studio_one(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    Ok(Answered::ok(lm_studio_model(of_path(lists, input)?)))
}

/// The model that the path names.
fn of_path<'l>(lists: &'l Lists, input: &Input<'_>) -> Result<&'l Model, Refusal> {
    find(
        lists,
        input,
        &input.parameters.get("id").unwrap_or_default(),
    )
}

/// The models that exist for the caller.
pub(super) fn known<'l>(lists: &'l Lists, input: &Input<'l>) -> impl Iterator<Item = &'l Model> {
    let caller = input.caller;
    let models = lists.models.iter();
    models.filter(move |model| exists(model, caller))
}

fn exists(model: &Model, caller: Option<&Caller>) -> bool {
    caller.is_none_or(|caller| caller.may_ask(&[&model.name, &model.root]))
}

/// The model that a client names, with or without `:latest`.
pub(super) fn find<'l>(
    lists: &'l Lists,
    input: &Input<'_>,
    name: &str,
) -> Result<&'l Model, Refusal> {
    let bare = name.strip_suffix(":latest").unwrap_or(name);
    lists
        .model(name)
        .or_else(|| lists.model(bare))
        .or(lists.every.as_ref())
        .filter(|model| exists(model, input.caller))
        .ok_or_else(|| {
            let names = lists
                .models
                .iter()
                .filter(|model| exists(model, input.caller));
            let asks_all = input.caller.is_none_or(|caller| caller.models().is_empty());
            unknown_model(name, names.map(|model| &*model.name).collect(), asks_all)
        })
}

/// Tokens that the model is said to read at once.
pub(super) fn context_length(model: &Model) -> u64 {
    model.capabilities.context_length.unwrap_or(CONTEXT_LENGTH)
}

fn openai_model(lists: &Lists, model: &Model) -> Value {
    json!({
        "id": &*model.name,
        "object": "model",
        "created": lists.wall.unix(model.created_at).as_secs(),
        "owned_by": model.agent.as_deref().unwrap_or("alias"),
        "permission": [],
        "root": &*model.root,
        "parent": null,
        "context_length": context_length(model),
        "max_model_len": context_length(model),
    })
}

/// Zed reads it with a parser that knows two kinds of weights and takes no others.
fn lm_studio_model(model: &Model) -> Value {
    let can = &model.capabilities;
    let named = [(can.tools, "tool_use"), (can.vision, "vision")];
    let capabilities: Vec<&str> = named
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
    json!({
        "id": &*model.name,
        "object": "model",
        "type": if can.vision { "vlm" } else { "llm" },
        "publisher": model.agent.as_deref().unwrap_or("alias"),
        "arch": ARCHITECTURE,
        "compatibility_type": "gguf",
        "quantization": "none",
        "state": if model.agent.is_some() { "loaded" } else { "not-loaded" },
        "max_context_length": context_length(model),
        "loaded_context_length": context_length(model),
        "capabilities": capabilities,
    })
}
