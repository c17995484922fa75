//! An issuer's name is all that a worker needs to find its keys; and what an issuer says wrongly costs no one who is in.

use serde_json::{Value, json};
use tests::tokens::key::jwks;
use tests::tokens::token::{AUDIENCE, Builder};
use tests::{Algorithm, Key, Provider, Span, Stack, eventually, token_for, tool};

const OPENID: &str = "/realms/x/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server/realms/x";
const KEYS: &str = "/realms/x/certs";

fn issuer(provider: &Provider) -> String {
    format!("{}/realms/x", provider.base())
}

fn document(issuer: &str, keys: &str) -> String {
    json!({"issuer": issuer, "jwks_uri": keys, "id_token_signing_alg_values_supported": ["ES256"]}).to_string()
}

fn by<'k>(provider: &Provider, key: &'k Key) -> Builder<'k> {
    token_for("alice").issuer(&issuer(provider)).signed_with(key)
}

async fn stack(provider: &Provider) -> Stack {
    let builder = Stack::builder().setting("jwt-keys", "").setting("jwt-algorithms", "");
    let builder = builder
        .setting("jwt-issuer", &issuer(provider))
        .setting("jwks-refresh-interval", "1s");
    builder.start().await
}

async fn code(stack: &Stack, token: &str) -> Value {
    let answer = stack.client().await.request("echo", Some(token), Value::Null).await;
    answer["error"]["code"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_alone_suffices_to_find_its_keys() {
    for published in [OPENID, OAUTH] {
        let (provider, key) = (Provider::start().await, Key::generate(Algorithm::Es256));
        provider.serve(
            published,
            &document(&issuer(&provider), &format!("{}{KEYS}", provider.base())),
        );
        provider.serve(KEYS, &jwks([&key]));
        let stack = stack(&provider).await;
        assert_eq!(
            code(&stack, &by(&provider, &key).mint()).await,
            Value::Null,
            "{published}"
        );
        let stranger = Key::generate(Algorithm::Es256);
        let forged = by(&provider, &stranger).header("kid", key.id().unwrap()).mint();
        assert_eq!(code(&stack, &forged).await, "token_invalid");
        // The tool finds them likewise.
        let arguments = [
            "token",
            "verify",
            "--jwt-audience",
            AUDIENCE,
            "--jwt-issuer",
            &issuer(&provider),
        ];
        let said = tool(&arguments, &by(&provider, &key).mint());
        assert_eq!(said.status, 0, "{said:?}");
        assert!(said.stdout.starts_with("valid: alice of "), "{said:?}");
        assert_eq!(tool(&arguments, &forged).status, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_that_lies_changes_nothing_and_is_told_once() {
    let (provider, elsewhere) = (Provider::start().await, Provider::start().await);
    let (key, evil) = (Key::generate(Algorithm::Es256), Key::generate(Algorithm::Es256));
    let name = issuer(&provider);
    let own_keys = format!("{}{KEYS}", provider.base());
    let good = document(&name, &own_keys);
    provider.serve(OPENID, &good);
    provider.serve(KEYS, &jwks([&key]));
    elsewhere.serve("/keys", &jwks([&evil]));
    let evil_keys = format!("{}/keys", elsewhere.base());
    let stack = stack(&provider).await;
    let (mine, forged) = (by(&provider, &key).mint(), by(&provider, &evil).mint());
    assert_eq!(code(&stack, &mine).await, Value::Null);
    let told = || {
        let log = stack.workers()[0].log();
        let reasons = log.iter().filter_map(|line| line["reason"].as_str().map(str::to_owned));
        reasons
            .filter(|reason| reason.contains("discovery") || reason.contains("answer"))
            .collect::<Vec<_>>()
    };
    let redirect = format!("302 Found\r\nLocation: {}/x", elsewhere.base());
    for (head, body, why) in [
        (
            "200 OK",
            document("https://evil.example", &own_keys),
            "https://evil.example",
        ),
        ("200 OK", document(&name, &evil_keys), "jwks-allow-hosts"),
        (&*redirect, String::new(), "302"),
        ("200 OK", "x".repeat(10 * 1_024 * 1_024), "larger than"),
        (
            "200 OK",
            "<html><h1>Please log in</h1></html>".to_owned(),
            "no JSON object",
        ),
        ("200 OK\r\nX-Stuck: yes", "never".to_owned(), "in time"),
    ] {
        let before = told().len();
        if why == "in time" {
            provider.hang(OPENID);
        } else {
            provider.answer(OPENID, head, &body);
        }
        let reason = eventually(60.s(), "the worker says why", async || {
            told().get(before).cloned().ok_or_else(told)
        })
        .await;
        assert!(reason.contains(why), "{why}: {reason}");
        let asked = provider.requests(OPENID);
        eventually(60.s(), "it asks again", async || {
            let now = provider.requests(OPENID);
            if now > asked + 1 { Ok(()) } else { Err(now) }
        })
        .await;
        assert_eq!(told().len(), before + 1, "{why}: {:?}", told());
        assert_eq!(code(&stack, &mine).await, Value::Null, "{why}");
        assert_ne!(code(&stack, &forged).await, Value::Null, "{why}");
        assert_eq!(stack.workers()[0].is_ready().await, Ok(()), "{why}");
        // It speaks the truth again.
        let wells = |stack: &Stack| {
            let log = stack.workers()[0].log();
            log.iter()
                .filter(|line| line["message"] == "keys are available again")
                .count()
        };
        let before = wells(&stack);
        provider.serve(OPENID, &good);
        eventually(60.s(), "all is well again", async || {
            let now = wells(&stack);
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
    }
    assert_eq!(
        elsewhere.requests("/keys") + elsewhere.requests("/x"),
        0,
        "nobody was sent elsewhere"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_said_with_its_cause() {
    let provider = Provider::start().await;
    let key = Key::generate(Algorithm::Es256);
    let token = by(&provider, &key).mint();
    let verify = |settings: &[&str]| {
        let mut arguments = vec!["token", "verify", "--jwt-audience", AUDIENCE, "--json"];
        arguments.extend(settings);
        let said = tool(&arguments, &token);
        assert_eq!(said.status, 2, "{said:?}");
        let verdict: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        assert_eq!(verdict["valid"], Value::Null, "{said:?}");
        verdict["reason"].as_str().unwrap().to_owned()
    };
    let name = issuer(&provider);
    let nothing = verify(&["--jwt-issuer", &name]);
    assert!(nothing.contains("404") && nothing.contains(OPENID), "{nothing}");
    let plain = verify(&["--jwt-issuer", "http://login.invalid"]);
    assert!(plain.contains("jwks-allow-http"), "{plain}");
    let allowed = verify(&["--jwt-issuer", "http://login.invalid", "--jwks-allow-http", "true"]);
    assert!(
        !allowed.contains("jwks-allow-http") && allowed.contains("login.invalid"),
        "{allowed}"
    );
    // The address of the document, where that of keys is wanted, is known for what it is.
    let url = format!("{}{OPENID}", provider.base());
    let wrong = verify(&["--jwt-issuer", &name, "--jwt-keys", &url]);
    assert!(wrong.contains("discovery document"), "{wrong}");
    provider.serve("/x", &document(&name, &format!("{}{KEYS}", provider.base())));
    let wrong = verify(&["--jwt-issuer", &name, "--jwt-keys", &format!("{}/x", provider.base())]);
    assert!(wrong.contains("discovery document"), "{wrong}");
}
