//! A push that its client has not acknowledged is not lost (P7).

use serde_json::{Value, json};
use tests::{Client, Push, Stack, token_for};

use crate::authentication::expiry::SOON;

/// Logs in as alice, and says that it acknowledges pushes.
async fn acknowledging(stack: &Stack) -> Client {
    let mut client = stack.client().await;
    client.send_json(&json!({"type": "push.ack", "id": "on"})).await;
    let told = client.answer_to("on", SOON).await;
    assert_eq!(told["payload"], json!({"acknowledged": 0, "unknown": 0}), "{told}");
    client.authenticate(&token_for("alice").mint()).await;
    client
}

async fn acknowledge(client: &mut Client, ids: &[Value]) -> Value {
    client
        .send_json(&json!({"type": "push.ack", "id": "ack", "ids": ids}))
        .await;
    client.answer_to("ack", SOON).await["payload"].clone()
}

/// The ids of the next pushes.
async fn ids_of(client: &mut Client, count: usize) -> Vec<Value> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.push(SOON).await["id"].clone());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_to_a_dead_socket_comes_to_the_next_one_and_its_producer_is_told_then() {
    let stack = Stack::builder().setting("push-ack", "on").start().await;
    let mut backend = stack.producer().await;
    let mut first = acknowledging(&stack).await;
    let pushes: Vec<_> = (0..3).map(|number| Push::to("alice", number)).collect();
    let told = backend.burst(&pushes).await;
    let ids = ids_of(&mut first, 3).await;
    assert_eq!(acknowledge(&mut first, &ids[..1]).await["acknowledged"], 1);
    assert_eq!(backend.outcome_of(&told[0], SOON).await["outcome"], "delivered");
    // Its network goes: it has read the others, and no one knows.
    drop(first);
    for correlation in &told[1..] {
        assert_eq!(backend.outcome_of(correlation, SOON).await["outcome"], "held");
    }
    let mut second = acknowledging(&stack).await;
    let again = ids_of(&mut second, 2).await;
    assert_eq!(again, ids[1..]);
    assert_eq!(
        acknowledge(&mut second, &again).await,
        json!({"acknowledged": 2, "unknown": 0})
    );
    for correlation in &told[1..] {
        assert_eq!(backend.outcome_of(correlation, SOON).await["outcome"], "delivered");
    }
    // Once more, and what never was.
    let none = acknowledge(&mut second, &[ids[1].clone(), json!("never was")]).await;
    assert_eq!(none, json!({"acknowledged": 0, "unknown": 2}));
    second.close().await;
    let mut third = acknowledging(&stack).await;
    third.expect_nothing_shown().await;
}
