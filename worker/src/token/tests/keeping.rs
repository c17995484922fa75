//! Keys that change while a verifier is at work. The server is a map, and time stands still but where it is turned.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use shared::service::clock::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::{KeySource, Reason, Rejection, Rules, Verifier};
use super::signer::{HMAC, ISSUER, P256, RSA, Signer, jwks, with};
use crate::auth::identity::Issuer;
use crate::token::keys::refresher::{KeyHealth, KeyRefresher};
use crate::token::keys::source::fetch::{Fetch, FetchError};
use crate::token::keys::source::jwks_url::JwksUrl;
use crate::token::keys::source::schedule::COOL_DOWN;
use crate::token::keys::source::watch::PERIOD;
use crate::token::keys::sources::KeySources;

pub(super) const TTL: Duration = Duration::from_secs(300);
const URL: &str = "https://issuer.example/keys";
/// Of the fetch, whatever it brings.
pub(super) const LATENCY: Duration = Duration::from_millis(100);

/// What each URL answers: a body, or a status. One that is not listed takes too long.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    by_url: HashMap<String, Result<Bytes, u16>>,
    requests: usize,
}

impl Server {
    pub(super) fn answers(&self, url: &str, answer: Result<Vec<u8>, u16>) {
        let mut answers = self.0.lock().unwrap();
        answers.by_url.insert(url.to_owned(), answer.map(Bytes::from));
    }

    pub(super) fn has(&self, keys: &[Value]) {
        self.answers(URL, Ok(jwks(keys.iter().cloned())));
    }

    fn is_away(&self) {
        self.answers(URL, Err(503));
    }

    pub(super) fn requests(&self) -> usize {
        self.0.lock().unwrap().requests
    }
}

impl Fetch for Server {
    async fn fetch(&self, url: &JwksUrl) -> Result<Bytes, FetchError> {
        sleep(LATENCY).await;
        let mut answers = self.0.lock().unwrap();
        answers.requests += 1;
        match answers.by_url.get(&url.to_string()) {
            Some(answer) => answer.clone().map_err(FetchError::Status),
            None => Err(FetchError::Timeout),
        }
    }
}

/// A verifier whose keys are kept, from the start of the worker on.
pub(super) struct Kept {
    verifier: Arc<Verifier>,
    server: Server,
    health: tokio::sync::watch::Receiver<KeyHealth>,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    async fn start(server: &Server, entries: &[&str]) -> Self {
        Self::start_for(server, &[ISSUER], entries).await
    }

    pub(super) async fn start_for(server: &Server, issuers: &[&str], entries: &[&str]) -> Self {
        let sources = entries.iter().map(|entry| entry.parse().unwrap()).collect();
        Self::start_with(server, issuers, sources).await
    }

    pub(super) async fn start_with(server: &Server, issuers: &[&str], sources: Vec<KeySource>) -> Self {
        let issuers = issuers.iter().map(|&issuer| Issuer::new(issuer)).collect();
        let (contents, keys) = KeySources::load(sources, issuers, Vec::new()).unwrap();
        let verifier = Arc::new(Verifier::new(keys, Rules::new(vec!["us".to_owned()]), 100));
        let mut refresher = KeyRefresher::new(contents, server.clone(), verifier.clone(), TTL);
        refresher.fetch_first().await;
        Self {
            verifier,
            server: server.clone(),
            health: refresher.health(),
            task: tokio::spawn(refresher.run()),
        }
    }

    /// Whether it was remembered, or why it proves nothing, however long that may take to change.
    pub(super) fn verdict(&self, token: &str) -> Result<bool, Rejection> {
        self.exactly(token).map_err(|rejection| match rejection {
            Rejection::Unavailable { .. } => UNAVAILABLE,
            other => other,
        })
    }

    fn exactly(&self, token: &str) -> Result<bool, Rejection> {
        let verdict = self.verifier.verify(token, Timestamp::from_secs(1_700_000_000));
        verdict.result.map(|_| verdict.cached)
    }

    /// How long its holder is told to wait.
    fn wait(&self, token: &str) -> Duration {
        match self.exactly(token) {
            Err(Rejection::Unavailable { wait }) => wait,
            other => panic!("{other:?}"),
        }
    }

    /// Lets all that is under way come to its end.
    async fn settle(&self) {
        sleep(LATENCY * 2).await;
    }

    pub(super) fn missing(&self) -> String {
        self.health.borrow().clone().err().unwrap_or_default()
    }
}

