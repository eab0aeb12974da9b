//! An answer that is written by a thread.

use crate::running::{JsonError, Writer};
use mcp_local_provider_core::agent::{Cancelled, Piece};
use mcp_local_provider_core::{Finish, Usage};
use std::fmt;
use std::task::Waker;

/// An answer, piece by piece. The client has each piece as soon as it is written.
///
/// A write waits while 256 KiB are not yet sent, and fails once nobody waits for the answer any more.
pub struct Answer(pub(crate) Writer);

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.0.id())
    }
}

impl Answer {
    /// Adds text.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn text(&mut self, text: &str) -> Result<(), Cancelled> {
        self.write(&Piece::Text(text))
    }

    /// Adds text that the model thinks aloud.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn reasoning(&mut self, text: &str) -> Result<(), Cancelled> {
        self.write(&Piece::Reasoning(text))
    }

    /// Calls one of the caller's tools, see [`Request::tools`](crate::Request::tools). `id` names the call, and `arguments` is JSON
    /// text. The caller runs the tool once the answer has ended, and asks again with the result.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn tool_call(&mut self, id: &str, name: &str, arguments: &str) -> Result<(), Cancelled> {
        let index = self.0.next_call();
        self.write(&Piece::ToolCall {
            index,
            id,
            name,
            arguments,
        })
    }

    /// Adds any piece.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn write(&mut self, piece: &Piece<'_>) -> Result<(), Cancelled> {
        self.wait_for_room()?;
        self.0.write(piece)
    }

    /// Adds one JSON object: a `delta` of the agent protocol, with `finish_reason` and `usage` in the last, or with `error`.
    /// Returns true when the answer has ended with it.
    ///
    /// # Errors
    /// When it is no such object, or nobody waits for the answer any more.
    pub fn write_json(&mut self, line: &str) -> Result<bool, JsonError> {
        self.wait_for_room()?;
        self.0.write_json(line)
    }

    /// Counts tokens. Without it the provider estimates them.
    pub fn usage(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.0.set_usage(Usage {
            prompt_tokens,
            completion_tokens,
            estimated: false,
        });
    }

    /// Ends the answer with vectors, one for each of [`Request::input`](crate::Request::input).
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn vectors(&mut self, vectors: &[Vec<f32>]) -> Result<(), Cancelled> {
        self.0.embed(vectors)
    }

    /// Ends the answer. Without it an answer that returns ends with [`Finish::Stop`], or [`Finish::ToolCalls`] where it has called
    /// tools.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn finish(&mut self, finish: Finish) -> Result<(), Cancelled> {
        self.0.finish(finish)
    }

    /// Returns true when nobody waits for the answer any more, or it has ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        !self.0.is_open()
    }

    /// Wakes `waker` when the answer is cancelled, at once where it was. The latest one counts.
    pub fn wake_on_cancel(&self, waker: Waker) {
        self.0.wake_on_cancel(waker);
    }

    fn wait_for_room(&self) -> Result<(), Cancelled> {
        while let Some(listener) = self.0.room()? {
            event_listener::Listener::wait(listener);
        }
        Ok(())
    }
}
