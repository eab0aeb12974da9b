//! Answers in OpenAI's API: chats, completions and vectors.

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
    finish: Option<Finish>,
    usage: Option<Usage>,
}

/// What a chunk or a whole answer says.
#[derive(Default)]
struct Said<'t> {
    choice: Option<Choice<'t>>,
    usage: Option<Usage>,
    error: Option<JsonValue<'t>>,
    data: Option<JsonValue<'t>>,
}

#[derive(Default)]
struct Choice<'t> {
    delta: Delta<'t>,
    /// The content where it is a list of parts, as Mistral writes it; true for what is thought.
    parts: Vec<(bool, JsonStr<'t>)>,
    calls: Vec<Called<'t>>,
    finish: Option<Cow<'t, str>>,
}

/// A piece of a call. Some servers leave the index out.
#[derive(Default)]
struct Called<'t> {
    index: Option<u32>,
    id: JsonStr<'t>,
    name: JsonStr<'t>,
    arguments: Option<JsonValue<'t>>,
}

impl Progress {
    /// One event of a stream.
    pub(super) fn event(
        &mut self,
        data: &str,
        to: &mut Delivering<'_, '_>,
    ) -> Result<Step, Trouble> {
        if data.trim() == "[DONE]" {
            return match (self.ended(), to.has_begun()) {
                (Some(end), _) => Ok(to.end(end)),
                (None, true) => Ok(to.end(End {
                    finish: Finish::Stop,
                    usage: self.usage,
                })),
                (None, false) => Err(Trouble::new(Fault::Protocol, "the answer says nothing")),
            };
        }
        let said = read(data).ok_or_else(Trouble::not_json)?;
        self.take(said, to)
    }

    /// A whole answer.
    pub(super) fn whole(
        &mut self,
        body: &str,
        to: &mut Delivering<'_, '_>,
    ) -> Result<Step, Trouble> {
        let said = read(body).ok_or_else(Trouble::not_json)?;
        if let Some(data) = said.data {
            vectors(data, to)?;
            return Ok(to.end(End {
                finish: Finish::Stop,
                usage: said.usage,
            }));
        }
        if said.choice.is_none() && said.error.is_none() {
            return Err(Trouble::new(Fault::Protocol, "the answer has no choices"));
        }
        let _ = self.take(said, to)?;
        self.finish.get_or_insert(Finish::Stop);
        self.ended()
            .map(|end| to.end(end))
            .ok_or_else(Trouble::too_early)
    }

    /// The end, where the server has said why it ended.
    pub(super) fn ended(&self) -> Option<End> {
        let usage = self.usage;
        self.finish.map(|finish| End { finish, usage })
    }

    fn take(&mut self, said: Said<'_>, to: &mut Delivering<'_, '_>) -> Result<Step, Trouble> {
        if let Some(error) = said.error {
            return Err(Trouble::reported(error));
        }
        self.usage = said.usage.or(self.usage);
        let Some(choice) = said.choice else {
            return Ok(Step::More);
        };
        for (is_thought, text) in &choice.parts {
            let mut delta = Delta::default();
            *if *is_thought {
                &mut delta.reasoning
            } else {
                &mut delta.content
            } = *text;
            to.delta(delta);
        }
        let arguments: Vec<Cow<'_, str>> = choice.calls.iter().map(Called::text).collect();
        let mut delta = choice.delta;
        let calls = (0..).zip(choice.calls.iter().zip(&arguments));
        delta.tool_calls = calls
            .map(|(at, (call, arguments))| ToolCallDelta {
                index: call.index.unwrap_or(at),
                id: call.id,
                name: call.name,
                arguments: JsonStr::from_escaped(arguments),
            })
            .collect();
        to.delta(delta);
        if let Some(finish) = choice.finish {
            self.finish = Some(match &*finish {
                "length" => Finish::Length,
                "tool_calls" | "function_call" => Finish::ToolCalls,
                "content_filter" => Finish::ContentFilter,
                "error" => {
                    let why = "the server broke off the answer (finish_reason error)";
                    return Err(Trouble::new(Fault::Server, why));
                }
                _ => Finish::Stop,
            });
        }
        Ok(Step::More)
    }
}

impl<'t> Called<'t> {
    /// The arguments as text inside a JSON string. Some servers write the object itself.
    fn text(&self) -> Cow<'t, str> {
        match self.arguments {
            None => Cow::Borrowed(""),
            Some(arguments) => match arguments.as_str() {
                Some(text) => Cow::Borrowed(text.as_escaped()),
                None => text::escaped(arguments.get()),
            },
        }
    }
}

