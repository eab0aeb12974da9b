//! Answers of every route that is not an exchange: lists, sessions, health.

use super::{Accepted, Endpoint};
use crate::error::{Code, Refusal};
use crate::exchange::{NDJSON, Reply, ReplyHead, TEXT};
use crate::hub::audit::RequestInfo;
use crate::hub::control::Model;
use crate::hub::keys::{Caller, digest};
use crate::hub::sessions::{Action, Registration, Session, Status};
use crate::hub::{Hub, HubOut, Requester};
use crate::id::SessionId;
use crate::link::Capabilities;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Deserialize;
use serde_json::{Value, json};

/// What `/api/version` says. Clients ask for at least 0.13.4; what is behind the hyphen says who we are.
pub const OLLAMA_VERSION: &str = "0.13.4";
/// The context that a model is said to have when neither its agent nor an alias says.
const CONTEXT_LENGTH: u64 = 131_072;
/// `<arch>` of Ollama's `model_info`.
const ARCHITECTURE: &str = "agent";

/// Answers a request that [`super::accept`] let pass and that is neither an exchange nor an upgrade. What nobody needs a
/// key for is not in the audit.
pub fn answer(
    hub: &mut Hub,
    now: Instant,
    info: RequestInfo,
    accepted: &Accepted<'_>,
    body: &[u8],
    out: &mut HubOut,
    reply: &mut Reply,
) {
    let (id, dialect) = (info.exchange, accepted.route.endpoint.dialect());
    let answered = try_answer(hub, now, accepted, body, out);
    let answer = match answered {
        Ok(Body::Json(status, value)) => {
            reply.json(id, status, |out| {
                // Writing to memory cannot fail, and every key is a string.
                *out = serde_json::to_vec(&value).unwrap_or_default();
            });
            Ok(status)
        }
        Ok(Body::Line(value)) => {
            reply.head = Some(ReplyHead::new(200, NDJSON, id));
            reply.body = serde_json::to_vec(&value).unwrap_or_default();
            reply.body.push(b'\n');
            Ok(200)
        }
        Ok(Body::Text(text)) => {
            reply.head = Some(ReplyHead::new(200, TEXT, id));
            reply.body.extend_from_slice(text.as_bytes());
            Ok(200)
        }
        Ok(Body::Nothing) => {
            reply.head = Some(ReplyHead::new(204, TEXT, id));
            Ok(204)
        }
        Err(refusal) => {
            reply.refuse(id, dialect, &refusal);
            Err(refusal)
        }
    };
    if accepted.caller.is_some() {
        let bytes_out = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
        hub.note(now, info, answer.as_ref().map(|status| *status), bytes_out);
    } else if let Some(head) = &reply.head {
        hub.count_answer(accepted.route.endpoint.name(), head.status);
    }
}

