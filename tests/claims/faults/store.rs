//! A store that fails neither lets in nor logs out (P10), and what it held up goes on by itself when it is back.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tests::{Client, Program, Span, Stack, Store, eventually, token_for};
use tokio::time::Instant;

/// From the store's return to the first answer, on a slow and busy machine.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

async fn with_its_own_store(settings: &[(&str, &str)]) -> (Stack, Arc<Store>) {
    let store = Arc::new(Store::start().await);
    let builder = Stack::builder().store(&store).settings(settings);
    (builder.start().await, store)
}

/// Waits until the worker is not ready, and blames the store alone.
async fn blames_the_store(worker: &Program) {
    eventually(20.s(), "the worker says that the store is away", async || {
        let answer = worker.get("/readyz").await;
        let report: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let (broker, store) = (&report["checks"]["broker"], &report["checks"]["store"]);
        let blamed = answer.status == 503 && broker == "ok" && store.is_string() && store != "ok";
        if blamed { Ok(()) } else { Err(answer) }
    })
    .await;
}

fn assert_unavailable(answer: &Value) {
    assert_eq!(answer["error"]["code"], "auth_unavailable", "{answer}");
    assert_eq!(answer["error"]["temporary"], true, "{answer}");
}

async fn served_again(client: &mut Client, token: &str) {
    eventually(RECOVERY_LIMIT, "the connection is served again", async || {
        let answer = client.request("echo", Some(token), 1.into()).await;
        if answer["type"] == "reply" { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn a_store_that_dies_neither_lets_in_nor_logs_out() {
    let (mut stack, store) = with_its_own_store(&[]).await;
    let (alice, bob) = (token_for("alice").mint(), token_for("bob").mint());
    let mut steady = stack.client().await;
    assert_eq!(steady.request("echo", Some(&alice), 1.into()).await["type"], "reply");

    store.kill();
    let mut newcomer = stack.client().await;
    assert_unavailable(&newcomer.request("echo", Some(&bob), 1.into()).await);
    assert_eq!(steady.request("echo", Some(&alice), 2.into()).await["payload"], 2);
    // A renewal cannot be recorded, and does not cost what was there.
    let renewed = token_for("alice").mint();
    assert_unavailable(&steady.request("echo", Some(&renewed), 3.into()).await);
    assert_eq!(steady.request("echo", Some(&alice), 4.into()).await["payload"], 4);
    blames_the_store(&stack.workers()[0]).await;
    assert_eq!(stack.workers()[0].get("/livez").await.status, 200);
    assert!(
        stack.workers()[0]
            .metric("countersign_worker_store_failures_total")
            .await
            >= 2.0
    );

    store.restart().await;
    served_again(&mut newcomer, &bob).await;
    served_again(&mut steady, &renewed).await;
    stack.worker(0).ready().await;
}

#[tokio::test]
async fn a_store_that_is_frozen_holds_nobody_up_for_longer_than_its_timeout() {
    let (mut stack, store) = with_its_own_store(&[("store-timeout", "1s")]).await;
    let token = token_for("alice").mint();
    let mut steady = stack.client().await;
    assert_eq!(steady.request("echo", Some(&token), 1.into()).await["type"], "reply");
    store.freeze().await;
    let mut newcomer = stack.client().await;
    let started = Instant::now();
    assert_unavailable(&newcomer.request("echo", Some(&token), 2.into()).await);
    let took = started.elapsed();
    assert!(took < 5.s(), "a timeout of 1 s took {took:?}");
    assert_eq!(steady.request("echo", Some(&token), 3.into()).await["payload"], 3);
    blames_the_store(&stack.workers()[0]).await;
    store.thaw();
    served_again(&mut newcomer, &token).await;
    stack.worker(0).ready().await;
}

#[tokio::test]
async fn a_worker_that_starts_before_the_store_is_ready_when_the_store_is() {
    let store = Arc::new(Store::start().await);
    let mut stack = Stack::builder().store(&store).workers(0).start().await;
    store.kill();
    stack.spawn_workers(1);
    eventually(30.s(), "the worker says where it listens", async || {
        stack.workers()[0].is_listening()
    })
    .await;
    blames_the_store(&stack.workers()[0]).await;
    store.restart().await;
    stack.worker(0).ready().await;
    served_again(&mut stack.client().await, &token_for("alice").mint()).await;
}
