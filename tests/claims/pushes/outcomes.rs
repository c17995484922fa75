//! What the producer of a push is told is what became of it.

use serde_json::{Value, json};
use tests::{Push, Span, Stack, connection_of, token_for};

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