enum Body {
    Json(u16, Value),
    /// A stream of one record.
    Line(Value),
    Text(&'static str),
    Nothing,
}

fn try_answer(
    hub: &mut Hub,
    now: Instant,
    accepted: &Accepted<'_>,
    body: &[u8],
    out: &mut HubOut,
) -> Result<Body, Refusal> {
    let id = accepted.route.id.as_deref().unwrap_or_default();
    let ok = |value| Ok(Body::Json(200, value));
    match accepted.route.endpoint {
        Endpoint::Root => Ok(Body::Text("Ollama is running")),
        Endpoint::Preflight => Ok(Body::Nothing),
        Endpoint::Health => {
            let (status, value) = health(hub, now);
            Ok(Body::Json(status, value))
        }
        Endpoint::Version => ok(json!({ "version": OLLAMA_VERSION })),
        Endpoint::Models => {
            let data: Vec<Value> = hub
                .models()
                .values()
                .map(|model| openai_model(hub, model))
                .collect();
            ok(json!({ "object": "list", "data": data }))
        }
        Endpoint::Model => ok(openai_model(hub, &find(hub, id)?)),
        Endpoint::LmStudioModels => {
            let data: Vec<Value> = hub.models().values().map(lm_studio_model).collect();
            ok(json!({ "object": "list", "data": data }))
        }
        Endpoint::LmStudioModel => ok(lm_studio_model(&find(hub, id)?)),
        Endpoint::Tags => {
            let models: Vec<Value> = hub.models().values().map(|model| tag(hub, model)).collect();
            ok(json!({ "models": models }))
        }
        Endpoint::Ps => {
            let models: Vec<Value> = hub
                .models()
                .values()
                .filter(|model| model.agent.is_some())
                .map(|model| running(hub, now, model))
                .collect();
            ok(json!({ "models": models }))
        }
        Endpoint::Show => {
            let name = ModelRequest::read(body)?.0;
            ok(show(hub, &find(hub, &name)?))
        }
        Endpoint::Pull => {
            let (name, stream) = ModelRequest::read(body)?;
            // Programs pull before they ask; what is here already needs no more than the last line.
            find(hub, &name).map_err(|_| not_kept())?;
            let done = json!({ "status": "success" });
            Ok(if stream {
                Body::Line(done)
            } else {
                Body::Json(200, done)
            })
        }
        Endpoint::ModelStore => Err(not_kept()),
        Endpoint::Register => {
            let caller = caller(accepted)?;
            register(hub, now, caller, body, out)
        }
        Endpoint::Control(action) => {
            let caller = caller(accepted)?;
            let request: SessionRequest = parse(body)?;
            let status = hub.control(
                now,
                Requester::Caller(caller),
                &request.session_id,
                action,
                out,
            )?;
            ok(
                json!({ "session_id": request.session_id, "status": status.as_str(), "action": action_done(action) }),
            )
        }
        Endpoint::Sessions => {
            let sessions: Vec<Value> = hub
                .sessions()
                .iter()
                .map(|session| entry(hub, now, session))
                .collect();
            let active = hub
                .sessions()
                .iter()
                .filter(|session| session.status == Status::Active)
                .count();
            ok(
                json!({ "total_count": sessions.len(), "active_count": active, "sessions": sessions }),
            )
        }
        Endpoint::Session => {
            let slot = hub
                .sessions()
                .find(id)
                .and_then(|slot| hub.sessions().get(slot));
            let session = slot.ok_or_else(|| {
                Refusal::new(Code::SessionNotFound, format!("there is no session `{id}`"))
            })?;
            ok(entry(hub, now, session))
        }
        Endpoint::ChatCompletions
        | Endpoint::Messages
        | Endpoint::CountTokens
        | Endpoint::Completions
        | Endpoint::FimCompletions
        | Endpoint::Responses
        | Endpoint::OllamaChat
        | Endpoint::OllamaGenerate
        | Endpoint::Embeddings
        | Endpoint::OllamaEmbed
        | Endpoint::OllamaEmbeddings
        | Endpoint::HealthDeep
        | Endpoint::Metrics
        | Endpoint::MetricsJson
        | Endpoint::Agent
        | Endpoint::CallerTools => Err(Refusal::new(
            Code::Internal,
            "this route is not answered here",
        )),
    }
}

const fn action_done(action: Action) -> &'static str {
    action.as_str()
}

fn caller<'a>(accepted: &'a Accepted<'_>) -> Result<&'a Caller, Refusal> {
    accepted
        .caller
        .as_ref()
        .ok_or_else(|| Refusal::new(Code::InvalidKey, "no API key was given"))
}

/// Reads a small JSON body; the error names the field.
fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    let text = core::str::from_utf8(body).map_err(|_| Refusal::invalid("the body is not UTF-8"))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path();
        let field = (path.iter().len() > 0).then(|| format!("{path}"));
        let message = match &field {
            Some(field) => format!("{field}: {}", error.inner()),
            None => format!(
                "the body is not the JSON object that is wanted: {}",
                error.inner()
            ),
        };
        let refusal = Refusal::invalid(message);
        match field {
            Some(field) => refusal.at(field),
            None => refusal,
        }
    })?;
    reader
        .end()
        .map_err(|_| Refusal::invalid("there is something behind the JSON object"))?;
    Ok(value)
}

fn not_kept() -> Refusal {
    Refusal::new(
        Code::NotImplemented,
        "models here are agents: they are connected, not pulled, pushed, created, copied or deleted",
    )
}

