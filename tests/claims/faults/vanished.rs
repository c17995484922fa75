//! A terminator's own queue is removed, with what is in it: by a person, by a policy, or with the node that had it.

use lapin::options::ExchangeDeleteOptions;
use serde_json::json;
use tests::{Push, Stack, eventually};

use crate::authentication::expiry::{SOON, fresh};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_whose_queue_was_removed_hears_what_was_revoked_and_its_clients_are_pushed_to() {
    let mut stack = Stack::builder().start().await;
    let (queue, mut backend) = (stack.queue().await, stack.producer().await);
    let (mut alice, mut mallory) = (stack.client().await, stack.client().await);
    alice.authenticate(&fresh("alice")).await;
    mallory.authenticate(&fresh("mallory")).await;
    let prefix = format!("{}.return.", stack.namespace());
    let all = stack.broker().list_queues().await;
    let own = all
        .into_iter()
        .find_map(|(name, _)| name.starts_with(&prefix).then_some(name));
    let own = own.expect("its queue");
    // While it stands still it makes no other.
    stack.terminator(0).freeze().await;
    queue.delete(&own).await;
    let outcome = backend.push(&Push::to("alice", 1)).await;
    assert_eq!(outcome["outcome"], "held", "{outcome}");
    backend.revoke(&json!({"subject": "mallory"})).await;
    stack.terminator(0).thaw();
    mallory.expect_close(4503, SOON).await;
    assert_eq!(alice.push(SOON).await["payload"], 1);
    eventually(SOON, "it is known again that she is there", async || {
        let outcome = backend.push_to("alice", 2).await;
        if outcome == "delivered" { Ok(()) } else { Err(outcome) }
    })
    .await;
    assert_eq!(alice.push(SOON).await["payload"], 2);
}

/// What programs tell each other goes through it, and each of their queues is bound to it: also those that are consumed
/// meanwhile, of which no one who publishes knows.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_was_removed_leaves_no_queue_without_its_binding() {
    let stack = Stack::start().await;
    let (queue, mut backend) = (stack.queue().await, stack.producer().await);
    let (mut alice, mut mallory) = (stack.client().await, stack.client().await);
    mallory.authenticate(&fresh("mallory")).await;
    let internal = format!("{}.internal", stack.namespace());
    let removed = queue
        .channel()
        .exchange_delete(internal.as_str().into(), ExchangeDeleteOptions::default());
    removed.await.expect("the exchange");
    let token = fresh("alice");
    eventually(SOON, "messages are answered again", async || {
        let answer = alice.request("echo", Some(&token), json!(1)).await;
        if answer["type"] == "reply" { Ok(()) } else { Err(answer) }
    })
    .await;
    backend.revoke(&json!({"subject": "mallory"})).await;
    mallory.expect_close(4503, SOON).await;
}
