//! The files beside the store's URL: credentials, and certificates for TLS.

use std::path::PathBuf;

use shared::credentials::ClientTlsFiles;
use shared::service::config::{Conflict, tls_conflicts};

use super::StoreUrl;

/// The files that the settings of a store name.
#[derive(Clone, Debug, Default)]
pub struct StoreFiles {
    /// With the user's name.
    pub username: Option<PathBuf>,
    /// With the password.
    pub password: Option<PathBuf>,
    /// The CA certificates.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl StoreFiles {
    /// What contradicts itself, beside that URL.
    pub fn conflicts(&self, url: &StoreUrl) -> Vec<Conflict> {
        let tls = [
            ("store-ca", self.ca.is_some()),
            ("store-cert", self.certificate.is_some()),
            ("store-key", self.key.is_some()),
        ];
        tls_conflicts(tls, "store-url", "rediss", url.has_tls())
    }

    /// How we show ourselves to the store, and whom we believe.
    pub(crate) fn tls(&self) -> ClientTlsFiles {
        let identity = self.certificate.clone().zip(self.key.clone());
        ClientTlsFiles {
            ca: self.ca.clone().map(|path| ("store-ca", path)),
            identity: identity.map(|(certificate, key)| [("store-cert", certificate), ("store-key", key)]),
        }
    }
}
