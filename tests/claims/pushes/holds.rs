//! What waits for a fresh token: in order, within bounds, told of, for the right one alone, anyone who dies meanwhile.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::{Client, Push, Span, Stack, connection_of, eventually};

use crate::authentication::expiry::{SOON, asked, brief, expired_explicitly, fresh, not_asked, refused, replies};

pub(crate) async fn stack(settings: &[(&str, &str)]) -> Stack {
    builder(settings).start().await
}

pub(crate) fn builder(settings: &[(&str, &str)]) -> tests::stack::Builder {
    Stack::builder()
        .poisoned_workers(2)
        .setting("jwt-leeway", "0s")
        .settings(settings)
}

/// Asks so many messages without a token, with payloads from 0.
pub(crate) async fn ask_many(client: &mut Client, count: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(client.ask("echo", None, number.into()).await);
    }
    ids
}

/// Waits until the first terminator counts so many messages as held.
pub(crate) async fn all_held(stack: &Stack, count: u32) {
    eventually(SOON, &format!("{count} messages are held"), async || {
        let held = stack.terminators()[0]
            .metric("countersign_terminator_held_inbound")
            .await;
        if held == f64::from(count) { Ok(()) } else { Err(held) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_held_messages_and_pushes_come_through_in_order_and_once() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let ids = ask_many(&mut alice, 100).await;
    alice.expect_required("expired", SOON).await;
    for number in 0..100 {
        assert_eq!(backend.push_to("alice", number).await, "held");
    }
    alice.expect_nothing_shown().await;
    alice.authenticate(&fresh("alice")).await;
    let (mut answered, mut pushed) = (Vec::new(), Vec::new());
    while answered.len() + pushed.len() < 200 {
        let message = alice.next_json(SOON).await;
        match message["type"].as_str() {
            Some("reply") => answered.push(message["id"].as_str().expect("an id").to_owned()),
            Some("push") => pushed.push(message["payload"].as_u64().expect("a number")),
            _ => assert_eq!(message["type"], "auth.required", "{message}"),
        }
    }
    assert_eq!(answered, ids);
    assert_eq!(pushed, (0..100).collect::<Vec<_>>());
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_asked_once_for_each_expiry() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    for expiry in 0..2 {
        let token = brief("alice");
        alice.authenticate(&token.mint()).await;
        token.expired().await;
        let ids = ask_many(&mut alice, 3).await;
        alice.expect_required("expired", SOON).await;
        for number in 0..3 {
            assert_eq!(backend.push_to("alice", number).await, "held");
        }
        not_asked(&mut alice).await;
        alice.authenticate(&fresh("alice")).await;
        for id in ids {
            assert_eq!(alice.answer_to(&id, SOON).await["type"], "reply", "expiry {expiry}");
        }
        assert_eq!(alice.pushes(3).await, [0, 1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_ready_after_the_expiry_waits_for_the_fresh_token() {
    let stack = stack(&[]).await;
    let mut alice = stack.client().await;
    let token = brief("alice");
    alice.authenticate(&token.mint()).await;
    let moment = token.expires_at() + 500.ms();
    let moment_ms = moment.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let payload = json!(u64::try_from(moment_ms).expect("of this age"));
    let id = alice.ask("until", None, payload.clone()).await;
    let required = alice.expect_required("expired", SOON).await;
    assert!(SystemTime::now() >= moment, "it was asked for because of the answer");
    assert_eq!(required["held"], json!({"inbound": 0, "outbound": 1}));
    alice.expect_nothing_shown().await;
    alice.authenticate(&fresh("alice")).await;
    let answer = alice.answer_to(&id, SOON).await;
    assert_eq!((&answer["type"], &answer["payload"]), (&json!("reply"), &payload));
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bounds_the_client_is_told_that_a_message_is_not_held() {
    for (setting, value, payload) in [
        ("hold-max-messages", "3", json!("small")),
        ("hold-max-bytes", "4KiB", json!("b".repeat(1_200))),
    ] {
        let stack = stack(&[(setting, value)]).await;
        let mut alice = expired_explicitly(stack.client().await, "alice").await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(alice.ask("echo", None, payload.clone()).await);
        }
        alice.expect_required("expired", SOON).await;
        let beyond = alice.ask("echo", None, payload.clone()).await;
        assert_eq!(refused(&mut alice, &beyond).await, "hold_overflow", "{setting}");
        alice.authenticate(&fresh("alice")).await;
        assert_eq!(replies(&mut alice, 3).await, held);
        let again = alice.request("echo", None, payload).await;
        assert_eq!(again["type"], "reply", "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bounds_the_producer_is_told_that_a_push_is_not_held() {
    for (setting, value, payload) in [
        ("hold-max-messages", "3", json!("small")),
        ("hold-max-bytes", "4KiB", json!("b".repeat(1_200))),
    ] {
        let stack = stack(&[(setting, value)]).await;
        let mut backend = stack.producer().await;
        for _ in 0..3 {
            assert_eq!(backend.push_to("alice", payload.clone()).await, "held");
        }
        let outcome = backend.push(&Push::to("alice", payload.clone())).await;
        assert_eq!(outcome["outcome"], "refused", "{setting}: {outcome}");
        assert_eq!(outcome["error"]["code"], "hold_overflow", "{setting}: {outcome}");
        assert_eq!(
            backend.push_to("bob", payload).await,
            "held",
            "each has bounds of its own"
        );
        let mut alice = stack.client().await;
        alice.authenticate(&fresh("alice")).await;
        alice.pushes(3).await;
        alice.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_too_long_is_told_to_whoever_can_act() {
    let stack = stack(&[("hold-ttl", "2s")]).await;
    let mut backend = stack.producer().await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let message = alice.ask("echo", None, json!(1)).await;
    let required = alice.expect_required("expired", SOON).await;
    assert!(required["deadline_ms"].as_u64() <= Some(2_000), "{required}");
    let push = backend.send(&Push::to("alice", 2)).await;
    assert_eq!(backend.outcome_of(&push, SOON).await["outcome"], "held");
    assert_eq!(refused(&mut alice, &message).await, "hold_expired");
    assert_eq!(backend.outcome_of(&push, 30.s()).await["outcome"], "expired");
    alice.authenticate(&fresh("alice")).await;
    let answer = alice.request("echo", None, json!(3)).await;
    assert_eq!(answer["payload"], 3, "{answer}");
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stranger_is_handled_as_whoever_the_same_connection_turns_out_to_be() {
    let stack = stack(&[]).await;
    let mut client = stack.client().await;
    let id = client.ask("whoami", None, Value::Null).await;
    let required = client.expect_required("missing", SOON).await;
    assert_eq!(required["held"]["inbound"], 1, "{required}");
    client.authenticate(&fresh("bob")).await;
    assert_eq!(client.answer_to(&id, SOON).await["payload"]["subject"], "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_another_s_stale_token_is_never_handled_as_whoever_logs_in() {
    let stack = stack(&[]).await;
    let mut client = stack.client().await;
    let stale = tests::token_for("alice").expired_since(60.s()).mint();
    let id = client.ask("whoami", Some(&stale), Value::Null).await;
    client.expect_required("expired", SOON).await;
    client.authenticate(&fresh("bob")).await;
    assert_eq!(refused(&mut client, &id).await, "identity_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_every_worker() {
    let mut stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let held = ask_many(&mut alice, 5).await;
    alice.expect_required("expired", SOON).await;
    for number in 0..5 {
        // A worker that dies may leave it to the next, who knows it by its id.
        let push = Push::to("alice", number).id(&number.to_string());
        assert_eq!(backend.push(&push).await["outcome"], "held");
    }
    not_asked(&mut alice).await;
    (0..2).for_each(|worker| stack.worker(worker).kill());
    let id = alice.ask("echo", None, json!("while nobody is there")).await;
    stack.replace_ended_workers();
    alice.authenticate(&fresh("alice")).await;
    for id in held.iter().chain([&id]) {
        let answer = alice.answer_to(id, 30.s()).await;
        assert_eq!(answer["type"], "reply", "{answer}");
    }
    assert_eq!(alice.pushes(5).await, [0, 1, 2, 3, 4]);
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_renewal_at_any_moment_leaves_a_message_waiting() {
    let stack = stack(&[]).await;
    for round in 0..20 {
        let mut alice = stack.client().await;
        let mut ids = ask_many(&mut alice, round % 4).await;
        let authenticate = json!({"id": "in", "type": "auth.authenticate", "token": fresh("alice")});
        ids.push(alice.ask("echo", None, json!("right before")).await);
        alice.send_json(&authenticate).await;
        ids.push(alice.ask("echo", None, json!("right behind")).await);
        for id in ids {
            let answer = alice.answer_to(&id, SOON).await;
            assert_eq!(answer["type"], "reply", "round {round}: {answer}");
        }
    }
    let mut backend = stack.producer().await;
    for round in 0..20 {
        let subject = format!("push-{round}");
        let mut client = stack.client().await;
        let push = backend.send(&Push::to(&subject, round)).await;
        let auth = client.authenticate(&fresh(&subject)).await;
        assert_eq!(client.push(SOON).await["payload"], round);
        backend.outcome_of(&push, SOON).await;
        let gone = backend.push(&Push::to_connection(&connection_of(&auth), 0)).await;
        assert_eq!(gone["outcome"], "delivered", "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_counted_where_it_is_asked_for() {
    let stack = stack(&[]).await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    ask_many(&mut alice, 3).await;
    asked(&mut alice, 1, 0).await;
    all_held(&stack, 3).await;
}
