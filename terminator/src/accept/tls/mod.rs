//! TLS for the clients' side: a certificate chain and a key in PEM, which may be replaced at any time.
//!
//! Each handshake takes what is in force at its beginning; sockets that are open stay as they are.

mod name;

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use shared::credentials::{
    Credential, CredentialError, Credentials, Made, Place, Source, certified, chain as chain_in, doubt, ends,
    private_key,
};
use shared::service::clock::{Clock, SystemClock, Timestamp};
use tokio_rustls::TlsAcceptor;

use self::name::OneCertificate;
use crate::TerminatorConfig;

/// What accepts clients; none if a terminator does not speak TLS.
///
/// # Errors
/// A file that cannot be used, named with its setting; or a key that is not the certificate's.
pub(crate) fn load(
    config: &TerminatorConfig,
    credentials: &mut Credentials,
) -> Result<Option<Credential<TlsAcceptor>>, CredentialError> {
    let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else {
        return Ok(None);
    };
    let mut places = vec![Place::file("tls-cert", certificate), Place::file("tls-key", key)];
    places.extend(config.tls_client_ca.as_ref().map(|ca| Place::file("tls-client-ca", ca)));
    let make = |contents: &[Bytes]| acceptor(contents, SystemClock.now());
    let source = Source {
        places,
        make: Box::new(make),
    };
    credentials.load(source).map(Some)
}

/// Of a chain (leaf first), a key (PKCS #8, PKCS #1 or SEC 1), and perhaps the CA certificates that clients' are signed by.
fn acceptor(contents: &[Bytes], now: Timestamp) -> Result<Made<TlsAcceptor>, String> {
    let [certificate, key, client_ca @ ..] = contents else {
        return Err("a certificate and a key are needed".to_owned());
    };
    let chain = chain_in(certificate).map_err(|why| format!("the certificate {why}"))?;
    let doubts: Vec<_> = doubt(&chain, now)
        .into_iter()
        .chain(chain.first().and_then(name::doubt))
        .collect();
    let mut kinds = vec![("server certificate", ends(&chain)), ("private key", None)];
    let key = private_key(key).map_err(|why| format!("the key {why}"))?;
    let certified = certified(chain, key)?;
    let builder = ServerConfig::builder();
    let builder = match client_ca {
        [client_ca, ..] => {
            let roots = chain_in(client_ca).map_err(|why| format!("the CA file {why}"))?;
            kinds.push(("CA certificates", ends(&roots)));
            builder.with_client_cert_verifier(verifier(roots)?)
        }
        [] => builder.with_no_client_auth(),
    };
    let config = builder.with_cert_resolver(Arc::new(OneCertificate::new(certified)));
    Ok(Made {
        value: TlsAcceptor::from(Arc::new(config)),
        kinds,
        doubt: (!doubts.is_empty()).then(|| doubts.join("; ")),
    })
}

/// Lets those in whose certificate is signed by one of these.
fn verifier(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|error| format!("the CA file has a certificate that cannot be used as a CA: {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
    verifier.map_err(|error| format!("the CA file cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use shared::credentials::Register;
    use shared::service::config;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_setting() {
        let folder = std::env::temp_dir().join(format!("tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let missing = folder.join("none.pem").to_str().unwrap().to_owned();
        let empty = file("empty.pem", "");
        let half = file("half.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
        for (certificate, key, expected) in [
            (&missing, &empty, "tls-cert /"),
            (&empty, &missing, "tls-key /"),
            (&half, &empty, "the certificate "),
        ] {
            let pairs = [("tls-cert", certificate.as_str()), ("tls-key", key.as_str())];
            let config: TerminatorConfig = config::from_pairs(pairs).unwrap();
            let error = load(&config, &mut Credentials::new(&Register::default()))
                .err()
                .unwrap();
            let told = error.to_string();
            assert!(told.contains(expected) && !told.contains('\n'), "{told}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
