//! A certificate for a terminator that speaks TLS itself, and its key.

use std::{fs, path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio_rustls::TlsConnector;

use crate::tokens::key::test_keys;

/// For `localhost`, signed by itself, until 2120: a test that asks for no tool and no date. Its key is no secret.
pub const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBZDCCAQqgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABH98qOyK8zd8TNLT
DLjDvlF6l1GXggRAhlnBG+eBGz9slUGpqUzfm13pImiYKXWNspkBNwP6XkP+Unkg
buuiz9qjSzBJMAwGA1UdEwEB/wQCMAAwGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/
AAABMB0GA1UdDgQWBBTt6J67XfKLZ/09ppzP1QI/3OgbBjAKBggqhkjOPQQDAgNI
ADBFAiEAkP7X+jrPpSbVsf6JMAcnO7FsBk2oyt4fodQkN0oTIOUCIGczGqrJJM9o
ftrYrDbpY9p+ihZdv9vXVHoTgMS5Ibgy
-----END CERTIFICATE-----
";

/// Its key.
pub const PRIVATE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRbweI8Zrnb/nYEdu
eLagWJSggTTLZSz08KaOBaS74GGhRANCAAR/fKjsivM3fEzS0wy4w75RepdRl4IE
QIZZwRvngRs/bJVBqalM35td6SJomCl1jbKZATcD+l5D/lJ5IG7ros/a
-----END PRIVATE KEY-----
";

/// Writes a file of the test's own.
///
/// # Panics
/// If it cannot be written.
pub fn file(name: &str, text: &str) -> PathBuf {
    let path = test_keys().folder().join(name);
    fs::write(&path, text).expect("a file of our own");
    path
}

/// The file with the certificate.
pub fn certificate() -> PathBuf {
    file("tls-cert.pem", CERTIFICATE)
}

/// The file with its key.
pub fn private_key() -> PathBuf {
    file("tls-key.pem", PRIVATE_KEY)
}

/// What trusts this certificate alone.
///
/// # Panics
/// Never: it is a good one.
#[must_use]
pub fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("it is good"))
        .expect("it is good");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("it is good")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
