//! What an identity provider says by HTTP ends sockets as a revocation does; and anyone else who says anything there changes nothing.

use std::{
    fs, io,
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::servers::http::{self, Answer};
use tests::tokens::key::jwks;
use tests::tokens::token::{Builder, ISSUER};
use tests::{Algorithm, Client, Key, Program, Span, Stack, Store, eventually, test_keys, token_for};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::authentication::expiry::{SOON, fresh};
use crate::authentication::revocation::issued_later;

const LOGOUT: &str = "/backchannel-logout";
const EVENTS: &str = "/security-events";
const GLOBAL: &str = "/global-token-revocation";

/// Whom events are meant for: not those for whom tokens are.
const AUDIENCE: &str = "chat-web";

const LOGGED_OUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const CLAIMS_CHANGED: &str = "https://schemas.openid.net/secevent/caep/event-type/token-claims-change";
const DISABLED: &str = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";

async fn stack() -> Stack {
    let builder = Stack::builder().workers(2).settings(&[
        ("jwt-leeway", "0s"),
        ("provider-events-listen", "127.0.0.1:0"),
        ("provider-events-audience", AUDIENCE),
    ]);
    builder.start().await
}

/// Where a worker takes events.
fn port(worker: &Program) -> SocketAddr {
    let log = worker.log();
    let line = log
        .iter()
        .find(|line| line["message"] == "listening for events of identity providers");
    line.expect("it says where")["addr"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address")
}

/// A token as of the start of this minute or so, and so older than all that is said of it.
fn older(subject: &str) -> Builder<'static> {
    token_for(subject).claim("iat", now() - 60)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn logout_token(subject: &str) -> Builder<'static> {
    let token = token_for(subject).audience(AUDIENCE).header("typ", "logout+jwt");
    token.claim("events", json!({LOGGED_OUT: {}}))
}

fn security_event(event: &str, subject: Value) -> Builder<'static> {
    let token = token_for("").without("sub").without("exp").audience(AUDIENCE);
    let token = token.header("typ", "secevent+jwt").claim("sub_id", subject);
    token.claim("events", json!({event: {"event_timestamp": now()}}))
}

async fn post_logout(worker: &Program, token: &str) -> Answer {
    try_logout(worker, token).await.expect("an answer")
}

async fn try_logout(worker: &Program, token: &str) -> io::Result<Answer> {
    let body = format!("logout_token={token}");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    http::post(port(worker), LOGOUT, &form, body.as_bytes()).await
}

async fn post_event(worker: &Program, token: &str) -> Answer {
    let headers = [
        ("Content-Type", "application/secevent+jwt"),
        ("Accept", "application/json"),
    ];
    http::post(port(worker), EVENTS, &headers, token.as_bytes())
        .await
        .expect("an answer")
}

async fn post_global(worker: &Program, token: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    http::post(port(worker), GLOBAL, &headers, body.to_string().as_bytes())
        .await
        .expect("an answer")
}

