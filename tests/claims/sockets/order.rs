//! P3: authentication state follows the order in which the terminator received the messages, in whatever order workers
//! processed them.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{Client, Push, Span, Stack, eventually, token_for};

use crate::authentication::expiry::{SOON, brief, expired_explicitly, fresh, not_asked, refused};

/// How often what competing workers could disorder is tried.
const ROUNDS: usize = 20;

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .poisoned_workers(3)
        .setting("jwt-leeway", "0s")
        .setting("messages-per-second", "off")
        .settings(settings)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_is_not_undone_by_what_was_sent_before_it() {
    let stack = stack(&[("on-unauthenticated", "ignore")]).await;
    for _ in 0..ROUNDS {
        let mut alice = stack.client().await;
        alice.authenticate(&fresh("alice")).await;
        let slow = alice.ask("slow", Some(&fresh("alice")), json!(1)).await;
        let quick = alice.ask("echo", Some(&fresh("alice")), json!(2)).await;
        alice.send_json(&json!({"id": "out", "type": "auth.logout"})).await;
        let after = alice.ask("whoami", None, Value::Null).await;
        assert_eq!(alice.answer_to(&slow, SOON).await["payload"], 1);
        assert_eq!(alice.answer_to(&quick, SOON).await["payload"], 2);
        assert_eq!(alice.answer_to("out", SOON).await["type"], "auth.ok");
        assert_eq!(refused(&mut alice, &after).await, "auth_required");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_logged_out_gets_no_push_and_the_next_connection_does() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    assert_eq!(backend.push_to("alice", 1).await, "delivered");
    assert_eq!(alice.push(SOON).await["payload"], 1);
    alice.forget().await;
    assert_eq!(backend.push_to("alice", 2).await, "held");
    alice.expect_nothing_shown().await;
    let mut next = stack.client().await;
    next.authenticate(&fresh("alice")).await;
    assert_eq!(next.push(SOON).await["payload"], 2);
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_refuses_what_the_connection_had_held() {
    let stack = stack(&[("on-unauthenticated", "reauthenticate")]).await;
    let mut alice = expired_explicitly(stack.client().await, "alice").await;
    let held = alice.ask("echo", None, json!(1)).await;
    alice.expect_required("expired", SOON).await;
    alice.forget().await;
    assert_eq!(refused(&mut alice, &held).await, "auth_required");
    alice.authenticate(&fresh("bob")).await;
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_connection_is_not_ended_at_its_old_deadline() {
    let stack = stack(&[("on-expired-push", "close"), ("on-unauthenticated", "close")]).await;
    let mut backend = stack.producer().await;
    let (mut by_message, mut explicit) = (stack.client().await, stack.client().await);
    let token = brief("alice");
    explicit.authenticate(&token.mint()).await;
    by_message.request("echo", Some(&token.mint()), json!(0)).await;
    explicit.authenticate(&fresh("alice")).await;
    by_message.request("echo", Some(&fresh("alice")), json!(0)).await;
    token.expired().await;
    let outcome = backend.push(&Push::to("alice", "later")).await;
    assert_eq!(outcome, json!({"outcome": "delivered", "connections": 2}));
    for client in [&mut explicit, &mut by_message] {
        assert_eq!(client.push(SOON).await["payload"], "later");
        assert_eq!(
            client.request("whoami", None, Value::Null).await["payload"]["subject"],
            "alice"
        );
        not_asked(client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_token_counts_and_not_the_one_that_lives_longest() {
    let stack = stack(&[("on-unauthenticated", "reauthenticate")]).await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    let token = brief("alice");
    let auth = alice.authenticate(&token.mint()).await;
    assert!(auth["expires_in"].as_u64() <= Some(3), "{auth}");
    token.expired().await;
    assert_eq!(backend.push_to("alice", 1).await, "held");
    crate::authentication::expiry::asked(&mut alice, 0, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_ends_a_live_connection_and_is_shown_nothing_of_the_old() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    for explicitly in [true, false] {
        let subject = format!("alice-{explicitly}");
        let mut client = expired_explicitly(stack.client().await, &subject).await;
        assert_eq!(backend.push_to(&subject, "secret").await, "held");
        let held = client.ask("echo", None, json!("secret too")).await;
        let bobs = fresh("bob");
        let kind = if explicitly { "auth.authenticate" } else { "whoami" };
        let id = client.ask(kind, Some(&bobs), Value::Null).await;
        let before = client.expect_close(4509, SOON).await;
        let answer = before.iter().find(|message| message["id"] == id.as_str());
        let code = answer.map(|answer| &answer["error"]["code"]);
        assert_eq!(code, Some(&json!("identity_mismatch")), "{before:?}");
        let shown: Vec<_> = before
            .iter()
            .filter(|message| message.to_string().contains("secret"))
            .collect();
        assert!(shown.is_empty(), "held as {held}: {shown:?}");
        let mut bob = stack.client().await;
        bob.authenticate(&bobs).await;
        let mut next = stack.client().await;
        next.authenticate(&fresh(&subject)).await;
        assert_eq!(
            next.push(SOON).await["payload"],
            "secret",
            "it is still there for whom it is meant"
        );
        bob.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_of_another_ends_nothing_and_is_no_authentication() {
    let stack = stack(&[("on-unauthenticated", "reauthenticate")]).await;
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    let stale = token_for("bob").expired_since(60.s()).mint();
    let answer = alice.request("whoami", Some(&stale), Value::Null).await;
    assert_eq!(answer["error"]["code"], "token_expired", "{answer}");
    let answer = alice.request("whoami", None, Value::Null).await;
    assert_eq!(answer["payload"]["subject"], "alice", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_log_out_the_connection_may_be_another_s() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    let mut client = stack.client().await;
    let alices = client.authenticate(&fresh("alice")).await;
    client.forget().await;
    let bobs = client.authenticate(&fresh("bob")).await;
    assert_ne!(
        alices["resume"], bobs["resume"],
        "whoever knew the old key does not know the new one"
    );
    assert_eq!(
        client.request("whoami", None, Value::Null).await["payload"]["subject"],
        "bob"
    );
    assert_eq!(backend.push_to("alice", 1).await, "held");
    assert_eq!(backend.push_to("bob", 2).await, "delivered");
    assert_eq!(client.push(SOON).await["payload"], 2);
    client.expect_nothing_shown().await;
}

/// What a sequential reader of the socket would answer to each message of a history.
#[derive(Default)]
struct Reader {
    identity: Option<&'static str>,
}

/// A history with its expected answers, sent as fast as the socket takes it.
async fn history(client: &mut Client, random: &mut StdRng, length: usize) -> VecDeque<(String, Value)> {
    let mut reader = Reader::default();
    let mut expected = VecDeque::new();
    for number in 0..length {
        let id = format!("h{number}");
        let (message, answer) = match (random.random_range(0..10), reader.identity) {
            (0, _) => {
                reader.identity = None;
                (json!({"type": "auth.logout"}), json!("auth.ok"))
            }
            (1 | 2, who) => {
                let subject = who.unwrap_or(if random.random_bool(0.5) { "alice" } else { "bob" });
                reader.identity = Some(subject);
                (
                    json!({"type": "auth.authenticate", "token": fresh(subject)}),
                    json!("auth.ok"),
                )
            }
            (3, who) => {
                let subject = who.unwrap_or(if random.random_bool(0.5) { "alice" } else { "bob" });
                reader.identity = Some(subject);
                (json!({"type": "whoami", "token": fresh(subject)}), json!(subject))
            }
            (_, Some(subject)) => (json!({"type": "whoami"}), json!(subject)),
            (_, None) => (json!({"type": "whoami"}), json!("auth_required")),
        };
        let mut message = message;
        message["id"] = json!(id);
        client.send_json(&message).await;
        expected.push_back((id, answer));
    }
    expected
}

fn gist(answer: &Value) -> Value {
    match answer["type"].as_str() {
        Some("reply") => answer["payload"]["subject"].clone(),
        Some("error") => answer["error"]["code"].clone(),
        _ => answer["type"].clone(),
    }
}

/// The fewer rounds of real processes; the thousands are the simulator's.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_decided_as_a_sequential_reader_would_decide_it_while_workers_are_killed() {
    let mut stack = stack(&[("on-unauthenticated", "ignore")]).await;
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut client = stack.client().await;
        let expected = history(&mut client, &mut random, 150).await;
        stack.worker(usize::try_from(seed % 3).expect("small")).kill();
        stack.replace_ended_workers();
        for (place, (id, expected)) in expected.into_iter().enumerate() {
            let answer = client.answer_to(&id, 60.s()).await;
            assert_eq!(gist(&answer), expected, "seed {seed}, at {place}: {answer}");
        }
        client.expect_nothing_shown().await;
    }
    eventually(60.s(), "every worker is ready", async || {
        for worker in stack.workers() {
            worker.is_ready().await?;
        }
        Ok::<_, String>(())
    })
    .await;
}
