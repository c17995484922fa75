//! From tokens to verdicts.

use std::sync::LazyLock;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::service::clock::Timestamp;

use super::super::{Keys, Reason, Rejection, Rules, Token, Verdict, Verifier};
use super::signer::{ED, HMAC, ISSUER, P256, P384, RSA, Signer, base64, jwks, load, load_for, with};

/// Seconds since the epoch; all tokens here live around it.
const NOW_S: u64 = 1_700_000_000;

static EVERY: [(Algorithm, &LazyLock<Signer>); 12] = [
    (Algorithm::HS256, &HMAC),
    (Algorithm::HS384, &HMAC),
    (Algorithm::HS512, &HMAC),
    (Algorithm::RS256, &RSA),
    (Algorithm::RS384, &RSA),
    (Algorithm::RS512, &RSA),
    (Algorithm::PS256, &RSA),
    (Algorithm::PS384, &RSA),
    (Algorithm::PS512, &RSA),
    (Algorithm::ES256, &P256),
    (Algorithm::ES384, &P384),
    (Algorithm::EdDSA, &ED),
];

fn now() -> Timestamp {
    Timestamp::from_secs(NOW_S)
}

fn verifier(keys: Keys) -> Verifier {
    Verifier::new(keys, Rules::new(vec!["us".to_owned()]), 100)
}

fn hmac_verifier() -> Verifier {
    verifier(load("hmac:secret", HMAC.file()).unwrap())
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": "us", "exp": NOW_S + 60, "nbf": NOW_S - 60, "iat": NOW_S - 60, "jti": "t1"})
}

