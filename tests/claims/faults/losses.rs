//! A store that loses what it had acknowledged, the last of it or all, and what is brought back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::{Client, Push, Stack, Store, eventually, token_for};

use crate::authentication::expiry::{SOON, brief, expired_explicitly, fresh};
use crate::pushes::holds::{all_held, ask_many};

/// From the loss to the moment when everything is brought back, on a slow and busy machine.
const BROUGHT_BACK: Duration = Duration::from_secs(20);

async fn stack(workers: usize, settings: &[(&str, &str)]) -> (Stack, Arc<Store>) {
    let store = Arc::new(Store::start().await);
    let builder = Stack::builder().workers(workers).setting("jwt-leeway", "0s");
    let builder = builder.settings(settings);
    (builder.store(&store).start().await, store)
}

async fn is_worthless(stack: &Stack, token: &str) {
    let mut client = stack.client().await;
    let answer = client.try_authenticate(token).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
}

/// Waits until the store has that many revocations.
async fn has_revocations(stack: &Stack, store: &Store, count: usize) {
    let key = format!("{}:{{revocations}}", stack.namespace());
    eventually(BROUGHT_BACK, &format!("{count} revocations are stored"), async || {
        let mut connection = store.connect().await.map_err(|error| error.to_string())?;
        let found: usize = redis::cmd("HLEN")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        if found == count { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_is_revoked_although_the_store_forgets_and_all_workers_are_replaced() {
    let (mut stack, store) = stack(2, &[]).await;
    let mut backend = stack.producer().await;
    let (alices, bobs) = (fresh("alice"), fresh("bob"));
    backend.revoke(&json!({"subject": "alice"})).await;
    backend.revoke(&json!({"subject": "bob"})).await;
    has_revocations(&stack, &store, 2).await;
    store.flush().await;
    has_revocations(&stack, &store, 2).await;
    for worker in 0..2 {
        stack.worker(worker).kill();
    }
    stack.replace_ended_workers();
    for worker in 0..2 {
        stack.worker(worker).ready().await;
    }
    for token in [&alices, &bobs] {
        is_worthless(&stack, token).await;
    }
    // Likewise when another server answers, as after a failover, that was never given the last.
    store.restart().await;
    has_revocations(&stack, &store, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_hold_has_lost_are_refused_by_their_id() {
    let (stack, store) = stack(2, &[]).await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let lost = ask_many(&mut alice, 3).await;
    all_held(&stack, 3).await;
    store.flush().await;
    let kept = ask_many(&mut alice, 2).await;
    all_held(&stack, 5).await;
    alice.authenticate(&fresh("alice")).await;
    for id in &lost {
        let answer = alice.answer_to(id, SOON).await;
        assert_eq!(answer["error"]["code"], "busy", "{answer}");
        assert_eq!(answer["error"]["temporary"], true, "{answer}");
    }
    for id in &kept {
        let answer = alice.answer_to(id, SOON).await;
        assert_eq!(answer["type"], "reply", "{answer}");
    }
    assert_eq!(
        stack.terminators()[0]
            .metric("countersign_terminator_held_lost_total")
            .await,
        3.0
    );
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_out_is_told_of_messages_that_the_hold_has_lost() {
    let (stack, store) = stack(1, &[]).await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let lost = ask_many(&mut alice, 2).await;
    all_held(&stack, 2).await;
    store.flush().await;
    let kept = ask_many(&mut alice, 1).await;
    all_held(&stack, 3).await;
    alice.send_json(&json!({"id": "out", "type": "auth.logout"})).await;
    let mut codes = Vec::new();
    for id in lost.iter().chain(&kept) {
        codes.push(alice.answer_to(id, SOON).await["error"]["code"].clone());
    }
    assert_eq!(codes, ["busy", "busy", "auth_required"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_old_when_the_hold_has_lost_them_are_refused_too() {
    let (stack, store) = stack(1, &[("hold-ttl", "3s")]).await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let lost = ask_many(&mut alice, 1).await;
    all_held(&stack, 1).await;
    store.flush().await;
    let answer = alice.answer_to(&lost[0], SOON).await;
    assert_eq!(answer["error"]["code"], "busy", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_only_listens_is_pushed_to_after_the_store_was_emptied() {
    let (stack, store) = stack(2, &[]).await;
    let mut backend = stack.producer().await;
    let (mut listening, mut expired) = (stack.client().await, stack.client().await);
    listening.authenticate(&fresh("alice")).await;
    let token = brief("bob");
    expired.authenticate(&token.mint()).await;
    assert_eq!(backend.push_to("alice", 1).await, "delivered");
    assert_eq!(listening.push(SOON).await["payload"], 1);
    store.flush().await;
    // Before anyone knows of it again, and after.
    backend.push(&Push::to("alice", 2)).await;
    assert_eq!(listening.push(BROUGHT_BACK).await["payload"], 2);
    assert_eq!(backend.push_to("alice", 3).await, "delivered");
    assert_eq!(listening.push(SOON).await["payload"], 3);
    token.expired().await;
    let outcome = backend.push(&Push::to("bob", 4)).await;
    assert_eq!(outcome["outcome"], "held", "{outcome}");
    expired.authenticate(&fresh("bob")).await;
    assert_eq!(expired.push(SOON).await["payload"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_be_resumed_although_the_store_was_emptied_while_it_was_open() {
    let (stack, store) = stack(1, &[]).await;
    let mut old = stack.client().await;
    let token = brief("alice");
    let auth = old.authenticate(&token.mint()).await;
    store.flush().await;
    eventually(BROUGHT_BACK, "the connection is announced", async || {
        let announced = stack.terminators()[0]
            .metric("countersign_terminator_connections_announced_total")
            .await;
        if announced >= 1.0 { Ok(()) } else { Err(announced) }
    })
    .await;
    eventually(BROUGHT_BACK, "the store knows of it", async || {
        let dump = store.dump().await;
        if dump.contains(":auth") { Ok(()) } else { Err(dump) }
    })
    .await;
    token.expired().await;
    let held = ask_many(&mut old, 1).await;
    all_held(&stack, 1).await;
    old.close().await;
    let mut next = stack.client().await;
    let resume = json!({"resume": auth["resume"]});
    let message = json!({"id": "a", "type": "auth.authenticate", "token": fresh("alice"), "payload": resume});
    next.send_json(&message).await;
    assert_eq!(next.answer_to(&held[0], SOON).await["type"], "reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_acknowledged_when_a_replica_has_it_or_says_that_none_has() {
    // Half of it is for the replica, and a loaded machine is slow.
    let (stack, store) = stack(1, &[("store-timeout", "6s")]).await;
    let replica = Store::start().await;
    replica.follow(&store).await;
    let mut backend = stack.producer().await;
    let outcome = backend.try_revoke(&json!({"subject": "alice"})).await;
    assert_eq!(
        (&outcome["outcome"], &outcome["replicated"]),
        (&json!("revoked"), &Value::Null)
    );
    assert!(
        replica.dump().await.contains("{revocations}"),
        "it was told before it was there"
    );
    replica.freeze().await;
    let outcome = backend.try_revoke(&json!({"subject": "bob"})).await;
    assert_eq!(
        (&outcome["outcome"], &outcome["replicated"]),
        (&json!("revoked"), &json!(false))
    );
    // No one else waits for it.
    let mut carol = stack.client().await;
    carol.authenticate(&fresh("carol")).await;
    is_worthless(&stack, &token_for("bob").claim("iat", seconds() - 60).mint()).await;
    replica.thaw();
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_too_many_is_refused_and_no_other_gives_way() {
    let (stack, store) = stack(1, &[("max-revocations", "2")]).await;
    let mut backend = stack.producer().await;
    let tokens = ["alice", "bob", "carol"].map(|subject| (subject, fresh(subject)));
    for (subject, _) in &tokens[..2] {
        backend.revoke(&json!({"subject": subject})).await;
    }
    let outcome = backend.try_revoke(&json!({"subject": "carol"})).await;
    assert_eq!(outcome["outcome"], "refused", "{outcome}");
    assert_eq!(outcome["error"]["code"], "busy", "{outcome}");
    let (_, carols) = &tokens[2];
    works(&mut stack.client().await, carols).await;
    for (_, token) in &tokens[..2] {
        is_worthless(&stack, token).await;
    }
    // One that is there can be made stricter.
    backend.revoke(&json!({"subject": "bob"})).await;
    let full = r#"countersign_worker_revocations_total{outcome="full"}"#;
    assert_eq!(stack.workers()[0].metrics().await.get(full), Some(&1.0));
    has_revocations(&stack, &store, 2).await;
}

async fn works(client: &mut Client, token: &str) {
    let answer = client.request("echo", Some(token), Value::Null).await;
    assert_eq!(answer["type"], "reply", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_means_tokens_of_an_issuer_whose_clock_is_ahead() {
    let stack = Stack::start().await;
    let mut backend = stack.producer().await;
    let ahead = |subject| token_for(subject).claim("iat", seconds() + 2).mint();
    let (alices, bobs) = (ahead("alice"), ahead("bob"));
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    alice.authenticate(&alices).await;
    bob.authenticate(&bobs).await;
    backend.revoke(&json!({"subject": "alice"})).await;
    alice.expect_close(4503, SOON).await;
    is_worthless(&stack, &alices).await;
    works(&mut bob, &bobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_revocations_at_once_are_all_kept() {
    const MANY: usize = 1_000;
    let (stack, store) = stack(2, &[]).await;
    let queue = stack.queue().await;
    for number in 0..MANY {
        let body = json!({"jti": format!("token-{number}")}).to_string();
        queue.publish("revoke", body, lapin::BasicProperties::default()).await;
    }
    has_revocations(&stack, &store, MANY).await;
}
