//! What a token must allow before its message is handled, by whichever way the message comes.

use serde_json::{Value, json};
use tests::peers::client::Client;
use tests::tokens::token::{AUDIENCE, ISSUER};
use tests::{Span, Stack, test_keys, token_for};

const REQUIRED: (&str, &str) = ("required-scopes", "orders.create=orders:write,admin.#=admin");

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .setting(REQUIRED.0, REQUIRED.1)
        .setting("jwt-leeway", "0s")
        .settings(settings)
        .start()
        .await
}

fn scoped(scope: impl Into<Value>) -> String {
    token_for("alice").claim("scope", scope).mint()
}

async fn code(client: &mut Client, kind: &str, token: Option<&str>) -> Value {
    let answer = client.request(kind, token, json!(1)).await;
    match answer["type"].as_str() {
        Some("reply") => json!("ok"),
        _ => answer["error"]["code"].clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_token_lacks_a_scope_is_forbidden_and_its_neighbours_are_not() {
    let stack = stack(&[]).await;
    let mut client = stack.client().await;
    let (reader, writer) = (scoped("openid orders:read"), scoped("openid orders:write"));
    assert_eq!(code(&mut client, "orders.create", Some(&reader)).await, "forbidden");
    assert_eq!(code(&mut client, "orders.create", Some(&writer)).await, "ok");
    // It is the token of that message which counts, and not a better one of before.
    assert_eq!(code(&mut client, "orders.create", Some(&reader)).await, "forbidden");
    assert_eq!(code(&mut client, "orders.show", Some(&reader)).await, "ok");
    assert_eq!(
        code(&mut client, "admin.users.delete", Some(&writer)).await,
        "forbidden"
    );
    let administrator = token_for("alice").claim("scp", json!(["admin"])).mint();
    assert_eq!(
        code(&mut client, "admin.users.delete", Some(&administrator)).await,
        "ok"
    );
    let answer = client.request("orders.create", Some(&reader), json!(1)).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("`orders:write`"), "{message}");
    assert_eq!(answer["error"]["temporary"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_token_has_the_scopes_of_its_connection() {
    let stack = stack(&[]).await;
    let mut client = stack.client().await;
    client.authenticate(&scoped("orders:read")).await;
    assert_eq!(code(&mut client, "orders.create", None).await, "forbidden");
    client.authenticate(&scoped("orders:write")).await;
    assert_eq!(code(&mut client, "orders.create", None).await, "ok");
    assert_eq!(
        code(&mut client, "orders.create", Some(&scoped("orders:read"))).await,
        "forbidden"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_message_has_those_of_its_token() {
    let stack = stack(&[]).await;
    let queue = stack.queue().await;
    for (scope, kind) in [("orders:read", "error"), ("orders:write", "reply")] {
        let body = json!({"type": "orders.create", "token": scoped(scope)});
        let answer = queue.request(&body).await.json();
        assert_eq!(answer["type"], kind, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_needs_the_scopes_of_the_token_that_releases_it() {
    let stack = stack(&[]).await;
    for (before, after, expected) in [
        ("orders:write", "orders:read", "error"),
        ("orders:read", "orders:write", "reply"),
    ] {
        let mut client = stack.client().await;
        let brief = token_for("alice").claim("scope", before).expiring_in(1.s());
        client.authenticate(&brief.mint()).await;
        brief.expired().await;
        let held = client.ask("orders.create", None, json!(1)).await;
        client.expect_required("expired", 10.s()).await;
        client.authenticate(&scoped(after)).await;
        let answer = client.answer_to(&held, 10.s()).await;
        assert_eq!(answer["type"], expected, "{answer}");
        if expected == "error" {
            assert_eq!(answer["error"]["code"], "forbidden");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_expiry_is_ignored_scopes_are_not() {
    let stack = stack(&[("on-unauthenticated", "ignore"), ("on-expired-push", "ignore")]).await;
    for (scope, expected) in [("orders:read", "forbidden"), ("orders:write", "ok")] {
        let mut client = stack.client().await;
        let brief = token_for("alice").claim("scope", scope).expiring_in(1.s());
        client.authenticate(&brief.mint()).await;
        brief.expired().await;
        assert_eq!(code(&mut client, "orders.create", None).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_handles_messages_sees_none_without_its_scopes() {
    for handler in ["relay", "amqp", "http:http://127.0.0.1:9/"] {
        let stack = stack(&[("handler", handler), ("required-scopes", "#=app")]).await;
        let mut client = stack.client().await;
        let token = scoped("other");
        assert_eq!(code(&mut client, "relay", Some(&token)).await, "forbidden", "{handler}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_type_are_those_of_amqp() {
    let rules = "admin.#=admin,orders.*=orders,list.*.delete=delete";
    let stack = stack(&[("required-scopes", rules)]).await;
    let mut client = stack.client().await;
    let token = scoped("nothing");
    for (kind, guarded) in [
        ("admin", true),
        ("admin.a", true),
        ("admin.a.b", true),
        ("administrate", false),
        ("orders", false),
        ("orders.create", true),
        ("orders.create.now", false),
        ("list.x.delete", true),
        ("list.delete", false),
    ] {
        let expected = if guarded { "forbidden" } else { "ok" };
        assert_eq!(code(&mut client, kind, Some(&token)).await, expected, "{kind}");
    }
    // A rule that leaves out what an application may be bound to is told at the start.
    let said = stack.workers()[0].stderr();
    assert!(said.contains("`orders.*`") && said.contains("`orders.#`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_or_an_audience_may_be_allowed_less() {
    const PARTNER: &str = "https://partner.test";
    let keys = test_keys();
    let of_each = format!(
        "issuer={ISSUER};{},issuer={PARTNER};{}",
        keys.pem_file(&keys.rs256).display(),
        keys.pem_file(&keys.es256).display()
    );
    let rules = format!("admin.#=admin,issuer={PARTNER};admin.#=-,aud=chat;admin.#=-");
    let stack = stack(&[
        ("jwt-keys", &of_each),
        ("jwt-issuer", &format!("{ISSUER},{PARTNER}")),
        ("jwt-audience", &format!("{AUDIENCE},chat")),
        ("jwt-algorithms", ""),
        ("required-scopes", &rules),
    ])
    .await;
    let token = |issuer: &str, key, audience: Value| {
        let token = token_for("alice")
            .issuer(issuer)
            .signed_with(key)
            .claim("aud", audience);
        token.claim("scope", "admin -").without_header("kid").mint()
    };
    for (token, expected) in [
        (token(ISSUER, &keys.rs256, json!(AUDIENCE)), "ok"),
        (token(PARTNER, &keys.es256, json!(AUDIENCE)), "forbidden"),
        (token(ISSUER, &keys.rs256, json!("chat")), "forbidden"),
        (token(ISSUER, &keys.rs256, json!(["chat", AUDIENCE])), "ok"),
        (token(ISSUER, &keys.rs256, json!(["chat", "another's"])), "forbidden"),
    ] {
        let mut client = stack.client().await;
        assert_eq!(code(&mut client, "admin.x", Some(&token)).await, expected);
        assert_eq!(code(&mut client, "echo", Some(&token)).await, "ok");
    }
    let said = stack.workers()[0].stderr();
    assert!(said.contains("several issuers share rules"), "{said}");
}
