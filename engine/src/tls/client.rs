//! The client's side of TLS as a pipe over a pipe. rustls turns bytes into bytes; nothing here waits.

use super::{MEMORY, TlsError, Trust};
use crate::pipe::{Buffer, Pipe, read_behind};
use mcp_local_provider_core::budget::{Budget, Share};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, Error};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::task::{Poll, Waker, ready};

/// Most that is encrypted at once, in bytes.
const WRITE: usize = 16 << 10;

/// The client's side of TLS over another pipe. It offers the protocol `http/1.1` (ALPN).
///
/// Bytes that a write has taken may wait in it while the pipe below is full; every later call goes on with them. An end without
/// TLS's close_notify is an error: somebody may have cut off what the server said. Dropped, it says close_notify as far as the
/// pipe below takes it at once.
pub struct Tls<P: Pipe> {
    below: P,
    connection: ClientConnection,
    host: String,
    /// Bytes of the server that are not decrypted yet.
    received: Buffer,
    /// Encrypted bytes that are not written yet.
    unwritten: Vec<u8>,
    /// [`MEMORY`], until it is dropped.
    _share: Share,
    /// The server has sent something.
    is_answered: bool,
    failed: Option<Failure>,
}

/// The failure that every later call gives again.
#[derive(Clone)]
enum Failure {
    Tls(TlsError),
    Below(ErrorKind),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Tls(error) => error.into(),
            Failure::Below(kind) => kind.into(),
        }
    }
}

impl<P: Pipe> fmt::Debug for Tls<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.host)
    }
}

impl<P: Pipe> Tls<P> {
    /// Begins TLS with the server that `host` names, a DNS name or an address, which its certificate has to be for.
    ///
    /// # Errors
    /// When `host` is no such name, there are no roots to trust, or the budget has less than [`MEMORY`] left.
    pub fn new(below: P, host: &str, trust: &Trust, budget: &Budget) -> Result<Self, TlsError> {
        let mut share = budget.share();
        if share.reserve(0, MEMORY) < MEMORY {
            return Err(TlsError::Memory);
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::NoServerName(host.to_owned()))?;
        let connection = ClientConnection::new(trust.client_config()?, name)
            .map_err(|error| reason(error, host, true))?;
        Ok(Self {
            below,
            connection,
            host: host.to_owned(),
            received: Buffer::new(budget),
            unwritten: Vec::new(),
            _share: share,
            is_answered: false,
            failed: None,
        })
    }

    /// Ready once the handshake is made, and the server's certificate is found to be right.
    ///
    /// # Errors
    /// When it fails. The cause is a [`TlsError`], or an error of the pipe below.
    pub fn poll_handshake(&mut self, waker: &Waker) -> Poll<io::Result<()>> {
        while self.connection.is_handshaking() {
            self.check()?;
            if let Poll::Ready(Err(error)) = self.poll_send(waker) {
                return Poll::Ready(Err(error));
            }
            let count = ready!(self.poll_receive(waker))?;
            if count == 0 {
                let error = if self.is_answered {
                    TlsError::CutInHandshake
                } else {
                    TlsError::ClosedAtOnce
                };
                return Poll::Ready(Err(self.fail(error)));
            }
        }
        Poll::Ready(self.check())
    }

    /// Takes in a part of what the server sent. The number of bytes that came; zero is the end of the pipe below.
    fn poll_receive(&mut self, waker: &Waker) -> Poll<io::Result<usize>> {
        if self.received.unread().is_empty() {
            let received = self.received.poll_fill(&mut self.below, waker);
            if self.below(ready!(received))? == 0 {
                self.connection.read_tls(&mut io::empty())?;
                return Poll::Ready(Ok(0));
            }
        }
        let count = self.connection.read_tls(&mut self.received.unread())?;
        // Behind close_notify nothing counts.
        let used = if count == 0 { usize::MAX } else { count };
        self.received.take(used);
        self.is_answered = true;
        match self.connection.process_new_packets() {
            Ok(_) => Poll::Ready(Ok(count.max(1))),
            Err(error) => {
                // The server is told by an alert, as far as there is room.
                drop(self.poll_send(waker));
                let is_first = self.connection.protocol_version().is_none();
                let error = reason(error, &self.host, is_first);
                Poll::Ready(Err(self.fail(error)))
            }
        }
    }