pub(super) fn key(signer: &Signer, kid: &str) -> Value {
    with(signer.jwk(), "kid", kid)
}

fn token(signer: &Signer, kid: &str) -> String {
    token_of(signer, ISSUER, &json!({"alg": "ES256", "kid": kid}))
}

pub(super) fn token_of(signer: &Signer, issuer: &str, header: &Value) -> String {
    let claims = json!({"iss": issuer, "sub": "alice", "aud": "us", "exp": 1_700_000_060});
    signer.token(Algorithm::ES256, &header.to_string(), &claims.to_string())
}

const UNKNOWN: Result<bool, Rejection> = Err(Rejection::Invalid(Reason::UnknownKey));
const UNAVAILABLE: Rejection = Rejection::Unavailable { wait: Duration::ZERO };

#[tokio::test(start_paused = true)]
async fn keys_overlap_while_their_issuer_rotates_them() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let server = Server::default();
    server.has(&[key(&old, "old")]);
    let kept = Kept::start(&server, &[URL]).await;
    let (by_old, by_new) = (token(&old, "old"), token(&new, "new"));
    assert_eq!(kept.verdict(&by_old), Ok(false));
    server.has(&[key(&old, "old"), key(&new, "new")]);
    // No one asks, so it is found when the time has come.
    sleep(TTL + LATENCY).await;
    assert_eq!((kept.verdict(&by_old), kept.verdict(&by_new)), (Ok(false), Ok(false)));
    assert_eq!((kept.verdict(&by_old), kept.verdict(&by_new)), (Ok(true), Ok(true)));
    server.has(&[key(&new, "new")]);
    sleep(TTL + LATENCY).await;
    assert_eq!(kept.verdict(&by_new), Ok(false));
    assert_ne!(kept.verdict(&by_old), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_removed_verifies_nothing_more_not_even_what_is_remembered() {
    let (kept_key, removed) = (Signer::p256(), Signer::p256());
    let server = Server::default();
    server.has(&[key(&kept_key, "a"), key(&removed, "b")]);
    let kept = Kept::start(&server, &[URL]).await;
    let removed = token(&removed, "b");
    assert_eq!((kept.verdict(&removed), kept.verdict(&removed)), (Ok(false), Ok(true)));
    server.has(&[key(&kept_key, "a")]);
    assert_eq!(kept.verdict(&token(&kept_key, "c")), Err(UNAVAILABLE));
    kept.settle().await;
    assert_eq!(kept.verdict(&removed), UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_asked_for_and_found_the_same_leave_the_cache_alone() {
    let server = Server::default();
    server.has(&[key(&P256, "a")]);
    let kept = Kept::start(&server, &[URL]).await;
    assert_eq!(kept.verdict(&token(&P256, "a")), Ok(false));
    let cached = token(&P256, "a");
    assert_eq!(kept.verdict(&cached), Ok(false));
    sleep(TTL + LATENCY).await;
    assert_eq!((kept.verdict(&cached), server.requests()), (Ok(true), 2));
}

#[tokio::test(start_paused = true)]
async fn the_first_token_under_a_new_key_is_told_to_come_again_and_then_holds() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let server = Server::default();
    server.has(&[key(&old, "old")]);
    let kept = Kept::start(&server, &[URL]).await;
    server.has(&[key(&old, "old"), key(&new, "new")]);
    let by_new = token(&new, "new");
    for _ in 0..100 {
        assert_eq!(kept.verdict(&by_new), Err(UNAVAILABLE));
    }
    kept.settle().await;
    assert_eq!((kept.verdict(&by_new), server.requests()), (Ok(false), 2));
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cause_one_request_in_a_cool_down_however_many_there_are() {
    let server = Server::default();
    server.has(&[key(&P256, "a")]);
    let kept = Kept::start(&server, &[URL]).await;
    assert_eq!(server.requests(), 1);
    for round in 1..=600 {
        let kid = format!("x{round}");
        assert_eq!(kept.verdict(&token(&P256, &kid)), Err(UNAVAILABLE));
        sleep(COOL_DOWN / 300).await;
        // At the start, at once, and at the end of each cool-down.
        assert!(server.requests() <= 2 + round / 300, "{}", server.requests());
    }
    sleep(COOL_DOWN + LATENCY * 2).await;
    let asked = server.requests();
    sleep(COOL_DOWN * 3).await;
    assert_eq!(server.requests(), asked, "nobody wants anything");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_while_others_asked_for_nonsense_is_never_called_unknown() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let server = Server::default();
    server.has(&[key(&old, "old")]);
    let kept = Kept::start(&server, &[URL]).await;
    let nonsense = token(&old, "nonsense");
    assert_eq!(kept.verdict(&nonsense), Err(UNAVAILABLE));
    kept.settle().await;
    // Asked for in vain, and not asked for again for a while.
    for _ in 0..10 {
        assert_eq!(kept.verdict(&nonsense), UNKNOWN);
        sleep(COOL_DOWN / 20).await;
    }
    server.has(&[key(&old, "old"), key(&new, "new")]);
    let by_new = token(&new, "new");
    let wait = kept.wait(&by_new);
    assert!(wait > COOL_DOWN / 3 && wait < COOL_DOWN, "{wait:?}");
    assert_eq!(server.requests(), 2);
    sleep(wait + LATENCY * 2).await;
    assert_eq!((kept.verdict(&by_new), server.requests()), (Ok(false), 3));
    // What is still nonsense is asked for once more.
    assert_eq!(kept.verdict(&nonsense), Err(UNAVAILABLE));
    sleep(COOL_DOWN + LATENCY).await;
    assert_eq!((kept.verdict(&nonsense), server.requests()), (UNKNOWN, 4));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_lets_nobody_in_and_logs_nobody_out() {
    let server = Server::default();
    server.has(&[key(&P256, "a")]);
    let kept = Kept::start(&server, &[URL]).await;
    let (good, unknown) = (token(&P256, "a"), token(&P256, "b"));
    server.is_away();
    for _ in 0..1_000 {
        let _either = kept.verdict(&good).unwrap();
        assert_eq!(kept.verdict(&unknown), Err(UNAVAILABLE));
        sleep(Duration::from_secs(1)).await;
    }
    // At least 15 s between two, once the waits have grown.
    assert!((30..80).contains(&server.requests()), "{}", server.requests());
    assert_eq!((kept.verdict(&good), kept.missing()), (Ok(true), String::new()));
    let forged = token(&Signer::p256(), "a");
    assert_eq!(kept.verdict(&forged), Err(Reason::Signature.into()));
    server.has(&[key(&P256, "a")]);
    // Of the longest wait there may be nothing left, or all of it; then a cool-down of the same length begins.
    let mut verdicts = Vec::new();
    for _ in 0..=30 {
        sleep(Duration::from_secs(1)).await;
        verdicts.push(kept.verdict(&unknown));
    }
    assert!(verdicts.contains(&UNKNOWN), "{verdicts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_starts_without_its_server_and_says_what_is_missing() {
    let server = Server::default();
    let kept = Kept::start(&server, &[URL]).await;
    assert!(
        kept.missing().contains(URL) && kept.missing().contains("in time"),
        "{}",
        kept.missing()
    );
    let no_kid = token_of(&P256, ISSUER, &json!({"alg": "ES256"}));
    for token in [&token(&P256, "a"), &no_kid] {
        assert_eq!(kept.verdict(token), Err(UNAVAILABLE));
    }
    assert_eq!(kept.verdict("x"), Err(Reason::Parts.into()));
    let unsigned = token_of(&P256, ISSUER, &json!({"alg": "none"}));
    assert_eq!(kept.verdict(&unsigned), Err(Reason::Algorithm.into()));
    server.has(&[key(&P256, "a")]);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(kept.missing(), "");
    for token in [&token(&P256, "a"), &no_kid] {
        assert_eq!(kept.verdict(token), Ok(false));
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_that_are_there_verify_while_others_are_awaited() {
    let folder = Folder::new("awaited");
    let file = folder.write("a.json", &jwks([key(&P256, "a")]));
    let (theirs, server) = (Signer::p256(), Server::default());
    let entries = [
        &format!("issuer=https://a.example;{file}"),
        &format!("issuer=https://b.example;{URL}"),
    ];
    let kept = Kept::start_for(
        &server,
        &["https://a.example", "https://b.example"],
        &entries.map(String::as_str),
    )
    .await;
    let of = |signer: &Signer, issuer: &str, kid: &str| token_of(signer, issuer, &json!({"alg": "ES256", "kid": kid}));
    assert_eq!(kept.verdict(&of(&P256, "https://a.example", "a")), Ok(false));
    // The other issuer may have a key of the same name.
    assert_eq!(kept.verdict(&of(&theirs, "https://b.example", "a")), Err(UNAVAILABLE));
    server.has(&[key(&theirs, "a")]);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(kept.verdict(&of(&theirs, "https://b.example", "a")), Ok(false));
    assert_eq!(
        kept.verdict(&of(&P256, "https://b.example", "a")),
        Err(Reason::Issuer.into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_not_fit_for_use_is_not_taken() {
    let weak = json!({"kty": "RSA", "kid": "w", "n": "w".repeat(170), "e": "AQAB"});
    let secret_page = b"<html>Please log in to the portal, which is a long enough text for a secret</html>".to_vec();
    for (bad, named) in [
        (secret_page, "JWKS"),
        (P256.file(), "JWKS"),
        (b"{}".to_vec(), "JWKS"),
        (jwks([]), "no key"),
        (jwks([weak]), "key \"w\""),
        (jwks([key(&HMAC, "h")]), "from a server"),
        (jwks([key(&P256, "a"), key(&Signer::p256(), "a")]), "another key"),
        (jwks([with(key(&P256, "p"), "d", "AA")]), "private member"),
    ] {
        let server = Server::default();
        server.answers(URL, Ok(bad.clone()));
        let kept = Kept::start(&server, &[URL]).await;
        assert!(
            kept.missing().contains(URL) && kept.missing().contains(named),
            "{}",
            kept.missing()
        );
        assert_eq!(kept.verdict(&token(&P256, "a")), Err(UNAVAILABLE));
        server.has(&[key(&P256, "a")]);
        sleep(Duration::from_secs(31)).await;
        assert_eq!(
            (kept.verdict(&token(&P256, "a")), kept.missing()),
            (Ok(false), String::new())
        );
        server.answers(URL, Ok(bad));
        sleep(TTL * 2).await;
        assert_eq!(
            (kept.verdict(&token(&P256, "a")), kept.missing()),
            (Ok(false), String::new())
        );
        assert_eq!(kept.verdict(&token(&P256, "b")), Err(UNAVAILABLE));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_an_issuer_that_are_not_for_us_are_passed_over() {
    let server = Server::default();
    server.has(&[
        key(&P256, "a"),
        with(key(&RSA, "e"), "use", "enc"),
        with(key(&RSA, "f"), "alg", "RSA-OAEP"),
        json!({"kty": "AKP", "kid": "g", "alg": "ML-DSA-44", "pub": "AA"}),
        json!({"kty": "EC", "kid": "h", "crv": "P-521", "x": "AA", "y": "AA"}),
        key(&HMAC, "i"),
    ]);
    let kept = Kept::start(&server, &[URL]).await;
    assert_eq!(
        (kept.verdict(&token(&P256, "a")), kept.missing()),
        (Ok(false), String::new())
    );
    assert_eq!(kept.verdict(&token(&P256, "e")), Err(UNAVAILABLE));
    // A secret that a server publishes signs nothing, also if there was none before.
    let forged = |kid: &str| {
        let claims = json!({"iss": ISSUER, "sub": "alice", "aud": "us", "exp": 1_700_000_060});
        HMAC.token(
            Algorithm::HS256,
            &json!({"alg": "HS256", "kid": kid}).to_string(),
            &claims.to_string(),
        )
    };
    assert!(kept.verdict(&forged("i")).is_err());
    server.has(&[key(&P256, "a2"), key(&HMAC, "j")]);
    sleep(TTL + LATENCY).await;
    assert_eq!(kept.verdict(&token(&P256, "a2")), Ok(false));
    assert!(kept.verdict(&forged("j")).is_err());
    // Nothing but such keys is no set.
    for bad in [
        with(with(key(&RSA, "e"), "use", "enc"), "d", "AA"),
        with(key(&RSA, "e"), "use", "enc"),
    ] {
        let server = Server::default();
        server.has(&[bad]);
        assert_ne!(Kept::start(&server, &[URL]).await.missing(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_in_a_token_causes_a_request() {
    let server = Server::default();
    server.has(&[key(&P256, "a")]);
    let kept = Kept::start(&server, &[URL]).await;
    for member in ["jku", "x5u", "jwk", "x5c"] {
        let header = with(
            json!({"alg": "ES256", "kid": "a"}),
            member,
            "https://attacker.example/keys",
        );
        assert_eq!(kept.verdict(&token_of(&P256, ISSUER, &header)), Ok(false), "{member}");
        let forged = kept.verdict(&token_of(&Signer::p256(), ISSUER, &header));
        assert_eq!(forged, Err(Reason::Signature.into()), "{member}");
    }
    let elsewhere = token_of(&P256, "https://attacker.example", &json!({"alg": "ES256", "kid": "a"}));
    assert_eq!(kept.verdict(&elsewhere), Err(Reason::Issuer.into()));
    assert_eq!(
        kept.verdict(&token(&Signer::p256(), "a")),
        Err(Reason::Signature.into())
    );
    kept.settle().await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_nowhere_if_there_are_only_files() {
    let folder = Folder::new("only-files");
    let file = folder.write("a.json", &jwks([key(&P256, "a")]));
    let kept = Kept::start(&Server::default(), &[&file]).await;
    assert_eq!(
        (kept.verdict(&token(&P256, "b")), kept.missing()),
        (UNKNOWN, String::new())
    );
    kept.settle().await;
    assert_eq!(kept.server.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_is_read_again_and_one_that_is_spoilt_is_not_taken() {
    let folder = Folder::new("changes");
    let (old, new) = (Signer::p256(), Signer::p256());
    let file = folder.write("keys.json", &jwks([key(&old, "old")]));
    let kept = Kept::start(&Server::default(), &[&file]).await;
    let (by_old, by_new) = (token(&old, "old"), token(&new, "new"));
    assert_eq!((kept.verdict(&by_old), kept.verdict(&by_new)), (Ok(false), UNKNOWN));
    folder.write("keys.json", &jwks([key(&old, "old"), key(&new, "new")]));
    sleep(PERIOD * 3).await;
    assert_eq!((kept.verdict(&by_old), kept.verdict(&by_new)), (Ok(false), Ok(false)));
    let page = b"<html><body><h1>502 Bad Gateway</h1>The server is busy, try again</body></html>";
    for spoilt in [
        &b"{"[..],
        b"",
        page,
        &HMAC.file(),
        &P256.file(),
        &jwks([key(&HMAC, "h")]),
        &jwks([key(&HMAC, "h"), key(&P256, "p")]),
    ] {
        // A secret was not named one, and a set that turns into one is someone's slip.
        let second = folder.write("keys.json", spoilt);
        sleep(PERIOD * 3).await;
        assert!(kept.verdict(&by_new).is_ok(), "{second}");
        folder.write("keys.json", &jwks([key(&new, "new")]));
        sleep(PERIOD * 3).await;
        assert_eq!(kept.verdict(&by_old), UNKNOWN);
        assert!(kept.verdict(&by_new).is_ok());
    }
    std::fs::remove_file(&file).unwrap();
    sleep(PERIOD * 3).await;
    assert!(kept.verdict(&by_new).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_had_keys_is_not_taken_to_have_none_though_its_issuer_has_others() {
    let folder = Folder::new("worse");
    let (first, second) = (Signer::p256(), Signer::p256());
    let weak = jwks([json!({"kty": "RSA", "kid": "w", "n": "w".repeat(170), "e": "AQAB"})]);
    let entries = [
        folder.write("a.json", &jwks([key(&first, "a")])),
        folder.write("b.json", &jwks([key(&second, "b")])),
        folder.write("c.json", &weak),
    ];
    let kept = Kept::start(&Server::default(), &entries.each_ref().map(String::as_str)).await;
    for worse in [jwks([]), weak.clone()] {
        folder.write("a.json", &worse);
        sleep(PERIOD * 3).await;
        assert!(kept.verdict(&token(&first, "a")).is_ok());
    }
    // The one that had none may have some, and then another may change, too.
    let third = Signer::p256();
    folder.write("c.json", &jwks([key(&third, "c")]));
    folder.write("a.json", &jwks([key(&first, "d")]));
    sleep(PERIOD * 3).await;
    for (signer, kid) in [(&third, "c"), (&first, "d"), (&second, "b")] {
        assert!(kept.verdict(&token(signer, kid)).is_ok(), "{kid}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_may_move_from_one_source_to_another() {
    let folder = Folder::new("moves");
    let first = folder.write("a.json", &jwks([key(&P256, "a")]));
    let second = folder.write("b.json", &jwks([key(&Signer::p256(), "b")]));
    let kept = Kept::start(&Server::default(), &[&first, &second]).await;
    let moving = Signer::p256();
    folder.write("a.json", &jwks([key(&P256, "a"), key(&moving, "b")]));
    sleep(PERIOD * 3).await;
    let by_moving = token(&moving, "b");
    assert_eq!(kept.verdict(&by_moving), Err(Reason::Signature.into()));
    folder.write("b.json", &jwks([key(&Signer::p256(), "c")]));
    sleep(PERIOD * 3).await;
    assert_eq!(kept.verdict(&by_moving), Ok(false));
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
