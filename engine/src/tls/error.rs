//! Reasons why TLS with a server fails, each with what to look at.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Names of a certificate that a message shows at most.
const NAMES: usize = 4;

/// Reason why TLS with a server failed. Its text is what a person needs; it has no bytes of the connection in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No root that is trusted here has signed the certificate.
    #[error(
        "its TLS certificate is signed by an issuer that is not trusted here: name a file with the issuer's root certificate in `tls.ca_file`"
    )]
    UnknownIssuer,
    /// The certificate is for other names.
    #[error("its TLS certificate is not for `{host}`{}", presented(.names))]
    WrongName {
        /// The name that was dialled.
        host: String,
        /// The names that the certificate is for.
        names: Vec<String>,
    },
    /// The certificate was valid until a time that has passed.
    #[error("its TLS certificate has expired")]
    Expired,
    /// The certificate is valid from a time on that is to come, or the clock of this machine is wrong.
    #[error("its TLS certificate is not valid yet: look at the clocks of both machines")]
    NotValidYet,
    /// The certificate is wrong in another way.
    #[error("its TLS certificate is wrong: {0}")]
    Certificate(String),
    /// The first bytes of the server are no TLS.
    #[error("it does not speak TLS")]
    NoTls,
    /// The server closed the connection before it sent anything.
    #[error("it closed the connection at the start of TLS: perhaps it does not speak TLS")]
    ClosedAtOnce,
    /// The server closed the connection in the middle of the handshake.
    #[error("it closed the connection in the TLS handshake")]
    CutInHandshake,
    /// The connection ended without close_notify, so that the end of what the server said may be missing.
    #[error("the connection was cut off: it ended without TLS's close_notify")]
    Cut,
    /// The server sent a fatal alert.
    #[error("it refused TLS with the alert {0}")]
    Refused(String),
    /// The server broke the protocol, or has no version or cipher that is spoken here.
    #[error("TLS failed: {0}")]
    Protocol(String),
    /// The host is neither a DNS name nor an address.
    #[error("`{0}` is no name that a TLS certificate can be for")]
    NoServerName(String),
    /// The file of further roots cannot be used.
    #[error("the CA file {0}")]
    CaFile(#[from] CaFileError),
    /// There is no memory for one connection more.
    #[error("limits.memory is used up")]
    Memory,
    /// This build has no TLS.
    #[error("this build has no TLS: the cargo feature `tls` brings it")]
    NotBuiltIn,
    /// The system has no root certificates, and no file names any.
    #[error(
        "no root certificates were found on this system: install them (`ca-certificates`), or name a file in `tls.ca_file` or `SSL_CERT_FILE`"
    )]
    NoRoots,
}

/// Reason why a file of root certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {why}", path.display())]
pub struct CaFileError {
    /// The file.
    pub(super) path: PathBuf,
    /// The fault, as the end of a sentence.
    pub(super) why: String,
}

fn presented(names: &[String]) -> String {
    match names.get(..NAMES).unwrap_or(names) {
        [] => String::new(),
        names => format!(", but for `{}`", names.join("`, `")),
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match &error {
            TlsError::ClosedAtOnce | TlsError::CutInHandshake | TlsError::Cut => {
                ErrorKind::UnexpectedEof
            }
            TlsError::CaFile(_) | TlsError::NoRoots => ErrorKind::NotFound,
            TlsError::Memory => ErrorKind::OutOfMemory,
            TlsError::NotBuiltIn => ErrorKind::Unsupported,
            TlsError::NoServerName(_) => ErrorKind::InvalidInput,
            TlsError::UnknownIssuer
            | TlsError::WrongName { .. }
            | TlsError::Expired
            | TlsError::NotValidYet
            | TlsError::Certificate(_)
            | TlsError::NoTls
            | TlsError::Refused(_)
            | TlsError::Protocol(_) => ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
