//! How a program shows itself to a server over TLS, and whom it believes: files of settings such as `amqp-ca`.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::{self, chain, private_key};
use super::watch::{Credential, CredentialError, Credentials, Made, Place, Source};
use crate::service::clock::{Clock, SystemClock, Timestamp};

/// The settings of one server, and the files that they name.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsFiles {
    /// The name of the setting, and the file: whose certificates are believed, instead of those of this machine.
    pub ca: Option<(&'static str, PathBuf)>,
    /// A client's certificate, and its key.
    pub identity: Option<[(&'static str, PathBuf); 2]>,
}

/// What is in those files, and fits together.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// In PEM.
    pub ca: Option<Bytes>,
    /// A certificate and its key, in PEM.
    pub identity: Option<[Bytes; 2]>,
}

impl ClientTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// What an operator has to fix.
    pub fn load(files: ClientTlsFiles, credentials: &mut Credentials) -> Result<Credential<Self>, CredentialError> {
        let has_ca = files.ca.is_some();
        let places = files.ca.into_iter().chain(files.identity.into_iter().flatten());
        credentials.load(Source {
            places: places.map(|(setting, path)| Place::file(setting, path)).collect(),
            make: Box::new(move |contents| Self::of(contents, has_ca, SystemClock.now())),
        })
    }

    fn of(contents: &[Bytes], has_ca: bool, now: Timestamp) -> Result<Made<Self>, String> {
        let (ca, identity) = contents.split_at_checked(usize::from(has_ca)).unwrap_or_default();
        let (mut kinds, mut doubt) = (Vec::new(), None);
        if let [ca] = ca {
            let roots = chain(ca).map_err(of_ca)?;
            roots_of(&roots).map_err(of_ca)?;
            kinds.push(("CA certificates", certificate::ends(&roots)));
        }
        let identity = match identity {
            [chain_in_pem, key] => {
                let chain = chain(chain_in_pem).map_err(|why| format!("the certificate {why}"))?;
                doubt = certificate::doubt(&chain, now).map(str::to_owned);
                kinds.push(("client certificate", certificate::ends(&chain)));
                kinds.push(("private key", None));
                let private = private_key(key).map_err(|why| format!("the key {why}"))?;
                certified(chain, private)?;
                Some([chain_in_pem.clone(), key.clone()])
            }
            _ => None,
        };
        let ca = ca.first().cloned();
        Ok(Made {
            value: Self { ca, identity },
            kinds,
            doubt,
        })
    }

    /// What TLS needs for a connection. Where no CA is named, those of this machine are read again.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn config(&self) -> Result<ClientConfig, String> {
        let roots = match &self.ca {
            Some(ca) => roots_of(&chain(ca)?)?,
            None => roots_of_this_machine()?,
        };
        let config = ClientConfig::builder().with_root_certificates(roots);
        match &self.identity {
            Some([certificate, key]) => config
                .with_client_auth_cert(chain(certificate)?, private_key(key)?)
                .map_err(|error| error.to_string()),
            None => Ok(config.with_no_client_auth()),
        }
    }
}

fn of_ca(why: String) -> String {
    format!("the CA file {why}")
}

fn roots_of(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("has a certificate that cannot be used as a CA: {error}"))?;
    }
    Ok(roots)
}

fn roots_of_this_machine() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old collections have some that no library reads.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("there are no CA certificates on this machine: name some".to_owned());
    }
    Ok(roots)
}

/// A certificate chain with its key.
///
/// # Errors
/// That the key is not the certificate's, or that no one can sign by it.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, String> {
    let aws_lc_rs = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(aws_lc_rs);
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => Err("the certificate and the key do not go together".to_owned()),
        Err(error) => Err(format!("the certificate and the key cannot be used: {error}")),
    }
}