fn error(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

async fn is_ended(client: &mut Client) {
    let before = client.expect_close(4503, SOON).await;
    assert_eq!(
        before.last().expect("an error")["error"]["code"],
        "token_revoked",
        "{before:?}"
    );
}

async fn works(client: &mut Client) {
    let answer = client.request("echo", None, json!(1)).await;
    assert_eq!(answer["payload"], 1, "{answer}");
}

async fn logged_in(stack: &Stack, token: &str) -> Client {
    let mut client = stack.client().await;
    client.authenticate(token).await;
    client
}

async fn is_worthless(stack: &Stack, token: &str) {
    let answer = stack.client().await.try_authenticate(token).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_the_provider_ends_the_sockets_of_whom_it_means() {
    let stack = stack().await;
    let worker = &stack.workers()[0];
    let (alices, bobs) = (older("alice").mint(), older("bob").mint());
    let (mut alice, mut bob) = (logged_in(&stack, &alices).await, logged_in(&stack, &bobs).await);
    let logout = logout_token("alice").mint();
    let answer = post_logout(worker, &logout).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{answer:?}");
    assert!(
        answer.head.to_lowercase().contains("cache-control: no-store"),
        "{answer:?}"
    );
    is_ended(&mut alice).await;
    is_worthless(&stack, &alices).await;
    works(&mut bob).await;
    // Who logs in anew is not logged out by the same words, whichever worker hears them.
    let mut back = logged_in(&stack, &issued_later("alice").await).await;
    for worker in stack.workers() {
        let again = post_logout(worker, &logout).await;
        assert_eq!(
            (again.status, &error(&again)["error"]),
            (400, &json!("invalid_request")),
            "{again:?}"
        );
        assert!(again.body.contains("`jti`"), "{again:?}");
    }
    works(&mut back).await;
    // A session alone: its tokens, and those of the subject that say nothing of a session.
    let of = |sid: &str| older("carol").claim("sid", sid).mint();
    let (mut this, mut that) = (logged_in(&stack, &of("s-1")).await, logged_in(&stack, &of("s-2")).await);
    let mut without = logged_in(&stack, &older("carol").mint()).await;
    let both = logout_token("carol").claim("sid", "s-1").mint();
    assert_eq!(post_logout(&stack.workers()[1], &both).await.status, 200);
    is_ended(&mut this).await;
    is_ended(&mut without).await;
    is_worthless(&stack, &of("s-1")).await;
    works(&mut that).await;
    let session = logout_token("").without("sub").claim("sid", "s-2").mint();
    assert_eq!(post_logout(worker, &session).await.status, 200);
    is_ended(&mut that).await;
    works(&mut bob).await;
    assert_eq!(
        worker.metrics().await["countersign_worker_provider_events_total{kind=\"logout\",outcome=\"revoked\"}"],
        2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn security_events_and_global_revocations_end_the_sockets_of_whom_they_mean() {
    let stack = stack().await;
    let worker = &stack.workers()[0];
    let mut bob = logged_in(&stack, &older("bob").mint()).await;
    let subject = |name: &str| json!({"format": "iss_sub", "iss": ISSUER, "sub": name});
    for (event, name) in [(SESSION_REVOKED, "a"), (CLAIMS_CHANGED, "b"), (DISABLED, "c")] {
        let token = older(name).mint();
        let mut client = logged_in(&stack, &token).await;
        let answer = post_event(worker, &security_event(event, subject(name)).mint()).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, ""), "{answer:?}");
        is_ended(&mut client).await;
        is_worthless(&stack, &token).await;
    }
    let by_okta = |name: &str| {
        let token = token_for(name).audience(AUDIENCE);
        token.header("typ", "global-token-revocation+jwt").mint()
    };
    for (member, subject) in [
        ("sub_id", subject("d")),
        ("subject", json!({"format": "opaque", "id": "d"})),
    ] {
        let mut client = logged_in(&stack, &issued_later("d").await).await;
        // In another second than what it is about.
        issued_later("d").await;
        let answer = post_global(worker, &by_okta("api"), &json!({member: subject})).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
        is_ended(&mut client).await;
    }
    // What says nothing of anyone is taken, and means no one: a stream's own check.
    let check = security_event(
        "https://schemas.openid.net/secevent/ssf/event-type/verification",
        json!({}),
    );
    assert_eq!(post_event(worker, &check.mint()).await.status, 202);
    // Who has not signed it, or for another purpose, is no one.
    let stranger = Key::generate(Algorithm::Hs256);
    let forged = token_for("api")
        .audience(AUDIENCE)
        .header("typ", "global-token-revocation+jwt");
    for token in [
        forged.signed_with(&stranger).mint(),
        logout_token("api").mint(),
        fresh("api"),
    ] {
        let refused = post_global(worker, &token, &json!({"sub_id": subject("bob")})).await;
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(
            refused.head.to_lowercase().contains("www-authenticate: bearer"),
            "{refused:?}"
        );
    }
    let foreign = json!({"sub_id": {"format": "iss_sub", "iss": "https://other.test", "sub": "bob"}});
    for body in [json!({}), json!([]), foreign] {
        let refused = post_global(worker, &by_okta("api"), &body).await;
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    works(&mut bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_name_ends_with_a_slash_is_another_and_may_speak_for_the_one_without() {
    // As Google has it: tokens of one, security events of the other, each with keys of its own.
    let [of_tokens, of_events] = [(); 2].map(|()| Key::generate(Algorithm::Es256));
    let speaker = format!("{ISSUER}/");
    let entry = |issuer: &str, key: &Key| {
        let path = test_keys()
            .folder()
            .join(format!("slash-{:08x}.json", rand::random::<u32>()));
        fs::write(&path, jwks([key])).expect("a file of our own");
        format!("issuer={issuer};{}", path.display())
    };
    let keys = [entry(ISSUER, &of_tokens), entry(&speaker, &of_events)].join(",");
    let builder = Stack::builder().settings(&[
        ("jwt-leeway", "0s"),
        ("jwt-algorithms", ""),
        ("jwt-issuer", &format!("{ISSUER},{speaker}")),
        ("jwt-keys", &keys),
        ("provider-events-listen", "127.0.0.1:0"),
        ("provider-events-audience", AUDIENCE),
        ("provider-events-issuers", &format!("{speaker}={ISSUER}")),
    ]);
    let stack = builder.start().await;
    let worker = &stack.workers()[0];
    let token = older("alice").signed_with(&of_tokens).mint();
    let mut alice = logged_in(&stack, &token).await;
    let subject = json!({"subject_type": "iss-sub", "iss": speaker, "sub": "alice"});
    let event = |issuer: &str| {
        let event = security_event(DISABLED, json!({})).without("sub_id").issuer(issuer);
        event.claim("events", json!({DISABLED: {"subject": subject, "reason": "hijacking"}}))
    };
    // The name and the key must be of one issuer, and who only signs tokens speaks of its own subjects.
    for (refused, code) in [
        (event(&speaker).signed_with(&of_tokens), "invalid_issuer"),
        (event(ISSUER).signed_with(&of_events), "invalid_issuer"),
        (event(ISSUER).signed_with(&of_tokens), "access_denied"),
    ] {
        let answer = post_event(worker, &refused.mint()).await;
        assert_eq!(
            (answer.status, &error(&answer)["err"]),
            (400, &json!(code)),
            "{answer:?}"
        );
    }
    works(&mut alice).await;
    let answer = post_event(worker, &event(&speaker).signed_with(&of_events).mint()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    is_ended(&mut alice).await;
    is_worthless(&stack, &token).await;
}

/// Everything that must not log anyone out, and the code with which it is refused.
fn hostile<'k>(stranger: &'k Key, other: &'k Key) -> Vec<(&'static str, Builder<'k>, &'static str)> {
    let (logout, at) = (|| logout_token("alice"), now());
    vec![
        (
            "unsigned",
            logout().header("alg", "none").signature([]),
            "invalid_request",
        ),
        ("forged", logout().signature([0; 32]), "invalid_key"),
        ("by a stranger's key", logout().signed_with(stranger), "invalid_key"),
        ("by another algorithm", logout().signed_with(other), "invalid_key"),
        (
            "for tokens' audience",
            logout().audience(tests::tokens::token::AUDIENCE),
            "invalid_audience",
        ),
        (
            "for another audience",
            logout().audience("somebody"),
            "invalid_audience",
        ),
        ("for nobody", logout().without("aud"), "invalid_audience"),
        (
            "of an unknown issuer",
            logout().issuer("https://evil.test"),
            "invalid_issuer",
        ),
        ("of no issuer", logout().without("iss"), "invalid_issuer"),
        ("with a nonce", logout().claim("nonce", "n"), "invalid_request"),
        (
            "too old",
            logout().claim("iat", at - 2 * 60 * 60).claim("exp", at + 60),
            "invalid_request",
        ),
        (
            "expired",
            logout().claim("iat", at - 60).claim("exp", at - 30),
            "invalid_request",
        ),
        (
            "of the future",
            logout().claim("iat", at + 600).claim("exp", at + 660),
            "invalid_request",
        ),
        ("undated", logout().without("iat"), "invalid_request"),
        ("nameless", logout().without("jti"), "invalid_request"),
        ("about nobody", logout().without("sub"), "invalid_request"),
        ("without an event", logout().without("events"), "invalid_request"),
        (
            "of another event",
            logout().claim("events", json!({SESSION_REVOKED: {}})),
            "invalid_request",
        ),
        (
            "an access token",
            token_for("alice").audience(AUDIENCE),
            "invalid_request",
        ),
        ("of another type", logout().header("typ", "at+jwt"), "invalid_request"),
        ("critical", logout().header("crit", json!(["x"])), "invalid_request"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_provider_has_not_said_so_logs_nobody_out() {
    let stack = stack().await;
    let worker = &stack.workers()[0];
    let mut alice = logged_in(&stack, &older("alice").mint()).await;
    let (stranger, other) = (Key::generate(Algorithm::Hs256), Key::generate(Algorithm::Es256));
    for (what, token, code) in hostile(&stranger, &other) {
        let answer = post_logout(worker, &token.mint()).await;
        assert_eq!(
            (answer.status, &error(&answer)["error"]),
            (400, &json!(code)),
            "{what}: {answer:?}"
        );
        assert!(error(&answer)["error_description"].is_string(), "{what}: {answer:?}");
    }
    // As events, they are no better: RFC 8935 has other names for what is said of them.
    let alice_is = json!({"format": "iss_sub", "iss": ISSUER, "sub": "alice"});
    let event = || security_event(SESSION_REVOKED, alice_is.clone());
    let foreign = json!({"format": "iss_sub", "iss": "https://other.test", "sub": "alice"});
    let twice = event().payload_text().replacen('{', r#"{"jti":"x","#, 1);
    for (what, token, code) in [
        (
            "unsigned",
            event().header("alg", "none").signature([0; 8]),
            "invalid_key",
        ),
        ("for another audience", event().audience("somebody"), "invalid_audience"),
        (
            "of an unknown issuer",
            event().issuer("https://evil.test"),
            "invalid_issuer",
        ),
        ("with a nonce", event().claim("nonce", "n"), "invalid_request"),
        ("too old", event().claim("iat", now() - 2 * 60 * 60), "invalid_request"),
        ("untyped", event().without_header("typ"), "invalid_request"),
        ("a logout token", logout_token("alice"), "invalid_request"),
        (
            "about another's subject",
            event().claim("sub_id", foreign),
            "access_denied",
        ),
        ("about nobody", event().without("sub_id"), "invalid_request"),
        ("of no event", event().claim("events", json!({})), "invalid_request"),
        ("with a claim twice", event().raw_payload(&twice), "invalid_request"),
    ] {
        let answer = post_event(worker, &token.mint()).await;
        assert_eq!(
            (answer.status, &error(&answer)["err"]),
            (400, &json!(code)),
            "{what}: {answer:?}"
        );
        assert!(error(&answer)["description"].is_string(), "{what}: {answer:?}");
    }
    let good = logout_token("alice").mint();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let large = format!("padding={}&logout_token={good}", "x".repeat(1_024 * 1_024));
    for (what, headers, body) in [
        ("1 MB", &form[..], large.as_str()),
        ("bare", &form[..], &good),
        ("twice", &form[..], &format!("logout_token={good}&logout_token={good}")),
        (
            "of another media type",
            &[("Content-Type", "text/plain")][..],
            &format!("logout_token={good}"),
        ),
        ("garbage", &form[..], "logout_token=%00%ff.x.y"),
    ] {
        let answer = http::post(port(worker), LOGOUT, headers, body.as_bytes())
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status, &error(&answer)["error"]),
            (400, &json!("invalid_request")),
            "{what}: {answer:?}"
        );
    }
    assert_eq!(http::get(port(worker), LOGOUT).await.expect("an answer").status, 405);
    assert_eq!(
        http::get(port(worker), "/metrics").await.expect("an answer").status,
        404
    );
    works(&mut alice).await;
    let told = worker
        .log()
        .into_iter()
        .filter(|line| line["refused"] == "provider_event")
        .count();
    assert!((1..40).contains(&told), "each kind is told once: {told}");
    // All that was wrong with it was what was changed in it.
    assert_eq!(post_logout(worker, &good).await.status, 200);
    is_ended(&mut alice).await;
    // No token of a refused event is in the log.
    assert!(
        !worker
            .stderr()
            .contains(good.split('.').next_back().expect("a signature"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_and_slow_senders_harm_no_message() {
    let stack = stack().await;
    let worker = &stack.workers()[0];
    let token = older("alice").mint();
    let (mut alice, mut bob) = (
        logged_in(&stack, &token).await,
        logged_in(&stack, &older("bob").mint()).await,
    );
    // As many as there are places for, and more, that never say what they want.
    let mut slow = Vec::new();
    for _ in 0..150 {
        let mut stream = TcpStream::connect(port(worker)).await.expect("it is listening");
        stream
            .write_all(b"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\n")
            .await
            .expect("it is read");
        slow.push(stream);
    }
    works(&mut alice).await;
    // Beside them, a thousand that are wrong.
    let forged = logout_token("alice").signature([0; 32]).mint();
    let flood = join_all((0..1_000).map(|_| try_logout(worker, &forged)));
    let others = async {
        for _ in 0..20 {
            works(&mut bob).await;
        }
    };
    let (answers, ()) = tokio::join!(flood, others);
    // The system may refuse some of so many at once by itself.
    let statuses: Vec<_> = answers.into_iter().flatten().map(|answer| answer.status).collect();
    assert!(
        statuses.iter().all(|status| matches!(status, 400 | 503)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&400), "{statuses:?}");
    works(&mut alice).await;
    drop(slow);
    // One that is true is heard among them when it comes again.
    eventually(60.s(), "the logout is taken", async || {
        let answer = try_logout(worker, &logout_token("alice").mint()).await;
        match answer {
            Ok(Answer { status: 200, .. }) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    is_ended(&mut alice).await;
    works(&mut bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_said_to_be_taken_only_when_the_store_has_it() {
    let store = Arc::new(Store::start().await);
    let builder = Stack::builder().store(&store).settings(&[
        ("jwt-leeway", "0s"),
        ("provider-events-listen", "127.0.0.1:0"),
        ("provider-events-audience", AUDIENCE),
    ]);
    let stack = builder.start().await;
    let worker = &stack.workers()[0];
    let tokens = ["alice", "bob"].map(|name| older(name).mint());
    let (mut alice, mut bob) = (logged_in(&stack, &tokens[0]).await, logged_in(&stack, &tokens[1]).await);
    store.kill();
    let logout = logout_token("alice").mint();
    let answer = post_logout(worker, &logout).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.to_lowercase().contains("retry-after"), "{answer:?}");
    // Without a store nothing of this is on the way of a message.
    works(&mut bob).await;
    store.restart().await;
    eventually(SOON, "the same event is taken when it comes again", async || {
        let answer = post_logout(worker, &logout).await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    is_ended(&mut alice).await;
    let answer = stack.client().await.try_authenticate(&tokens[0]).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
    works(&mut bob).await;
}
