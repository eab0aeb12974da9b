//! The commands on the registry's file.

use crate::config::RegistrySecret;
use clap::Subcommand;
use std::path::PathBuf;

/// Commands on the registry's file.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RegistryCommand {
    /// Write all that is registered to a file of JSON lines, for its owner alone
    Export {
        /// The file, which is replaced; `-` is standard output
        file: PathBuf,
        /// With the secrets, such as API keys, as they are
        #[arg(long)]
        secrets: bool,
    },
    /// Register all that a file of `export` holds, or nothing of it
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        /// Replace what exists; without this it is refused. Secrets that were not exported stay as they are
        #[arg(long)]
        replace: bool,
    },
    /// Seal all secrets with a new key
    Rekey {
        /// Source of the new key: `file`, or `env:NAME` for a passphrase in a variable; else as `registry.secret` says
        #[arg(long, value_name = "file|env:NAME", value_parser = source)]
        to: Option<RegistrySecret>,
    },
}

/// Takes the source of a key.
fn source(text: &str) -> Result<RegistrySecret, &'static str> {
    text.parse()
}
