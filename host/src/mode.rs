//! Ways of serving.

/// Things that a program serves, and the keys and files that come with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All that the configuration names, with the keys of the key file.
    Configured,
    /// A built-in agent, with a client's, a bridge's and an operator's key of this run.
    Demo,
    /// One MCP server of the command line, with a client's key of this run that may use MCP servers alone.
    OneServer,
}

impl Mode {
    /// Returns true when keys and audit records are kept in files.
    #[must_use]
    pub const fn keeps_files(self) -> bool {
        match self {
            Self::Configured => true,
            Self::Demo | Self::OneServer => false,
        }
    }
}