/// An HS256 token with those claims.
fn hmac_token(claims: &Value) -> String {
    HMAC.token(Algorithm::HS256, r#"{"alg":"HS256"}"#, &claims.to_string())
}

fn hmac_token_with(name: &str, value: impl Into<Value>) -> String {
    hmac_token(&with(claims(), name, value))
}

fn invalid(verdict: Verdict) -> Option<Reason> {
    match verdict.result {
        Err(Rejection::Invalid(reason)) => Some(reason),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

fn verify(token: &str) -> Option<Reason> {
    invalid(hmac_verifier().verify(token, now()))
}

#[test]
fn the_crypto_provider_passes_its_self_test() {
    assert_eq!(Verifier::self_test(), Ok(()));
    assert_eq!(Verifier::self_test(), Ok(()));
}

#[test]
fn every_algorithm_proves_an_identity_from_a_file_and_from_a_jwks() {
    for &(algorithm, signer) in &EVERY {
        let token = signer.token(
            algorithm,
            &json!({"alg": algorithm, "typ": "JWT"}).to_string(),
            &claims().to_string(),
        );
        for (entry, file) in [(signer.entry(), signer.file()), ("file", jwks([signer.jwk()]))] {
            let verified = verifier(load(entry, file).unwrap())
                .verify(&token, now())
                .result
                .unwrap();
            assert_eq!(verified.identity.subject.as_str(), "alice");
            assert_eq!(verified.identity.issuer.as_str(), ISSUER);
            assert_eq!(verified.expires_at, Timestamp::from_secs(NOW_S + 60));
            assert_eq!(verified.token_id.as_ref().map(|id| id.as_str()), Some("t1"));
            assert_eq!(verified.issued_at, Some(Timestamp::from_secs(NOW_S - 60)));
            assert_eq!(Value::Object(verified.claims.clone()), claims());
        }
    }
}

#[test]
fn a_signature_of_one_algorithm_is_not_one_of_another() {
    for &(algorithm, signer) in &EVERY {
        let verifier = verifier(load(signer.entry(), signer.file()).unwrap());
        for (other, _) in EVERY.iter().filter(|(other, _)| *other != algorithm) {
            let header = json!({"alg": other}).to_string();
            let refusal = invalid(verifier.verify(&signer.token(algorithm, &header, &claims().to_string()), now()));
            assert!(
                matches!(refusal, Some(Reason::Algorithm | Reason::Signature)),
                "{algorithm:?} as {other:?}"
            );
        }
    }
}

#[test]
fn a_public_key_is_never_used_as_a_secret() {
    let public = RSA.file();
    let verifier = verifier(load("rsa.pem", public.clone()).unwrap());
    for secret in [public.clone(), public.trim_ascii_end().to_vec()] {
        let forged = Signer::Hmac(secret).token(Algorithm::HS256, r#"{"alg":"HS256"}"#, &claims().to_string());
        assert_eq!(invalid(verifier.verify(&forged, now())), Some(Reason::Algorithm));
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let verifier = hmac_verifier();
    let payload = base64(claims().to_string().as_bytes());
    let unsigned = base64(br#"{"alg":"none"}"#);
    assert_eq!(
        invalid(verifier.verify(&format!("{unsigned}.{payload}."), now())),
        Some(Reason::Parts)
    );
    assert_eq!(
        invalid(verifier.verify(&format!("{unsigned}.{payload}.AA"), now())),
        Some(Reason::Algorithm)
    );
}

#[test]
fn the_setting_and_the_jwk_narrow_the_algorithms_of_a_key() {
    let token =
        |algorithm: Algorithm| RSA.token(algorithm, &json!({"alg": algorithm}).to_string(), &claims().to_string());
    let by_setting = load_for(&[ISSUER], &[Algorithm::RS256], &[("rsa.pem", RSA.file())]).unwrap();
    let by_jwk = load("keys", jwks([with(RSA.jwk(), "alg", "RS256")])).unwrap();
    for keys in [by_setting, by_jwk] {
        let verifier = verifier(keys);
        assert_eq!(invalid(verifier.verify(&token(Algorithm::RS256), now())), None);
        assert_eq!(
            invalid(verifier.verify(&token(Algorithm::PS256), now())),
            Some(Reason::Algorithm)
        );
    }
}

#[test]
fn a_kid_chooses_its_key_and_no_other() {
    let other = Signer::p256();
    let keys = [with(P256.jwk(), "kid", "one"), with(other.jwk(), "kid", "two")];
    let verifier = verifier(load("keys", jwks(keys)).unwrap());
    let verdict = |signer: &Signer, header: Value| {
        invalid(verifier.verify(
            &signer.token(Algorithm::ES256, &header.to_string(), &claims().to_string()),
            now(),
        ))
    };
    assert_eq!(verdict(&P256, json!({"alg": "ES256", "kid": "one"})), None);
    assert_eq!(
        verdict(&P256, json!({"alg": "ES256", "kid": "two"})),
        Some(Reason::Signature)
    );
    assert_eq!(
        verdict(&P256, json!({"alg": "ES256", "kid": "three"})),
        Some(Reason::UnknownKey)
    );
    assert_eq!(
        verdict(&P256, json!({"alg": "ES256", "kid": ""})),
        Some(Reason::UnknownKey)
    );
    assert_eq!(
        verdict(&P256, json!({"alg": "ES384", "kid": "one"})),
        Some(Reason::Algorithm)
    );
    // Without a kid, all that fit are tried.
    assert_eq!(verdict(&P256, json!({"alg": "ES256"})), None);
    assert_eq!(verdict(&other, json!({"alg": "ES256"})), None);
    assert_eq!(
        verdict(&Signer::p256(), json!({"alg": "ES256"})),
        Some(Reason::Signature)
    );
}

#[test]
fn a_kid_that_no_key_has_may_mean_a_key_without_a_name_and_no_other() {
    let header = r#"{"alg":"ES256","kid":"x"}"#;
    let verdict = |signer: &Signer, verifier: &Verifier| {
        invalid(verifier.verify(&signer.token(Algorithm::ES256, header, &claims().to_string()), now()))
    };
    let alone = verifier(load("k.pem", P256.file()).unwrap());
    assert_eq!(verdict(&P256, &alone), None);
    assert_eq!(verdict(&Signer::p256(), &alone), Some(Reason::UnknownKey));
    let other = Signer::p256();
    let files = [("k.pem", P256.file()), ("kid=y;other.pem", other.file())];
    let beside = verifier(load_for(&[ISSUER], &[], &files).unwrap());
    assert_eq!(verdict(&P256, &beside), None);
    assert_eq!(verdict(&other, &beside), Some(Reason::UnknownKey));
    // Where a key has that name, none without one is tried.
    let files = [("k.pem", P256.file()), ("kid=x;other.pem", other.file())];
    let named = verifier(load_for(&[ISSUER], &[], &files).unwrap());
    assert_eq!(
        (verdict(&P256, &named), verdict(&other, &named)),
        (Some(Reason::Signature), None)
    );
}

#[test]
fn a_kid_may_be_one_of_several_algorithms_each_with_its_key() {
    let of = |signer: &Signer, algorithm: &str| with(with(signer.jwk(), "kid", "k"), "alg", algorithm);
    let keys = jwks([of(&RSA, "RS256"), of(&RSA, "PS256"), of(&P256, "ES256")]);
    let verifier = verifier(load("keys", keys).unwrap());
    for (signer, algorithm, expected) in [
        (&RSA, Algorithm::RS256, None),
        (&RSA, Algorithm::PS256, None),
        (&P256, Algorithm::ES256, None),
        (&RSA, Algorithm::RS384, Some(Reason::Algorithm)),
    ] {
        let header = json!({"alg": algorithm, "kid": "k"}).to_string();
        let token = signer.token(algorithm, &header, &claims().to_string());
        assert_eq!(invalid(verifier.verify(&token, now())), expected, "{algorithm:?}");
    }
}

#[test]
fn an_rsa_key_with_leading_zeros_is_the_key_without_them() {
    let zeros = |name: &str| {
        let number = RSA.jwk()[name].as_str().map(str::to_owned).unwrap();
        let number = ::base64::Engine::decode(&::base64::engine::general_purpose::URL_SAFE_NO_PAD, number).unwrap();
        base64(&[&[0, 0][..], &number].concat())
    };
    let padded = with(with(RSA.jwk(), "n", zeros("n")), "e", zeros("e"));
    let verifier = verifier(load("keys", jwks([padded])).unwrap());
    let token = RSA.token(Algorithm::RS256, r#"{"alg":"RS256"}"#, &claims().to_string());
    assert_eq!(invalid(verifier.verify(&token, now())), None);
}

#[test]
fn a_token_without_a_kid_is_tried_on_eight_keys_at_most() {
    let signers: Vec<_> = (0..9).map(|_| Signer::p256()).collect();
    let verifier = verifier(load("keys", jwks(signers.iter().map(Signer::jwk))).unwrap());
    let verdict = |signer: &Signer| {
        invalid(verifier.verify(
            &signer.token(Algorithm::ES256, r#"{"alg":"ES256"}"#, &claims().to_string()),
            now(),
        ))
    };
    assert_eq!(verdict(&signers[7]), None);
    assert_eq!(verdict(&signers[8]), Some(Reason::Signature));
}

#[test]
fn a_key_speaks_for_its_own_issuer_alone() {
    let theirs = Signer::p256();
    let files = [
        ("issuer=https://a.example;kid=a;a.pem", P256.file()),
        ("issuer=https://b.example;kid=b;b.pem", theirs.file()),
    ];
    let verifier = verifier(load_for(&["https://a.example", "https://b.example"], &[], &files).unwrap());
    let verdict = |signer: &Signer, header: &str, issuer: &str| {
        invalid(verifier.verify(
            &signer.token(Algorithm::ES256, header, &with(claims(), "iss", issuer).to_string()),
            now(),
        ))
    };
    assert_eq!(
        verdict(&P256, r#"{"alg":"ES256","kid":"a"}"#, "https://a.example"),
        None
    );
    assert_eq!(verdict(&theirs, r#"{"alg":"ES256"}"#, "https://b.example"), None);
    for header in [r#"{"alg":"ES256","kid":"a"}"#, r#"{"alg":"ES256"}"#] {
        assert_eq!(verdict(&P256, header, "https://b.example"), Some(Reason::Issuer));
        assert_eq!(verdict(&P256, header, "https://a.example/"), Some(Reason::Issuer));
    }
}

#[test]
fn issuers_that_share_a_key_and_its_kid_are_told_apart_by_their_claim() {
    let file = jwks([with(P256.jwk(), "kid", "shared")]);
    let files = [("issuer=a;a.json", file.clone()), ("issuer=b;b.json", file)];
    let verifier = verifier(load_for(&["a", "b"], &[], &files).unwrap());
    for issuer in ["a", "b"] {
        for header in [r#"{"alg":"ES256","kid":"shared"}"#, r#"{"alg":"ES256"}"#] {
            let token = P256.token(Algorithm::ES256, header, &with(claims(), "iss", issuer).to_string());
            assert_eq!(
                verifier.verify(&token, now()).result.unwrap().identity.issuer.as_str(),
                issuer
            );
        }
    }
}

#[test]
fn a_token_above_the_limit_is_refused_before_anything_is_read() {
    let limit = Rules::MAX_SIZE;
    let bytes = limit + 1;
    assert_eq!(verify(&"x".repeat(bytes)), Some(Reason::TooLarge { bytes, limit }));
    let told = Reason::TooLarge { bytes: 11_312, limit }.to_string();
    assert_eq!(told, "token larger than jwt-max-size: 11,312 of 8,192 bytes");
    assert_eq!(verify(&"x".repeat(limit)), Some(Reason::Parts));
}

#[test]
fn a_forger_learns_nothing_about_claims() {
    let broken = Signer::Hmac(b"another-secret-of-more-than-32-bytes".to_vec());
    for payload in ["not json", "{}", &with(claims(), "exp", 1).to_string()] {
        assert_eq!(
            verify(&broken.token(Algorithm::HS256, r#"{"alg":"HS256"}"#, payload)),
            Some(Reason::Signature)
        );
    }
}

#[test]
fn claims_are_read_strictly() {
    let signed = |payload: &str| verify(&HMAC.token(Algorithm::HS256, r#"{"alg":"HS256"}"#, payload));
    assert_eq!(signed("[]"), Some(Reason::Claims));
    assert_eq!(signed(r#"{"sub":"alice","sub":"bob"}"#), Some(Reason::Claims));
    assert_eq!(verify(&hmac_token_with("aud", "them")), Some(Reason::Audience));
    assert_eq!(verify(&hmac_token_with("sub", "")), Some(Reason::MalformedClaim("sub")));
    assert_eq!(
        verify(&hmac_token_with("exp", -1.5)),
        Some(Reason::MalformedClaim("exp"))
    );
    assert_eq!(
        verify(&hmac_token_with("iss", "https://other.example")),
        Some(Reason::Issuer)
    );
}

#[test]
fn an_expiry_in_milliseconds_is_refused() {
    assert_eq!(
        verify(&hmac_token_with("exp", (NOW_S + 60) * 1_000)),
        Some(Reason::TooLongLived)
    );
    assert_eq!(
        verify(&hmac_token_with("exp", u64::MAX)),
        Some(Reason::MalformedClaim("exp"))
    );
}

#[test]
fn a_token_lives_at_most_the_longest_lifetime() {
    let day_s = Rules::MAX_LIFETIME.as_secs();
    let without_iat = |exp: u64| {
        let mut claims = with(claims(), "exp", exp);
        claims.as_object_mut().unwrap().remove("iat");
        verify(&hmac_token(&claims))
    };
    assert_eq!(without_iat(NOW_S + day_s + 5), None);
    assert_eq!(without_iat(NOW_S + day_s + 6), Some(Reason::TooLongLived));
    // `iat` is a minute ago.
    assert_eq!(verify(&hmac_token_with("exp", NOW_S - 60 + day_s)), None);
    assert_eq!(
        verify(&hmac_token_with("exp", NOW_S - 60 + day_s + 1)),
        Some(Reason::TooLongLived)
    );
}

#[test]
fn a_token_expires_exactly_at_its_expiry_and_leeway() {
    let verifier = hmac_verifier();
    let token = hmac_token_with("exp", NOW_S);
    let last = NOW_S * 1_000 + 5_000 - 1;
    assert!(verifier.verify(&token, Timestamp::from_millis(last)).result.is_ok());
    assert_eq!(
        verifier.verify(&token, Timestamp::from_millis(last + 1)).result,
        Err(Rejection::Expired)
    );
}

#[test]
fn a_token_begins_exactly_at_its_beginning_and_leeway() {
    let at = |name: &str| {
        let token = hmac_token_with(name, NOW_S + 10);
        let first = (NOW_S + 10) * 1_000 - 5_000;
        assert_eq!(
            invalid(hmac_verifier().verify(&token, Timestamp::from_millis(first))),
            None
        );
        let early = |by_ms: u64| {
            hmac_verifier()
                .verify(&token, Timestamp::from_millis(first - by_ms))
                .result
                .err()
        };
        [1, 60_000, 60_001].map(early)
    };
    let expected = |reason: Reason| {
        let wait = |ms| Duration::from_millis(ms);
        let not_yet = |ms| Rejection::NotYet { reason, wait: wait(ms) };
        [not_yet(1), not_yet(60_000), reason.into()].map(Some)
    };
    assert_eq!(at("nbf"), expected(Reason::NotYetValid));
    assert_eq!(at("iat"), expected(Reason::IssuedInTheFuture));
}

#[test]
fn a_token_that_is_never_good_is_not_called_good_in_a_moment() {
    for (exp, expected) in [
        (NOW_S + 10, Reason::NotYetValid),
        (NOW_S + 400 * 86_400, Reason::NotYetValid),
    ] {
        let claims = with(with(claims(), "nbf", NOW_S + 20), "exp", exp);
        assert_eq!(verify(&hmac_token(&claims)), Some(expected), "{exp}");
    }
}

#[test]
fn only_an_otherwise_good_token_is_called_expired() {
    let verdict = |token: &str| hmac_verifier().verify(token, now()).result.unwrap_err();
    let expired = with(claims(), "exp", NOW_S - 30);
    assert_eq!(verdict(&hmac_token(&expired)), Rejection::Expired);
    assert_eq!(
        verdict(&hmac_token(&with(expired.clone(), "aud", "them"))),
        Reason::Audience.into()
    );
    assert_eq!(
        verdict(&hmac_token(&with(expired.clone(), "iss", "x"))),
        Reason::Issuer.into()
    );
    assert_eq!(
        verdict(&hmac_token(&with(expired.clone(), "iat", 1))),
        Reason::TooLongLived.into()
    );
    let mut forged = hmac_token(&expired);
    forged.truncate(forged.len() - 43);
    forged.push_str(&"A".repeat(43));
    assert_eq!(verdict(&forged), Reason::Signature.into());
}

#[test]
fn the_second_look_at_a_token_comes_from_the_cache() {
    let verifier = hmac_verifier();
    let token = hmac_token(&claims());
    let (first, second) = (verifier.verify(&token, now()), verifier.verify(&token, now()));
    assert_eq!((first.cached, second.cached), (false, true));
    assert_eq!(first.result, second.result);
    let later = verifier.verify(&token, Timestamp::from_secs(NOW_S + 65));
    assert_eq!((later.cached, later.result), (true, Err(Rejection::Expired)));
}

#[test]
fn what_is_refused_is_not_remembered() {
    let verifier = hmac_verifier();
    for token in [
        "x",
        &hmac_token_with("exp", NOW_S - 30),
        &hmac_token_with("nbf", NOW_S + 30),
        &hmac_token_with("nbf", NOW_S + 300),
        &hmac_token_with("aud", "x"),
    ] {
        for _ in 0..2 {
            let verdict = verifier.verify(token, now());
            assert!(verdict.result.is_err() && !verdict.cached);
        }
    }
    assert_eq!(verifier.remembered(), 0);
}

#[test]
fn the_cache_is_bounded_and_may_be_off() {
    for capacity in [0, 1, 10] {
        let keys = load("hmac:secret", HMAC.file()).unwrap();
        let verifier = Verifier::new(keys, Rules::new(vec!["us".to_owned()]), capacity);
        for id in 0..200 {
            assert!(
                verifier
                    .verify(&hmac_token_with("jti", format!("{id}")), now())
                    .result
                    .is_ok()
            );
        }
        assert!(
            verifier.remembered() <= capacity.max(1) * 2,
            "{} of {capacity}",
            verifier.remembered()
        );
    }
}

#[test]
fn no_verdict_outlives_the_keys_it_rests_on() {
    let verifier = hmac_verifier();
    let token = hmac_token(&claims());
    assert!(verifier.verify(&token, now()).result.is_ok());
    verifier.replace_keys(load("hmac:other", b"another-secret-of-more-than-32-bytes".to_vec()).unwrap());
    assert_eq!(invalid(verifier.verify(&token, now())), Some(Reason::Signature));
    verifier.replace_keys(load("hmac:secret", HMAC.file()).unwrap());
    let verdict = verifier.verify(&token, now());
    assert!(verdict.result.is_ok() && !verdict.cached);
}

#[test]
fn nothing_that_is_printed_shows_a_token() {
    let token = hmac_token_with("secret_claim", "hunter2");
    let shown = format!("{:?}", Token::new(token.as_str()));
    assert_eq!(shown, "Token(redacted)");
    let verdict = hmac_verifier().verify(&token, now());
    let shown = format!("{verdict:?}");
    assert!(
        !shown.contains("hunter2") && token.split('.').all(|part| !shown.contains(part)),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        prop_assert!(hmac_verifier().verify(&text, now()).result.is_err());
    }

    #[test]
    fn no_header_and_no_signature_panics(header in any::<Vec<u8>>(), payload in any::<Vec<u8>>(), signature in any::<Vec<u8>>()) {
        let token = |header: &[u8]| format!("{}.{}.{}", base64(header), base64(&payload), base64(&signature));
        let verifier = hmac_verifier();
        prop_assert!(verifier.verify(&token(&header), now()).result.is_err());
        let unsigned = token(br#"{"alg":"HS256"}"#);
        prop_assert!(verifier.verify(&unsigned, now()).result.is_err());
    }

    #[test]
    fn no_signed_claims_panic(name in "[a-z]{1,4}|exp|nbf|iat|sub|aud|iss|jti", number in any::<i64>(), text in ".*") {
        let verifier = hmac_verifier();
        for value in [json!(number), json!(number as f64), json!(text), json!([text]), json!({"a": text})] {
            let _any = verifier.verify(&hmac_token_with(&name, value), Timestamp::from_millis(number.unsigned_abs()));
        }
    }

    #[test]
    fn any_change_of_one_byte_is_refused(which in 0..EVERY.len(), at in any::<prop::sample::Index>(), byte in 0u8..128) {
        let (algorithm, signer) = EVERY[which];
        let token = signer.token(algorithm, &json!({"alg": algorithm}).to_string(), &claims().to_string());
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        let verifier = verifier(load(signer.entry(), signer.file()).unwrap());
        prop_assert!(verifier.verify(&token, now()).result.is_ok());
        prop_assert!(verifier.verify(str::from_utf8(&changed).unwrap(), now()).result.is_err());
    }

    #[test]
    fn a_cached_verdict_is_the_uncached_one_at_every_moment(at_ms in 0u64..400_000, edge in 0usize..8, off_ms in 0u64..3) {
        let token = hmac_token(&json!({"iss": ISSUER, "sub": "alice", "aud": "us", "exp": NOW_S + 200, "nbf": NOW_S + 100, "iat": NOW_S + 90}));
        let warm = hmac_verifier();
        prop_assert!(warm.verify(&token, Timestamp::from_secs(NOW_S + 150)).result.is_ok());
        let edges_ms = [95_000, 100_000, 105_000, 200_000, 205_000, 85_000, 90_000].map(|edge: u64| edge + off_ms - 1);
        let at = Timestamp::from_millis(NOW_S * 1_000).saturating_add(Duration::from_millis(*edges_ms.get(edge).unwrap_or(&at_ms)));
        let (cached, uncached) = (warm.verify(&token, at), hmac_verifier().verify(&token, at));
        prop_assert!(cached.cached && !uncached.cached);
        prop_assert_eq!(cached.result, uncached.result);
    }
}
