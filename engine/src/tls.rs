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
pub use absent::{Tls, Trust, check_ca_file};
#[cfg(feature = "tls")]
pub use client::Tls;
pub use error::{CaFileError, TlsError};
#[cfg(feature = "tls")]
pub use rustls::pki_types::CertificateDer;
#[cfg(feature = "tls")]
pub use trust::{Trust, check_ca_file};

/// True in a build with the cargo feature `tls`.
pub const IS_BUILT_IN: bool = cfg!(feature = "tls");

/// Memory that a connection counts from its beginning to its end, in bytes, because rustls does not tell what it holds. In the
/// handshake it joins messages of up to 64 KiB; later it holds at most two records that came, and one that goes out.
pub const MEMORY: usize = 64 << 10;
