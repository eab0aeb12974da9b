//! The full reading of any message, both dialects.

use super::fields::{
    Flag, Invocations, List, Object, Reason, Seconds, Status, UsageFields, Vector, Whole,
    error_code, refuse,
};
use crate::error::{AgentFault, Code};
use crate::id::ExchangeId;
use crate::invocation::{Delta, End, Failure, Finish, ToolCallDelta};
use crate::link::{Answer, Chunk, Ending, FromAgent, Id, Registration};
use crate::scope::{Scope, Scopes};
use crate::supports::{Capabilities, Supports};
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::value::RawValue;

/// Longest message of an agent's error that is passed on, in bytes.
const MESSAGE_LEN: usize = 4096;

/// Finds the exchange that a frame is about, in a frame of any length.
pub(super) fn exchange(frame: &str) -> Option<ExchangeId> {
    let mut head = Head::default();
    // Whatever is wrong behind the id, the id is known.
    let _ = HeadSeed(&mut head).deserialize(&mut serde_json::Deserializer::from_str(frame));
    match head.id.and_then(JsonStr::from_raw).map(Id::read)? {
        Id::Ours(id) => Some(id),
        Id::Foreign(_) => None,
    }
}

/// Reads a frame that the scanner left.
pub(super) fn decode(frame: &str) -> Result<FromAgent<'_>, AgentFault> {
    let mut head = Head::default();
    let mut deserializer = serde_json::Deserializer::from_str(frame);
    let read = HeadSeed(&mut head)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let id = head.id.and_then(JsonStr::from_raw).map(Id::read);
    if let Err(error) = read {
        return Err(fault(id, error.to_string()));
    }
    let Some(kind) = head.kind else {
        return Err(fault(id, "type: missing field".to_string()));
    };
    let Some(kind) = JsonStr::from_raw(kind) else {
        return Err(fault(
            id,
            format!(
                "type: invalid type: {}, expected a string",
                crate::text::unexpected(kind)
            ),
        ));
    };
    let kind = kind.decode();
    match &*kind {
        "model_stream_chunk" => {
            read_as::<ChunkFields<'_>>(frame).map(|fields| FromAgent::Chunk(fields.chunk()))
        }
        "model_result" => read_as::<ResultFields<'_>>(frame)
            .and_then(ResultFields::answer)
            .map(FromAgent::Result),
        "error" => read_as::<ErrorFields<'_>>(frame).map(|fields| FromAgent::Error {
            id: fields.id.map(Id::read),
            failure: failure(fields.error),
        }),
        "register" => read_as::<RegisterFields<'_>>(frame)
            .map(|fields| FromAgent::Register(fields.registration())),
        "unregister" => {
            read_as::<UnregisterFields<'_>>(frame).map(|fields| FromAgent::Unregister {
                session: fields.session_id.decode(),
            })
        }
        "ping" => Ok(FromAgent::Ping {
            timestamp: head.timestamp,
        }),
        "pong" => Ok(FromAgent::Pong),
        _ => return Ok(FromAgent::Unknown { kind, id }),
    }
    .map_err(|what| fault(id, what))
}

fn fault(id: Option<Id<'_>>, what: String) -> AgentFault {
    match id {
        Some(Id::Ours(id)) => AgentFault::Answer {
            id,
            what: Cow::Owned(what),
        },
        _ => AgentFault::Malformed(Cow::Owned(what)),
    }
}

/// Reads a message of a known type. An error names the field; only then is the path followed.
fn read_as<'f, T: Deserialize<'f>>(frame: &'f str) -> Result<T, String> {
    if let Ok(Object(fields)) = serde_json::from_str::<Object<T>>(frame) {
        return Ok(fields);
    }
    let mut deserializer = serde_json::Deserializer::from_str(frame);
    match serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) {
        Ok(Object(fields)) => Ok(fields),
        Err(error) => Err(told(error)),
    }
}

/// Tells the field and what is wrong with it.
fn told(error: serde_path_to_error::Error<serde_json::Error>) -> String {
    let path = error.path().to_string();
    let what = error.into_inner().to_string();
    let what = what
        .rsplit_once(" at line ")
        .map_or(&*what, |(what, _)| what);
    if path == "." {
        what.to_string()
    } else {
        format!("{path}: {what}")
    }
}

/// Members that every message has, kept as far as a broken frame could be read.
#[derive(Default)]
struct Head<'f> {
    kind: Option<&'f RawValue>,
    id: Option<&'f RawValue>,
    timestamp: Option<&'f RawValue>,
}

struct HeadSeed<'h, 'f>(&'h mut Head<'f>);

