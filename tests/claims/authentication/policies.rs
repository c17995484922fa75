//! What happens where authentication is missing or has expired: two strategies, three policies, two directions, each
//! cell a claim, and each claim on real programs and within one process.

use serde_json::{Value, json};
use tests::{Embedded, Push, Rig, Stack, connection_of};

use super::expiry::{SOON, Strategy, asked, brief, expired, fresh, not_asked, replies};

use Strategy::{Explicit, PerMessage};

/// Declares each claim for both implementations.
macro_rules! claims {
    ($($name:ident = $cell:ident($strategy:ident),)+) => {
        mod on_rabbitmq_and_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$cell::<super::Stack>(super::$strategy).await;
            })+
        }

        mod within_one_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$cell::<super::Embedded>(super::$strategy).await;
            })+
        }
    };
}

claims! {
    a_message_with_an_expired_token_is_handled_if_that_is_ignored = inbound_ignore(PerMessage),
    a_message_on_an_expired_connection_is_handled_if_that_is_ignored = inbound_ignore(Explicit),
    an_ignored_expiry_lets_answers_out_and_pushes_wait_by_message = inbound_ignore_answer(PerMessage),
    an_ignored_expiry_lets_answers_out_and_pushes_wait = inbound_ignore_answer(Explicit),
    a_message_with_an_expired_token_closes_the_connection = inbound_close(PerMessage),
    a_message_on_an_expired_connection_closes_it = inbound_close(Explicit),
    a_message_with_an_expired_token_waits_for_a_fresh_one = inbound_reauthenticate(PerMessage),
    a_message_on_an_expired_connection_waits_for_a_fresh_token = inbound_reauthenticate(Explicit),
    a_push_is_written_although_the_last_token_has_expired_if_that_is_ignored = outbound_ignore(PerMessage),
    a_push_is_written_to_an_expired_connection_if_that_is_ignored = outbound_ignore(Explicit),
    a_push_closes_a_connection_whose_last_token_has_expired_and_waits_for_the_next = outbound_close(PerMessage),
    a_push_closes_an_expired_connection_and_waits_for_the_next = outbound_close(Explicit),
    a_push_waits_for_the_next_message_with_a_fresh_token = outbound_reauthenticate(PerMessage),
    a_push_waits_until_the_connection_is_authenticated_again = outbound_reauthenticate(Explicit),
    an_expired_message_is_treated_as_its_type_wants = by_type(PerMessage),
    a_message_on_an_expired_connection_is_treated_as_its_type_wants = by_type(Explicit),
    a_push_to_one_connection_is_guarded_like_any_other = to_a_connection(Explicit),
}

async fn inbound_ignore<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-unauthenticated", "ignore")])).await;
    let mut stranger = rig.client().await;
    let answer = stranger.request("echo", None, Value::Null).await;
    assert_eq!(answer["error"]["code"], "auth_required", "nobody was proved: {answer}");
    let (mut alice, old) = expired(rig.client().await, strategy, "alice").await;
    for _ in 0..3 {
        let id = strategy.ask(&mut alice, "whoami", &old, Value::Null).await;
        let answer = alice.answer_to(&id, SOON).await;
        assert_eq!(answer["payload"]["subject"], "alice", "{answer}");
    }
    not_asked(&mut alice).await;
}

/// The policy that lets a message in lets its answer out; what no one on the connection has asked for waits.
async fn inbound_ignore_answer<R: Rig>(strategy: Strategy) {
    let policies = [("on-unauthenticated", "ignore"), ("on-expired-push", "reauthenticate")];
    let rig = R::start(&strategy.with(&policies)).await;
    let mut backend = rig.producer().await;
    let (mut alice, old) = expired(rig.client().await, strategy, "alice").await;
    let id = strategy.ask(&mut alice, "whoami", &old, Value::Null).await;
    assert_eq!(alice.answer_to(&id, SOON).await["payload"]["subject"], "alice");
    not_asked(&mut alice).await;
    assert_eq!(backend.push_to("alice", 1).await, "held");
    asked(&mut alice, 0, 1).await;
    strategy.log_in(&mut alice, &fresh("alice")).await;
    assert_eq!(alice.push(SOON).await["payload"], 1);
}

async fn inbound_close<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-unauthenticated", "close")])).await;
    let (mut alice, old) = expired(rig.client().await, strategy, "alice").await;
    let id = strategy.ask(&mut alice, "echo", &old, 1).await;
    let before = alice.expect_close(4401, SOON).await;
    let refusal = before.iter().find(|message| message["id"] == id.as_str());
    let refusal = refusal.unwrap_or_else(|| panic!("it is not refused before the close: {before:?}"));
    assert_eq!(refusal["error"]["code"], strategy.refusal(), "{refusal}");

    let mut stranger = rig.client().await;
    let id = stranger.ask("echo", None, 1.into()).await;
    let before = stranger.expect_close(4401, SOON).await;
    let codes: Vec<_> = before
        .iter()
        .map(|message| (&message["id"], &message["error"]["code"]))
        .collect();
    assert_eq!(codes, [(&json!(id), &json!("auth_required"))]);

    let mut next = rig.client().await;
    strategy.log_in(&mut next, &fresh("alice")).await;
}

