//! Fields of agent messages whose errors name the kind of a wrong value and never its content.

use crate::agents::vector;
use crate::error::Code;
use crate::invocation::InvokeForm;
use crate::invocation::{Finish, Usage};
use crate::text::{JsonStr, unexpected};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

/// Longest wait that an agent may ask for.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 60 * 60);

/// Refuses every kind of value that the visitor does not name, without its content.
macro_rules! refuse {
    (scalars) => {
        $crate::agents::websocket::fields::refuse! {
            visit_bool: bool => "boolean",
            visit_i64: i64 => "number",
            visit_u64: u64 => "number",
            visit_f64: f64 => "number",
            visit_str: &str => "string",
        }
    };
    ($($visit:ident: $value:ty => $kind:literal),+ $(,)?) => {
        $(
            fn $visit<E: serde::de::Error>(self, _: $value) -> Result<Self::Value, E> {
                Err(E::invalid_type(serde::de::Unexpected::Other($kind), &self))
            }
        )+

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Err(E::invalid_type(serde::de::Unexpected::Other("null"), &self))
        }
    };
}

pub(super) use refuse;

/// A JSON object, and nothing else that serde would take for a struct.
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::Other("array"), &self))
    }

    refuse!(scalars);
}

/// A JSON array.
pub(super) struct List<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::Other("object"), &self))
    }

    refuse!(scalars);
}

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de RawValue, D::Error> {
    <&'de RawValue>::deserialize(deserializer)
}

/// A whole number of at least 0.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = raw(deserializer)?;
        raw.get()
            .parse()
            .map(Self)
            .map_err(|_| D::Error::invalid_type(unexpected(raw), &"a whole number of at least 0"))
    }
}

/// True or false.
#[derive(Clone, Copy)]
pub(super) struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = raw(deserializer)?;
        raw.get()
            .parse()
            .map(Self)
            .map_err(|_| D::Error::invalid_type(unexpected(raw), &"true or false"))
    }
}

/// Seconds, whole or not; at most a day.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = raw(deserializer)?;
        let seconds = serde_json::from_str::<f64>(raw.get())
            .ok()
            .filter(|seconds| *seconds >= 0.0)
            .ok_or_else(|| D::Error::invalid_type(unexpected(raw), &"a number of seconds"))?;
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_RETRY);
        Ok(Self(wait.min(LONGEST_RETRY)))
    }
}

/// `finish_reason`.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    Finish(Finish),
    Error,
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = JsonStr::deserialize(deserializer)?;
        Ok(match &*text.decode() {
            "stop" => Self::Finish(Finish::Stop),
            "length" => Self::Finish(Finish::Length),
            "tool_calls" => Self::Finish(Finish::ToolCalls),
            "content_filter" => Self::Finish(Finish::ContentFilter),
            "error" => Self::Error,
            _ => {
                return Err(D::Error::custom(
                    "unknown value, expected null or one of stop, length, tool_calls, content_filter, error",
                ));
            }
        })
    }
}

/// `invocations` of a registration.
#[derive(Clone, Copy)]
pub(super) struct Invocations(pub InvokeForm);

impl<'de> Deserialize<'de> for Invocations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = JsonStr::deserialize(deserializer)?;
        Ok(Self(match &*text.decode() {
            "nested" => InvokeForm::Nested,
            "flat" => InvokeForm::Flat,
            _ => {
                return Err(D::Error::custom(
                    "unknown value, expected one of nested, flat",
                ));
            }
        }))
    }
}

/// `status` of a result.
#[derive(Clone, Copy)]
pub(super) enum Status {
    Ok,
    Error,
    Timeout,
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = JsonStr::deserialize(deserializer)?;
        Ok(match &*text.decode() {
            "ok" => Self::Ok,
            "error" => Self::Error,
            "timeout" => Self::Timeout,
            _ => {
                return Err(D::Error::custom(
                    "unknown value, expected one of ok, error, timeout",
                ));
            }
        })
    }
}

/// One embedding vector: an array of numbers as the agent wrote it, without white space.
pub(super) struct Vector<'f>(pub Cow<'f, str>);

impl<'de: 'f, 'f> Deserialize<'de> for Vector<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = raw(deserializer)?;
        let vector = vector::numbers(raw.get());
        vector
            .map(Self)
            .ok_or_else(|| D::Error::invalid_type(unexpected(raw), &"an array of numbers"))
    }
}

/// `usage` in OpenAI's form; what is absent counts as 0.
#[derive(serde::Deserialize)]
pub(super) struct UsageFields {
    prompt_tokens: Option<Whole>,
    completion_tokens: Option<Whole>,
}

impl UsageFields {
    /// `None` when the agent counted nothing.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.prompt_tokens.is_none() && self.completion_tokens.is_none() {
            return None;
        }
        Some(Usage {
            prompt_tokens: self.prompt_tokens.map_or(0, |count| count.0),
            completion_tokens: self.completion_tokens.map_or(0, |count| count.0),
            estimated: false,
        })
    }
}

/// Names of errors that an agent reports. Every other name is that of an error without a kind of its own.
const FAILURES: [(&str, Code); 6] = [
    ("rate_limited", Code::RateLimited),
    ("overloaded", Code::Overloaded),
    ("context_length", Code::ContextLength),
    ("invalid_request", Code::InvalidRequest),
    ("refused", Code::AgentRefused),
    ("timeout", Code::AgentTimeout),
];

/// Reads the code of an agent's error.
pub(super) fn error_code(name: &str) -> Code {
    let known = FAILURES.iter().find(|(known, _)| *known == name);
    known.map_or(Code::AgentError, |(_, code)| *code)
}

/// The name under which an agent reports an error.
pub(crate) fn failure_name(code: Code) -> &'static str {
    let known = FAILURES.iter().find(|(_, known)| *known == code);
    known.map_or("internal", |(name, _)| name)
}
