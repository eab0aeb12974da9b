//! An answer on its way from an agent to the link.

use super::Context;
use crate::agents::acp::profile::{HiddenError, UsageRule};
use crate::agents::acp::update::{path, tokens};
use crate::id::ExchangeId;
use crate::invocation::{Delta, End, Usage, estimate_tokens};
use crate::link::{Chunk, Ending, FromAgent, Id};
use crate::text::{Joiner, JsonStr, JsonValue, decode_into};
use alloc::string::String;
use alloc::vec::Vec;

/// Text and counts of an answer, kept while it comes.
#[derive(Default)]
pub(super) struct Answer {
    /// Text of the answer, to recognise the conversation by; or the text of an error.
    text: String,
    /// It was longer than what is kept.
    is_long: bool,
    joiner: Joiner,
    hold: Hold,
    /// Text that the client was not given yet, escaped.
    held: String,
    /// The agent used tools of its own, so that it called its model more than once.
    pub(super) worked: bool,
    /// Tokens that came beside empty chunks.
    pub(super) counted: Option<(u64, u64)>,
}

/// Verdict on text that may be an error in disguise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Hold {
    #[default]
    Undecided,
    Pass,
    Error,
}

impl Answer {
    /// The text that follows is an error's.
    pub(super) fn has_failed(&mut self) {
        if self.hold != Hold::Error {
            self.hold = Hold::Error;
            self.text.clear();
        }
    }

    /// The error that the answer was in truth.
    pub(super) fn error(&self) -> Option<&str> {
        (self.hold == Hold::Error).then_some(&*self.text)
    }

    /// All of the text, by which the conversation is recognised when it goes on; `None` when there is none, or too much.
    pub(super) fn whole(&self) -> Option<&str> {
        (!self.is_long && !self.text.trim().is_empty()).then_some(&*self.text)
    }

    /// Takes a piece of text. True when the client may have it, after what was held back before.
    pub(super) fn push(
        &mut self,
        piece: JsonStr<'_>,
        rule: &HiddenError,
        limit: usize,
        scratch: &mut Vec<u8>,
    ) -> bool {
        self.remember(piece, limit, scratch);
        if self.hold == Hold::Undecided {
            self.hold = match rule {
                HiddenError::Prefix(prefixes) => {
                    let text = self.text.trim_start();
                    if prefixes.iter().any(|prefix| text.starts_with(&**prefix)) {
                        Hold::Error
                    } else if prefixes.iter().any(|prefix| prefix.starts_with(text)) {
                        Hold::Undecided
                    } else {
                        Hold::Pass
                    }
                }
                HiddenError::None | HiddenError::ThreadStatus => Hold::Pass,
            };
        }
        if self.hold == Hold::Undecided {
            self.held.push_str(piece.as_escaped());
        }
        self.hold == Hold::Pass
    }

    fn remember(&mut self, piece: JsonStr<'_>, limit: usize, scratch: &mut Vec<u8>) {
        if self.is_long {
            return;
        }
        if self.text.len() + piece.len() > limit {
            self.is_long = true;
            if self.hold == Hold::Pass {
                self.text = String::new();
            }
            return;
        }
        let mended = self.joiner.mend(piece, scratch);
        decode_into(
            core::str::from_utf8(mended).unwrap_or_default(),
            &mut self.text,
        );
    }

    /// Takes the text that was held back and is owed to the client.
    pub(super) fn release(&mut self) -> String {
        core::mem::take(&mut self.held)
    }

    /// The turn's tokens. `None` leaves the estimate to the exchange. `before` are those of the session's earlier turns.
    pub(super) fn usage(
        &self,
        rule: UsageRule,
        result: Option<JsonValue<'_>>,
        before: &mut (u64, u64),
    ) -> Option<Usage> {
        let told = |names: &[&str]| path(result, names).and_then(tokens);
        let (prompt, completion) = match rule {
            UsageRule::Turn => told(&["usage"])?,
            UsageRule::LastCall => {
                let (prompt, last) = told(&["usage"])?;
                let all = if self.worked {
                    last.max(estimate_tokens(self.text.len()))
                } else {
                    last
                };
                (prompt, all)
            }
            UsageRule::Session => {
                let now = told(&["usage"])?;
                let turn = (
                    now.0.saturating_sub(before.0),
                    now.1.saturating_sub(before.1),
                );
                *before = now;
                turn
            }
            UsageRule::Quota => told(&["_meta", "quota", "token_count"])?,
            UsageRule::ChunkMeta => self.counted?,
            UsageRule::None => return None,
        };
        Some(Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            // The counts of one call are told, and the turn had more.
            estimated: rule == UsageRule::LastCall && self.worked,
        })
    }
}

impl Context<'_> {
    /// More of an answer. An empty delta is a sign of life.
    pub(super) fn delta(&mut self, exchange: ExchangeId, delta: Delta<'_>) {
        (self.link)(FromAgent::Chunk(Chunk {
            id: Id::Ours(exchange),
            index: None,
            delta,
            ending: None,
        }));
    }

    pub(super) fn content(&mut self, exchange: ExchangeId, text: JsonStr<'_>) {
        self.delta(
            exchange,
            Delta {
                content: text,
                ..Delta::default()
            },
        );
    }

    /// The end of an answer.
    pub(super) fn end(&mut self, exchange: ExchangeId, end: End) {
        (self.link)(FromAgent::Chunk(Chunk {
            id: Id::Ours(exchange),
            index: None,
            delta: Delta::default(),
            ending: Some(Ending::End(end)),
        }));
    }
}
