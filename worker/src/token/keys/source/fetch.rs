//! One request to a key server.
//!
//! It goes to the configured address and nowhere else: no redirect is followed and
//! no proxy used. It ends in time and within its size, whatever the server does.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::ACCEPT;
use reqwest::{Client, Response};
use rustls::RootCertStore;

use super::MAX_FILE_BYTES;
use super::Remote;
use super::jwks_url::{JwksUrl, UrlError};
use crate::web::{self, NoClient};

/// Media types of a JWKS: RFC 7517 §8.5, and what most servers say.
const MEDIA_TYPES: &str = "application/jwk-set+json, application/json";

/// How long a key server may take, and how much it may send.
#[derive(Clone, Copy, Debug)]
pub(in crate::token) struct Limits {
    /// For the connection, TLS included.
    pub(in crate::token) connect: Duration,
    /// For all of it.
    pub(in crate::token) total: Duration,
    /// For the body, in bytes.
    pub(in crate::token) size: usize,
}

impl Limits {
    /// 2 s, 5 s, and the size of a file.
    pub(in crate::token) const USUAL: Self = Self {
        connect: Duration::from_secs(2),
        total: Duration::from_secs(5),
        size: MAX_FILE_BYTES,
    };
}

/// Why there is nothing to read. The texts name no URL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The limits of time are over.
    #[error("no answer in time")]
    Timeout,
    /// Anything but 200.
    #[error("the answer has status {0}, not 200 (a redirect is not followed)")]
    Status(u16),
    /// The limit of size is exceeded.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// What is found does not lead to the keys.
    #[error(transparent)]
    Undiscovered(#[from] Undiscovered),
    /// No connection, no TLS, no HTTP.
    #[error("{}", web::reason(.0))]
    Broken(reqwest::Error),
}

/// Why an issuer's own word does not lead to its keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undiscovered {
    #[error("there is no discovery document: {openid}; and as RFC 8414 has it: {oauth}")]
    Document {
        openid: Box<FetchError>,
        oauth: Box<FetchError>,
    },
    #[error("the discovery document is no JSON object with unique members")]
    NoObject,
    #[error("the discovery document is of {0}, not of the very issuer that `jwt-issuer` names")]
    Issuer(String),
    #[error("the discovery document has no `jwks_uri`")]
    NoUri,
    #[error("the `jwks_uri` of the discovery document cannot be used: {0}")]
    Uri(UrlError),
    #[error(
        "the `jwks_uri` of the discovery document is on {0:?}, which is neither the issuer's host nor in `jwks-allow-hosts`"
    )]
    Host(String),
    #[error("the `jwks_uri` of the discovery document, {uri}: {reason}")]
    Keys { uri: String, reason: Box<FetchError> },
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Broken(error.without_url())
        }
    }
}

/// Gets the content of a URL.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// One request.
    fn fetch(&self, url: &JwksUrl) -> impl Future<Output = Result<Bytes, FetchError>> + Send;
}

/// Gets it over HTTP.
pub(crate) struct Http {
    client: Client,
    limits: Limits,
}

impl Http {
    /// A client for those. The certificates of the system are trusted, or those that `SSL_CERT_FILE` names.
    pub(in crate::token) fn new(remotes: impl IntoIterator<Item = Remote>, limits: Limits) -> Result<Self, NoClient> {
        let roots = if remotes.into_iter().any(|remote| remote.is_secure()) {
            web::authorities("key servers")
        } else {
            RootCertStore::empty()
        };
        Self::trusting(roots, limits)
    }

    pub(in crate::token) fn trusting(roots: RootCertStore, limits: Limits) -> Result<Self, NoClient> {
        let client = web::client(roots, limits.connect)?
            .timeout(limits.total)
            // The next request is minutes away.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, limits })
    }

    async fn read(&self, mut response: Response) -> Result<Bytes, FetchError> {
        let mut content = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if content.len() + chunk.len() > self.limits.size {
                return Err(FetchError::TooLarge(self.limits.size));
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content.freeze())
    }
}

impl Fetch for Http {
    async fn fetch(&self, url: &JwksUrl) -> Result<Bytes, FetchError> {
        let request = self.client.get(url.as_url().clone()).header(ACCEPT, MEDIA_TYPES);
        let response = request.send().await?;
        match response.status().as_u16() {
            200 => self.read(response).await,
            status => Err(FetchError::Status(status)),
        }
    }
}