impl<'f> DeserializeSeed<'f> for HeadSeed<'_, 'f> {
    type Value = ();

    fn deserialize<D: Deserializer<'f>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'f> Visitor<'f> for HeadSeed<'_, 'f> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'f>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Type => self.0.kind = Some(map.next_value()?),
                Key::Id => self.0.id = Some(map.next_value()?),
                Key::Timestamp => self.0.timestamp = Some(map.next_value()?),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'f>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::invalid_type(Unexpected::Other("array"), &self))
    }

    refuse!(scalars);
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Type,
    Id,
    Timestamp,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct ChunkFields<'f> {
    #[serde(borrow)]
    id: JsonStr<'f>,
    chunk_index: Option<Whole>,
    delta: Option<Object<DeltaFields<'f>>>,
    finish_reason: Option<Reason>,
    usage: Option<Object<UsageFields>>,
    error: Option<ErrorValue<'f>>,
    /// The second dialect.
    chunk: Option<Object<InnerChunk<'f>>>,
    finished: Option<Flag>,
}

#[derive(Deserialize)]
struct InnerChunk<'f> {
    #[serde(borrow)]
    delta: Option<Object<DeltaFields<'f>>>,
    finish_reason: Option<Reason>,
    usage: Option<Object<UsageFields>>,
}

#[derive(Deserialize)]
struct DeltaFields<'f> {
    #[serde(borrow)]
    role: Option<JsonStr<'f>>,
    content: Option<JsonStr<'f>>,
    reasoning_content: Option<JsonStr<'f>>,
    refusal: Option<JsonStr<'f>>,
    tool_calls: Option<List<Object<ToolCallFields<'f>>>>,
}

#[derive(Deserialize)]
struct ToolCallFields<'f> {
    index: Option<Whole>,
    #[serde(borrow)]
    id: Option<JsonStr<'f>>,
    function: Option<Object<FunctionFields<'f>>>,
}

#[derive(Deserialize)]
struct FunctionFields<'f> {
    #[serde(borrow)]
    name: Option<JsonStr<'f>>,
    arguments: Option<JsonStr<'f>>,
}

impl<'f> ChunkFields<'f> {
    fn chunk(self) -> Chunk<'f> {
        let inner = self.chunk.map(|Object(inner)| inner);
        let (inner_delta, inner_reason, inner_usage) = inner.map_or((None, None, None), |inner| {
            (inner.delta, inner.finish_reason, inner.usage)
        });
        let reason = self.finish_reason.or(inner_reason).or_else(|| {
            matches!(self.finished, Some(Flag(true))).then_some(Reason::Finish(Finish::Stop))
        });
        let usage = self.usage.or(inner_usage);
        Chunk {
            id: Id::read(self.id),
            index: self.chunk_index.map(|index| index.0),
            delta: self
                .delta
                .or(inner_delta)
                .map_or_else(Delta::default, |Object(delta)| delta.delta()),
            ending: reason.map(|reason| ending(reason, usage.as_ref(), self.error)),
        }
    }
}

impl<'f> DeltaFields<'f> {
    fn delta(self) -> Delta<'f> {
        // Checked to be a string; clients are told the role by the provider.
        let _ = self.role;
        let calls = self.tool_calls.map_or_else(Vec::new, |List(calls)| calls);
        Delta {
            content: self.content.unwrap_or_default(),
            reasoning: self.reasoning_content.unwrap_or_default(),
            refusal: self.refusal.unwrap_or_default(),
            tool_calls: (0u32..)
                .zip(calls)
                .map(|(position, Object(call))| {
                    let function = call.function.map(|Object(function)| function);
                    let (name, arguments) = function
                        .map_or((None, None), |function| (function.name, function.arguments));
                    ToolCallDelta {
                        index: call
                            .index
                            .map_or(position, |index| u32::try_from(index.0).unwrap_or(u32::MAX)),
                        id: call.id.unwrap_or_default(),
                        name: name.unwrap_or_default(),
                        arguments: arguments.unwrap_or_default(),
                    }
                })
                .collect(),
        }
    }
}

/// Reads one piece of an answer that stands alone, as a program that knows nothing of ids and frames writes it: a `delta`, or an
/// object that has one, with `finish_reason` and `usage` beside it in the last, or with `error` where the answer failed.
///
/// # Errors
/// Names the field and what is wrong with it, without its content.
pub fn piece(line: &str) -> Result<(Delta<'_>, Option<Ending<'_>>), String> {
    let fields: PieceFields<'_> = read_as(line)?;
    let delta = match fields.delta {
        Some(Object(delta)) => delta,
        None => DeltaFields {
            role: None,
            content: fields.content,
            reasoning_content: fields.reasoning_content,
            refusal: fields.refusal,
            tool_calls: fields.tool_calls,
        },
    };
    let usage = fields.usage;
    let ending = match (fields.finish_reason, fields.error) {
        (None, None) => None,
        (_, error @ Some(_)) => Some(ending(Reason::Error, None, error)),
        (Some(reason), None) => Some(ending(reason, usage.as_ref(), None)),
    };
    Ok((delta.delta(), ending))
}