/// A request about one model, which older clients name in `name`.
#[derive(Deserialize)]
struct ModelRequest {
    model: Option<String>,
    name: Option<String>,
    stream: Option<bool>,
}

impl ModelRequest {
    /// The model's name, and whether the answer is a stream.
    fn read(body: &[u8]) -> Result<(String, bool), Refusal> {
        let request: Self = parse(body)?;
        let name = request
            .model
            .or(request.name)
            .ok_or_else(|| Refusal::invalid("model: the request names no model").at("model"))?;
        Ok((name, request.stream.unwrap_or(true)))
    }
}

#[derive(Deserialize)]
struct SessionRequest {
    session_id: String,
}

#[derive(Deserialize)]
struct RegisterRequest {
    session_id: Option<String>,
    session_token: Option<String>,
    agent_id: String,
    allowed_scopes: Option<Vec<String>>,
    ttl_seconds: Option<u32>,
    label: Option<String>,
    models: Option<Vec<String>>,
    max_requests: Option<u64>,
    max_concurrency: Option<usize>,
    capabilities: Option<CapabilityFields>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CapabilityFields {
    tools: bool,
    vision: bool,
    embeddings: bool,
    insert: bool,
    thinking: bool,
    context_length: Option<u64>,
}

fn register(
    hub: &mut Hub,
    now: Instant,
    caller: &Caller,
    body: &[u8],
    out: &mut HubOut,
) -> Result<Body, Refusal> {
    let request: RegisterRequest = parse(body)?;
    let session_id = match request.session_id {
        None => None,
        Some(text) => Some(SessionId::new(&text).ok_or_else(|| {
            Refusal::invalid("session_id: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -")
                .at("session_id")
        })?),
    };
    if request
        .session_token
        .as_ref()
        .is_some_and(|token| token.len() < 16 || token.len() > 512)
    {
        return Err(Refusal::invalid("session_token: expected 16 to 512 bytes").at("session_token"));
    }
    let can = request.capabilities.unwrap_or_default();
    let registration = Registration {
        session_id,
        session_token: request.session_token.map(|token| digest(token.as_bytes())),
        agent_id: request.agent_id,
        label: request.label,
        scopes: request.allowed_scopes,
        ttl_seconds: request.ttl_seconds,
        models: request.models.unwrap_or_default(),
        max_requests: request.max_requests,
        max_concurrency: request.max_concurrency,
        capabilities: Capabilities {
            tools: can.tools,
            vision: can.vision,
            embeddings: can.embeddings,
            insert: can.insert,
            thinking: can.thinking,
            context_length: can.context_length,
            ..Capabilities::default()
        },
    };
    let (slot, token) = hub.register_by_control(now, caller, registration, out)?;
    let Some(session) = hub.sessions().get(slot) else {
        return Err(Refusal::new(Code::Internal, "the session is gone already"));
    };
    let mut value = json!({
        "registered": true,
        "session_id": session.id.as_str(),
        "status": session.status.as_str(),
        "expires_at": hub.wall().rfc3339(session.expires_at.unwrap_or(now + session.ttl)),
    });
    if let (Some(token), Some(object)) = (token, value.as_object_mut()) {
        object.insert("session_token".into(), Value::String(token));
    }
    Ok(Body::Json(200, value))
}

fn entry(hub: &Hub, now: Instant, session: &Session) -> Value {
    let wall = hub.wall();
    json!({
        "session_id": session.id.as_str(),
        "agent_id": &*session.agent_id,
        "label": &*session.label,
        "status": session.status.as_str(),
        "created_at": wall.rfc3339(session.created_at),
        "expires_at": wall.rfc3339(session.expires_at.unwrap_or(now + session.ttl)),
        "last_activity": wall.rfc3339(session.last_activity),
        "request_count": session.request_count,
        "max_requests": session.max_requests,
        "in_flight": session.in_flight,
        "models": session.models.iter().map(|model| &**model).collect::<Vec<_>>(),
        "allowed_scopes": session.scopes,
        "link": session.link.map(|link| link.0),
    })
}

fn health(hub: &Hub, now: Instant) -> (u16, Value) {
    let draining = hub.is_draining();
    let active = hub
        .sessions()
        .iter()
        .filter(|session| session.status == Status::Active)
        .count();
    let value = json!({
        "status": if draining { "draining" } else { "healthy" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": now.since(Instant::ZERO).as_secs(),
        "active_sessions": active,
        "timestamp": hub.wall().rfc3339(now),
    });
    (if draining { 503 } else { 200 }, value)
}

/// The model that a client names, with or without `:latest`.
fn find<'h>(hub: &'h Hub, name: &str) -> Result<Model<'h>, Refusal> {
    let mut models = hub.models();
    let bare = name.strip_suffix(":latest").unwrap_or(name);
    models
        .remove(name)
        .or_else(|| models.remove(bare))
        .ok_or_else(|| {
            Refusal::new(
                Code::ModelNotFound,
                format!(
                    "the model `{}` does not exist here; GET /v1/models lists those that do",
                    short(name)
                ),
            )
            .at("model")
        })
}

