//! One answer of a model as it comes: text goes on to the caller at once, calls of tools are held back until it is whole.

use super::rounds::{Said, ToolCall};
use mcp_local_provider_core::invocation::{Delivery, Delta, Failure, Finish, Usage};
use mcp_local_provider_core::text::JsonStr;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// End of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It is whole.
    Said(Said),
    /// It failed.
    Failed(Failure<'static>),
}

/// A call in pieces, each as JSON has text inside of a string.
#[derive(Default)]
struct Pieces {
    id: String,
    name: String,
    arguments: String,
}

/// The machine that hears one answer: [`Hearing::take`] for each delivery, until [`Hearing::end`] gives its end.
#[derive(Default)]
pub struct Hearing {
    text: String,
    calls: BTreeMap<u32, Pieces>,
    end: Option<Result<(Finish, Option<Usage>), Failure<'static>>>,
}

impl fmt::Debug for Hearing {
    /// Without what is said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hearing({} bytes)", self.held())
    }
}

fn plain(escaped: &str) -> String {
    JsonStr::from_escaped(escaped).decode().into_owned()
}

impl Hearing {
    /// Takes a step of the answer, and passes on what the caller may hear now.
    pub fn take(&mut self, delivery: &Delivery<'_>, pass: &mut dyn FnMut(&Delta<'_>)) {
        if self.end.is_some() {
            return;
        }
        match delivery {
            Delivery::Delta(delta) => self.delta(delta, pass),
            // None was asked for.
            Delivery::Embedding(_) => {}
            Delivery::End(end) => self.end = Some(Ok((end.finish, end.usage))),
            Delivery::Failed(failure) => {
                self.end = Some(Err(Failure {
                    code: failure.code,
                    message: Cow::Owned(failure.message.clone().into_owned()),
                    retry_after: failure.retry_after,
                }));
            }
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, pass: &mut dyn FnMut(&Delta<'_>)) {
        self.text.push_str(delta.content.as_escaped());
        for call in &delta.tool_calls {
            let pieces = self.calls.entry(call.index).or_default();
            pieces.id.push_str(call.id.as_escaped());
            pieces.name.push_str(call.name.as_escaped());
            pieces.arguments.push_str(call.arguments.as_escaped());
        }
        pass(&Delta {
            content: delta.content,
            reasoning: delta.reasoning,
            refusal: delta.refusal,
            tool_calls: Vec::new(),
        });
    }

    /// The end of the answer, once it is there.
    pub fn end(&mut self) -> Option<Heard> {
        let (finish, usage) = match self.end.take()? {
            Ok(end) => end,
            Err(failure) => return Some(Heard::Failed(failure)),
        };
        let calls = std::mem::take(&mut self.calls).into_iter();
        let calls = calls.map(|(index, pieces)| ToolCall {
            id: match pieces.id.as_str() {
                "" => format!("call_{index}"),
                id => plain(id),
            },
            name: plain(&pieces.name),
            arguments: plain(&pieces.arguments),
        });
        Some(Heard::Said(Said {
            text: plain(&std::mem::take(&mut self.text)),
            calls: calls.collect(),
            finish: Some(finish),
            usage,
        }))
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        let calls = self.calls.values();
        let calls = calls.map(|it| it.id.len() + it.name.len() + it.arguments.len());
        self.text.len() + calls.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use mcp_local_provider_core::invocation::{End, ToolCallDelta};

    #[test]
    fn text_passes_and_calls_are_held_until_the_end() {
        let mut hearing = Hearing::default();
        let mut passed = String::new();
        let escaped = JsonStr::from_escaped;
        let call = |id, arguments| ToolCallDelta {
            index: 1,
            id: escaped(id),
            name: escaped(if id.is_empty() { "" } else { "find" }),
            arguments: escaped(arguments),
        };
        for (content, calls) in [
            (r"a\ud83d", vec![]),
            (r"\ude00", vec![call("c", r#"{\"q\":"#)]),
            ("", vec![call("", "1}")]),
        ] {
            let delta = Delta {
                content: escaped(content),
                tool_calls: calls,
                ..Delta::default()
            };
            hearing.take(&Delivery::Delta(delta), &mut |delta| {
                assert!(delta.tool_calls.is_empty());
                passed.push_str(delta.content.as_escaped());
            });
        }
        assert!(hearing.end().is_none());
        let end = End {
            finish: Finish::ToolCalls,
            usage: None,
        };
        hearing.take(&Delivery::End(end), &mut |_| {});
        let Some(Heard::Said(said)) = hearing.end() else {
            panic!("it has not ended")
        };
        assert_eq!(
            (passed.as_str(), said.text.as_str()),
            (r"a\ud83d\ude00", "a😀")
        );
        assert_eq!(said.calls.len(), 1);
        let call = said.calls.first().unwrap();
        assert_eq!(
            (
                call.id.as_str(),
                call.name.as_str(),
                call.arguments.as_str()
            ),
            ("c", "find", r#"{"q":1}"#)
        );
    }
}