/// `None` for what is not a JSON object.
fn read(json: &str) -> Option<Said<'_>> {
    let mut said = Said::default();
    let mut cursor = Cursor::new(json);
    cursor.object(|cursor, key| {
        match key.as_escaped() {
            "choices" if cursor.next() == Some(&b'[') => cursor.array(|cursor| {
                if said.choice.is_none() && cursor.next() == Some(&b'{') {
                    said.choice = Some(choice(cursor)?);
                    return Some(());
                }
                cursor.value().map(drop)
            })?,
            "usage" => said.usage = usage(JsonValue::skipped(cursor.value()?)).or(said.usage),
            "error" => {
                let error = JsonValue::skipped(cursor.value()?);
                said.error = (!error.is_null()).then_some(error);
            }
            "data" => said.data = Some(JsonValue::skipped(cursor.value()?)),
            _ => drop(cursor.value()?),
        }
        Some(())
    })?;
    cursor.end()?;
    Some(said)
}

fn choice<'t>(cursor: &mut Cursor<'t>) -> Option<Choice<'t>> {
    let mut choice = Choice::default();
    cursor.object(|cursor, key| {
        match key.as_escaped() {
            "delta" | "message" if cursor.next() == Some(&b'{') => message(cursor, &mut choice)?,
            "text" => choice.delta.content = string(cursor)?,
            "finish_reason" => {
                let reason = JsonValue::skipped(cursor.value()?);
                choice.finish = reason.text().or(choice.finish.take());
            }
            _ => drop(cursor.value()?),
        }
        Some(())
    })?;
    Some(choice)
}

/// A delta, or a whole message.
fn message<'t>(cursor: &mut Cursor<'t>, choice: &mut Choice<'t>) -> Option<()> {
    let mut reasoning = JsonStr::EMPTY;
    cursor.object(|cursor, key| {
        match key.as_escaped() {
            "content" => {
                let content = JsonValue::skipped(cursor.value()?);
                match content.as_str() {
                    Some(text) => choice.delta.content = text,
                    None => parts(content, false, &mut choice.parts),
                }
            }
            // Two names are in use, and some servers write both.
            "reasoning_content" => choice.delta.reasoning = string(cursor)?,
            "reasoning" => reasoning = string(cursor)?,
            "refusal" => choice.delta.refusal = string(cursor)?,
            "tool_calls" if cursor.next() == Some(&b'[') => cursor.array(|cursor| {
                choice.calls.push(call(JsonValue::skipped(cursor.value()?)));
                Some(())
            })?,
            _ => drop(cursor.value()?),
        }
        Some(())
    })?;
    if choice.delta.reasoning.is_empty() {
        choice.delta.reasoning = reasoning;
    }
    Some(())
}

/// The texts of a list of parts.
fn parts<'t>(list: JsonValue<'t>, is_thought: bool, into: &mut Vec<(bool, JsonStr<'t>)>) {
    for part in list.elements() {
        if let Some(thinking) = part.member("thinking") {
            match thinking.as_str() {
                Some(text) => into.push((true, text)),
                None => parts(thinking, true, into),
            }
        } else if let Some(text) = part.member("text").and_then(JsonValue::as_str) {
            into.push((is_thought, text));
        }
    }
}

fn call(value: JsonValue<'_>) -> Called<'_> {
    let mut call = Called::default();
    for (key, value) in value.members() {
        match key.as_escaped() {
            "index" => call.index = value.whole().and_then(|index| u32::try_from(index).ok()),
            "id" => call.id = value.as_str().unwrap_or_default(),
            "function" => {
                for (key, value) in value.members() {
                    match key.as_escaped() {
                        "name" => call.name = value.as_str().unwrap_or_default(),
                        "arguments" if !value.is_null() => call.arguments = Some(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    call
}

/// A string; anything else is no text.
fn string<'t>(cursor: &mut Cursor<'t>) -> Option<JsonStr<'t>> {
    let value = JsonValue::skipped(cursor.value()?);
    Some(value.as_str().unwrap_or_default())
}

/// `None` where nothing is counted.
fn usage(value: JsonValue<'_>) -> Option<Usage> {
    let count = |name| value.member(name).and_then(JsonValue::whole);
    let (prompt, completion) = (count("prompt_tokens"), count("completion_tokens"));
    (prompt.is_some() || completion.is_some()).then(|| Usage {
        prompt_tokens: prompt.unwrap_or_default(),
        completion_tokens: completion.unwrap_or_default(),
        // This program says so itself.
        estimated: value
            .member("estimated")
            .is_some_and(|estimated| estimated.get() == "true"),
    })
}

/// The vectors, in the order of their texts.
fn vectors(data: JsonValue<'_>, to: &mut Delivering<'_, '_>) -> Result<(), Trouble> {
    let mut vectors = Vec::new();
    for (at, element) in (0..).zip(data.elements()) {
        let index = element.member("index").and_then(JsonValue::whole);
        let numbers = element
            .member("embedding")
            .and_then(|value| vector::numbers(value.get()));
        let numbers = numbers.ok_or_else(Trouble::no_vector)?;
        vectors.push((index.unwrap_or(at), numbers));
    }
    vectors.sort_by_key(|(index, _)| *index);
    for (_, numbers) in &vectors {
        to.vector(numbers);
    }
    Ok(())
}
