//! The bytes below a WebSocket: a socket's own, or TLS over them by the root certificates of the system.

use crate::connection::Address;
use mcp_local_provider_core::agent::Lost;
use std::io::{Read, Result, Write};

/// A connection's bytes. It waits for nothing unless `S` does.
pub(crate) enum Stream<S: Read + Write> {
    Plain(S),
    #[cfg(feature = "tls")]
    Secure(Box<rustls::StreamOwned<rustls::ClientConnection, S>>),
}

impl<S: Read + Write> Stream<S> {
    /// Wraps a socket. The handshake of TLS is made by the first reads and writes.
    pub(crate) fn over(socket: S, address: &Address) -> std::result::Result<Self, Lost> {
        #[cfg(feature = "tls")]
        if address.is_secure {
            let secure = secure::stream(socket, &address.host);
            return secure
                .map(|stream| Self::Secure(Box::new(stream)))
                .map_err(|error| Lost::Broken(format!("there is no TLS: {error}")));
        }
        // Without TLS no address is secure.
        let _ = address.is_secure;
        Ok(Self::Plain(socket))
    }

    /// The socket.
    #[cfg(feature = "smol")]
    pub(crate) fn socket(&self) -> &S {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Secure(stream) => stream.get_ref(),
        }
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => stream.read(buf),
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            #[cfg(feature = "tls")]
            Self::Secure(stream) => stream.flush(),
        }
    }
}

#[cfg(feature = "tls")]
mod secure {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned, crypto};
    use std::io::{Read, Write};
    use std::sync::Arc;

    pub(super) fn stream<S: Read + Write>(
        socket: S,
        host: &str,
    ) -> Result<StreamOwned<ClientConnection, S>, Error> {
        let mut roots = RootCertStore::empty();
        // A root that cannot be read is no reason to refuse the rest.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Error::General(error.to_string()))?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        Ok(StreamOwned::new(connection, socket))
    }
}
