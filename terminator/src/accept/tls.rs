//! TLS for the clients' side, from a certificate chain and a key in PEM.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a terminator cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("{setting}: cannot use {}: {reason}", path.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("tls-cert and tls-key do not go together: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// An acceptor with this certificate chain (leaf first) and key (PKCS #8, PKCS #1 or SEC 1).
///
/// # Errors
/// A file that cannot be used, named with its setting; or a key that is not the certificate's.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let failed = |setting, path: &Path, reason: String| TlsError::File {
        setting,
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed("tls-cert", certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed(
            "tls-cert",
            certificate,
            "there is no certificate in it".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed("tls-key", key, error.to_string()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
