//! One key: what it is, whose it is, and what it may be used for.
//!
//! A key is bound to its algorithms when it is loaded (RFC 8725 §3.1), so that
//! no header can have an RSA key used as an HMAC secret, and to its issuer
//! (§3.8), so that one tenant's key never speaks for another's.

use std::sync::Arc;

use aws_lc_rs::rsa::{PublicKey as RsaPublicKey, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaParameters, VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::verify;
use sha2::{Digest as _, Sha256};
use shared::wire::tag::KeyTag;

use super::kind::Kind;
use super::limits::{MAX_RSA_BITS, MIN_RSA_BITS};
use super::{roca, secret};
use crate::auth::identity::Issuer;
use crate::token::{Algorithm, Fault};

/// A key's numbers, checked. Its `Debug` hides them.
#[derive(Debug)]
pub(in crate::token) struct Material {
    pub(in crate::token) kind: Kind,
    /// What it may be used with, before anyone narrows that.
    pub(in crate::token) algorithms: &'static [Algorithm],
    key: DecodingKey,
    /// Tells it from all others.
    digest: [u8; 32],
}

impl Material {
    fn of(kind: Kind, key: DecodingKey, bytes: &[u8]) -> Self {
        let digest = Sha256::new_with_prefix(format!("{kind:?} ")).chain_update(bytes);
        Self {
            kind,
            algorithms: kind.algorithms(),
            key,
            digest: digest.finalize().into(),
        }
    }

    pub(in crate::token) fn hmac(secret: &[u8]) -> Result<Self, Fault> {
        secret::check(secret)?;
        // A key is at least as long as the hash, RFC 7518 §3.2.
        let fitting = match secret.len() {
            ..48 => 1,
            48..64 => 2,
            64.. => 3,
        };
        let all = Kind::Hmac.algorithms();
        Ok(Self {
            algorithms: all.get(..fitting).unwrap_or(all),
            ..Self::of(Kind::Hmac, DecodingKey::from_secret(secret), secret)
        })
    }

    /// From a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) or an RSAPublicKey (RFC 8017 §A.1.1).
    pub(in crate::token) fn rsa(der: &[u8]) -> Result<Self, Fault> {
        let key = RsaPublicKey::from_der(der).map_err(|_| Fault::NotAKey(Kind::Rsa))?;
        let bits = RsaParameters::public_modulus_len(key.as_ref()).map_err(|_| Fault::NotAKey(Kind::Rsa))?;
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(Fault::RsaSize(bits));
        }
        if roca::has_fingerprint(key.modulus().big_endian_without_leading_zero()) {
            return Err(Fault::FactorableRsa);
        }
        Ok(Self::of(
            Kind::Rsa,
            DecodingKey::from_rsa_der(key.as_ref()),
            key.as_ref(),
        ))
    }

    /// From modulus and exponent, big endian. RFC 7518 §6.3.1.1 wants no leading zeros, but issuers publish what their library
    /// gives them, and that may have the one that DER needs.
    pub(in crate::token) fn rsa_components(n: &[u8], e: &[u8]) -> Result<Self, Fault> {
        let components = PublicKeyComponents {
            n: without_leading_zeros(n),
            e: without_leading_zeros(e),
        };
        let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
        Self::rsa(parsed.map_err(|_| Fault::NotAKey(Kind::Rsa))?.as_ref())
    }

    /// From an uncompressed point, SEC 1 §2.3.3.
    pub(in crate::token) fn p256(point: &[u8]) -> Result<Self, Fault> {
        check_point(Kind::P256, &ECDSA_P256_SHA256_FIXED, point)?;
        Ok(Self::of(Kind::P256, DecodingKey::from_ec_der(point), point))
    }

    /// From an uncompressed point, SEC 1 §2.3.3.
    pub(in crate::token) fn p384(point: &[u8]) -> Result<Self, Fault> {
        check_point(Kind::P384, &ECDSA_P384_SHA384_FIXED, point)?;
        Ok(Self::of(Kind::P384, DecodingKey::from_ec_der(point), point))
    }

    /// From the 32 bytes of RFC 8032 §5.1.5.
    pub(in crate::token) fn ed25519(public: &[u8]) -> Result<Self, Fault> {
        check_point(Kind::Ed25519, &ED25519, public)?;
        Ok(Self::of(Kind::Ed25519, DecodingKey::from_ed_der(public), public))
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// RFC 8725 §3.4: a point must be on its curve.
fn check_point(kind: Kind, curve: &'static dyn VerificationAlgorithm, point: &[u8]) -> Result<(), Fault> {
    ParsedPublicKey::new(curve, point)
        .map(drop)
        .map_err(|_| Fault::NotAKey(kind))
}

/// A key in its place.
#[derive(Debug)]
pub(in crate::token) struct Key {
    pub(in crate::token) issuer: Issuer,
    pub(in crate::token) kid: Option<Arc<str>>,
    /// All of the material's kind, and never empty in a set that was loaded.
    pub(in crate::token) algorithms: Vec<Algorithm>,
    pub(in crate::token) material: Material,
    /// By which what it has proved is known. Its own name and what it may be used with do not count: they may change.
    pub(in crate::token) tag: KeyTag,
}

impl Key {
    /// A key for all that its material allows, or for `only` that.
    pub(in crate::token) fn new(
        issuer: Issuer,
        kid: Option<&str>,
        material: Material,
        only: Option<Algorithm>,
    ) -> Self {
        let algorithms = only.map_or_else(|| material.algorithms.to_vec(), |only| vec![only]);
        let digest = Sha256::new_with_prefix(material.digest).chain_update(issuer.as_str());
        Self {
            issuer,
            kid: kid.map(Arc::from),
            algorithms,
            material,
            tag: KeyTag::of(&digest.finalize().into()),
        }
    }

    /// Whether there are signatures that both could have made, as far as their algorithms tell.
    pub(in crate::token) fn shares_an_algorithm(&self, other: &Self) -> bool {
        self.algorithms
            .iter()
            .any(|algorithm| other.algorithms.contains(algorithm))
    }

    /// Whether `signature` (base64url) over `signed` is this key's. `algorithm` was chosen from the key's own.
    pub(in crate::token) fn signed(&self, signed: &str, signature: &str, algorithm: Algorithm) -> bool {
        verify(signature, signed.as_bytes(), &self.material.key, algorithm).unwrap_or(false)
    }
}
