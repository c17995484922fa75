//! A private key or secret that signs tokens.
//!
//! A file holds a JWK or a PEM, or is named a secret by `hmac:`, as in the worker's
//! `jwt-keys`, which judges secrets by the same rules.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value};

use worker::token::keys::source::{SECRET, shown};
use worker::token::{check_secret, secret_in};

use crate::support::dev_key;

/// 64 KiB = 64 * 1,024 bytes: an RSA key of 8,192 bits is 7 KiB as a JWK.
const MAX_FILE_BYTES: u64 = 64 * 1_024;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const EC: &[Algorithm] = &[Algorithm::ES256, Algorithm::ES384];
const ED: &[Algorithm] = &[Algorithm::EdDSA];

/// A key, and how it signs.
pub(crate) struct SigningKey {
    key: EncodingKey,
    header: Header,
}

impl SigningKey {
    /// The development key: for development only.
    pub(crate) fn development(algorithm: Option<Algorithm>, kid: Option<String>) -> anyhow::Result<Self> {
        Self::choose(EncodingKey::from_secret(dev_key::SECRET), HMAC, algorithm, kid)
            .context("the development key is an HMAC secret")
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do about it.
    pub(crate) fn load(path: &Path, algorithm: Option<Algorithm>, kid: Option<String>) -> anyhow::Result<Self> {
        let secret = path.to_str().and_then(|text| text.strip_prefix(SECRET)).map(Path::new);
        let read = || -> anyhow::Result<Self> {
            let file = secret.unwrap_or(path);
            let metadata = std::fs::metadata(file)?;
            if !metadata.is_file() {
                bail!("it is not a regular file");
            }
            if metadata.len() > MAX_FILE_BYTES {
                bail!("it is larger than any key");
            }
            let content = std::fs::read(file)?;
            if secret.is_some() {
                return Self::choose(EncodingKey::from_secret(secret_in(&content)?), HMAC, algorithm, kid);
            }
            Self::parse(&content, algorithm, kid)
        };
        read().with_context(|| format!("cannot use the key {}", shown(path)))
    }

    fn parse(content: &[u8], algorithm: Option<Algorithm>, kid: Option<String>) -> anyhow::Result<Self> {
        let text = content.trim_ascii_start();
        if text.starts_with(b"{") {
            let jwk: PrivateJwk = serde_json::from_slice(text).context("it begins like a JWK but is not one")?;
            let (key, algorithms) = jwk.key()?;
            return Self::choose(key, algorithms, algorithm, kid.or(jwk.kid));
        }
        if text.starts_with(b"-----BEGIN") {
            let (key, algorithms) = from_pem(text)?;
            return Self::choose(key, algorithms, algorithm, kid);
        }
        // Only what could be one is called that.
        match secret_in(content) {
            Ok(_) => bail!("it is neither a JWK nor a PEM; if it is an HMAC secret, name it one: {SECRET}FILE"),
            Err(_) => bail!("it is neither a JWK nor a PEM"),
        }
    }

    /// Takes the algorithm that is asked for, or the first that works: whether a key is of P-256 or P-384 shows in use.
    fn choose(
        key: EncodingKey,
        fitting: &[Algorithm],
        wanted: Option<Algorithm>,
        kid: Option<String>,
    ) -> anyhow::Result<Self> {
        let candidates = fitting.iter().filter(|fit| wanted.is_none_or(|wanted| wanted == **fit));
        let mut failure = anyhow!("this kind of key signs with one of {fitting:?}; choose --alg accordingly");
        for algorithm in candidates {
            let header = Header {
                kid: kid.clone(),
                ..Header::new(*algorithm)
            };
            match jsonwebtoken::encode(&header, &Map::new(), &key) {
                Ok(_) => return Ok(Self { key, header }),
                Err(error) => failure = anyhow!("it does not sign with {algorithm:?}: {error}"),
            }
        }
        Err(failure)
    }

    /// The signed token.
    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> anyhow::Result<String> {
        jsonwebtoken::encode(&self.header, claims, &self.key).context("cannot sign")
    }
}

fn from_pem(pem: &[u8]) -> anyhow::Result<(EncodingKey, &'static [Algorithm])> {
    let rsa = || EncodingKey::from_rsa_pem(pem).map(|key| (key, RSA));
    let ec = || EncodingKey::from_ec_pem(pem).map(|key| (key, EC));
    let ed = || EncodingKey::from_ed_pem(pem).map(|key| (key, ED));
    rsa().or_else(|_| ec()).or_else(|_| ed()).map_err(|_| {
        anyhow!(
            "it holds no private key of RSA, P-256, P-384 or Ed25519 in PKCS#8; \
             convert it with: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW"
        )
    })
}

/// RFC 7517 §4, RFC 7518 §6, RFC 8037 §2: the members that a private key needs.
#[derive(Deserialize)]
struct PrivateJwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl PrivateJwk {
    fn key(&self) -> anyhow::Result<(EncodingKey, &'static [Algorithm])> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => {
                let secret = member("k", &self.k)?;
                check_secret(&secret)?;
                Ok((EncodingKey::from_secret(&secret), HMAC))
            }
            ("RSA", _) => Ok((EncodingKey::from_rsa_der(&self.rsa_der()?), RSA)),
            ("EC", Some("P-256" | "P-384")) => Ok((EncodingKey::from_ec_der(&self.ec_der()?), EC)),
            ("OKP", Some("Ed25519")) => {
                let (seed, public) = (member("d", &self.d)?, member("x", &self.x)?);
                let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
                    .map_err(|_| anyhow!("`d` and `x` are not a key of Ed25519"))?;
                let der = pair.to_pkcs8().map_err(|_| anyhow!("cannot encode the key"))?;
                Ok((EncodingKey::from_ed_der(der.as_ref()), ED))
            }
            _ => bail!("its `kty` and `crv` are none of oct, RSA, EC with P-256 or P-384, and OKP with Ed25519"),
        }
    }

    /// PKCS#8, as the signer wants it.
    fn ec_der(&self) -> anyhow::Result<Vec<u8>> {
        let algorithm = if self.crv.as_deref() == Some("P-256") {
            &ECDSA_P256_SHA256_FIXED_SIGNING
        } else {
            &ECDSA_P384_SHA384_FIXED_SIGNING
        };
        // SEC 1 §2.3.3: an uncompressed point.
        let mut point = vec![4];
        point.extend(member("x", &self.x)?);
        point.extend(member("y", &self.y)?);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &member("d", &self.d)?, &point)
            .map_err(|_| anyhow!("`d`, `x` and `y` are not a key of the curve"))?;
        let der = pair.to_pkcs8v1().map_err(|_| anyhow!("cannot encode the key"))?;
        Ok(der.as_ref().to_vec())
    }

    /// `RSAPrivateKey` of RFC 8017 §A.1.2: a sequence of the version and eight numbers.
    fn rsa_der(&self) -> anyhow::Result<Vec<u8>> {
        let mut numbers = der(2, &[0]);
        for (name, value) in [
            ("n", &self.n),
            ("e", &self.e),
            ("d", &self.d),
            ("p", &self.p),
            ("q", &self.q),
            ("dp", &self.dp),
            ("dq", &self.dq),
            ("qi", &self.qi),
        ] {
            let bytes = member(name, value)?;
            let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
            // A leading zero keeps the number positive.
            let mut number = vec![0];
            number.extend(&bytes[start..]);
            if number.get(1).is_some_and(|first| *first < 0x80) {
                number.remove(0);
            }
            numbers.extend(der(2, &number));
        }
        Ok(der(0x30, &numbers))
    }
}

/// One value in DER (X.690 §8.1): tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut value = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match significant {
        [] => value.push(0),
        [short] if *short < 0x80 => value.push(*short),
        long => {
            // At most eight bytes, so this does not truncate.
            value.push(0x80 | long.len() as u8);
            value.extend(long);
        }
    }
    value.extend(content);
    value
}

fn member(name: &str, value: &Option<String>) -> anyhow::Result<Vec<u8>> {
    let text = value
        .as_deref()
        .ok_or_else(|| anyhow!("the JWK has no `{name}`; is it the public half?"))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| anyhow!("the JWK's `{name}` is not base64url"))
}

#[cfg(test)]
mod tests;
