//! Issuers' side: keys with their private halves, signed by aws-lc-rs directly, so
//! that a mistake in the crate that verifies does not cancel itself out.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::{Algorithm, Fault, KeyErrors, KeySource, Keys};
use crate::auth::identity::Issuer;
use crate::token::keys::source::Content;

pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const SECRET: &[u8] = b"a-secret-of-more-than-64-bytes,for-tests:it-serves-each-hash-of-HMAC";

pub(super) enum Signer {
    Hmac(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

/// Made once: an RSA key takes its time.
pub(super) static HMAC: LazyLock<Signer> = LazyLock::new(|| Signer::Hmac(SECRET.to_vec()));
pub(super) static RSA: LazyLock<Signer> =
    LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
pub(super) static P256: LazyLock<Signer> = LazyLock::new(Signer::p256);
pub(super) static P384: LazyLock<Signer> = LazyLock::new(|| {
    Signer::Ec(
        EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
        "P-384",
    )
});
pub(super) static ED: LazyLock<Signer> = LazyLock::new(|| Signer::Ed(Ed25519KeyPair::generate().unwrap()));

impl Signer {
    pub(super) fn p256() -> Self {
        Self::Ec(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            "P-256",
        )
    }

    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(secret) => hmac::sign(&hmac::Key::new(hash(algorithm), secret), message)
                .as_ref()
                .to_vec(),
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding(algorithm), &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with that header and those claims, whatever they are.
    pub(super) fn token(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let signature = base64(&self.sign(algorithm, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// The public key (the secret, if it is one) as a JWK without optional members.
    pub(super) fn jwk(&self) -> Value {
        match self {
            Self::Hmac(secret) => json!({"kty": "oct", "k": base64(secret)}),
            Self::Rsa(pair) => {
                // SEQUENCE (4 bytes), INTEGER of 257 bytes (4 bytes and a leading zero), INTEGER 65537.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "n": base64(&der[9..265]), "e": "AQAB"})
            }
            Self::Ec(pair, curve) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
                json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key().as_ref())}),
        }
    }

    /// How `jwt-keys` names that file.
    pub(super) const fn entry(&self) -> &'static str {
        match self {
            Self::Hmac(_) => "hmac:file",
            _ => "file",
        }
    }

    /// The file that an operator would have: PEM, or the secret itself.
    pub(super) fn file(&self) -> Vec<u8> {
        let der = match self {
            Self::Hmac(secret) => return secret.clone(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ec(pair, _) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        pem("PUBLIC KEY", &der)
    }
}

fn hash(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

fn padding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::RS384 => &RSA_PKCS1_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_SHA512,
        Algorithm::PS256 => &RSA_PSS_SHA256,
        Algorithm::PS384 => &RSA_PSS_SHA384,
        Algorithm::PS512 => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
}

/// The JWK with one member set.
pub(super) fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

pub(super) fn jwks(keys: impl IntoIterator<Item = Value>) -> Vec<u8> {
    json!({"keys": keys.into_iter().collect::<Vec<_>>()})
        .to_string()
        .into_bytes()
}

/// Loads entries whose files have those contents.
pub(super) fn load_for(issuers: &[&str], allowed: &[Algorithm], files: &[(&str, Vec<u8>)]) -> Result<Keys, KeyErrors> {
    let issuers: Vec<_> = issuers.iter().map(|&name| Issuer::new(name)).collect();
    let sources: Vec<KeySource> = files.iter().map(|(entry, _)| entry.parse().unwrap()).collect();
    let contents = sources
        .iter()
        .zip(files)
        .map(|(source, (_, content))| (source, Ok(Content::Known(content.clone().into()))));
    Keys::assemble(contents, &issuers, allowed)
}

/// Loads one entry for the one issuer.
pub(super) fn load(entry: &str, content: Vec<u8>) -> Result<Keys, KeyErrors> {
    load_for(&[ISSUER], &[], &[(entry, content)])
}

/// What is wrong with the file, in order.
pub(super) fn faults(loaded: Result<Keys, KeyErrors>) -> Vec<Fault> {
    loaded.err().map_or_else(Vec::new, |errors| {
        errors.0.into_iter().map(|error| error.fault).collect()
    })
}