    /// Ready once everything that was encrypted is written.
    fn poll_send(&mut self, waker: &Waker) -> Poll<io::Result<()>> {
        loop {
            if self.unwritten.is_empty() {
                if !self.connection.wants_write() {
                    self.unwritten = Vec::new();
                    return Poll::Ready(Ok(()));
                }
                self.connection.write_tls(&mut self.unwritten)?;
            }
            let written = self.below.poll_write(waker, &self.unwritten);
            let count = self.below(ready!(written))?;
            self.unwritten.drain(..count);
        }
    }

    fn check(&self) -> io::Result<()> {
        self.failed
            .clone()
            .map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn fail(&mut self, error: TlsError) -> io::Error {
        self.failed = Some(Failure::Tls(error.clone()));
        error.into()
    }

    /// A result of the pipe below.
    fn below(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        result.inspect_err(|error| self.failed = Some(Failure::Below(error.kind())))
    }
}

impl<P: Pipe> Pipe for Tls<P> {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(waker))?;
        loop {
            self.check()?;
            // The server may wait for it before it sends more.
            if let Poll::Ready(Err(error)) = self.poll_send(waker) {
                return Poll::Ready(Err(error));
            }
            let read = read_behind(into, most, |room| {
                Poll::Ready(self.connection.reader().read(room))
            });
            match read {
                Poll::Pending => {
                    ready!(self.poll_receive(waker))?;
                }
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(self.fail(TlsError::Cut)));
                }
                read => return read,
            }
        }
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(waker))?;
        ready!(self.poll_send(waker))?;
        let part = bytes.get(..WRITE).unwrap_or(bytes);
        let count = self.connection.writer().write(part)?;
        if let Poll::Ready(Err(error)) = self.poll_send(waker) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    fn expect_answer(&mut self) {
        self.below.expect_answer();
    }
}

impl<P: Pipe> Drop for Tls<P> {
    fn drop(&mut self) {
        if self.failed.is_none() {
            self.connection.send_close_notify();
            drop(self.poll_send(Waker::noop()));
        }
    }
}

/// The reason of an error of rustls. `host` is the name that was dialled; `is_first` is true until the server has sent a
/// part of TLS.
fn reason(error: Error, host: &str, is_first: bool) -> TlsError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls's errors: the others are told by their own text"
    )]
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, host),
        Error::NoCertificatesPresented => TlsError::Certificate("the server sent none".into()),
        Error::InvalidMessage(_) if is_first => TlsError::NoTls,
        Error::AlertReceived(alert) => TlsError::Refused(format!("{alert:?}")),
        error => TlsError::Protocol(error.to_string()),
    }
}

fn of_certificate(error: CertificateError, host: &str) -> TlsError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls's errors: the others are told by their own text"
    )]
    match error {
        CertificateError::UnknownIssuer => TlsError::UnknownIssuer,
        CertificateError::NotValidForName => TlsError::WrongName {
            host: host.into(),
            names: Vec::new(),
        },
        CertificateError::NotValidForNameContext { presented, .. } => TlsError::WrongName {
            host: host.into(),
            names: presented.iter().map(|name| bare(name)).collect(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsError::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsError::NotValidYet
        }
        CertificateError::BadSignature => TlsError::Certificate(
            "its issuer has the name of one that is trusted here, and another key".into(),
        ),
        error => TlsError::Certificate(error.to_string()),
    }
}

/// A name without the kind that rustls writes round it: `DnsName("a.test")` is `a.test`.
fn bare(name: &str) -> String {
    let inside = name.split_once('(').map_or(name, |(_, inside)| inside);
    let inside = inside.trim_end_matches(')').trim_matches('"');
    inside.escape_debug().to_string()
}
