//! Errors of the registry's file. Each is a sentence that says what to do, without secrets.

use std::io;
use std::path::PathBuf;

/// Failure of the registry's file or of its keys.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// This build has no registry.
    #[error("this build has no registry: it was built without the cargo feature `registry`")]
    Absent,
    /// Another program has the file open.
    #[error("{} is open in a program that runs; stop that (`stop`) and try again", .0.display())]
    InUse(PathBuf),
    /// The file cannot be opened, read or written.
    #[error("{} cannot be used: {error}", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// The file is no registry, or is damaged beyond repair.
    #[error(
        "{} is damaged and cannot be repaired ({reason}); move it away and put a copy in its place, or start without it and \
         `registry import` an export", path.display()
    )]
    Damaged {
        /// Its path.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// The file was written by a newer program.
    #[error("{} was written by a newer version of this program; update this one, or move the file away", .0.display())]
    Newer(PathBuf),
    /// The file of the key is not there, or none.
    #[error(
        "{secret} holds no key, and {sealed} secrets in {} are sealed with it; put the key back (it has 64 hexadecimal digits), or \
         move {} away, start without it and `registry import` an export", path.display(), path.display(), secret = secret.display()
    )]
    KeyMissing {
        /// Path of the key's file.
        secret: PathBuf,
        /// Path of the registry's file.
        path: PathBuf,
        /// Number of sealed secrets.
        sealed: usize,
    },
    /// The key is another than the one that the secrets are sealed with.
    #[error(
        "the key of `registry.secret: {given}` is another than the one that the secrets in {} are sealed with ({sealed}); give that one", 
        path.display()
    )]
    WrongKey {
        /// Source of the key that was given.
        given: String,
        /// Source of the key that sealed.
        sealed: String,
        /// Path of the registry's file.
        path: PathBuf,
    },
    /// The configuration has another source of the key than the file.
    #[error(
        "the secrets in {} are sealed with the key of `{sealed}`, and the configuration has `registry.secret: {given}`; write \
         `registry.secret: {sealed}`, or run `registry rekey --to {given}` first", path.display()
    )]
    OtherSource {
        /// Source in the configuration.
        given: String,
        /// Source of the key that sealed.
        sealed: String,
        /// Path of the registry's file.
        path: PathBuf,
    },
    /// A passphrase is not there.
    #[error("the variable `{0}` has no passphrase; set it")]
    NoPassphrase(String),
    /// A sealed secret cannot be opened though the key is right.
    #[error("the secret {field} of the {entry} in {} is damaged; `registry import --replace` an export with it, or put a copy of the file in its place", path.display())]
    Secret {
        /// JSON pointer of the field.
        field: String,
        /// The entry.
        entry: String,
        /// Path of the registry's file.
        path: PathBuf,
    },
    /// The system gives no randomness, memory or thread.
    #[error("the system gives no {what}: {error}")]
    System {
        /// Thing that is missing.
        what: &'static str,
        /// Reason.
        error: String,
    },
    /// An export cannot be imported.
    #[error("nothing was imported: {0}")]
    Import(String),
}
