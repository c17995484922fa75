//! What a connection has left behind, held, is taken over by anyone who shows its key and is the same identity.

use serde_json::{Value, json};
use tests::{Span, Stack, token_for};

use crate::authentication::expiry::{SOON, brief, fresh, replies};
use crate::pushes::holds::{all_held, ask_many, builder, stack};

/// A connection that has expired, and the key to what it will leave.
async fn expired_with_key(stack: &Stack, subject: &str) -> (tests::Client, String) {
    let mut client = stack.client().await;
    let token = brief(subject);
    let auth = client.authenticate(&token.mint()).await;
    token.expired().await;
    (client, auth["resume"].as_str().expect("a key").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_message_is_released_on_another_connection_by_its_key_and_identity_alone() {
    let stack = stack(&[]).await;
    let (mut first, key) = expired_with_key(&stack, "alice").await;
    let held = ask_many(&mut first, 3).await;
    all_held(&stack, 3).await;
    first.close().await;

    let (mut bob, mut guessing, mut without) = (stack.client().await, stack.client().await, stack.client().await);
    bob.resume(&fresh("bob"), &key).await;
    let guess = format!("{}.{:032x}", key.rsplit_once('.').expect("a secret").0, 7);
    guessing.resume(&fresh("alice"), &guess).await;
    without.authenticate(&fresh("alice")).await;
    for client in [&mut bob, &mut guessing, &mut without] {
        assert_eq!(client.request("echo", None, json!("on")).await["payload"], "on");
        client.expect_nothing_shown().await;
    }
    let mut next = stack.client().await;
    next.resume(&fresh("alice"), &key).await;
    assert_eq!(replies(&mut next, 3).await, held, "all, once, in order");
    for client in [&mut next, &mut bob, &mut guessing, &mut without] {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_its_terminator() {
    let mut stack = builder(&[]).terminators(2).start().await;
    let mut backend = stack.producer().await;
    let (mut alice, key) = expired_with_key(&stack, "alice").await;
    let held = ask_many(&mut alice, 5).await;
    alice.expect_required("expired", SOON).await;
    for number in 0..5 {
        assert_eq!(backend.push_to("alice", number).await, "held");
    }
    all_held(&stack, 5).await;
    stack.terminator(0).kill();
    let mut next = stack.client_of(1).await;
    next.resume(&fresh("alice"), &key).await;
    for id in &held {
        assert_eq!(next.answer_to(id, SOON).await["type"], "reply");
    }
    assert_eq!(next.pushes(5).await, [0, 1, 2, 3, 4]);
    next.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_only_after_it_was_taken_over_comes_through_too() {
    for _ in 0..3 {
        let mut stack = builder(&[]).poisoned_workers(1).start().await;
        let (mut first, key) = expired_with_key(&stack, "alice").await;
        let mut next = stack.client().await;
        // The worker finds all of it at once: what is held, the end of the connection, and who takes over.
        stack.worker(0).freeze().await;
        let authenticate =
            json!({"id": "in", "type": "auth.authenticate", "token": fresh("alice"), "payload": {"resume": key}});
        next.send_json(&authenticate).await;
        let held = ask_many(&mut first, 3).await;
        crate::faults::kills::in_flight(&stack.terminators()[0], 4.0).await;
        first.close().await;
        stack.worker(0).thaw();
        assert_eq!(next.answer_to("in", SOON).await["type"], "auth.ok");
        assert_eq!(replies(&mut next, 3).await, held);
        next.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_for_one_successor_at_a_time_and_for_what_is_still_held() {
    let stack = stack(&[]).await;
    let (mut first, key) = expired_with_key(&stack, "alice").await;
    let held = ask_many(&mut first, 2).await;
    all_held(&stack, 2).await;
    first.close().await;
    let (mut one, mut other) = (stack.client().await, stack.client().await);
    one.resume(&fresh("alice"), &key).await;
    assert_eq!(replies(&mut one, 2).await, held);
    other.resume(&fresh("alice"), &key).await;
    assert_eq!(other.request("echo", None, json!(1)).await["payload"], 1);
    for client in [&mut one, &mut other] {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_opens_nothing() {
    let stack = stack(&[]).await;
    let long = "k".repeat(10_000);
    for key in [
        json!(7),
        json!(null),
        json!({}),
        json!(""),
        json!("."),
        json!("no key"),
        json!(long),
        json!("0123456789abcdef.1.0123"),
    ] {
        let mut client = stack.client().await;
        let (token, payload) = (fresh("alice"), json!({"resume": key}));
        client
            .send_json(&json!({"id": "in", "type": "auth.authenticate", "token": token, "payload": payload}))
            .await;
        // Whether it is refused is no matter.
        client.answer_to("in", SOON).await;
        client.authenticate(&fresh("alice")).await;
        let answer = client.request("whoami", None, Value::Null).await;
        assert_eq!(answer["payload"]["subject"], "alice", "{payload}: {answer}");
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_of_the_same_subject_takes_nothing_over() {
    let stack = stack(&[]).await;
    let of = |client: &str| token_for("alice").claim("azp", client);
    let (bank, game) = (of("bank").expiring_in(2.s()), of("game"));
    let mut first = stack.client().await;
    let key = first.authenticate(&bank.mint()).await["resume"]
        .as_str()
        .expect("a key")
        .to_owned();
    bank.expired().await;
    let held = ask_many(&mut first, 2).await;
    all_held(&stack, 2).await;
    let mut other = stack.client().await;
    other.resume(&game.mint(), &key).await;
    other.expect_nothing_shown().await;
    first.ping(SOON).await;
    let mut next = stack.client().await;
    next.resume(&of("bank").mint(), &key).await;
    assert_eq!(
        replies(&mut next, 2).await,
        held,
        "the client that it was takes it over"
    );
    other.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_taken_over_is_closed_if_it_is_open_still() {
    let stack = builder(&[]).terminators(2).start().await;
    let mut backend = stack.producer().await;
    let mut first = stack.client_of(0).await;
    let key = first.authenticate(&fresh("alice")).await["resume"]
        .as_str()
        .expect("a key")
        .to_owned();
    let open = first.ask("slow", None, json!(1)).await;
    let mut next = stack.client_of(1).await;
    next.resume(&fresh("alice"), &key).await;
    let before = first.expect_close(4510, SOON).await;
    assert!(
        before.iter().any(|message| message["id"] == open.as_str()),
        "what it asked is answered: {before:?}"
    );
    // What was sent to the one that is closed may be held before the other has it.
    let outcome = backend.push_to("alice", 1).await;
    assert!(outcome == "delivered" || outcome == "held", "{outcome}");
    assert_eq!(next.push(SOON).await["payload"], 1);
    assert_eq!(next.request("echo", None, json!(2)).await["payload"], 2);
}
