//! Revisions of the Model Context Protocol that the gateway speaks with its clients.

/// The two forms that the protocol has had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Era {
    /// Sessions that begin with `initialize`: revisions 2024-11-05 to 2025-11-25.
    Sessions,
    /// Requests that each say what they need: revision 2026-07-28.
    Stateless,
}

/// The name on the wire of the revision without sessions.
pub const STATELESS: &str = "2026-07-28";

/// A revision with sessions, named by its date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Revision {
    /// The first one.
    V2024_11_05,
    /// Streamable HTTP and batches.
    V2025_03_26,
    /// Structured output and elicitation; no batches.
    V2025_06_18,
    /// Streams that a server may close, and that begin with an empty event.
    V2025_11_25,
}

impl Revision {
    /// All of them, the oldest first.
    pub const ALL: [Self; 4] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
    ];

    /// The newest one.
    pub const NEWEST: Self = Self::V2025_11_25;

    /// The revision of a request without the header `MCP-Protocol-Version`.
    pub const UNSAID: Self = Self::V2025_03_26;

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// Finds a revision by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|revision| revision.as_str() == name)
    }

    /// True when several messages may come as one JSON array.
    #[must_use]
    pub const fn has_batches(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }

    /// True when a stream begins with an event without data, so that it can be resumed before its first message. Older clients
    /// take the empty data for a message.
    #[must_use]
    pub const fn has_priming(self) -> bool {
        matches!(self, Self::V2025_11_25)
    }
}
