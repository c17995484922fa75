//! Pushes on several queues: each identity's still in order, and none lost when their number changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::{Push, Span, Stack, eventually, token_for};

const SUBJECTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const EACH: u64 = 40;

fn pushes() -> Vec<Push> {
    let numbers = (0..EACH).flat_map(|number| SUBJECTS.map(|subject| (subject, number)));
    numbers
        .map(|(subject, number)| Push::to(subject, number).id(&format!("{subject}{number}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_identity_s_pushes_come_once_in_order_from_several_workers_of_which_some_die() {
    let mut stack = Stack::builder()
        .poisoned_workers(3)
        .setting("push-shards", "4")
        .start()
        .await;
    let mut clients = BTreeMap::new();
    for subject in SUBJECTS {
        let mut client = stack.client().await;
        client.authenticate(&token_for(subject).mint()).await;
        clients.insert(subject, client);
    }
    let mut backend = stack.producer().await;
    let pushes = pushes();
    let (first, second) = pushes.split_at(pushes.len() / 2);
    backend.burst(first).await;
    (0..2).for_each(|worker| stack.worker(worker).kill());
    stack.replace_ended_workers();
    let told = backend.burst(second).await;
    for client in clients.values_mut() {
        let expected: Vec<_> = (0..EACH).map(Value::from).collect();
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.push(client.push(60.s()).await["payload"].clone());
        }
        assert_eq!(seen, expected);
    }
    for correlation in told {
        assert_eq!(backend.outcome_of(&correlation, 60.s()).await["outcome"], "delivered");
    }
    for client in clients.values_mut() {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_more_queues_than_there_are_to_be_is_brought_on_its_way() {
    let mut stack = Stack::builder().workers(1).setting("push-shards", "8").start().await;
    let queue = stack.queue().await;
    let last = format!("{}.push.7", stack.namespace());
    eventually(30.s(), "the last queue is there", async || {
        let looked = stack.queue().await;
        tokio::spawn({
            let last = last.clone();
            async move { looked.count(&last).await }
        })
        .await
        .ok()
    })
    .await;
    stack.worker(0).kill();
    stack.worker(0).wait_exit(30.s()).await;
    // As the worker that died has passed it on.
    let mut replies = queue.reply_queue().await;
    let mut headers = lapin::types::FieldTable::default();
    headers.insert("subject".into(), lapin::types::AMQPValue::LongString("alice".into()));
    let properties = replies
        .properties()
        .with_headers(headers)
        .with_message_id("left".into());
    queue.publish_to("", &last, json!("left").to_string(), properties).await;
    stack.set_for_workers("push-shards", "1");
    stack.start_workers(1).await;
    assert_eq!(replies.next(60.s()).await.json()["outcome"], "held");
    let mut alice = stack.client().await;
    alice.authenticate(&token_for("alice").mint()).await;
    assert_eq!(alice.push(30.s()).await["id"], "left");
}
