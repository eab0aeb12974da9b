//! Root certificates that are trusted: the system's, and those of a file.

use super::{CaFileError, TlsError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore, crypto};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Root certificates that servers are held against, for all that the program dials. They are read when the first server is
/// dialled, and stay.
///
/// The system's are those that its programs use; the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name others in their place.
pub struct Trust {
    roots: Roots,
    loaded: OnceLock<Arc<ClientConfig>>,
}

enum Roots {
    /// The system's, and those of a file.
    System(Option<PathBuf>),
    Only(Vec<CertificateDer<'static>>),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.roots {
            Roots::System(ca_file) => write!(f, "Trust(system, {ca_file:?})"),
            Roots::Only(roots) => write!(f, "Trust({} roots)", roots.len()),
        }
    }
}

impl Default for Trust {
    /// Trust in the system's roots.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Trust {
    /// Trust in the system's roots and in the certificates of a PEM file.
    #[must_use]
    pub fn new(ca_file: Option<PathBuf>) -> Self {
        Self {
            roots: Roots::System(ca_file),
            loaded: OnceLock::new(),
        }
    }

    /// Trust in these certificates and no others.
    #[must_use]
    pub const fn only(roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            roots: Roots::Only(roots),
            loaded: OnceLock::new(),
        }
    }

    /// The configuration of a connection. It is made once; after an error it is tried again.
    ///
    /// # Errors
    /// When the file cannot be used, or there are no roots at all.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.loaded.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(self.load()?);
        Ok(self.loaded.get_or_init(|| config).clone())
    }

    fn load(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Roots::System(ca_file) => {
                // A part of the system's that cannot be read is no reason to refuse the rest.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if let Some(path) = ca_file {
                    roots.add_parsable_certificates(read_ca_file(path)?);
                }
            }
            Roots::Only(only) => {
                roots.add_parsable_certificates(only.iter().cloned());
            }
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Protocol(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Checks that a PEM file has root certificates in it, and nothing damaged.
///
/// # Errors
/// When the file cannot be read, has no certificate, or has a damaged one.
pub fn check_ca_file(path: &Path) -> Result<(), CaFileError> {
    read_ca_file(path).map(drop)
}

/// Reads the certificates of a PEM file, and checks that each can be a root.
///
/// # Errors
/// When the file cannot be read, has no certificate, or has a damaged one.
fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "errors of PEM: the others are told by their own text"
    )]
    let read = |error: pem::Error| match error {
        pem::Error::Io(error) => CaFileError {
            path: path.into(),
            why: format!("cannot be read: {error}"),
        },
        error => damaged(path, &error.to_string()),
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(read)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if certificates.is_empty() {
        return Err(CaFileError {
            path: path.into(),
            why: "has no certificate in it; give a PEM file, which has lines `-----BEGIN CERTIFICATE-----`".into(),
        });
    }
    for certificate in &certificates {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| damaged(path, &error.to_string()))?;
    }
    Ok(certificates)
}

fn damaged(path: &Path, why: &str) -> CaFileError {
    CaFileError {
        path: path.into(),
        why: format!("has a damaged certificate in it: {why}"),
    }
}
