//! Two CAs, `a` and `b`, and for each a server's certificate (for `localhost` and 127.0.0.1) and a client's, all until
//! 2120; and one of `a`'s that ended in 2021. Their keys are no secrets, and the CAs' are gone.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::servers::certificate::{self, CERTIFICATE};

macro_rules! pem {
    ($($name:literal),+) => {
        /// What is in the file of that name.
        ///
        /// # Panics
        /// If there is none.
        #[must_use]
        pub fn pem(name: &str) -> &'static str {
            match name {
                $($name => include_str!(concat!("pki/", $name)),)+
                _ => panic!("there is no {name}"),
            }
        }
    };
}

pem!(
    "a-ca.pem",
    "a-server.pem",
    "a-server.key",
    "a-client.pem",
    "a-client.key",
    "a-expired.pem",
    "a-expired.key",
    "b-ca.pem",
    "b-server.pem",
    "b-server.key",
    "b-client.pem",
    "b-client.key"
);

/// A file of the test's own with that in it.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    certificate::file(name, pem(name))
}

/// The first certificate in there.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem(name).as_bytes()).expect("a certificate")
}

/// What believes both CAs, and the certificate that is signed by itself.
#[must_use]
pub fn connector() -> TlsConnector {
    TlsConnector::from(Arc::new(believing().with_no_client_auth()))
}

/// The same, which shows that certificate, as in `a-client`.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn connector_of(client: &str) -> TlsConnector {
    let chain = vec![certificate(&format!("{client}.pem"))];
    let key = PrivateKeyDer::from_pem_slice(pem(&format!("{client}.key")).as_bytes()).expect("a key");
    let config = believing().with_client_auth_cert(chain, key).expect("they go together");
    TlsConnector::from(Arc::new(config))
}

fn believing() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("it is good");
    for root in [certificate("a-ca.pem"), certificate("b-ca.pem"), own] {
        roots.add(root).expect("it is good");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("it is good")
        .with_root_certificates(roots)
}
