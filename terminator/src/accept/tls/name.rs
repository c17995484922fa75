//! Whether a certificate is for the name that clients ask for.
//!
//! A terminator does not know by which names it is reached: no setting says so, and a balancer or DNS may change it. But
//! each client says in its handshake which name it wants (SNI, RFC 6066 §3), and refuses a certificate for
//! another (RFC 9525). So a name that the certificate in force does not have is reported when it is first asked for;
//! and a certificate without any name is reported at the start. Names come from outside: few are told, and each once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error};
use tracing::warn;

/// So many names are told of each certificate: anyone who looks for machines on the Internet asks for any.
const MOST_TOLD: usize = 8;

/// What no certificate is for: a name that no one may have (RFC 6761 §6.4).
const NOBODY: &str = "nobody.invalid";

/// Shows one certificate to all, and tells of names that it is not for.
pub(super) struct OneCertificate {
    certified: Arc<CertifiedKey>,
    told: Mutex<BTreeSet<String>>,
}

impl OneCertificate {
    pub(super) fn new(certified: Arc<CertifiedKey>) -> Self {
        Self {
            certified,
            told: Mutex::default(),
        }
    }

    /// The names that it is for instead, if that is to be told.
    fn to_tell(&self, asked_for: &str) -> Option<Vec<String>> {
        let names = others(self.certified.cert.first()?, asked_for)?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told.len() < MOST_TOLD && told.insert(asked_for.to_owned());
        is_new.then_some(names)
    }
}

impl fmt::Debug for OneCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneCertificate").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(asked_for) = hello.server_name()
            && let Some(names) = self.to_tell(asked_for)
        {
            let names = names.join(", ");
            warn!(
                asked_for,
                names, "a client asks for a name that the certificate is not for, and refuses it"
            );
        }
        Some(self.certified.clone())
    }
}

/// That a certificate is for no one, if so.
pub(super) fn doubt(certificate: &CertificateDer<'_>) -> Option<&'static str> {
    let is_for_nobody = others(certificate, NOBODY)?.is_empty();
    is_for_nobody.then_some("it has no name and no address (`subjectAltName`), so clients that check it refuse it")
}

/// The names and addresses that a certificate is for, if that is none of them. Nothing of one that cannot be read.
fn others(certificate: &CertificateDer<'_>, name: &str) -> Option<Vec<String>> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    match verify_server_name(&certificate, &ServerName::try_from(name).ok()?) {
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) => Some(presented),
        Err(Error::InvalidCertificate(CertificateError::NotValidForName)) => Some(Vec::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use shared::credentials::{certified, chain, private_key};

    use super::*;

    /// For `localhost` and 127.0.0.1.
    const NAMED: [&str; 2] = [
        include_str!("../../../../tests/src/servers/pki/a-server.pem"),
        include_str!("../../../../tests/src/servers/pki/a-server.key"),
    ];
    /// A client's, which is for no host.
    const NAMELESS: &str = include_str!("../../../../tests/src/servers/pki/a-client.pem");

    fn first(pem: &str) -> CertificateDer<'static> {
        chain(pem.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn a_certificate_for_nobody_is_doubtful() {
        assert_eq!(doubt(&first(NAMED[0])), None);
        assert!(doubt(&first(NAMELESS)).unwrap().contains("subjectAltName"));
        assert_eq!(doubt(&CertificateDer::from(vec![0x30, 0x00])), None);
    }

    #[test]
    fn a_few_names_that_it_is_not_for_are_told_once() {
        let key = private_key(NAMED[1].as_bytes()).unwrap();
        let certificate = OneCertificate::new(certified(chain(NAMED[0].as_bytes()).unwrap(), key).unwrap());
        let names = certificate.to_tell("chat.example.com").unwrap();
        assert!(names.join(" ").contains("localhost"), "{names:?}");
        for quiet in ["chat.example.com", "localhost", "LOCALHOST", "not a name"] {
            assert_eq!(certificate.to_tell(quiet), None, "{quiet}");
        }
        let told = (0..100).filter(|host| certificate.to_tell(&format!("{host}.example.com")).is_some());
        assert_eq!(told.count(), MOST_TOLD - 1);
    }
}
