//! A terminator whose clock is minutes off goes by the workers': grants end in time, good tokens count, deadlines are kept.

use serde_json::{Value, json};
use tests::{Client, Push, Span, Stack, eventually};

use crate::authentication::expiry::{SOON, brief, fresh};

async fn skewed(ahead_s: i64) -> (Stack, Client) {
    let mut stack = Stack::builder().setting("jwt-leeway", "0s").start().await;
    stack.start_skewed_terminator(ahead_s).await;
    let client = stack.client_of(1).await;
    (stack, client)
}

/// Asks with a deadline that the difference of the clocks would make void.
async fn expect_answer_in_time(client: &mut Client, id: &str) {
    client
        .send_json(&json!({"id": id, "type": "echo", "timeout_ms": 60_000}))
        .await;
    let answer = client.answer_to(id, SOON).await;
    assert_eq!(answer["type"], "reply", "{answer}");
}

async fn expect_told(stack: &Stack, difference: f64) {
    let shown = stack.terminators()[1]
        .metric("countersign_terminator_clock_difference_seconds")
        .await;
    assert!((shown - difference).abs() < 2.0, "{shown} seconds");
    eventually(SOON, "it says so", async || {
        let log = stack.terminators()[1].log();
        let told = log.iter().any(|line| line["difference_ms"].is_number());
        if told { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_that_is_behind_writes_nothing_after_the_end_and_keeps_deadlines() {
    let (stack, mut client) = skewed(-120).await;
    // The very first message: no one has told it yet what time it is.
    let first = json!({"id": "first", "type": "echo", "token": fresh("alice"), "timeout_ms": 60_000});
    client.send_json(&first).await;
    assert_eq!(client.answer_to("first", SOON).await["type"], "reply");
    expect_answer_in_time(&mut client, "second").await;
    expect_told(&stack, 120.0).await;
    let mut expiring = stack.client_of(1).await;
    let token = brief("bob");
    expiring.authenticate(&token.mint()).await;
    token.expired().await;
    let outcome = stack.producer().await.push(&Push::to("bob", 1)).await;
    assert_eq!(outcome["outcome"], "held", "{outcome}");
    expiring.expect_required("expired", SOON).await;
    expiring.expect_nothing_shown().await;
    expiring.authenticate(&fresh("bob")).await;
    assert_eq!(expiring.push(SOON).await["payload"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_that_is_ahead_takes_good_tokens_for_good() {
    let (stack, mut client) = skewed(120).await;
    let token = tests::token_for("alice").expiring_in(60.s()).mint();
    client.authenticate(&token).await;
    let outcome = stack.producer().await.push(&Push::to("alice", 1)).await;
    assert_eq!(outcome["outcome"], "delivered", "{outcome}");
    assert_eq!(client.push(SOON).await["payload"], 1);
    client.request("echo", None, Value::Null).await;
    expect_answer_in_time(&mut client, "later").await;
    expect_told(&stack, -120.0).await;
}
