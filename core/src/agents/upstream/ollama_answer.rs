//! Answers in Ollama's API: chats, completions and vectors.

use super::reading::{Delivering, Step};
use super::trouble::{Fault, Trouble};
use crate::agents::vector;
use crate::invocation::{Delta, End, Finish, ToolCallDelta, Usage};
use crate::text::{self, Cursor, JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Each call comes whole, and without a number.
    calls: u32,
}

/// What a line says.
#[derive(Default)]
struct Said<'t> {
    delta: Delta<'t>,
    calls: Vec<JsonValue<'t>>,
    done: bool,
    reason: Option<JsonValue<'t>>,
    prompt: Option<u64>,
    completion: Option<u64>,
    error: Option<JsonValue<'t>>,
    /// One vector, or all.
    vectors: Option<Vec<JsonValue<'t>>>,
}

impl Progress {
    /// One line of a stream, or the whole answer.
    pub(super) fn line(
        &mut self,
        line: &str,
        to: &mut Delivering<'_, '_>,
    ) -> Result<Step, Trouble> {
        let said = read(line).ok_or_else(Trouble::not_json)?;
        if let Some(error) = said.error {
            return Err(Trouble::reported(error));
        }
        let is_counted = said.prompt.is_some() || said.completion.is_some();
        let usage = is_counted.then(|| Usage {
            prompt_tokens: said.prompt.unwrap_or_default(),
            completion_tokens: said.completion.unwrap_or_default(),
            estimated: false,
        });
        if let Some(vectors) = said.vectors {
            for value in vectors {
                let numbers = vector::numbers(value.get()).ok_or_else(Trouble::no_vector)?;
                to.vector(&numbers);
            }
            return Ok(to.end(End {
                finish: Finish::Stop,
                usage,
            }));
        }
        let mut delta = said.delta;
        let calls: Vec<(Option<JsonValue<'_>>, Cow<'_, str>, JsonStr<'_>)> = said
            .calls
            .iter()
            .filter_map(|call| self::call(*call))
            .collect();
        for (id, arguments, name) in &calls {
            delta.tool_calls.push(ToolCallDelta {
                index: self.calls,
                id: id.and_then(JsonValue::as_str).unwrap_or_default(),
                name: *name,
                arguments: JsonStr::from_escaped(arguments),
            });
            self.calls = self.calls.saturating_add(1);
        }
        to.delta(delta);
        if !said.done {
            return Ok(Step::More);
        }
        let reason = said.reason.and_then(JsonValue::text);
        let finish = match reason.as_deref() {
            Some("length") => Finish::Length,
            Some("content_filter") => Finish::ContentFilter,
            _ if self.calls > 0 => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        Ok(to.end(End { finish, usage }))
    }

    /// A whole answer.
    pub(super) fn whole(
        &mut self,
        body: &str,
        to: &mut Delivering<'_, '_>,
    ) -> Result<Step, Trouble> {
        match self.line(body, to)? {
            Step::Ended => Ok(Step::Ended),
            Step::More => Err(Trouble::new(
                Fault::Protocol,
                "the answer is not complete (no done)",
            )),
        }
    }
}

/// The id of a call, its arguments as text inside a JSON string, and the tool.
fn call(call: JsonValue<'_>) -> Option<(Option<JsonValue<'_>>, Cow<'_, str>, JsonStr<'_>)> {
    let function = call.member("function")?;
    let name = function.member("name")?.as_str()?;
    let arguments = function.member("arguments");
    let arguments = match arguments.map(|it| (it, it.as_str())) {
        None => Cow::Borrowed("{}"),
        Some((_, Some(text))) => Cow::Borrowed(text.as_escaped()),
        Some((object, None)) => text::escaped(object.get()),
    };
    Some((call.member("id"), arguments, name))
}

/// `None` for what is not a JSON object.
fn read(json: &str) -> Option<Said<'_>> {
    let mut said = Said::default();
    let mut cursor = Cursor::new(json);
    cursor.object(|cursor, key| {
        match key.as_escaped() {
            "message" if cursor.next() == Some(&b'{') => message(cursor, &mut said)?,
            "response" => said.delta.content = string(cursor)?,
            "thinking" => said.delta.reasoning = string(cursor)?,
            "done" => said.done = cursor.value()? == "true",
            "done_reason" => said.reason = Some(JsonValue::skipped(cursor.value()?)),
            "prompt_eval_count" => said.prompt = JsonValue::skipped(cursor.value()?).whole(),
            "eval_count" => said.completion = JsonValue::skipped(cursor.value()?).whole(),
            "error" => {
                let error = JsonValue::skipped(cursor.value()?);
                said.error = (!error.is_null()).then_some(error);
            }
            "embeddings" => {
                said.vectors = Some(JsonValue::skipped(cursor.value()?).elements());
            }
            "embedding" => {
                said.vectors = Some(Vec::from([JsonValue::skipped(cursor.value()?)]));
            }
            _ => drop(cursor.value()?),
        }
        Some(())
    })?;
    cursor.end()?;
    Some(said)
}

fn message<'t>(cursor: &mut Cursor<'t>, said: &mut Said<'t>) -> Option<()> {
    cursor.object(|cursor, key| {
        match key.as_escaped() {
            "content" => said.delta.content = string(cursor)?,
            "thinking" => said.delta.reasoning = string(cursor)?,
            "tool_calls" => said.calls = JsonValue::skipped(cursor.value()?).elements(),
            _ => drop(cursor.value()?),
        }
        Some(())
    })
}

/// A string; anything else is no text.
fn string<'t>(cursor: &mut Cursor<'t>) -> Option<JsonStr<'t>> {
    let value = JsonValue::skipped(cursor.value()?);
    Some(value.as_str().unwrap_or_default())
}
