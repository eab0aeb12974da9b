//! Answers in Anthropic's API: messages, and the events that tell them block by block.

use super::reading::{Delivering, Step};
use super::trouble::{Fault, Trouble};
use crate::invocation::{Delta, End, Finish, ToolCallDelta, Usage};
use crate::text::{self, Cursor, JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// Blocks of calls that are open at once; one is usual.
const OPEN_CALLS: usize = 128;

/// What has come of an answer.
#[derive(Debug)]
pub(super) struct Progress {
    /// The request's stop sequences, one of which the server may name.
    stops: Vec<String>,
    /// The blocks that are calls of the client's tools. Pieces of other blocks' JSON are those of tools that the server runs.
    calls: Vec<u32>,
    finish: Option<Finish>,
    prompt: Option<u64>,
    completion: Option<u64>,
}

impl Progress {
    pub(super) const fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            calls: Vec::new(),
            finish: None,
            prompt: None,
            completion: None,
        }
    }

    /// One event of a stream; its data names its type too.
    pub(super) fn event(
        &mut self,
        data: &str,
        to: &mut Delivering<'_, '_>,
    ) -> Result<Step, Trouble> {
        let event = Event::read(data).ok_or_else(Trouble::not_json)?;
        match event.kind.as_escaped() {
            "content_block_delta" => self.delta(&event, to),
            "content_block_start" => self.start(&event, to)?,
            "content_block_stop" => self.calls.retain(|call| *call != event.index),
            "message_start" => {
                if let Some(usage) = event.message.and_then(|message| message.member("usage")) {
                    self.count(usage);
                }
                to.delta(Delta::default());
            }
            "message_delta" => {
                if let Some(delta) = event.delta {
                    self.stop(delta);
                }
                if let Some(usage) = event.usage {
                    self.count(usage);
                }
            }
            "message_stop" => return Ok(to.end(self.end())),
            "error" => {
                let error = event.error.ok_or_else(Trouble::too_early)?;
                return Err(Trouble::reported(error));
            }
            "ping" => to.delta(Delta::default()),
            // Newer than this program.
            _ => {}
        }
        Ok(Step::More)
    }

    /// A whole answer.
    pub(super) fn whole(
        &mut self,
        body: &str,
        to: &mut Delivering<'_, '_>,
    ) -> Result<Step, Trouble> {
        let message = JsonValue::read(body).ok_or_else(Trouble::not_json)?;
        if let Some(error) = message.member("error").filter(|error| !error.is_null()) {
            return Err(Trouble::reported(error));
        }
        let Some(content) = message.member("content") else {
            return Err(Trouble::new(Fault::Protocol, "the answer has no content"));
        };
        for (index, block) in (0..).zip(content.elements()) {
            self.block(index, block, to)?;
        }
        self.stop(message);
        if let Some(usage) = message.member("usage") {
            self.count(usage);
        }
        Ok(to.end(self.end()))
    }

    fn start(&mut self, event: &Event<'_>, to: &mut Delivering<'_, '_>) -> Result<(), Trouble> {
        let Some(block) = event.block else {
            return Ok(());
        };
        self.block(event.index, block, to)
    }

    /// A block, or its beginning.
    fn block(
        &mut self,
        index: u32,
        block: JsonValue<'_>,
        to: &mut Delivering<'_, '_>,
    ) -> Result<(), Trouble> {
        let string = |name| {
            block
                .member(name)
                .and_then(JsonValue::as_str)
                .unwrap_or_default()
        };
        match string("type").as_escaped() {
            "text" => to.delta(Delta {
                content: string("text"),
                ..Delta::default()
            }),
            "thinking" => to.delta(Delta {
                reasoning: string("thinking"),
                ..Delta::default()
            }),
            "tool_use" => {
                if self.calls.len() >= OPEN_CALLS {
                    let why = "the answer calls too many tools at once";
                    return Err(Trouble::new(Fault::Protocol, why));
                }
                self.calls.push(index);
                // In a stream it is empty here, and comes in pieces.
                let input = block.member("input").map_or("", JsonValue::get);
                let input = if input == "{}" { "" } else { input };
                let arguments: Cow<'_, str> = text::escaped(input);
                to.delta(Delta {
                    tool_calls: Vec::from([ToolCallDelta {
                        index,
                        id: string("id"),
                        name: string("name"),
                        arguments: JsonStr::from_escaped(&arguments),
                    }]),
                    ..Delta::default()
                });
            }
            // What the server's own tools did, thinking that is kept from the reader, and what is newer than this program.
            _ => {}
        }
        Ok(())
    }

    fn delta(&self, event: &Event<'_>, to: &mut Delivering<'_, '_>) {
        let mut delta = Delta::default();
        let Some(said) = event.delta else {
            return;
        };
        // What is no object says nothing.
        let _ = said.cursor().object(|cursor, key| {
            let text = JsonValue::skipped(cursor.value()?);
            let text = text.as_str().unwrap_or_default();
            match key.as_escaped() {
                "text" => delta.content = text,
                "thinking" => delta.reasoning = text,
                "partial_json" if self.calls.contains(&event.index) => {
                    delta.tool_calls = Vec::from([ToolCallDelta {
                        index: event.index,
                        arguments: text,
                        ..ToolCallDelta::default()
                    }]);
                }
                _ => {}
            }
            Some(())
        });
        to.delta(delta);
    }

    /// Why the answer ended.
    fn stop(&mut self, of: JsonValue<'_>) {
        let reason = of.member("stop_reason").and_then(JsonValue::text);
        let Some(reason) = reason else {
            return;
        };
        self.finish = Some(match &*reason {
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" => Finish::ToolCalls,
            "refusal" => Finish::ContentFilter,
            "stop_sequence" => {
                let met = of.member("stop_sequence").and_then(JsonValue::text);
                let at = self
                    .stops
                    .iter()
                    .position(|stop| Some(&**stop) == met.as_deref());
                let at = at.and_then(|at| u8::try_from(at).ok());
                at.map_or(Finish::Stop, Finish::StopSequence)
            }
            _ => Finish::Stop,
        });
    }

    /// The counts of tokens, of which a later one replaces an earlier one. What came from a cache, or went there, was read too.
    fn count(&mut self, usage: JsonValue<'_>) {
        let count = |name| usage.member(name).and_then(JsonValue::whole);
        if let Some(input) = count("input_tokens") {
            let cached = [
                count("cache_creation_input_tokens"),
                count("cache_read_input_tokens"),
            ];
            let cached = cached.into_iter().flatten().fold(0, u64::saturating_add);
            self.prompt = Some(input.saturating_add(cached));
        }
        self.completion = count("output_tokens").or(self.completion);
    }

    fn end(&self) -> End {
        let is_counted = self.prompt.is_some() || self.completion.is_some();
        End {
            finish: self.finish.unwrap_or(Finish::Stop),
            usage: is_counted.then(|| Usage {
                prompt_tokens: self.prompt.unwrap_or_default(),
                completion_tokens: self.completion.unwrap_or_default(),
                estimated: false,
            }),
        }
    }
}

/// An event's data.
#[derive(Default)]
struct Event<'t> {
    kind: JsonStr<'t>,
    index: u32,
    delta: Option<JsonValue<'t>>,
    block: Option<JsonValue<'t>>,
    message: Option<JsonValue<'t>>,
    usage: Option<JsonValue<'t>>,
    error: Option<JsonValue<'t>>,
}

impl<'t> Event<'t> {
    /// `None` for what is not a JSON object.
    fn read(json: &'t str) -> Option<Self> {
        let mut event = Self::default();
        let mut cursor = Cursor::new(json);
        cursor.object(|cursor, key| {
            let value = JsonValue::skipped(cursor.value()?);
            match key.as_escaped() {
                "type" => event.kind = value.as_str().unwrap_or_default(),
                "index" => {
                    let index = value.whole().and_then(|index| u32::try_from(index).ok());
                    event.index = index.unwrap_or(u32::MAX);
                }
                "delta" => event.delta = Some(value),
                "content_block" => event.block = Some(value),
                "message" => event.message = Some(value),
                "usage" => event.usage = Some(value),
                "error" => event.error = Some(value),
                _ => {}
            }
            Some(())
        })?;
        cursor.end()?;
        Some(event)
    }
}
