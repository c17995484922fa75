//! A provider that others have written and that is certified: found by its name, followed when it changes its keys, and heard
//! when someone logs out there.

use std::time::Duration;

use serde_json::{Value, json};
use tests::nodes::port::free_port;
use tests::servers::authlib::Unsigned;
use tests::servers::http;
use tests::{Authlib, Client, OpenId, Provider, Stack, eventually};
use tokio::time::Instant;

use crate::authentication::expiry::SOON;
use crate::authentication::revocation::next_second;

/// Within this time of a logout its sockets are closed (docs/identity-providers.md).
const PROMISED: Duration = Duration::from_secs(1);
/// The provider and its browser run on the same, busy machine, and count as well.
const MARGIN: u32 = 10;

async fn in_as_alice(stack: &Stack, token: &str) -> Client {
    // The key may have to be asked for first.
    let mut client = stack.client().await;
    eventually(SOON, "alice is in", async || {
        let answer = client.request("echo", Some(token), json!(1)).await;
        match answer["auth"]["subject"] == "alice" {
            true => Ok(()),
            false => Err(answer),
        }
    })
    .await;
    client
}

async fn is_ended(client: &mut Client) {
    let before = client.expect_close(4503, SOON).await;
    assert_eq!(
        before.last().expect("an error")["error"]["code"],
        "token_revoked",
        "{before:?}"
    );
}

async fn code(stack: &Stack, token: &str) -> Value {
    stack.client().await.try_authenticate(token).await["error"]["code"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_is_found_followed_and_heard() {
    let events = free_port();
    let url = format!("http://127.0.0.1:{events}/backchannel-logout");
    let Some(provider) = OpenId::start(&url).await else {
        return;
    };
    let builder = Stack::builder().settings(&[
        ("jwt-keys", ""),
        ("jwt-algorithms", ""),
        ("jwt-issuer", provider.issuer()),
        ("jwt-audience", OpenId::AUDIENCE),
        ("jwt-type", "at+jwt"),
        ("jwt-leeway", "0s"),
        ("jwks-refresh-interval", "1s"),
        ("required-scopes", "#=chat"),
        ("provider-events-listen", &format!("127.0.0.1:{events}")),
        ("provider-events-audience", OpenId::CLIENT),
    ]);
    let stack = builder.start().await;
    // A login, a message, a logout.
    let first = provider.login("alice").await;
    let mut alice = in_as_alice(&stack, &first).await;
    let bobs = provider.login("bob").await;
    let mut bob = stack.client().await;
    bob.authenticate(&bobs).await;
    let since = Instant::now();
    assert_eq!(provider.logout("alice").await, "success");
    is_ended(&mut alice).await;
    let took = since.elapsed();
    println!("from the click to log out until the socket was closed: {took:?}");
    assert!(took < PROMISED * MARGIN, "{took:?}");
    assert_eq!(code(&stack, &first).await, "token_revoked");
    assert_eq!(bob.request("echo", None, json!(2)).await["payload"], 2);
    // The provider changes its keys, and the first that anyone hears of the new one is a logout.
    next_second().await;
    let second = provider.login("alice").await;
    let mut alice = in_as_alice(&stack, &second).await;
    provider.rotate_keys().await;
    assert_eq!(provider.logout("alice").await, "success");
    is_ended(&mut alice).await;
    // She logs in anew under that key, and out again.
    next_second().await;
    let third = provider.login("alice").await;
    let mut alice = in_as_alice(&stack, &third).await;
    assert_eq!(provider.logout("alice").await, "success");
    is_ended(&mut alice).await;
    assert_eq!(code(&stack, &third).await, "token_revoked");
    // What another's library signs as an event is an event.
    next_second().await;
    let last = provider.login("alice").await;
    let mut alice = in_as_alice(&stack, &last).await;
    next_second().await;
    let at = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let event = json!({
        "iss": provider.issuer(),
        "aud": OpenId::CLIENT,
        "iat": at,
        "jti": "event-1",
        "sub_id": {"format": "iss_sub", "iss": provider.issuer(), "sub": "alice"},
        "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {"event_timestamp": at}},
    });
    let event = provider.sign("secevent+jwt", &event).await;
    let headers = [("Content-Type", "application/secevent+jwt")];
    let address = ([127, 0, 0, 1], events).into();
    let answer = http::post(address, "/security-events", &headers, event.as_bytes()).await;
    assert_eq!(answer.expect("an answer").status, 202);
    is_ended(&mut alice).await;
    assert_eq!(code(&stack, &last).await, "token_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_library_signs_is_believed_as_token_and_as_logout() {
    let (provider, events) = (Provider::start().await, free_port());
    let issuer = provider.base();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    // Each logged in a minute ago, and logs out now.
    let token = |alg: &'static str| Unsigned {
        alg,
        typ: Some("at+jwt"),
        claims: json!({
            "iss": issuer, "aud": "chat", "sub": "alice", "iat": now - 60, "exp": now + 300, "jti": format!("token-{alg}"),
            "client_id": "chat-web", "sid": format!("session-{alg}"),
        }),
    };
    let logout = |alg: &'static str| Unsigned {
        alg,
        typ: Some("logout+jwt"),
        claims: json!({
            "iss": issuer, "aud": "chat-web", "iat": now, "exp": now + 120, "jti": format!("logout-{alg}"),
            "sid": format!("session-{alg}"), "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }),
    };
    let both = Authlib::ALGORITHMS.map(|alg| [token(alg), logout(alg)]);
    let Some(authlib) = Authlib::sign(both.as_flattened()) else {
        return;
    };
    let discovered = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
    provider.serve("/.well-known/openid-configuration", &discovered.to_string());
    provider.serve("/keys", &authlib.jwks());
    let builder = Stack::builder().settings(&[
        ("jwt-keys", ""),
        ("jwt-algorithms", ""),
        ("jwt-issuer", &issuer),
        ("jwt-audience", "chat"),
        ("jwt-type", "at+jwt"),
        ("provider-events-listen", &format!("127.0.0.1:{events}")),
        ("provider-events-audience", "chat-web"),
    ]);
    let stack = builder.start().await;
    for signed in authlib.signed().chunks(2) {
        let [token, logout] = signed else { panic!("{signed:?}") };
        let mut alice = in_as_alice(&stack, token).await;
        // A logout lets no one in.
        assert_eq!(code(&stack, logout).await, "token_invalid", "{logout}");
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let form = format!("logout_token={logout}");
        let address = ([127, 0, 0, 1], events).into();
        let answer = http::post(address, "/backchannel-logout", &headers, form.as_bytes()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{logout}: {answer:?}");
        is_ended(&mut alice).await;
        assert_eq!(code(&stack, token).await, "token_revoked", "{token}");
    }
}
