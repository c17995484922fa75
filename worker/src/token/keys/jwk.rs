//! Keys in JSON: RFC 7517, RFC 7518 §6, RFC 8037.
//!
//! A key set is published by one team and used by another, and what its members
//! say (`use`, `key_ops`, `alg`) is how the first tells the second what not to do
//! with a key. Each is therefore obeyed, and what cannot be obeyed is an error.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::Material;
use crate::token::claims::members::Members;
use crate::token::{Algorithm, Fault};

/// RFC 7518 §6.2.2, §6.3.2, RFC 8037 §2; `k` is for symmetric keys alone.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A JWKS; other members of the set are ignored, as RFC 7517 §5 wants it.
#[derive(Deserialize)]
pub(in crate::token) struct Jwks {
    pub(in crate::token) keys: Vec<Members>,
}

impl Jwks {
    pub(in crate::token) fn parse(content: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(content).map_err(|error| Fault::NotJwks {
            line: error.line(),
            column: error.column(),
        })
    }
}

/// What a JWK says, apart from its `kid`.
#[derive(Debug)]
pub(in crate::token) struct Jwk {
    pub(in crate::token) material: Material,
    pub(in crate::token) algorithm: Option<Algorithm>,
}

/// Whether the key is a secret, by its own word.
pub(in crate::token) fn is_symmetric(jwk: &Members) -> bool {
    jwk.get("kty").is_some_and(|kty| kty == "oct")
}

/// The key's name, if it has one.
pub(in crate::token) fn kid(jwk: &Members) -> Result<Option<&str>, Fault> {
    match jwk.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.is_empty() => Err(Fault::EmptyKid),
        Some(Value::String(kid)) => Ok(Some(kid)),
        Some(_) => Err(Fault::Member("kid")),
    }
}

/// The key, or everything that is wrong with it.
pub(in crate::token) fn parse(jwk: &Members) -> Result<Jwk, Vec<Fault>> {
    let mut faults = Vec::new();
    faults.extend(check_use(jwk).err());
    faults.extend(check_operations(jwk).err());
    let private = PRIVATE.into_iter().find(|name| jwk.get(name).is_some());
    faults.extend(private.filter(|_| !is_symmetric(jwk)).map(Fault::PrivateMember));
    match material(jwk) {
        Err(fault) => faults.push(fault),
        Ok(material) => match algorithm(jwk, &material) {
            Err(fault) => faults.push(fault),
            Ok(algorithm) if faults.is_empty() => return Ok(Jwk { material, algorithm }),
            Ok(_) => {}
        },
    }
    Err(faults)
}

fn check_use(jwk: &Members) -> Result<(), Fault> {
    match jwk.get("use") {
        Some(purpose) if purpose != "sig" => Err(Fault::Use),
        _ => Ok(()),
    }
}

fn check_operations(jwk: &Members) -> Result<(), Fault> {
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
        Some(_) => Err(Fault::KeyOps),
    }
}

fn algorithm(jwk: &Members, material: &Material) -> Result<Option<Algorithm>, Fault> {
    let Some(name) = jwk.get("alg") else { return Ok(None) };
    let algorithm = name.as_str().and_then(|name| name.parse().ok());
    let fits = algorithm.filter(|algorithm| material.algorithms.contains(algorithm));
    fits.map(Some).ok_or(Fault::AlgorithmUnfit)
}

fn material(jwk: &Members) -> Result<Material, Fault> {
    let text = |name| jwk.get(name).and_then(Value::as_str).ok_or(Fault::Member(name));
    match text("kty")? {
        "oct" => Material::hmac(&number(text("k")?, "k")?),
        "RSA" => Material::rsa_components(&number(text("n")?, "n")?, &number(text("e")?, "e")?),
        "EC" => {
            let (size, curve): (_, fn(&[u8]) -> _) = match text("crv")? {
                "P-256" => (32, Material::p256),
                "P-384" => (48, Material::p384),
                _ => return Err(Fault::Curve),
            };
            // Of full size each, RFC 7518 §6.2.1.2; together they are an uncompressed point.
            let (x, y) = (sized(text("x")?, "x", size)?, sized(text("y")?, "y", size)?);
            curve(&[&[4], &x[..], &y[..]].concat())
        }
        "OKP" if text("crv")? == "Ed25519" => Material::ed25519(&sized(text("x")?, "x", 32)?),
        "OKP" => Err(Fault::Curve),
        _ => Err(Fault::KeyType),
    }
}

fn number(base64: &str, name: &'static str) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(base64).map_err(|_| Fault::Member(name))
}

fn sized(base64: &str, name: &'static str, bytes: usize) -> Result<Vec<u8>, Fault> {
    number(base64, name).and_then(|number| {
        if number.len() == bytes {
            Ok(number)
        } else {
            Err(Fault::Member(name))
        }
    })
}
