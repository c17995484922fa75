//! Messages that anyone may send: handled as no one's unless a good token came with them, and answered whatever the
//! connection's state.

use serde_json::{Value, json};
use tests::{Client, Span, Stack, token_for};

use super::expiry::{SOON, brief, fresh};
use crate::pushes::holds::builder;

const PUBLIC: (&str, &str) = ("public-types", "whoami,ticker.*");

async fn stack(strategy: &str) -> Stack {
    builder(&[PUBLIC, ("strategy", strategy), ("on-unauthenticated", "close")])
        .start()
        .await
}

/// Who the handler was told had sent it.
async fn told(client: &mut Client, token: Option<&str>) -> Value {
    let answer = client.request("whoami", token, Value::Null).await;
    assert_eq!(answer["type"], "reply", "{answer}");
    answer["payload"]["subject"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_message_is_nobody_s_unless_a_good_token_came_with_it() {
    let stack = stack("both").await;
    let mut client = stack.client().await;
    let (good, stale) = (fresh("alice"), token_for("alice").expired_since(60.s()).mint());
    for no_good in [None, Some(stale.as_str()), Some("no token")] {
        assert_eq!(told(&mut client, no_good).await, "", "{no_good:?}");
    }
    assert_eq!(told(&mut client, Some(&good)).await, "alice");
    // It is about no one, and changes nothing of the connection's.
    assert_eq!(told(&mut client, None).await, "");
    assert_eq!(client.request("echo", None, json!(1)).await["payload"], 1);
    let answer = client.request("ticker.eur", None, json!(2)).await;
    assert_eq!(answer["payload"], 2, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_answered_whatever_the_connection_s_state_and_all_else_is_as_before() {
    for strategy in ["both", "per-message", "explicit"] {
        let stack = stack(strategy).await;
        let mut client = stack.client().await;
        assert_eq!(told(&mut client, None).await, "", "{strategy}: before");
        let token = brief("alice");
        client.authenticate(&token.mint()).await;
        assert_eq!(told(&mut client, None).await, "", "{strategy}: in it");
        token.expired().await;
        assert_eq!(told(&mut client, None).await, "", "{strategy}: after it");
        client.expect_nothing_shown().await;
        client.ask("ticker", None, json!(1)).await;
        let before = client.expect_close(4401, SOON).await;
        assert!(
            before.iter().any(|message| message["type"] == "error"),
            "{strategy}: {before:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_equal_ids_hear_no_answer_of_each_other_s() {
    let stack = builder(&[("public-types", "echo"), ("idempotency-window", "1m")])
        .start()
        .await;
    for number in 0..3 {
        let mut client = stack.client().await;
        let answer = client.request("echo", None, json!(number)).await;
        assert_eq!(answer["payload"], number, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_only_asks_for_what_is_public_is_closed_by_auth_timeout_all_the_same() {
    let stack = builder(&[PUBLIC, ("auth-timeout", "2s")]).start().await;
    let mut client = stack.client().await;
    assert_eq!(told(&mut client, None).await, "");
    client.expect_close(4408, 10.s()).await;
}
