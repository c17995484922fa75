//! Keys that are found by an issuer's own word, and what becomes of those that were found when it lies.

use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::{KeySource, Reach, Reason, Rejection};
use super::keeping::{Kept, LATENCY, Server, TTL, key, token_of};
use super::signer::{P256, Signer, jwks, with};
use crate::auth::identity::Issuer;

const ISSUER: &str = "https://login.example/realms/x";
const OPENID: &str = "https://login.example/realms/x/.well-known/openid-configuration";
const OAUTH: &str = "https://login.example/.well-known/oauth-authorization-server/realms/x";
const KEYS: &str = "https://login.example/realms/x/certs";

fn document(issuer: &str, keys: &str) -> Vec<u8> {
    json!({"issuer": issuer, "jwks_uri": keys, "response_types_supported": ["code"]})
        .to_string()
        .into_bytes()
}

async fn kept(server: &Server, issuers: &[&str]) -> Kept {
    let source = |issuer: &&str| KeySource::discovered(&Issuer::new(*issuer), &Reach::default()).unwrap();
    Kept::start_with(server, issuers, issuers.iter().map(source).collect()).await
}

fn token(signer: &Signer, kid: &str) -> String {
    token_of(signer, ISSUER, &json!({"alg": "ES256", "kid": kid}))
}

#[tokio::test(start_paused = true)]
async fn an_issuers_word_leads_to_its_keys_in_the_one_form_or_the_other() {
    for published in [OPENID, OAUTH] {
        let server = Server::default();
        server.answers(OPENID, Err(404));
        server.answers(OAUTH, Err(404));
        server.answers(published, Ok(document(ISSUER, KEYS)));
        server.answers(KEYS, Ok(jwks([key(&P256, "a")])));
        let kept = kept(&server, &[ISSUER]).await;
        assert_eq!(
            (kept.verdict(&token(&P256, "a")), kept.missing()),
            (Ok(false), String::new()),
            "{published}"
        );
        // A new key, and a new place for it.
        let (new, elsewhere) = (Signer::p256(), "https://login.example/new");
        server.answers(published, Ok(document(ISSUER, elsewhere)));
        server.answers(elsewhere, Ok(jwks([key(&new, "b")])));
        sleep(TTL + LATENCY * 4).await;
        assert_eq!(kept.verdict(&token(&new, "b")), Ok(false), "{published}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_in_place_of_the_one_document_leads_to_the_other() {
    let server = Server::default();
    server.answers(OPENID, Ok(b"<!DOCTYPE html><title>Portal</title>".to_vec()));
    server.answers(OAUTH, Ok(document(ISSUER, KEYS)));
    server.answers(KEYS, Ok(jwks([key(&P256, "a")])));
    let kept = kept(&server, &[ISSUER]).await;
    assert_eq!(
        (kept.verdict(&token(&P256, "a")), kept.missing()),
        (Ok(false), String::new())
    );
    // A document that lies is no reason to ask elsewhere.
    server.answers(OPENID, Ok(document("https://evil.example", KEYS)));
    assert!(
        self::kept(&server, &[ISSUER])
            .await
            .missing()
            .contains("https://evil.example")
    );
}

#[tokio::test(start_paused = true)]
async fn what_lies_is_told_and_the_last_good_keys_stay() {
    let evil = Signer::p256();
    for (answer, why) in [
        (Ok(document("https://evil.example", KEYS)), "https://evil.example"),
        (Ok(document(ISSUER, "https://evil.example/keys")), "evil.example"),
        (Ok(document(ISSUER, "https://login.example/gone")), "404"),
        (Ok(b"<html>Please log in</html>".to_vec()), "no JSON object"),
        (Ok(jwks([key(&evil, "a")])), "nobody"),
        (Err(302), "302"),
        (Err(503), "503"),
    ] {
        let server = Server::default();
        server.answers(OAUTH, Err(404));
        server.answers("https://login.example/gone", Err(404));
        server.answers("https://evil.example/keys", Ok(jwks([key(&evil, "a")])));
        server.answers(OPENID, answer.clone());
        server.answers(KEYS, Ok(jwks([key(&P256, "a")])));
        let from_the_start = kept(&server, &[ISSUER]).await;
        let missing = from_the_start.missing();
        assert!(missing.contains(why) && missing.contains(OPENID), "{why}: {missing}");
        assert!(matches!(
            from_the_start.verdict(&token(&P256, "a")),
            Err(Rejection::Unavailable { .. })
        ));

        server.answers(OPENID, Ok(document(ISSUER, KEYS)));
        let kept = kept(&server, &[ISSUER]).await;
        server.answers(OPENID, answer);
        sleep(TTL * 2).await;
        assert!(kept.verdict(&token(&P256, "a")).is_ok(), "{why}");
        assert_eq!(kept.verdict(&token(&evil, "a")), Err(Reason::Signature.into()), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_its_issuers_alone_though_another_publishes_one_of_the_same_name() {
    let (mine, theirs, server) = (Signer::p256(), Signer::p256(), Server::default());
    let issuers = ["https://a.example", "https://b.example"];
    for (issuer, signer) in issuers.into_iter().zip([&mine, &theirs]) {
        let keys = format!("{issuer}/keys");
        server.answers(
            &format!("{issuer}/.well-known/openid-configuration"),
            Ok(document(issuer, &keys)),
        );
        server.answers(&keys, Ok(jwks([key(signer, "k")])));
    }
    let kept = kept(&server, &issuers).await;
    let header = json!({"alg": "ES256", "kid": "k"});
    assert_eq!(kept.verdict(&token_of(&mine, issuers[0], &header)), Ok(false));
    assert_eq!(kept.verdict(&token_of(&theirs, issuers[1], &header)), Ok(false));
    assert_eq!(
        kept.verdict(&token_of(&mine, issuers[1], &header)),
        Err(Reason::Issuer.into())
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuer_of_tenants_has_one_set_of_keys_and_each_tenant_its_own_name() {
    let (issuer, server) = ("https://login.example/{tenantid}/v2.0", Server::default());
    let (shared, of_one) = (Signer::p256(), Signer::p256());
    let keys = "https://login.example/common/discovery/v2.0/keys";
    let openid = "https://login.example/common/v2.0/.well-known/openid-configuration";
    server.answers(openid, Ok(document(issuer, keys)));
    let one = "https://login.example/one/v2.0";
    let set = [
        with(key(&shared, "s"), "issuer", issuer),
        with(key(&of_one, "o"), "issuer", one),
    ];
    server.answers(keys, Ok(jwks(set)));
    let kept = kept(&server, &[issuer]).await;
    let verdict = |signer: &Signer, kid: &str, iss: &str, tid: Value| {
        let claims = json!({"iss": iss, "sub": "alice", "aud": "us", "exp": 1_700_000_060, "tid": tid});
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        let token = signer.token(jsonwebtoken::Algorithm::ES256, &header, &claims.to_string());
        kept.verdict(&token).map(drop)
    };
    let two = "https://login.example/two/v2.0";
    assert_eq!(verdict(&shared, "s", one, json!("one")), Ok(()));
    assert_eq!(verdict(&shared, "s", two, json!("two")), Ok(()));
    assert_eq!(verdict(&of_one, "o", one, json!("one")), Ok(()));
    let refused = Err(Reason::Issuer.into());
    assert_eq!(verdict(&shared, "s", one, json!("two")), refused);
    assert_eq!(verdict(&shared, "s", issuer, json!("{tenantid}")), refused);
    assert_eq!(verdict(&of_one, "o", two, json!("two")), refused);
}
