//! Tokens good and bad: every algorithm end to end, and every attack that RFC 8725 warns of.

use std::{collections::BTreeSet, fs, net::TcpListener, path::PathBuf};

use aws_lc_rs::{
    encoding::AsDer,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tests::tokens::token::{AUDIENCE, ISSUER};
use tests::{Algorithm as KeyAlgorithm, Client, Key, Span, Stack, test_keys, token_for};

/// The second issuer of these claims.
const OTHER_ISSUER: &str = "https://other-issuer.test";

/// Writes a file of this claim's own, and returns its path.
fn file(name: &str, text: impl AsRef<[u8]>) -> String {
    let path: PathBuf = test_keys().folder().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn code_of(client: &mut Client, token: &str) -> Value {
    let answer = client.request("echo", Some(token), Value::Null).await;
    answer["error"]["code"].clone()
}

/// Members of a header that name or bring keys of its writer's choice.
fn keys_of_the_sender(url: &str, own: &Key) -> Vec<(&'static str, Value)> {
    vec![
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("jwk", own.jwk()),
        ("x5c", json!([STANDARD.encode("certificate")])),
        ("x5t", json!("dGhlIGRpZ2VzdCBvZiBhIGNlcnQ")),
        ("x5t#S256", json!("bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2")),
    ]
}

/// Tokens that are no good anyone who holds which key, each with what it is.
fn attacks(fetched_from: &str) -> Vec<(String, String)> {
    let good = || token_for("alice");
    let secret = test_keys().hs256.secret();
    let mut attacks: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| attacks.push((what.to_owned(), token));
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS1", "hs256", "HS256 ", "RS256", "ES256", "EdDSA", "dir", "A128KW",
    ] {
        add(&format!("alg {alg:?}"), good().header("alg", alg).mint());
        add(
            &format!("alg {alg:?}, unsigned"),
            good().header("alg", alg).signature([]).mint(),
        );
    }
    for alg in [Value::Null, json!(256), json!(["HS256"]), json!({})] {
        add(&format!("alg {alg}"), good().header("alg", alg).mint());
    }
    add("no alg", good().without_header("alg").mint());
    add("no signature", good().signature([]).mint());
    add("half a signature", good().signature([7; 16]).mint());
    for (what, name, claim) in [
        (
            "bound to a key",
            "cnf",
            json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        ),
        (
            "bound to a certificate",
            "cnf",
            json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        ),
        ("an ID token, by its nonce", "nonce", json!("n-0S6_WzA2Mj")),
        ("an ID token, by at_hash", "at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")),
        ("an ID token, by token_use", "token_use", json!("id")),
        ("a refresh token", "typ", json!("Refresh")),
        (
            "a logout token",
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
    ] {
        add(what, good().claim(name, claim).mint());
    }
    for number in ["18446744073709551616", "0.1000000000000000055", "1e400"] {
        let text = good()
            .claim("limit", 7)
            .payload_text()
            .replace(":7", &format!(":{number}"));
        assert!(text.contains(number), "{text}");
        add(&format!("the number {number}"), good().raw_payload(&text).mint());
    }
    let twice = good().claim("realm", json!({"roles": 7})).payload_text();
    let twice = twice.replace(r#"{"roles":7}"#, r#"{"roles":["user"],"roles":["admin"]}"#);
    assert!(twice.contains("admin"), "{twice}");
    add("a deep member twice", good().raw_payload(&twice).mint());
    add(
        "another key",
        good().signed_with(&Key::generate(KeyAlgorithm::Hs256)).mint(),
    );
    let confused = Key::hmac(test_keys().rs256.public_pem());
    add("a public key as secret", good().signed_with(&confused).mint());
    add("an empty secret", good().signed_with(&Key::hmac("")).mint());
    for key in [&test_keys().rs256, &test_keys().es256, &test_keys().eddsa] {
        add("a key of another kind", good().signed_with(key).mint());
    }
    for kid in ["foreign", "", "../../dev/null", "' OR 1=1 --", "\u{0}"] {
        let stranger = Key::generate(KeyAlgorithm::Hs256);
        add(
            &format!("kid {kid:?}"),
            good().signed_with(&stranger).header("kid", kid).mint(),
        );
    }
    for kid in [json!(7), Value::Null, json!(["a"])] {
        add(&format!("kid {kid}"), good().header("kid", kid).mint());
    }
    let own = Key::generate(KeyAlgorithm::Rs256);
    for (name, value) in keys_of_the_sender(fetched_from, &own) {
        let kid = |key: &Key| key.id().map(str::to_owned).unwrap_or_default();
        let forged = good().signed_with(&own).header(name, value);
        add(&format!("{name}, own key"), forged.mint());
        add(
            &format!("{name}, own key and kid"),
            forged.header("kid", kid(&own)).mint(),
        );
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["jku"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("cty", json!("JWT")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!(7)),
    ] {
        add(&format!("{name} {value}"), good().header(name, value.clone()).mint());
        add(
            &format!("{name} {value}, own key"),
            good().signed_with(&own).header(name, value).mint(),
        );
    }
    for claim in ["exp", "iss", "aud", "sub"] {
        add(&format!("no {claim}"), good().without(claim).mint());
        add(&format!("{claim} null"), good().claim(claim, Value::Null).mint());
        add(&format!("{claim} an object"), good().claim(claim, json!({})).mint());
    }
    let soon = good()
        .expires_at()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for exp in [
        json!(soon.to_string()),
        json!(-0.5 - soon as f64),
        json!(soon * 1_000),
        json!(-1),
        json!(-(soon as i64)),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(1e300),
        json!(true),
        json!([soon]),
        json!(soon + 48 * 60 * 60),
    ] {
        add(&format!("exp {exp}"), good().claim("exp", exp).mint());
    }
    add(
        "exp of 30 digits",
        good()
            .raw_payload(&good().payload_text().replace(&soon.to_string(), &"9".repeat(30)))
            .mint(),
    );
    for (name, value) in [
        ("nbf", json!(soon)),
        ("nbf", json!("0")),
        ("nbf", json!(u64::MAX)),
        ("iat", json!(soon)),
        ("iat", json!(1.5)),
        ("iat", json!(0)),
        ("jti", json!(7)),
        ("sub", json!("")),
        ("sub", json!("\u{0}")),
        ("sub", json!("alice\u{0}bob")),
        ("sub", json!("alice\n")),
        ("sub", json!(["alice"])),
        ("sub", json!(7)),
        ("sub", json!("a".repeat(256))),
        ("aud", json!("somebody else")),
        ("aud", json!([])),
        ("aud", json!(["somebody else"])),
        ("aud", json!([AUDIENCE, 7])),
        ("aud", json!(AUDIENCE.to_uppercase())),
        ("iss", json!("https://evil.test")),
        ("iss", json!(format!("{ISSUER}/"))),
        ("iss", json!([ISSUER])),
        ("iss", json!("")),
    ] {
        add(&format!("{name} {value}"), good().claim(name, value).mint());
    }
    let twice = |member: &str| good().payload_text().replacen('{', &format!("{{{member},"), 1);
    for member in [
        r#""sub":"mallory""#,
        r#""exp":1"#,
        r#""\u0073ub":"alice""#,
        r#""role":1,"role":2"#,
    ] {
        add(
            &format!("claims with a second {member}"),
            good().raw_payload(&twice(member)).mint(),
        );
    }
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
        r#"{"alg":"HS256","typ":"JWT","typ":"JWT"}"#,
        r#"{"alg":"HS256"} {}"#,
        r#"["HS256"]"#,
        "",
    ] {
        add(&format!("header {header}"), good().raw_header(header).mint());
    }
    for payload in [
        "",
        "{",
        "[]",
        "null",
        "\"alice\"",
        "{}",
        &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
    ] {
        add("a payload that is no claims", good().raw_payload(payload).mint());
    }
    add("over 8 KiB", good().claim("padding", "p".repeat(8 * 1_024)).mint());
    let mint = good().mint();
    let segments: Vec<_> = mint.split('.').collect();
    let [header, payload, signature] = segments[..] else {
        panic!("{mint}")
    };
    for (what, token) in [
        ("a JWE", format!("{header}.{payload}.{signature}.{payload}.{signature}")),
        ("four parts", format!("{mint}.{signature}")),
        ("two parts", format!("{header}.{payload}")),
        ("a header alone", header.to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("many dots", ".".repeat(5_000)),
        ("padding", format!("{mint}=")),
        ("a space behind", format!("{mint} ")),
        ("a line end behind", format!("{mint}\n")),
        ("a scheme before", format!("Bearer {mint}")),
        ("the secret itself", String::from_utf8(secret.to_vec()).unwrap()),
        ("no ASCII", "é.é.é".to_owned()),
        ("a NUL", format!("{mint}\u{0}")),
    ] {
        add(what, token);
    }
    attacks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_on_a_token_is_refused_and_leaves_no_trace() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let url = format!("http://{}/jwks.json", elsewhere.local_addr().unwrap());
    // As much as can be logged.
    let stack = Stack::builder()
        .setting("log-filter", "trace")
        .setting("unauthenticated-messages-per-second", "off")
        .start()
        .await;
    let mut client = stack.client().await;
    let good = token_for("alice").mint();
    let mut tokens = vec![good.clone()];
    for (what, token) in attacks(&url) {
        assert_eq!(code_of(&mut client, &token).await, "token_invalid", "{what}: {token}");
        tokens.push(token);
    }
    let good_answer = client.request("echo", Some(&good), 1.into()).await;
    assert_eq!(good_answer["type"], "reply", "the worker lives: {good_answer}");
    let fetched = elsewhere.accept();
    assert!(fetched.is_err(), "somebody fetched a key: {fetched:?}");

    for program in [&stack.terminators()[0], &stack.workers()[0]] {
        let said = program.stdout() + &program.stderr();
        assert!(!said.contains("panicked"), "{said}");
        assert!(said.lines().count() > tokens.len(), "it does log: {said}");
        // What is this short would be found by chance.
        let segments: BTreeSet<_> = tokens
            .iter()
            .flat_map(|token| token.split('.'))
            .filter(|part| part.len() > 16)
            .collect();
        let leaked: Vec<_> = segments.into_iter().filter(|segment| said.contains(segment)).collect();
        assert!(leaked.is_empty(), "in the log of {}: {leaked:?}", program.id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asymmetric_worker_is_not_confused() {
    let keys = test_keys();
    let stack = Stack::builder()
        .setting("jwt-keys", keys.jwks_file().to_str().unwrap())
        .setting("jwt-algorithms", "")
        .start()
        .await;
    let mut client = stack.client().await;
    let pem = keys.rs256.public_pem();
    let modulus = keys.rs256.jwk()["n"].as_str().unwrap().to_owned();
    let secrets = [
        pem.as_bytes(),
        pem.trim_end().as_bytes(),
        modulus.as_bytes(),
        b"",
        keys.hs256.secret(),
    ];
    let id = |key: &Key| key.id().unwrap().to_owned();
    for secret in secrets {
        let confused = Key::hmac(secret);
        let token = token_for("alice").signed_with(&confused);
        assert_eq!(code_of(&mut client, &token.mint()).await, "token_invalid");
        assert_eq!(
            code_of(&mut client, &token.header("kid", id(&keys.rs256)).mint()).await,
            "token_invalid"
        );
    }
    let stranger = Key::generate(KeyAlgorithm::Es256);
    let by = |key| token_for("alice").signed_with(key);
    for (what, token) in [
        (
            "a stranger who takes the kid",
            by(&stranger).header("kid", id(&keys.es256)),
        ),
        ("another key's kid", by(&keys.rs256).header("kid", id(&keys.es256))),
        (
            "an algorithm that the key was not published for",
            by(&keys.rs256).header("alg", "PS256"),
        ),
        ("an unknown kid", by(&keys.rs256).header("kid", "unknown")),
        (
            "a signature of zeros (CVE-2022-21449)",
            by(&keys.es256).signature([0; 64]),
        ),
        (
            "a signature in DER",
            by(&keys.es256).signature([0x30, 6, 2, 1, 1, 2, 1, 1]),
        ),
    ] {
        assert_eq!(code_of(&mut client, &token.mint()).await, "token_invalid", "{what}");
    }
    for key in [&keys.rs256, &keys.es256, &keys.eddsa] {
        assert_eq!(code_of(&mut client, &by(key).mint()).await, Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_any_character_changed_is_invalid() {
    let stack = Stack::builder().setting("messages-per-second", "off").start().await;
    let mut client = stack.client().await;
    let good = token_for("alice").mint();
    assert_eq!(code_of(&mut client, &good).await, Value::Null);
    let mut asked = Vec::new();
    for (place, old) in good.char_indices() {
        let new = if old == 'A' { 'B' } else { 'A' };
        let mut changed = good.clone();
        changed.replace_range(place..=place, &new.to_string());
        asked.push((place, client.ask("echo", Some(&changed), Value::Null).await));
    }
    for (place, id) in asked {
        let answer = client.answer_to(&id, 10.s()).await;
        assert_eq!(answer["error"]["code"], "token_invalid", "at {place} of {good}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_called_expired_only_if_it_was_good() {
    // Else what has expired would be held.
    let stack = Stack::builder().setting("on-unauthenticated", "ignore").start().await;
    let expired = || token_for("alice").expired_since(60.s());
    let now = || token_for("alice").expires_at() - 300.s();
    let seconds = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (what, token, code) in [
        ("past its time", expired(), json!("token_expired")),
        (
            "within the leeway of 5 s",
            token_for("alice").expired_since(2.s()),
            Value::Null,
        ),
        (
            "not yet, within the leeway",
            token_for("alice").claim("nbf", seconds(now()) + 2),
            Value::Null,
        ),
        (
            "past its time, of nobody",
            expired().signature([0; 32]),
            json!("token_invalid"),
        ),
        (
            "past its time, of another",
            expired().signed_with(&Key::hmac("x".repeat(32))),
            json!("token_invalid"),
        ),
        (
            "past its time, for another",
            expired().audience("other"),
            json!("token_invalid"),
        ),
        (
            "past its time, from another",
            expired().issuer("other"),
            json!("token_invalid"),
        ),
        (
            "past its time, of an empty subject",
            expired().claim("sub", ""),
            json!("token_invalid"),
        ),
    ] {
        let token = token.mint();
        // A connection each: where one was proved good, what expires is no matter.
        let mut client = stack.client().await;
        for time in ["first", "second"] {
            assert_eq!(code_of(&mut client, &token).await, code, "{what}, the {time} time");
        }
    }
    let mut client = stack.client().await;
    let answer = client.request("echo", Some(&expired().mint()), Value::Null).await;
    assert_eq!(answer["error"]["temporary"], false, "{answer}");
}

/// A key of the second issuer on P-384, for which the harness has no word.
struct P384(EcdsaKeyPair);

impl P384 {
    fn generate() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-384", "kid": kid, "x": text(&point[1..49]), "y": text(&point[49..])})
    }

    fn public_pem(&self) -> String {
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der.as_ref())
        )
    }

    fn encoding_key(&self) -> EncodingKey {
        EncodingKey::from_ec_der(self.0.to_pkcs8v1().unwrap().as_ref())
    }
}

/// Signed by another implementation than the harness's own.
fn signed(algorithm: Algorithm, issuer: &str, kid: Option<&str>, key: &EncodingKey) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    let mut claims: Value = serde_json::from_str(&token_for("alice").payload_text()).unwrap();
    claims["iss"] = issuer.into();
    encode(&header, &claims, key).unwrap()
}

async fn accepts(stack: &Stack, tokens: &[(Algorithm, String)]) {
    for (algorithm, token) in tokens {
        // A connection each: none lives on another's authentication.
        let answer = stack.client().await.request("echo", Some(token), Value::Null).await;
        assert_eq!(
            (&answer["type"], &answer["auth"]["subject"]),
            (&json!("reply"), &json!("alice")),
            "{algorithm:?}: {answer}"
        );
    }
}

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

#[tokio::test(flavor = "multi_thread")]
async fn secrets_verify_every_algorithm_of_hmac_from_a_file_and_a_jwks() {
    let secret = test_keys().hs256.secret();
    let key = EncodingKey::from_secret(secret);
    let jwks = json!({"keys": [{"kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(secret)}]});
    let jwks = file("secret.json", jwks.to_string());
    let from_file = test_keys().secret_entry();
    for (keys, kid) in [(from_file, None), (jwks, Some("s"))] {
        let stack = Stack::builder()
            .setting("jwt-keys", &keys)
            .setting("jwt-algorithms", "")
            .start()
            .await;
        let tokens = HMAC.map(|algorithm| (algorithm, signed(algorithm, ISSUER, kid, &key)));
        accepts(&stack, &tokens).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn public_keys_verify_every_algorithm_from_pem_and_jwks_for_several_issuers() {
    let keys = test_keys();
    let (p384, strange) = (P384::generate(), Key::generate(KeyAlgorithm::Es256));
    let rsa = EncodingKey::from_rsa_pem(keys.rs256.private_pem().as_bytes()).unwrap();
    let es256 = EncodingKey::from_ec_pem(keys.es256.private_pem().as_bytes()).unwrap();
    let eddsa = EncodingKey::from_ed_pem(keys.eddsa.private_pem().as_bytes()).unwrap();
    // For one issuer RSA and P-256, for the other P-384 and Ed25519.
    let plain = |key: &Key, kid: &str| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["kid"] = kid.into();
        jwk
    };
    let first = json!({"keys": [plain(&keys.rs256, "rsa"), plain(&keys.es256, "ec")]});
    let second = json!({"keys": [p384.jwk("ec"), plain(&keys.eddsa, "ed")]});
    let by_jwks = format!(
        "issuer={ISSUER};{},issuer={OTHER_ISSUER};{}",
        file("first.json", first.to_string()),
        file("second.json", second.to_string())
    );
    let by_pem = format!(
        "issuer={ISSUER};kid=rsa;{},issuer={ISSUER};kid=ec;{},issuer={OTHER_ISSUER};kid=ec;{},issuer={OTHER_ISSUER};kid=ed;{}",
        keys.pem_file(&keys.rs256).display(),
        keys.pem_file(&keys.es256).display(),
        file("p384.pem", p384.public_pem()),
        keys.pem_file(&keys.eddsa).display(),
    );
    for settings in [by_jwks, by_pem] {
        let stack = Stack::builder()
            .setting("jwt-keys", &settings)
            .setting("jwt-issuer", &format!("{ISSUER},{OTHER_ISSUER}"))
            .setting("jwt-algorithms", "")
            .start()
            .await;
        let mut tokens: Vec<_> = RSA
            .iter()
            .map(|&algorithm| (algorithm, signed(algorithm, ISSUER, Some("rsa"), &rsa)))
            .collect();
        tokens.extend([
            (Algorithm::ES256, signed(Algorithm::ES256, ISSUER, Some("ec"), &es256)),
            (
                Algorithm::ES384,
                signed(Algorithm::ES384, OTHER_ISSUER, Some("ec"), &p384.encoding_key()),
            ),
            (
                Algorithm::EdDSA,
                signed(Algorithm::EdDSA, OTHER_ISSUER, Some("ed"), &eddsa),
            ),
            // A token need not name its key.
            (Algorithm::PS256, signed(Algorithm::PS256, ISSUER, None, &rsa)),
            (Algorithm::EdDSA, signed(Algorithm::EdDSA, OTHER_ISSUER, None, &eddsa)),
        ]);
        accepts(&stack, &tokens).await;
        // No issuer speaks for another, and no one for both.
        let mut client = stack.client().await;
        for token in [
            signed(Algorithm::RS256, OTHER_ISSUER, Some("rsa"), &rsa),
            signed(Algorithm::EdDSA, ISSUER, Some("ed"), &eddsa),
            signed(Algorithm::ES384, ISSUER, Some("ec"), &p384.encoding_key()),
            token_for("alice").signed_with(&strange).header("kid", "ec").mint(),
        ] {
            assert_eq!(code_of(&mut client, &token).await, "token_invalid", "{token}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_algorithm_that_is_not_listed_is_refused() {
    let stack = Stack::builder().setting("jwt-algorithms", "HS384").start().await;
    let key = EncodingKey::from_secret(test_keys().hs256.secret());
    let mut client = stack.client().await;
    assert_eq!(
        code_of(&mut client, &signed(Algorithm::HS256, ISSUER, None, &key)).await,
        "token_invalid"
    );
    assert_eq!(
        code_of(&mut client, &signed(Algorithm::HS384, ISSUER, None, &key)).await,
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_say_more_than_it_must() {
    let stack = Stack::start().await;
    for token in [
        token_for("alice").without("iat").without("jti"),
        token_for("alice").claim("aud", json!(["somebody else", AUDIENCE])),
        token_for("alice").claim("nested", json!({"a": [1.5, null, {"b": "\u{0}"}]})),
        token_for("alice")
            .header("typ", "at+jwt")
            .header("x-unknown", json!([1])),
        token_for("alice").without_header("typ"),
        token_for("älice \u{1f600}"),
    ] {
        let token = token.mint();
        // A connection each: not all are of the same identity.
        let mut client = stack.client().await;
        assert_eq!(code_of(&mut client, &token).await, Value::Null, "{token}");
    }
}

/// The claims with that one set to a number of these very digits.
fn with_number(name: &str, digits: &str) -> String {
    let token = token_for("alice").claim(name, 7);
    let text = token
        .payload_text()
        .replace(&format!("\"{name}\":7"), &format!("\"{name}\":{digits}"));
    token.raw_payload(&text).mint()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_standards_allow_in_a_token_is_accepted_and_nobody_is_asked_for_keys() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let url = format!("http://{}/jwks.json", elsewhere.local_addr().unwrap());
    let stack = Stack::start().await;
    let soon = token_for("alice")
        .expires_at()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut tokens = vec![
        with_number("exp", &format!("{soon}.5")),
        with_number("iat", &format!("{}.999999", soon - 300)),
        with_number("nbf", &format!("{}e0", soon - 300)),
        // The one secret has no name.
        token_for("alice").header("kid", "its issuer's name for it").mint(),
    ];
    let own = Key::generate(KeyAlgorithm::Rs256);
    let brought = keys_of_the_sender(&url, &own);
    tokens.extend(
        brought
            .into_iter()
            .map(|(name, value)| token_for("alice").header(name, value).mint()),
    );
    for token in tokens {
        let answer = stack.client().await.request("echo", Some(&token), Value::Null).await;
        assert_eq!(answer["type"], "reply", "{token}: {answer}");
    }
    let fetched = elsewhere.accept();
    assert!(fetched.is_err(), "somebody fetched a key: {fetched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_as_issuers_publish_them() {
    let keys = test_keys();
    let (rsa, ec) = (&keys.rs256, &keys.es256);
    let named = |key: &Key, algorithm: &str| {
        let mut jwk = key.jwk();
        (jwk["kid"], jwk["alg"]) = ("k".into(), algorithm.into());
        jwk
    };
    let mut zero = named(rsa, "RS256");
    let modulus = URL_SAFE_NO_PAD.decode(zero["n"].as_str().unwrap()).unwrap();
    zero["n"] = URL_SAFE_NO_PAD.encode([&[0][..], &modulus].concat()).into();
    let set = json!({"keys": [zero, named(rsa, "PS256"), named(ec, "ES256")]});
    let stack = Stack::builder()
        .setting("jwt-keys", &file("one-kid.json", set.to_string()))
        .setting("jwt-algorithms", "")
        .start()
        .await;
    let pair = EncodingKey::from_rsa_pem(rsa.private_pem().as_bytes()).unwrap();
    let es256 = EncodingKey::from_ec_pem(ec.private_pem().as_bytes()).unwrap();
    let by = |algorithm, key: &EncodingKey| (algorithm, signed(algorithm, ISSUER, Some("k"), key));
    accepts(
        &stack,
        &[
            by(Algorithm::RS256, &pair),
            by(Algorithm::PS256, &pair),
            by(Algorithm::ES256, &es256),
        ],
    )
    .await;
    let mut client = stack.client().await;
    assert_eq!(
        code_of(&mut client, &by(Algorithm::RS384, &pair).1).await,
        "token_invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_time_is_about_to_begin_is_refused_for_now_and_good_then() {
    let builder = Stack::builder().setting("on-unauthenticated", "close");
    let stack = builder
        .setting("unauthenticated-messages-per-second", "off")
        .start()
        .await;
    let now = || token_for("alice").expires_at() - 300.s();
    let ahead = |name: &str, by: u64| {
        let now = now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        token_for("alice").claim(name, now + by).mint()
    };
    for name in ["nbf", "iat"] {
        let mut client = stack.client().await;
        // The leeway is 5 s.
        let token = ahead(name, 40);
        let error = client.request("echo", Some(&token), Value::Null).await["error"].clone();
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!("auth_unavailable"), &json!(true)),
            "{error}"
        );
        let wait_ms = error["retry_after_ms"].as_u64().unwrap();
        assert!((1..=35_000).contains(&wait_ms), "{error}");
        assert!(error["message"].as_str().unwrap().contains(name), "{error}");
        // It is not closed, and good as soon as it is told to be.
        let token = ahead(name, 7);
        let reply = tests::eventually(30.s(), "the token is good", async || {
            let answer = client.request("echo", Some(&token), Value::Null).await;
            if answer["type"] == "reply" { Ok(()) } else { Err(answer) }
        });
        reply.await;
        let mut client = stack.client().await;
        assert_eq!(code_of(&mut client, &ahead(name, 300)).await, "token_invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_kind_of_token_is_accepted_where_it_is_allowed_by_name_and_no_other() {
    let stack = Stack::builder().setting("jwt-allow", "id").start().await;
    let mut client = stack.client().await;
    let id = token_for("alice").claim("nonce", "n").claim("at_hash", "h").mint();
    assert_eq!(code_of(&mut client, &id).await, Value::Null);
    let bound = token_for("alice").claim("nonce", "n").claim("cnf", json!({"jkt": "x"}));
    let answer = client.request("echo", Some(&bound.mint()), Value::Null).await;
    assert_eq!(answer["error"]["code"], "token_invalid", "{answer}");
    let why = answer["error"]["message"].as_str().unwrap();
    assert!(why.contains("bound") && why.contains("jwt-allow"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_the_claims_that_are_required() {
    let required = "email_verified=true,tenant,groups=staff";
    let stack = Stack::builder().setting("jwt-required-claims", required).start().await;
    let whole = || {
        let token = token_for("alice").claim("email_verified", true).claim("tenant", 7);
        token.claim("groups", json!(["staff", "other"]))
    };
    for (token, good) in [
        (whole(), true),
        (whole().claim("email_verified", false), false),
        (whole().claim("email_verified", "true"), true),
        (whole().without("tenant"), false),
        (whole().claim("tenant", Value::Null), false),
        (whole().claim("groups", json!(["other"])), false),
        (whole().claim("groups", "staff"), true),
    ] {
        let mut client = stack.client().await;
        let expected = if good { Value::Null } else { json!("token_invalid") };
        assert_eq!(
            code_of(&mut client, &token.mint()).await,
            expected,
            "{}",
            token.payload_text()
        );
    }
}
