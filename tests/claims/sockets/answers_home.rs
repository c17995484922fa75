//! An answer goes home: to the connection that asked, or to the one that shows its key, and to no other.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::{Client, Span, Stack, eventually, token_for};

use crate::authentication::expiry::{SOON, fresh};
use crate::faults::kills::in_flight;
use crate::pushes::holds::{builder, stack};

/// In so many milliseconds, as the handler `until` is told it.
fn in_ms(milliseconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("of this age") + milliseconds
}

fn key_of(auth: &Value) -> String {
    auth["resume"].as_str().expect("a key").to_owned()
}

/// Asks `1`, `2`, … that are answered in a second, and is torn down when all are under way. Tells their answers.
async fn torn_down(stack: &Stack, mut client: Client, count: u64) -> Vec<(String, Value)> {
    let moment = in_ms(1_500);
    let mut asked = Vec::new();
    for number in 1..=count {
        let (id, payload) = (number.to_string(), json!(moment + number));
        client
            .send_json(&json!({"id": id, "type": "until", "payload": payload}))
            .await;
        asked.push((id, payload));
    }
    in_flight(&stack.terminators()[0], count as f64).await;
    drop(client);
    asked
}

/// Waits until so many answers were put away.
async fn answers_held(stack: &Stack, count: f64) {
    counted(stack, r#"countersign_worker_writes_held_total{kind="answer"}"#, count).await;
}

async fn counted(stack: &Stack, name: &str, count: f64) {
    eventually(30.s(), &format!("{count} of {name}"), async || {
        let mut sum = 0.0;
        for worker in stack.workers() {
            sum += worker.metrics().await.get(name).copied().unwrap_or_default();
        }
        if sum >= count { Ok(()) } else { Err(sum) }
    })
    .await;
}

/// What a connection hears next, so many answers.
async fn heard(client: &mut Client, count: usize) -> Vec<(String, Value)> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let answer = client.next_of_type("reply", SOON).await;
        heard.push((
            answer["id"].as_str().expect("an id").to_owned(),
            answer["payload"].clone(),
        ));
    }
    heard.sort_by_key(|(id, _)| id.clone());
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_heard_by_nobody_but_whoever_asked_or_shows_the_key() {
    let stack = builder(&[]).terminators(2).start().await;
    let admin = token_for("alice")
        .claim("azp", "console")
        .claim("scope", "admin")
        .mint();
    let read = token_for("alice").claim("azp", "widget").claim("scope", "read").mint();
    let mut tab_a = stack.client_of(0).await;
    let mut tab_b = stack.client_of(1).await;
    let mut widget = stack.client_of(1).await;
    let key = key_of(&tab_a.authenticate(&admin).await);
    tab_b.authenticate(&admin).await;
    widget.authenticate(&read).await;
    let owed = torn_down(&stack, tab_a, 4).await;
    let own = json!(in_ms(1_500));
    tab_b
        .send_json(&json!({"id": "2", "type": "until", "payload": own}))
        .await;
    answers_held(&stack, 4.0).await;
    assert_eq!(tab_b.answer_to("2", SOON).await["payload"], own);

    let mut without = stack.client_of(0).await;
    without.authenticate(&admin).await;
    let mut bob = stack.client_of(0).await;
    bob.resume(&fresh("bob"), &key).await;
    widget.resume(&read, &key).await;
    for client in [&mut tab_b, &mut widget, &mut without, &mut bob] {
        assert_eq!(client.request("echo", None, json!("on")).await["payload"], "on");
        client.expect_nothing_shown().await;
    }

    let mut next = stack.client_of(1).await;
    next.resume(&admin, &key).await;
    assert_eq!(heard(&mut next, 4).await, owed, "each once");
    let mut late = stack.client_of(0).await;
    late.resume(&admin, &key).await;
    for client in [&mut late, &mut tab_b, &mut widget, &mut without, &mut bob] {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_came_back_first_hears_what_is_answered_later() {
    let stack = stack(&[]).await;
    let mut first = stack.client().await;
    let key = key_of(&first.authenticate(&fresh("alice")).await);
    let owed = torn_down(&stack, first, 3).await;
    let mut second = stack.client().await;
    let key = key_of(&second.resume(&fresh("alice"), &key).await);
    // It is lost in its turn, and its client knows the second key alone.
    drop(second);
    let mut third = stack.client().await;
    third.resume(&fresh("alice"), &key).await;
    assert_eq!(heard(&mut third, 3).await, owed);
    third.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_comes_back_for_is_counted_and_gone() {
    let stack = stack(&[("hold-ttl", "2s")]).await;
    let mut first = stack.client().await;
    let key = key_of(&first.authenticate(&fresh("alice")).await);
    torn_down(&stack, first, 2).await;
    let expired = r#"countersign_worker_holds_dropped_total{reason="expired",kind="answer"}"#;
    counted(&stack, expired, 2.0).await;
    let mut next = stack.client().await;
    next.resume(&fresh("alice"), &key).await;
    assert_eq!(next.request("echo", None, json!(1)).await["payload"], 1);
    next.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_bounds_of_their_connection_and_not_of_its_identity() {
    let stack = stack(&[("hold-max-messages", "2")]).await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut client = stack.client().await;
        keys.push(key_of(&client.authenticate(&fresh("alice")).await));
        torn_down(&stack, client, 2).await;
    }
    answers_held(&stack, 4.0).await;
    for key in keys {
        let mut next = stack.client().await;
        next.resume(&fresh("alice"), &key).await;
        assert_eq!(
            heard(&mut next, 2).await.len(),
            2,
            "each of both connections has room for two"
        );
        next.expect_nothing_shown().await;
    }
}
