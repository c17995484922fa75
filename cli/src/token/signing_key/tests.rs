//! Keys of every kind, from every kind of file, and tokens that hold under their public halves.
//!
//! The RSA key of `test_rsa.*` was made for these tests and guards nothing.

use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::signature::KeyPair as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::DecodingKey;
use serde_json::json;

use super::*;

const RSA_JWK: &[u8] = include_bytes!("test_rsa.jwk");
const RSA_PEM: &[u8] = include_bytes!("test_rsa.pem");
const SECRET: &[u8] = b"a-secret-of-more-than-32-bytes,for-tests";

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec(crv: &str) -> (EcdsaKeyPair, Value) {
    let algorithm = if crv == "P-256" {
        &ECDSA_P256_SHA256_FIXED_SIGNING
    } else {
        &ECDSA_P384_SHA384_FIXED_SIGNING
    };
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let d: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({"kty": "EC", "crv": crv, "kid": "ec", "d": encode(d.as_ref()), "x": encode(x), "y": encode(y)});
    (pair, jwk)
}

fn ed() -> (Ed25519KeyPair, Value) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let seed = pair.seed().unwrap().as_be_bytes().unwrap();
    let jwk =
        json!({"kty": "OKP", "crv": "Ed25519", "d": encode(seed.as_ref()), "x": encode(pair.public_key().as_ref())});
    (pair, jwk)
}

fn pem(der: &[u8]) -> Vec<u8> {
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    )
    .into_bytes()
}

fn public(jwk: &Value) -> DecodingKey {
    let mut jwk = jwk.clone();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        jwk.as_object_mut().unwrap().remove(private);
    }
    DecodingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap()
}

/// Signs with what is in the file, and verifies with the other half. Tells the algorithm.
fn signs(file: &[u8], wanted: Option<Algorithm>, public: &DecodingKey) -> Algorithm {
    let key = SigningKey::parse(file, wanted, None).unwrap();
    let token = key.sign(&Map::new()).unwrap();
    let algorithm = jsonwebtoken::decode_header(&token).unwrap().alg;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert!(jsonwebtoken::crypto::verify(signature, signed.as_bytes(), public, algorithm).unwrap());
    algorithm
}

fn refusal(file: &[u8], wanted: Option<Algorithm>) -> String {
    format!("{:#}", SigningKey::parse(file, wanted, None).err().unwrap())
}

#[test]
fn a_jwk_of_any_kind_signs() {
    for (jwk, expected) in [
        (ec("P-256").1, Algorithm::ES256),
        (ec("P-384").1, Algorithm::ES384),
        (ed().1, Algorithm::EdDSA),
        (serde_json::from_slice(RSA_JWK).unwrap(), Algorithm::RS256),
        (json!({"kty": "oct", "k": encode(SECRET)}), Algorithm::HS256),
    ] {
        assert_eq!(signs(jwk.to_string().as_bytes(), None, &public(&jwk)), expected);
    }
}

#[test]
fn a_pem_of_any_kind_signs() {
    let (p256, p384, ed25519) = (ec("P-256"), ec("P-384"), ed());
    let rsa = serde_json::from_slice(RSA_JWK).unwrap();
    assert_eq!(signs(RSA_PEM, None, &public(&rsa)), Algorithm::RS256);
    assert_eq!(signs(RSA_PEM, Some(Algorithm::PS384), &public(&rsa)), Algorithm::PS384);
    for ((pair, jwk), expected) in [(p256, Algorithm::ES256), (p384, Algorithm::ES384)] {
        let file = pem(pair.to_pkcs8v1().unwrap().as_ref());
        assert_eq!(signs(&file, None, &public(&jwk)), expected);
    }
    let file = pem(ed25519.0.to_pkcs8().unwrap().as_ref());
    assert_eq!(signs(&file, None, &public(&ed25519.1)), Algorithm::EdDSA);
}

/// Loads a file with that content, named by that prefix.
fn loaded(prefix: &str, content: &[u8]) -> anyhow::Result<SigningKey> {
    let file = std::env::temp_dir().join(format!("countersign-signing-{:016x}", rand::random::<u64>()));
    std::fs::write(&file, content).unwrap();
    let key = SigningKey::load(Path::new(&format!("{prefix}{}", file.display())), None, None);
    std::fs::remove_file(&file).unwrap();
    key
}

#[test]
fn a_secret_is_named_one_and_its_one_trailing_newline_does_not_count() {
    let with_newline = [SECRET, b"\n"].concat();
    let token = loaded("hmac:", &with_newline).unwrap().sign(&Map::new()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = DecodingKey::from_secret(SECRET);
    assert!(jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key, Algorithm::HS256).unwrap());
    let refusal = |prefix, content: &[u8]| format!("{:#}", loaded(prefix, content).err().unwrap());
    assert!(refusal("", &with_newline).contains("hmac:FILE"));
    assert!(
        !refusal(
            "",
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3fQq7y2sYwTnXkL0Vb9u me@host"
        )
        .contains("hmac:")
    );
    assert!(refusal("hmac:", b"too short\n").contains("9 bytes"));
    assert!(refusal("hmac:", RSA_PEM).contains("PEM"));
}

#[test]
fn the_kid_is_the_jwks_own_unless_another_is_given() {
    let kid = |given: Option<&str>| {
        let key = SigningKey::parse(RSA_JWK, None, given.map(str::to_owned)).unwrap();
        jsonwebtoken::decode_header(key.sign(&Map::new()).unwrap()).unwrap().kid
    };
    assert_eq!(kid(None).as_deref(), Some("test"));
    assert_eq!(kid(Some("other")).as_deref(), Some("other"));
}

#[test]
fn what_cannot_sign_is_refused_with_the_remedy() {
    assert!(refusal(RSA_PEM, Some(Algorithm::HS256)).contains("--alg"));
    assert!(
        refusal(
            b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
            None
        )
        .contains("pkcs8")
    );
    assert!(refusal(br#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, None).contains("public half"));
    assert!(refusal(br#"{"kty":"EC","crv":"P-521"}"#, None).contains("P-384"));
    assert!(refusal(b"{", None).contains("JWK"));
}
