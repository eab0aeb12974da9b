//! The three pipes of a child: a bounded queue to its input, lines from its output, the last lines of its errors.

use crate::last_words::LastWords;
use crate::{Event, Framing};
use bytes::{Buf, BytesMut};
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::wire::lines::{Line, Lines};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

/// Bytes that one read takes at most.
const SCRATCH: usize = 64 << 10;
/// Characters that are kept of a line of standard error.
const ERROR: usize = 300;
/// Longest line of standard error that is read, in bytes; longer lines are skipped.
const ERROR_BYTES: usize = 16 << 10;

/// Makes this end of a pipe non-blocking. The mode belongs to this end; the child's stays blocking.
fn unblocked<P: AsFd>(pipe: Option<P>) -> io::Result<Option<P>> {
    let pipe = pipe.ok_or(ErrorKind::BrokenPipe)?;
    fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
    Ok(Some(pipe))
}

/// Counts the bytes that wait in a pipe. Nobody is refused here: new work is, where it comes in.
fn hold(share: &mut Option<Share>, bytes: usize) {
    if let Some(share) = share {
        let _ = share.hold(bytes);
    }
}

/// Room for one read, which the pipes share.
pub(super) struct Scratch(Box<[u8]>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(vec![0; SCRATCH].into_boxed_slice())
    }

    /// Reads once.
    fn read(&mut self, from: &mut impl Read) -> io::Result<&[u8]> {
        let read = from.read(&mut self.0)?;
        Ok(self.0.get(..read).unwrap_or_default())
    }
}

/// Standard input of a child.
pub(super) struct Input {
    pipe: Option<ChildStdin>,
    waiting: BytesMut,
    /// A line is taken while fewer bytes than this wait.
    bound: usize,
    is_closing: bool,
    share: Option<Share>,
}

impl Input {
    /// # Errors
    /// Fails when the pipe cannot be made non-blocking.
    pub(super) fn new(
        pipe: Option<ChildStdin>,
        bound: usize,
        share: Option<Share>,
    ) -> io::Result<Self> {
        Ok(Self {
            pipe: unblocked(pipe)?,
            waiting: BytesMut::new(),
            bound,
            is_closing: false,
            share,
        })
    }

    /// Queues bytes. Returns false when the queue is full, and takes nothing then. A child that reads no more takes everything.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.pipe.is_none() || self.is_closing {
            return true;
        }
        let has_room = self.has_room();
        if has_room {
            self.waiting.extend_from_slice(bytes);
            hold(&mut self.share, self.waiting.len());
        }
        has_room
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() || self.waiting.len() < self.bound
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }

    /// Closes it once all that waits is written.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Closes it at once.
    pub(super) fn cut(&mut self) {
        self.pipe = None;
        self.waiting = BytesMut::new();
        hold(&mut self.share, 0);
    }

    /// Returns the descriptor while bytes wait.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipe.as_ref().filter(|_| !self.waiting.is_empty());
        pipe.map(AsFd::as_fd)
    }

    /// Writes as much as the pipe takes, and closes it when that was asked for and nothing waits.
    pub(super) fn write(&mut self) {
        while let Some(pipe) = &mut self.pipe {
            if self.waiting.is_empty() {
                if self.is_closing {
                    self.pipe = None;
                }
                return;
            }
            match pipe.write(&self.waiting) {
                Ok(count) => {
                    self.waiting.advance(count);
                    hold(&mut self.share, self.waiting.len());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The child reads no more. Its end is reported by another event.
                Err(_) => self.cut(),
            }
        }
    }
}

/// The outcome of a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There may be more.
    More,
    /// Nothing more for now.
    Empty,
    /// The child has closed its end.
    Closed,
}

/// Standard output of a child.
pub(super) struct Output {
    pipe: Option<ChildStdout>,
    /// `None` for bytes as they come.
    lines: Option<Lines>,
    share: Option<Share>,
}

impl Output {
    /// # Errors
    /// Fails when the pipe cannot be made non-blocking.
    pub(super) fn new(
        pipe: Option<ChildStdout>,
        framing: Framing,
        share: Option<Share>,
    ) -> io::Result<Self> {
        Ok(Self {
            pipe: unblocked(pipe)?,
            lines: match framing {
                Framing::Lines(longest) => Some(Lines::new(longest)),
                Framing::Bytes => None,
            },
            share,
        })
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Returns the line that has begun and has no end yet, see [`printable`].
    pub(super) fn begun_line(&self) -> String {
        printable(self.lines.as_ref().map_or(&[], Lines::begun))
    }

    /// Reads once, and passes each line, or the bytes, to `on`.
    pub(super) fn read(&mut self, scratch: &mut Scratch, mut on: impl FnMut(Event<'_>)) -> Outcome {
        let Some(pipe) = &mut self.pipe else {
            return Outcome::Empty;
        };
        match scratch.read(pipe) {
            Ok([]) => {
                self.pipe = None;
                Outcome::Closed
            }
            Ok(bytes) => {
                match &mut self.lines {
                    Some(lines) => {
                        lines.push(bytes, |line| on(Event::Line(line)));
                        hold(&mut self.share, lines.begun().len());
                    }
                    None => on(Event::Bytes(bytes)),
                }
                Outcome::More
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Outcome::More,
            Err(_) => Outcome::Empty,
        }
    }
}

/// Standard error of a child.
pub(super) struct Errors {
    pipe: Option<ChildStderr>,
    lines: Lines,
    last_words: LastWords,
    /// Lines that nobody has taken, of one turn at most.
    fresh: Vec<String>,
}

impl Errors {
    /// # Errors
    /// Fails when the pipe cannot be made non-blocking.
    pub(super) fn new(pipe: Option<ChildStderr>) -> io::Result<Self> {
        Ok(Self {
            pipe: unblocked(pipe)?,
            lines: Lines::new(ERROR_BYTES),
            last_words: LastWords::default(),
            fresh: Vec::new(),
        })
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn last_words(&self) -> &LastWords {
        &self.last_words
    }

    /// Takes the lines of the latest turn.
    pub(super) fn take_fresh(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fresh)
    }

    /// Reads once.
    pub(super) fn read(&mut self, scratch: &mut Scratch) {
        let Some(pipe) = &mut self.pipe else {
            return;
        };
        let bytes = match scratch.read(pipe) {
            Ok([]) => {
                self.pipe = None;
                return;
            }
            Ok(bytes) => bytes,
            Err(_) => return,
        };
        let (last_words, fresh) = (&mut self.last_words, &mut self.fresh);
        self.lines.push(bytes, |line| {
            let Line::Whole(line) = line else { return };
            let text = printable(line);
            if !text.is_empty() {
                last_words.push(text.clone());
                fresh.push(text);
            }
        });
    }
}

/// Returns text of a child as one line of limited length without control characters.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim().chars().take(ERROR);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