async fn inbound_reauthenticate<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-unauthenticated", "reauthenticate")])).await;
    let (mut alice, old) = expired(rig.client().await, strategy, "alice").await;
    let mut ids = vec![strategy.ask(&mut alice, "whoami", &old, Value::Null).await];
    asked(&mut alice, 1, 0).await;
    for number in 0..4 {
        ids.push(strategy.ask(&mut alice, "echo", &old, number).await);
    }
    not_asked(&mut alice).await;
    alice.expect_nothing_shown().await;
    strategy.log_in(&mut alice, &fresh("alice")).await;
    assert_eq!(replies(&mut alice, 5).await, ids, "all, once, in order");
    alice.expect_nothing_shown().await;
    not_asked(&mut alice).await;
}

async fn outbound_ignore<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-expired-push", "ignore")])).await;
    let mut backend = rig.producer().await;
    let (mut alice, _) = expired(rig.client().await, strategy, "alice").await;
    assert_eq!(backend.push_to("alice", "still").await, "delivered");
    assert_eq!(alice.push(SOON).await["payload"], "still");
    not_asked(&mut alice).await;
}

async fn outbound_close<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-expired-push", "close")])).await;
    let mut backend = rig.producer().await;
    let (mut alice, _) = expired(rig.client().await, strategy, "alice").await;
    assert_eq!(backend.push_to("alice", "kept").await, "held");
    let before = alice.expect_close(4401, SOON).await;
    let last = before.last().expect("an error before the close");
    assert_eq!(last["error"]["code"], "auth_required", "{before:?}");
    assert!(!format!("{before:?}").contains("kept"), "{before:?}");
    let mut next = rig.client().await;
    strategy.log_in(&mut next, &fresh("alice")).await;
    assert_eq!(next.push(SOON).await["payload"], "kept");
    next.expect_nothing_shown().await;
}

async fn outbound_reauthenticate<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-expired-push", "reauthenticate")])).await;
    let mut backend = rig.producer().await;
    let (mut alice, _) = expired(rig.client().await, strategy, "alice").await;
    assert_eq!(backend.push(&Push::to("alice", 1).id("first")).await["outcome"], "held");
    asked(&mut alice, 0, 1).await;
    for number in 2..=5 {
        assert_eq!(backend.push_to("alice", number).await, "held");
    }
    alice.expect_nothing_shown().await;
    not_asked(&mut alice).await;
    strategy.log_in(&mut alice, &fresh("alice")).await;
    let first = alice.push(SOON).await;
    assert_eq!((&first["id"], &first["payload"]), (&json!("first"), &json!(1)));
    assert_eq!(alice.pushes(4).await, [2, 3, 4, 5], "all, once, in order");
    alice.expect_nothing_shown().await;
}

/// The policy of some types may be another.
async fn by_type<R: Rig>(strategy: Strategy) {
    let policy = "close,typing=ignore,order=reauthenticate";
    let rig = R::start(&strategy.with(&[("on-unauthenticated", policy), ("on-expired-push", "ignore")])).await;
    let (mut alice, old) = expired(rig.client().await, strategy, "alice").await;
    let typing = strategy.ask(&mut alice, "typing", &old, 1).await;
    assert_eq!(alice.answer_to(&typing, SOON).await["payload"], 1);
    let order = strategy.ask(&mut alice, "order", &old, 2).await;
    asked(&mut alice, 1, 0).await;
    let other = strategy.ask(&mut alice, "other", &old, 3).await;
    let before = alice.expect_close(4401, SOON).await;
    assert!(
        before.iter().any(|message| message["id"] == other.as_str()),
        "{before:?}"
    );
    assert!(
        !before.iter().any(|message| message["id"] == order.as_str()),
        "it is held: {before:?}"
    );
}

/// A push may name a connection rather than an identity.
async fn to_a_connection<R: Rig>(strategy: Strategy) {
    let rig = R::start(&strategy.with(&[("on-expired-push", "close")])).await;
    let mut backend = rig.producer().await;
    let mut alice = rig.client().await;
    let token = brief("alice");
    let auth = strategy.log_in(&mut alice, &token.mint()).await;
    let to = |payload: &str| Push::to_connection(&connection_of(&auth), payload);
    let delivered = backend.push(&to("before")).await;
    assert_eq!(delivered, json!({"outcome": "delivered", "connections": 1}));
    assert_eq!(alice.push(SOON).await["payload"], "before");
    token.expired().await;
    backend.send(&to("after")).await;
    alice.expect_close(4401, SOON).await;
}
