//! A public key in PEM or DER.
//!
//! RFC 7468 text around the DER of a SubjectPublicKeyInfo, or of the older
//! RSAPublicKey, or of a certificate, whose public key alone counts. The DER that tells one kind of key from another is constant, so
//! comparing it beats parsing it: nothing but the expected curve and form can match.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::der::{self, INTEGER, OBJECT_IDENTIFIER, SEQUENCE};
use super::key::Material;
use super::looks::form::BEGIN;
use crate::token::Fault;

const DASHES: &str = "-----";

/// SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING of 1 + 2 * 32 bytes }, RFC 5480 §2.
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// SEQUENCE { SEQUENCE { id-ecPublicKey, secp384r1 }, BIT STRING of 1 + 2 * 48 bytes }, RFC 5480 §2.
const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
/// SEQUENCE { SEQUENCE { id-Ed25519 }, BIT STRING of 32 bytes }, RFC 8410 §4.
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// SEQUENCE { rsaEncryption, NULL }, RFC 3279 §2.3.1; not the key that RFC 4055 §1.2 restricts to PSS.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// It stands behind one tag and a length of 1 to 4 bytes.
const RSA_AT_MOST: usize = 1 + 4 + 1;

pub(in crate::token) fn parse(content: &[u8]) -> Result<Material, Fault> {
    let text = str::from_utf8(content).map_err(|_| Fault::Pem)?.trim();
    // First of all, so that a private key is called by its name whatever else is wrong.
    if text.contains("PRIVATE KEY-----") {
        return Err(Fault::PrivateKey);
    }
    if text.matches(BEGIN).count() > 1 {
        return Err(Fault::SeveralPemBlocks);
    }
    let (label, body) = block(text).ok_or(Fault::Pem)?;
    match label {
        "PUBLIC KEY" => subject_public_key_info(&decode(body)?),
        "RSA PUBLIC KEY" => Material::rsa(&decode(body)?),
        "CERTIFICATE" | "X509 CERTIFICATE" => certificate(&decode(body)?),
        // OpenSSL's own, with what it trusts the certificate for behind it.
        "TRUSTED CERTIFICATE" => Err(Fault::Certificate),
        _ => Err(Fault::UnsupportedKey),
    }
}

/// One key in DER: SubjectPublicKeyInfo, RSAPublicKey or a certificate, told apart by what the outer SEQUENCE begins with.
pub(in crate::token) fn parse_der(content: &[u8]) -> Result<Material, Fault> {
    let inner = der::value(content).map_or(&[][..], |(_, inner, _)| inner);
    match der::value(inner) {
        // The version of PKCS #8, PKCS #1 and SEC 1 private keys; a modulus is longer.
        Some((INTEGER, [_], _)) => Err(Fault::PrivateKey),
        Some((INTEGER, ..)) => Material::rsa(content),
        Some((SEQUENCE, first, _)) if first.first() == Some(&OBJECT_IDENTIFIER) => subject_public_key_info(content),
        Some((SEQUENCE, ..)) => certificate(content),
        _ => Err(Fault::UnsupportedKey),
    }
}

fn certificate(der: &[u8]) -> Result<Material, Fault> {
    let der = CertificateDer::from(der);
    let certificate = EndEntityCert::try_from(&der).map_err(|_| Fault::Certificate)?;
    subject_public_key_info(&certificate.subject_public_key_info())
}

fn block(text: &str) -> Option<(&str, &str)> {
    let (label, rest) = text.strip_prefix(BEGIN)?.split_once(DASHES)?;
    let body = rest
        .strip_suffix(DASHES)?
        .strip_suffix(label)?
        .strip_suffix("-----END ")?;
    Some((label, body))
}

fn decode(body: &str) -> Result<Vec<u8>, Fault> {
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).map_err(|_| Fault::Pem)
}

fn subject_public_key_info(der: &[u8]) -> Result<Material, Fault> {
    if let Some(point) = der.strip_prefix(P256) {
        Material::p256(point)
    } else if let Some(point) = der.strip_prefix(P384) {
        Material::p384(point)
    } else if let Some(public) = der.strip_prefix(ED25519) {
        Material::ed25519(public)
    } else if der.windows(RSA.len()).take(RSA_AT_MOST).any(|window| window == RSA) {
        Material::rsa(der)
    } else {
        Err(Fault::UnsupportedKey)
    }
}
