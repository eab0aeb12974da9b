//! The answer of a completion as it grows.

use super::CompletionEvent;
use crate::failure::Failure;
use crate::json::ObjectWriter;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::invocation::{Delta, Usage};
use mcp_local_provider_core::text::{Joiner, JsonStr};
use std::fmt;

/// The machine that makes events and a message of what a model says.
pub struct Answering {
    /// As JSON has text inside of a string.
    text: String,
    content: Joiner,
    reasoning: Joiner,
    most: usize,
}

impl fmt::Debug for Answering {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answering({} bytes)", self.text.len())
    }
}

impl Answering {
    /// Nothing yet; at most so many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            text: String::new(),
            content: Joiner::default(),
            reasoning: Joiner::default(),
            most,
        }
    }

    /// Takes a piece, and tells it.
    pub fn take(&mut self, delta: &Delta<'_>, tell: &mut dyn FnMut(&CompletionEvent<'_>)) {
        let mut scratch = Vec::new();
        let reasoning = plain(self.reasoning.mend(delta.reasoning, &mut scratch));
        if !reasoning.is_empty() {
            tell(&CompletionEvent::Reasoning(&reasoning));
        }
        // What a model says instead of an answer is its answer here.
        for said in [delta.content, delta.refusal] {
            let said = self.content.mend(said, &mut scratch);
            self.text
                .push_str(std::str::from_utf8(said).unwrap_or_default());
            let said = plain(said);
            if !said.is_empty() {
                tell(&CompletionEvent::Text(&said));
            }
        }
    }

    /// Looks whether it is too large.
    ///
    /// # Errors
    /// It is.
    pub fn check(&self) -> Result<(), Failure> {
        if self.text.len() <= self.most {
            return Ok(());
        }
        let most = self.most;
        let message = format!("the answer is over {most} bytes (limits.answer_bytes)");
        Err(Failure::of(&Refusal::new(Code::AnswerTooLarge, message)))
    }

    /// The message and the usage, each as JSON.
    pub fn finish(&mut self, usage: Usage) -> (String, String) {
        let text = plain(std::mem::take(&mut self.text).as_bytes());
        let mut message = ObjectWriter::new();
        message.text("role", "assistant").text("content", &text);
        let mut used = ObjectWriter::new();
        used.plain("prompt_tokens", usage.prompt_tokens);
        used.plain("completion_tokens", usage.completion_tokens);
        used.plain("total_tokens", usage.total_tokens());
        if usage.estimated {
            used.json("estimated", "true");
        }
        (message.finish(), used.finish())
    }
}

fn plain(escaped: &[u8]) -> String {
    let escaped = std::str::from_utf8(escaped).unwrap_or_default();
    JsonStr::from_escaped(escaped).decode().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_are_told_as_they_come_and_make_one_message() {
        let mut answering = Answering::new(64);
        let mut told = Vec::new();
        for (reasoning, content) in [("hm", r"a\ud83d"), ("", r"\ude00\n")] {
            let delta = Delta {
                reasoning: JsonStr::from_escaped(reasoning),
                content: JsonStr::from_escaped(content),
                ..Delta::default()
            };
            answering.take(&delta, &mut |event| told.push(event.data()));
        }
        assert_eq!(
            told,
            [
                r#"{"reasoning":"hm"}"#,
                r#"{"text":"a"}"#,
                r#"{"text":"😀\n"}"#
            ]
        );
        assert!(answering.check().is_ok());
        let usage = Usage {
            prompt_tokens: 2,
            completion_tokens: 1,
            estimated: true,
        };
        let (message, used) = answering.finish(usage);
        assert_eq!(message, r#"{"role":"assistant","content":"a😀\n"}"#);
        assert_eq!(
            used,
            r#"{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3,"estimated":true}"#
        );
        let long = "a".repeat(65);
        let delta = Delta {
            content: JsonStr::from_escaped(&long),
            ..Delta::default()
        };
        answering.take(&delta, &mut |_| {});
        assert_eq!(answering.check().unwrap_err().status, 502);
    }
}
