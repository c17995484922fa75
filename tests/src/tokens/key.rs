//! Keys that sign the tokens of claims, made anew by each test process, in the forms in which a worker loads them.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::nodes::watchdog::Folder;

/// What a key signs with (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Its name in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

#[derive(Debug)]
enum Material {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key that can sign.
#[derive(Debug)]
pub struct Key {
    id: Option<String>,
    material: Material,
}

impl Key {
    /// A new key for `algorithm`; an asymmetric one is called by the algorithm's name and a random suffix.
    #[must_use]
    pub fn generate(algorithm: Algorithm) -> Self {
        let material = match algorithm {
            // 64 letters of base64, enough for HS512 (RFC 7518, section 3.2), without line ends.
            Algorithm::Hs256 => return Self::hmac(STANDARD.encode(rand::random::<[u8; 48]>())),
            Algorithm::Rs256 => Material::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key")),
            Algorithm::Es256 => {
                Material::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key"))
            }
            Algorithm::EdDsa => Material::Ed(Ed25519KeyPair::generate().expect("an Ed25519 key")),
        };
        let id = format!("{}-{:08x}", algorithm.name().to_lowercase(), rand::random::<u32>());
        Self { id: Some(id), material }
    }

    /// An HMAC key of these bytes. With the text of someone's *public* key it makes the classic confusion of
    /// algorithms (RFC 8725, section 2.1).
    #[must_use]
    pub fn hmac(secret: impl Into<Vec<u8>>) -> Self {
        Self {
            id: None,
            material: Material::Secret(secret.into()),
        }
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::Ec(_) => Algorithm::Es256,
            Material::Ed(_) => Algorithm::EdDsa,
        }
    }

    /// Its `kid`; none for a secret, which is loaded from a file without a name.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The signature of `message` as JWS wants it (RFC 7515, section 5.1).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.material {
            Material::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message)
                .as_ref()
                .to_vec(),
            Material::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("an RSA signature");
                signature
            }
            Material::Ec(pair) => pair
                .sign(&random, message)
                .expect("an ECDSA signature")
                .as_ref()
                .to_vec(),
            Material::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The secret of an HMAC key.
    ///
    /// # Panics
    /// If it is an asymmetric key.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        match &self.material {
            Material::Secret(secret) => secret,
            _ => panic!("an asymmetric key has no secret to share"),
        }
    }

    /// The public key as PEM (`SubjectPublicKeyInfo`, RFC 7468).
    ///
    /// # Panics
    /// If it is an HMAC key.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.material {
            Material::Secret(_) => panic!("a secret has no public half"),
            Material::Rsa(pair) => pair.public_key().as_der(),
            Material::Ec(pair) => pair.public_key().as_der(),
            Material::Ed(pair) => pair.public_key().as_der(),
        }
        .expect("a public key encodes");
        pem("PUBLIC KEY", der.as_ref())
    }

    /// The private key as PEM (PKCS #8), which a worker must refuse to load as a key that verifies.
    ///
    /// # Panics
    /// If it is an HMAC key.
    #[must_use]
    pub fn private_pem(&self) -> String {
        let der = match &self.material {
            Material::Secret(_) => panic!("a secret is not a key pair"),
            Material::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)
                .expect("a key encodes")
                .as_ref()
                .to_vec(),
            Material::Ec(pair) => pair.to_pkcs8v1().expect("a key encodes").as_ref().to_vec(),
            Material::Ed(pair) => pair.to_pkcs8v1().expect("a key encodes").as_ref().to_vec(),
        };
        pem("PRIVATE KEY", &der)
    }

    /// The public key as a JWK (RFC 7517; RFC 7518, section 6; RFC 8037), or the secret as an `oct` key.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match &self.material {
            Material::Secret(secret) => json!({"kty": "oct", "k": text(secret)}),
            Material::Rsa(pair) => {
                // RSAPublicKey of RFC 8017, section A.1.1: with a modulus of 2,048 bits 4 bytes of sequence, 5 of
                // integer (its sign among them), the modulus, 2 of integer, the exponent.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "n": text(&der[9..265]), "e": text(&der[267..])})
            }
            Material::Ec(pair) => {
                // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Material::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())}),
        };
        key["use"] = "sig".into();
        key["alg"] = self.algorithm().name().into();
        if let Some(id) = &self.id {
            key["kid"] = id.as_str().into();
        }
        key
    }
}

/// The text of a JWKS with these keys (RFC 7517, section 5).
#[must_use]
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    json!({"keys": keys.into_iter().map(Key::jwk).collect::<Vec<_>>()}).to_string()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// One key of each algorithm, and files with them.
#[derive(Debug)]
pub struct Keys {
    /// The key with which [`crate::token_for`] signs unless told otherwise, and that a [`crate::Stack`] trusts.
    pub hs256: Key,
    /// An RSA key of 2,048 bits.
    pub rs256: Key,
    /// A key on P-256.
    pub es256: Key,
    /// A key on Ed25519.
    pub eddsa: Key,
    folder: Folder,
}

impl Keys {
    fn generate() -> Self {
        let keys = Self {
            hs256: Key::generate(Algorithm::Hs256),
            rs256: Key::generate(Algorithm::Rs256),
            es256: Key::generate(Algorithm::Es256),
            eddsa: Key::generate(Algorithm::EdDsa),
            folder: Folder::new("keys"),
        };
        // With the line end that an editor leaves: it does not count.
        keys.folder.write("hs256.secret", [keys.hs256.secret(), b"\n"].concat());
        for key in [&keys.rs256, &keys.es256, &keys.eddsa] {
            keys.folder.write(&file_name(key), key.public_pem());
        }
        keys.folder
            .write("jwks.json", jwks([&keys.rs256, &keys.es256, &keys.eddsa]));
        keys
    }

    /// The file with the HMAC secret.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.folder.join("hs256.secret")
    }

    /// The entry of `jwt-keys` that names it.
    #[must_use]
    pub fn secret_entry(&self) -> String {
        format!("hmac:{}", self.secret_file().display())
    }

    /// The PEM file of one of the three public keys.
    #[must_use]
    pub fn pem_file(&self, key: &Key) -> PathBuf {
        self.folder.join(&file_name(key))
    }

    /// The JWKS file with the three public keys.
    #[must_use]
    pub fn jwks_file(&self) -> PathBuf {
        self.folder.join("jwks.json")
    }

    /// The folder of all of them, for files of a claim's own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn file_name(key: &Key) -> String {
    format!("{}.pem", key.algorithm().name().to_lowercase())
}

/// The keys of this test process.
pub fn test_keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(Keys::generate);
    &KEYS
}
