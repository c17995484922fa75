//! A worker does not start on keys that are weak, ambiguous or not there, and says which.

use std::fs;

use serde_json::{Value, json};
use tests::{
    Key, Program, Span,
    key::jwks,
    program::Kind,
    test_keys,
    token::{AUDIENCE, ISSUER},
};

/// 1,024 bits: what nobody may sign with any more (RFC 7518, section 3.3).
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDcMPcsalwQyXma/pwa8hqmh6oE
FSRRUhWvo01C5YEMTnMT0J8BMCj2/X5S+HPH8djGtHElk4rXExDbbyRtlML2/1u8
F+EmCZk9GfoY9K+oxU0y3VZi2feHTwWljD9dqTRKDsMxUlUm4WBwo/uInKfDusMR
lU8yoHbHDbGQATRFYwIDAQAB
-----END PUBLIC KEY-----
";

/// The curve of Bitcoin, with which ES256 must not be confused.
const SECP256K1: &str = "\
-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEtV5J6FpUCZ5mWQcm75jGJtKHTu0tFxel
Gg5Q9oKTvgDAyQVV/tklRL/k7DrzVhYZ9jpglG0oYcCuc9GepH1EAw==
-----END PUBLIC KEY-----
";

/// Keys with which no worker may start: the name of the file, its content, and words that the refusal must have.
fn unfit() -> Vec<(&'static str, String, &'static [&'static str])> {
    let (rsa, ec, ed) = (&test_keys().rs256, &test_keys().es256, &test_keys().eddsa);
    let with = |key: &Key, name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk["kid"] = "the-key".into();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    let short = Key::hmac("s".repeat(31));
    let twin = {
        let (mut one, mut other) = (rsa.jwk(), ec.jwk());
        one["kid"] = "the-key".into();
        other["kid"] = "the-key".into();
        json!({"keys": [one, other]}).to_string()
    };
    let weak_modulus = with(rsa, "n", "w".repeat(170).into());
    vec![
        ("short.secret", "s".repeat(31), &["31 bytes", "32"]),
        ("short-with-newline.secret", "s".repeat(31) + "\n", &["31 bytes"]),
        ("empty.secret", String::new(), &["0 bytes"]),
        ("short-oct.json", jwks([&short]), &["31 bytes"]),
        ("rsa-1024.pem", RSA_1024.into(), &["1024 bits", "2048"]),
        ("rsa-1024.json", weak_modulus, &["the-key", "bits"]),
        ("secp256k1.pem", SECP256K1.into(), &["P-256"]),
        (
            "wrong-crv.json",
            with(ec, "crv", "secp256k1".into()),
            &["the-key", "crv"],
        ),
        ("wrong-crv-2.json", with(ec, "crv", "P-384".into()), &["the-key"]),
        ("x25519.json", with(ed, "crv", "X25519".into()), &["the-key", "crv"]),
        (
            "off-curve.json",
            with(ec, "x", "A".repeat(43).into()),
            &["the-key", "P-256"],
        ),
        ("encryption.json", with(rsa, "use", "enc".into()), &["the-key", "use"]),
        (
            "operations.json",
            with(rsa, "key_ops", json!(["encrypt"])),
            &["the-key", "key_ops"],
        ),
        ("unfit-alg.json", with(rsa, "alg", "HS256".into()), &["the-key", "alg"]),
        ("private-part.json", with(rsa, "d", "AQAB".into()), &["the-key", "`d`"]),
        ("private.pem", rsa.private_pem(), &["private"]),
        ("empty-kid.json", with(rsa, "kid", "".into()), &["kid"]),
        ("twins.json", twin, &["the-key", "kid", "another"]),
        ("mixed.json", jwks([rsa, &test_keys().hs256]), &["symmetric"]),
        ("public-as-secret", format!("secret: {}", rsa.public_pem()), &["PEM"]),
        ("no-keys.json", r#"{"keys": []}"#.into(), &["no key"]),
        ("not.json", r#"{"keys": [}"#.into(), &["JWKS"]),
        ("half.pem", rsa.public_pem()[..200].into(), &["PEM"]),
    ]
}

/// Starts a worker that must not start, and returns the lines in which it says why.
async fn refusal(keys: &str) -> Vec<String> {
    let settings = [
        ("jwt-keys", keys),
        ("jwt-issuer", ISSUER),
        ("jwt-audience", AUDIENCE),
        ("store-url", "memory:"),
        ("admin-listen", "off"),
        // Nobody is there: a worker that got so far would wait for it.
        ("amqp-url", "amqp://127.0.0.1:1"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut worker = Program::spawn(Kind::Worker, &settings);
    assert_eq!(worker.wait_exit(20.s()).await.code(), Some(2), "{keys}");
    let lines = worker.stderr();
    lines
        .lines()
        .filter(|line| !line.starts_with('{'))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_start_on_a_key_that_is_unfit_and_names_it() {
    for (name, content, words) in unfit() {
        let file = test_keys().folder().join(format!("unfit-{name}"));
        fs::write(&file, &content).unwrap();
        let file = file.to_str().unwrap();
        let lines = refusal(file).await;
        let [line] = &lines[..] else {
            panic!("{name}: {lines:?}")
        };
        assert!(line.starts_with("jwt-keys") && line.contains(file), "{name}: {line}");
        for word in words {
            assert!(line.contains(word), "{name}: {line} does not say {word}");
        }
        let material = content
            .lines()
            .filter(|text| text.len() > 40 && !text.contains("-----"));
        for text in material {
            assert!(!line.contains(text), "{name}: key material in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_start_on_keys_that_are_not_files_or_not_there() {
    let keys = test_keys();
    let secret = keys.secret_file().display().to_string();
    let pem = keys.pem_file(&keys.rs256).display().to_string();
    let missing = "/no/such/key.pem";
    let folder = keys.folder().display().to_string();
    let cases = [
        (missing.to_owned(), vec![missing]),
        (folder.clone(), vec![&*folder]),
        (
            "https://keys.example/jwks.json".into(),
            vec!["https://keys.example/jwks.json"],
        ),
        (format!("{secret},{pem}"), vec![&*secret]),
        (
            format!("kid=a;{pem},kid=a;{}", keys.pem_file(&keys.es256).display()),
            vec!["kid=a;"],
        ),
        (
            format!("issuer=https://nobody.example;{pem}"),
            vec!["https://nobody.example"],
        ),
        // All that is wrong, at once.
        (format!("{missing},{pem},/none/other"), vec![missing, "/none/other"]),
    ];
    for (entry, named) in cases {
        let lines = refusal(&entry).await;
        assert_eq!(lines.len(), named.len(), "{entry}: {lines:?}");
        for (line, name) in lines.iter().zip(named) {
            assert!(line.starts_with("jwt-keys") && line.contains(name), "{entry}: {line}");
        }
    }
}