#[derive(Deserialize)]
struct PieceFields<'f> {
    #[serde(borrow)]
    delta: Option<Object<DeltaFields<'f>>>,
    content: Option<JsonStr<'f>>,
    reasoning_content: Option<JsonStr<'f>>,
    refusal: Option<JsonStr<'f>>,
    tool_calls: Option<List<Object<ToolCallFields<'f>>>>,
    finish_reason: Option<Reason>,
    usage: Option<Object<UsageFields>>,
    error: Option<ErrorValue<'f>>,
}

fn ending<'f>(
    reason: Reason,
    usage: Option<&Object<UsageFields>>,
    error: Option<ErrorValue<'f>>,
) -> Ending<'f> {
    match reason {
        Reason::Finish(finish) => Ending::End(End {
            finish,
            usage: usage.and_then(|Object(usage)| usage.usage()),
        }),
        Reason::Error => Ending::Failed(failure(error)),
    }
}

#[derive(Deserialize)]
struct ResultFields<'f> {
    #[serde(borrow)]
    id: JsonStr<'f>,
    status: Option<Status>,
    result: Option<Object<ResultBody<'f>>>,
    error: Option<ErrorValue<'f>>,
    /// The second dialect.
    choices: Option<List<Object<Choice<'f>>>>,
    embeddings: Option<List<Vector<'f>>>,
    usage: Option<Object<UsageFields>>,
}

#[derive(Deserialize)]
struct ResultBody<'f> {
    #[serde(borrow)]
    choices: Option<List<Object<Choice<'f>>>>,
    embeddings: Option<List<Vector<'f>>>,
    usage: Option<Object<UsageFields>>,
}

#[derive(Deserialize)]
struct Choice<'f> {
    #[serde(borrow)]
    message: Option<Object<DeltaFields<'f>>>,
    text: Option<JsonStr<'f>>,
    finish_reason: Option<Reason>,
}

impl<'f> ResultFields<'f> {
    fn answer(self) -> Result<Answer<'f>, String> {
        let id = Id::read(self.id);
        let failed = match (self.status, &self.error) {
            (Some(Status::Timeout), _) => Some(Failure {
                code: Code::AgentTimeout,
                message: Cow::Borrowed("the agent says that it ran out of time"),
                retry_after: None,
            }),
            (Some(Status::Error), _) | (None, Some(_)) => Some(failure(self.error)),
            (Some(Status::Ok) | None, _) => None,
        };
        if let Some(failed) = failed {
            return Ok(Answer {
                id,
                delta: Delta::default(),
                vectors: Vec::new(),
                ending: Ending::Failed(failed),
            });
        }
        let nested = self.result.is_some();
        let body = self.result.map_or(
            ResultBody {
                choices: self.choices,
                embeddings: self.embeddings,
                usage: self.usage,
            },
            |Object(body)| body,
        );
        let mut answer = Answer {
            id,
            delta: Delta::default(),
            vectors: Vec::new(),
            ending: ending(Reason::Finish(Finish::Stop), body.usage.as_ref(), None),
        };
        if let Some(List(vectors)) = body.embeddings {
            answer.vectors = vectors.into_iter().map(|vector| vector.0).collect();
            return Ok(answer);
        }
        let at = if nested { "result.choices" } else { "choices" };
        let Some(List(choices)) = body.choices else {
            return Err(match nested {
                true => "result: neither choices nor embeddings".to_string(),
                false => "result: missing field".to_string(),
            });
        };
        let Some(Object(choice)) = choices.into_iter().next() else {
            return Err(format!("{at}: empty, expected one choice"));
        };
        answer.delta = choice
            .message
            .map_or_else(Delta::default, |Object(message)| message.delta());
        if let Some(text) = choice.text.filter(|_| answer.delta.content.is_empty()) {
            answer.delta.content = text;
        }
        let unsaid = if answer.delta.tool_calls.is_empty() {
            Finish::Stop
        } else {
            Finish::ToolCalls
        };
        let reason = choice.finish_reason.unwrap_or(Reason::Finish(unsaid));
        answer.ending = ending(reason, body.usage.as_ref(), None);
        Ok(answer)
    }
}

