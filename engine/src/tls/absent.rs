//! The place of TLS in a build without it.

use super::{CaFileError, TlsError};
use crate::pipe::Pipe;
use mcp_local_provider_core::budget::Budget;
use std::io;
use std::path::{Path, PathBuf};
use std::task::{Poll, Waker};

/// A pipe that cannot be made in this build.
#[derive(Debug)]
pub struct Tls<P: Pipe>(P);

/// Trust in nobody: there is no TLS in this build.
#[derive(Debug, Default)]
pub struct Trust;

impl Trust {
    /// Trust without a use.
    #[must_use]
    pub fn new(_ca_file: Option<PathBuf>) -> Self {
        Self
    }
}

impl<P: Pipe> Tls<P> {
    /// Fails.
    ///
    /// # Errors
    /// [`TlsError::NotBuiltIn`], always.
    pub fn new(below: P, _host: &str, _trust: &Trust, _budget: &Budget) -> Result<Self, TlsError> {
        drop(below);
        Err(TlsError::NotBuiltIn)
    }

    /// Fails.
    ///
    /// # Errors
    /// [`TlsError::NotBuiltIn`], always.
    pub fn poll_handshake(&mut self, _waker: &Waker) -> Poll<io::Result<()>> {
        Poll::Ready(Err(TlsError::NotBuiltIn.into()))
    }
}

impl<P: Pipe> Pipe for Tls<P> {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read(waker, into, most)
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(waker, bytes)
    }
}

/// Fails: no file of roots is of use in this build.
///
/// # Errors
/// Always.
pub fn check_ca_file(path: &Path) -> Result<(), CaFileError> {
    Err(CaFileError {
        path: path.into(),
        why: "is of no use: this build has no TLS, the cargo feature `tls` brings it".into(),
    })
}
