//! Events of a child process.

use mcp_local_provider_core::wire::lines::Line;
use std::fmt;

/// An event of a process.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'p> {
    /// It wrote a line.
    Line(Line<'p>),
    /// It wrote bytes, and is [not cut into lines](crate::Framing::Bytes).
    Bytes(&'p [u8]),
    /// The process has ended or is being killed, and answers no more. The last event; it comes once.
    Ended(Ending),
}

/// The way in which a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code, by itself or because its input was closed.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
    /// It closed its standard output without ending, and was killed.
    OutputClosed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "it was ended by signal {signal}"),
            Self::OutputClosed => f.write_str("it closed its standard output"),
        }
    }
}