#[derive(Deserialize)]
struct ErrorFields<'f> {
    #[serde(borrow)]
    id: Option<JsonStr<'f>>,
    error: Option<ErrorValue<'f>>,
}

/// `error`: an object, or a bare string in the second dialect.
enum ErrorValue<'f> {
    Bare(JsonStr<'f>),
    Object(ErrorBody<'f>),
}

#[derive(Deserialize)]
struct ErrorBody<'f> {
    #[serde(borrow)]
    code: Option<JsonStr<'f>>,
    message: Option<JsonStr<'f>>,
    retry_after: Option<Seconds>,
}

impl<'de: 'f, 'f> Deserialize<'de> for ErrorValue<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        if let Some(bare) = JsonStr::from_raw(raw) {
            return Ok(Self::Bare(bare));
        }
        if !raw.get().starts_with('{') {
            return Err(D::Error::invalid_type(
                crate::text::unexpected(raw),
                &"an object or a string",
            ));
        }
        read_as(raw.get())
            .map(Self::Object)
            .map_err(D::Error::custom)
    }
}

fn failure(error: Option<ErrorValue<'_>>) -> Failure<'_> {
    let (code, message, retry_after) = match error {
        None => (Code::AgentError, None, None),
        Some(ErrorValue::Bare(message)) => (Code::AgentError, Some(message), None),
        Some(ErrorValue::Object(body)) => (
            body.code
                .map_or(Code::AgentError, |code| error_code(&code.decode())),
            body.message,
            body.retry_after.map(|wait| wait.0),
        ),
    };
    Failure {
        code,
        message: message
            .map(|message| cut(message.decode()))
            .filter(|message| !message.is_empty())
            .unwrap_or(Cow::Borrowed(
                "the agent reported an error without a message",
            )),
        retry_after,
    }
}

fn cut(mut message: Cow<'_, str>) -> Cow<'_, str> {
    let end = (0..=MESSAGE_LEN.min(message.len()))
        .rev()
        .find(|end| message.is_char_boundary(*end))
        .unwrap_or(0);
    match &mut message {
        Cow::Borrowed(text) => *text = text.get(..end).unwrap_or_default(),
        Cow::Owned(text) => text.truncate(end),
    }
    message
}

#[derive(Deserialize)]
struct RegisterFields<'f> {
    #[serde(borrow)]
    agent_id: JsonStr<'f>,
    label: Option<JsonStr<'f>>,
    requested_scopes: Option<List<JsonStr<'f>>>,
    ttl_seconds: Option<Whole>,
    models: Option<List<JsonStr<'f>>>,
    max_concurrency: Option<Whole>,
    max_requests: Option<Whole>,
    invocations: Option<Invocations>,
    capabilities: Option<Object<CapabilityFields>>,
}

#[derive(Deserialize)]
struct CapabilityFields {
    tools: Option<Flag>,
    vision: Option<Flag>,
    embeddings: Option<Flag>,
    insert: Option<Flag>,
    thinking: Option<Flag>,
    context_length: Option<Whole>,
}

impl RegisterFields<'_> {
    fn registration(self) -> Registration {
        let texts = |list: Option<List<JsonStr<'_>>>| {
            list.map_or_else(Vec::new, |List(texts)| {
                texts
                    .into_iter()
                    .map(|text| text.decode().into_owned())
                    .collect()
            })
        };
        let scopes = texts(self.requested_scopes);
        let scopes = match scopes.is_empty() {
            true => Scope::Inference.into(),
            false => Scopes::from(scopes),
        };
        let capabilities = self
            .capabilities
            .map_or_else(Capabilities::default, |Object(can)| {
                let is = |flag: Option<Flag>| flag.is_some_and(|flag| flag.0);
                Capabilities {
                    tools: is(can.tools),
                    vision: is(can.vision),
                    embeddings: is(can.embeddings),
                    insert: is(can.insert),
                    thinking: is(can.thinking),
                    context_length: can.context_length.map(|count| count.0),
                }
            });
        Registration {
            agent_id: self.agent_id.decode().into_owned(),
            label: self.label.map(|label| label.decode().into_owned()),
            ttl_seconds: self.ttl_seconds.map(|count| count.0),
            models: texts(self.models),
            max_concurrency: self.max_concurrency.map(|count| count.0),
            max_requests: self.max_requests.map(|count| count.0),
            form: self.invocations.map(|invocations| invocations.0),
            supports: Supports::declared(scopes, capabilities),
        }
    }
}

#[derive(Deserialize)]
struct UnregisterFields<'f> {
    #[serde(borrow)]
    session_id: JsonStr<'f>,
}
