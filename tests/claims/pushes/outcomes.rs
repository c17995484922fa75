//! What the producer of a push is told is what became of it.

use serde_json::{Value, json};
use tests::{Push, Span, Stack, connection_of, eventually, token_for};

use crate::hostile::crowds::slow_reader;

/// The outcome without its words.
fn told(outcome: &Value) -> Value {
    json!([outcome["outcome"], outcome["error"]["code"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn another_push_under_a_used_message_id_is_told_that_and_the_same_once_more_is_not() {
    let stack = Stack::start().await;
    let mut alice = stack.client().await;
    let auth = alice.authenticate(&token_for("alice").mint()).await;
    let mut backend = stack.producer().await;
    let to_connection = |payload: i32| Push::to_connection(&connection_of(&auth), payload);
    for (push, expected) in [
        (Push::to("alice", 1).id("a"), json!(["delivered", null])),
        (Push::to("alice", 1).id("a"), json!(["delivered", null])),
        (Push::to("alice", 2).id("a"), json!(["refused", "duplicate"])),
        (Push::to("alice", 2).id("b"), json!(["delivered", null])),
        (Push::to("bob", 3).id("a"), json!(["held", null])),
        (Push::to("bob", 4).id("a"), json!(["refused", "duplicate"])),
        (Push::to("bob", 3).id("a"), json!(["held", null])),
        (to_connection(5).id("c"), json!(["delivered", null])),
        (to_connection(6).id("c"), json!(["refused", "duplicate"])),
    ] {
        let outcome = backend.push(&push).await;
        assert_eq!(told(&outcome), expected, "{push:?}: {outcome}");
    }
    for payload in [1, 2, 5] {
        assert_eq!(alice.push(30.s()).await["payload"], payload);
    }
    alice.expect_nothing_shown().await;
    let mut bob = stack.client().await;
    bob.authenticate(&token_for("bob").mint()).await;
    assert_eq!(bob.push(30.s()).await["payload"], 3);
    bob.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_for_many_reaches_each_of_them_once_and_its_producer_is_told_of_each() {
    let stack = Stack::builder().terminators(2).setting("hold-ttl", "2s").start().await;
    let (mut alice, mut bob) = (stack.client().await, stack.client_of(1).await);
    alice.authenticate(&token_for("alice").mint()).await;
    bob.authenticate(&token_for("bob").mint()).await;
    let mut backend = stack.producer().await;
    let sent = backend
        .send(&Push::to_each(&["alice", "bob", "carol", "alice", ""], 1).id("a"))
        .await;
    // One says what became of all at once; what a terminator has written by then may be told before it.
    let mut told_of = Vec::new();
    for _ in 0..4 {
        told_of.push(backend.outcome_of(&sent, 30.s()).await);
    }
    let place = told_of.iter().position(|outcome| outcome["outcome"] == "of_each");
    let outcome = told_of.remove(place.expect("one for all"));
    let each: Vec<_> = outcome["outcomes"].as_array().expect("a list").iter().collect();
    let expected = [
        ("alice", json!(["sent", null])),
        ("bob", json!(["sent", null])),
        ("carol", json!(["held", null])),
        ("", json!(["refused", "bad_request"])),
    ];
    assert_eq!(each.len(), expected.len(), "{outcome}");
    for (one, (subject, expected)) in each.into_iter().zip(expected) {
        assert_eq!((&one["subject"], told(one)), (&json!(subject), expected));
    }
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.push(30.s()).await["id"], "a");
        client.expect_nothing_shown().await;
    }
    let one = |outcome: &Value| (outcome["subject"].to_string(), outcome["outcome"].to_string());
    let mut later: Vec<_> = told_of.iter().map(one).collect();
    later.sort();
    let expected = [("alice", "delivered"), ("bob", "delivered"), ("carol", "expired")];
    assert_eq!(
        later,
        expected.map(|(subject, outcome)| (format!("{subject:?}"), format!("{outcome:?}")))
    );
    let names: Vec<_> = (0..1_001).map(|number| format!("u{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for wrong in [&names[..], &[]] {
        let outcome = backend.push(&Push::to_each(wrong, 1)).await;
        assert_eq!(told(&outcome), json!(["refused", "bad_request"]));
    }
    let outcome = backend.push(&Push::to_each(&names[..1_000], 2)).await;
    let held = outcome["outcomes"].as_array().expect("a list");
    assert!(held.len() == 1_000 && held.iter().all(|one| one["outcome"] == "held"));
}

/// Some of it fits into the socket; the rest was told to be delivered, and could be lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_reader_is_pushed_is_delivered_when_it_is_written_and_each_is_told_once_for_all() {
    const PUSHES: usize = 300;
    let stack = Stack::builder()
        .settings(&[("hold-max-messages", "1000"), ("hold-max-bytes", "64MiB")])
        .start()
        .await;
    let token = token_for("alice").mint();
    let slow = slow_reader(stack.terminators()[0].address(), &token).await;
    let mut backend = stack.producer().await;
    let text = "x".repeat(60_000);
    let pushes: Vec<_> = (0..PUSHES)
        .map(|number| Push::to("alice", json!([number, text])))
        .collect();
    let told = backend.burst(&pushes).await;
    eventually(60.s(), "who does not read is closed", async || {
        let closed = "countersign_terminator_connections_closed_total{code=\"4410\"}";
        let metrics = stack.terminators()[0].metrics().await;
        if metrics.get(closed) >= Some(&1.0) {
            Ok(())
        } else {
            Err(metrics.get(closed).copied())
        }
    })
    .await;
    let (mut delivered, mut held) = (Vec::new(), Vec::new());
    for correlation in &told {
        let outcome = backend.outcome_of(correlation, 60.s()).await;
        match outcome["outcome"].as_str() {
            Some("delivered") => delivered.push(correlation),
            Some("held") => held.push(correlation),
            _ => panic!("{outcome}"),
        }
    }
    assert!(
        !delivered.is_empty() && !held.is_empty(),
        "{} are delivered",
        delivered.len()
    );
    drop(slow);
    let mut next = stack.client().await;
    next.authenticate(&token).await;
    for _ in &held {
        next.push(30.s()).await;
    }
    for correlation in held {
        let outcome = backend.outcome_of(correlation, 30.s()).await;
        assert_eq!(outcome["outcome"], "delivered", "{outcome}");
    }
    next.expect_nothing_shown().await;
    backend.expect_no_outcome().await;
}