fn short(name: &str) -> String {
    name.chars().take(256).collect()
}

fn context_length(model: &Model<'_>) -> u64 {
    model.capabilities.context_length.unwrap_or(CONTEXT_LENGTH)
}

fn openai_model(hub: &Hub, model: &Model<'_>) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": hub.wall().unix(model.created_at).as_secs(),
        "owned_by": model.agent.unwrap_or("alias"),
        "context_length": context_length(model),
        "max_model_len": context_length(model),
    })
}

/// LM Studio's REST API, version 0. Zed reads it with a parser that knows two kinds of weights and takes no others.
fn lm_studio_model(model: &Model<'_>) -> Value {
    let can = &model.capabilities;
    let named = [(can.tools, "tool_use"), (can.vision, "vision")];
    let capabilities: Vec<&str> = named
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
    json!({
        "id": model.name,
        "object": "model",
        "type": if can.vision { "vlm" } else { "llm" },
        "publisher": model.agent.unwrap_or("alias"),
        "arch": ARCHITECTURE,
        "compatibility_type": "gguf",
        "quantization": "none",
        "state": if model.agent.is_some() { "loaded" } else { "not-loaded" },
        "max_context_length": context_length(model),
        "loaded_context_length": context_length(model),
        "capabilities": capabilities,
    })
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
    crate::hub::audit::hex(&mut digits, &digest(name.as_bytes()));
    String::from_utf8(digits).unwrap_or_default()
}

fn tag(hub: &Hub, model: &Model<'_>) -> Value {
    json!({
        "name": tagged(model.name),
        "model": tagged(model.name),
        "modified_at": hub.wall().rfc3339(model.created_at),
        "size": 0,
        "digest": model_digest(model.name),
        "details": details(),
    })
}

fn running(hub: &Hub, now: Instant, model: &Model<'_>) -> Value {
    json!({
        "name": tagged(model.name),
        "model": tagged(model.name),
        "size": 0,
        "size_vram": 0,
        "digest": model_digest(model.name),
        "details": details(),
        "expires_at": hub.wall().rfc3339(now + core::time::Duration::from_secs(300)),
        "context_length": context_length(model),
    })
}

fn show(hub: &Hub, model: &Model<'_>) -> Value {
    let mut capabilities = alloc::vec!["completion"];
    for (has, name) in [
        (model.capabilities.tools, "tools"),
        (model.capabilities.insert, "insert"),
        (model.capabilities.vision, "vision"),
        (model.capabilities.thinking, "thinking"),
        (model.capabilities.embeddings, "embedding"),
    ] {
        if has {
            capabilities.push(name);
        }
    }
    let context = context_length(model);
    json!({
        "license": "",
        "modelfile": format!("# {} is answered by an agent\nFROM {}\n", model.name, model.agent.unwrap_or("nobody")),
        "parameters": format!("num_ctx {context}"),
        // Clients look for the suffix here to learn whether a model fills in the middle.
        "template": if model.capabilities.insert { "{{ .Prompt }}{{ .Suffix }}" } else { "{{ .Prompt }}" },
        "details": details(),
        "model_info": {
            "general.architecture": ARCHITECTURE,
            "general.basename": model.name,
            "general.parameter_count": 0,
            "agent.context_length": context,
        },
        "capabilities": capabilities,
        "modified_at": hub.wall().rfc3339(model.created_at),
    })
}
