//! What is revoked while a message waits for its turn never reaches the application (P12).

use std::sync::Arc;

use serde_json::{Value, json};
use tests::servers::upstream::{Asked, Said};
use tests::{Span, Stack, Upstream, eventually};
use tokio::sync::Notify;

use crate::authentication::expiry::{SOON, fresh};
use crate::sockets::cancelling::with_one_place;

/// One message at a time, and an application that takes `slow` until it is told.
async fn one_at_a_time() -> (Stack, Upstream, Arc<Notify>) {
    let told = Arc::new(Notify::new());
    let held = told.clone();
    let upstream = Upstream::start(move |asked: &Asked| match asked.kind() {
        "slow" => Said::When(held.clone(), 200, "1".to_owned()),
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = with_one_place(&upstream).await;
    (stack, upstream, told)
}

fn kinds(upstream: &Upstream) -> Vec<String> {
    upstream.asked().iter().map(|asked| asked.kind().to_owned()).collect()
}

async fn is_asked(upstream: &Upstream, count: usize) {
    eventually(SOON, "the application is asked", async || {
        let kinds = kinds(upstream);
        if kinds.len() == count { Ok(()) } else { Err(kinds) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_for_a_place_when_its_token_is_revoked_is_not_handled() {
    let (stack, upstream, told) = one_at_a_time().await;
    let (mut bob, mut mallory, mut alice) = (stack.client().await, stack.client().await, stack.client().await);
    let slow = bob.ask("slow", Some(&fresh("bob")), Value::Null).await;
    is_asked(&upstream, 1).await;
    mallory.ask("revoked", Some(&fresh("mallory")), Value::Null).await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let injected = json!({"id": "i", "type": "revoked", "token": fresh("mallory")}).to_string();
    queue.publish("message", injected, replies.properties()).await;
    eventually(SOON, "the worker has them", async || {
        let has = stack.workers()[0].metric("countersign_worker_in_flight").await;
        if has == 3.0 { Ok(()) } else { Err(has) }
    })
    .await;
    let mut backend = stack.producer().await;
    backend.revoke(&json!({"subject": "mallory"})).await;
    mallory.expect_close(4503, SOON).await;
    told.notify_one();
    assert_eq!(bob.answer_to(&slow, SOON).await["type"], "reply");
    let refused = replies.next(30.s()).await.json();
    assert_eq!(refused["error"]["code"], "token_revoked", "{refused}");
    let answer = alice.request("last", Some(&fresh("alice")), Value::Null).await;
    assert_eq!(answer["type"], "reply", "{answer}");
    assert_eq!(kinds(&upstream), ["slow", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_to_be_released_when_its_identity_is_revoked_is_not_handled() {
    let (stack, upstream, told) = one_at_a_time().await;
    let (mut mallory, mut alice) = (stack.client().await, stack.client().await);
    for kind in ["slow", "revoked"] {
        mallory.ask(kind, None, Value::Null).await;
    }
    mallory.next_of_type("auth.required", SOON).await;
    mallory
        .send_json(&json!({"id": "a", "type": "auth.authenticate", "token": fresh("mallory")}))
        .await;
    is_asked(&upstream, 1).await;
    let mut backend = stack.producer().await;
    backend.revoke(&json!({"subject": "mallory"})).await;
    mallory.expect_close(4503, SOON).await;
    told.notify_one();
    let answer = alice.request("last", Some(&fresh("alice")), Value::Null).await;
    assert_eq!(answer["type"], "reply", "{answer}");
    eventually(SOON, "the release is over", async || {
        let has = stack.workers()[0].metric("countersign_worker_in_flight").await;
        if has == 0.0 { Ok(()) } else { Err(has) }
    })
    .await;
    assert_eq!(kinds(&upstream), ["slow", "last"]);
}
