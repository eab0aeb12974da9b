//! TLS (RFC 8446, RFC 5246) for what the program dials: a pipe over a pipe, and whom it trusts.
//!
//! The cargo feature `tls`, on by default, brings it. Without it every use fails with [`TlsError::NotBuiltIn`].

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod client;
mod error;
#[cfg(feature = "tls")]
mod trust;

#[cfg(not(feature = "tls"))]
pub use absent::{MEMORY, Tls, Trust, check_ca_file};
#[cfg(feature = "tls")]
pub use client::{MEMORY, Tls};
pub use error::{CaFileError, TlsError};
#[cfg(feature = "tls")]
pub use rustls::pki_types::CertificateDer;
#[cfg(feature = "tls")]
pub use trust::{Trust, check_ca_file};

/// True in a build with the cargo feature `tls`.
pub const IS_BUILT_IN: bool = cfg!(feature = "tls");
