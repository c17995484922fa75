//! HTTP: clients that go where the configuration says, and nowhere else (no redirect is followed, and no proxy used); the
//! [`server`] of the ports that others call; and [`api`], the port of backends.

pub(crate) mod api;
pub(crate) mod server;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::{ClientConfig, RootCertStore};

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an http client: {0}")]
pub struct NoClient(pub(crate) String);

impl From<reqwest::Error> for NoClient {
    fn from(error: reqwest::Error) -> Self {
        Self(error.to_string())
    }
}

/// What went wrong. The innermost error says what happened, the outer ones only while what, and where.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The authorities that this machine trusts, or those that `SSL_CERT_FILE` names. That there are none is told.
pub(crate) fn authorities(whom: &'static str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        tracing::error!(
            whom,
            "there are no CA certificates on this machine, so no server is trusted"
        );
    }
    roots
}

/// A client to be, that trusts these authorities, and takes no longer than this to connect, TLS included.
pub(crate) fn client(roots: RootCertStore, connect: Duration) -> Result<ClientBuilder, NoClient> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| NoClient(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(connect))
}
