//! An operator's policy for every queue of the broker, as they are set for applications: what it has the broker drop is
//! told to anyone who waits for it, and holds up nothing.
//!
//! Of two limits RabbitMQ takes the lower one, so that no declaration keeps a policy's out
//! (<https://www.rabbitmq.com/docs/ttl>); but where a queue's dead letters go is the queue's own word.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use serde_json::{Value, json};
use tests::stack::Builder;
use tests::{Broker, Client, Span, Stack, eventually, token_for};

use super::kills::in_flight;

const MESSAGES: u32 = 12;

async fn set_policy(broker: &Broker, definition: &Value) {
    let definition = definition.to_string();
    broker
        .ctl(&["set_policy", "--apply-to", "queues", "everything", ".*", &definition])
        .await;
}

/// One worker that handles one message after the other, although many of one connection wait for it.
fn one_at_a_time(broker: &Arc<Broker>) -> Builder {
    Stack::builder()
        .broker(broker)
        .poisoned_workers(1)
        .setting("prefetch", "1")
        .setting("concurrency", "1")
        .setting("max-in-flight", "12")
        // In order, nothing of one connection waits in the queue.
        .setting("order", "none")
}

/// Sends messages that take long, and counts those that are refused; each is, or is answered, within that time.
async fn refused_for_now(client: &mut Client, token: Option<&str>, patience: Duration) -> u32 {
    let mut asked = Vec::new();
    for number in 0..MESSAGES {
        asked.push(client.ask("slow", token, json!(number)).await);
    }
    let mut refused = 0;
    for id in &asked {
        let answer = client.answer_to(id, patience).await;
        if answer["type"] == "error" {
            assert_eq!(
                (&answer["error"]["code"], &answer["error"]["temporary"]),
                (&json!("busy"), &json!(true)),
                "{answer}"
            );
            refused += 1;
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expires_on_the_broker_is_refused_for_now_and_costs_its_connection_nothing() {
    let broker = Arc::new(Broker::start().await);
    let stack = one_at_a_time(&broker).start().await;
    set_policy(&broker, &json!({"message-ttl": 1_000})).await;
    let token = token_for("alice").mint();
    let mut alice = stack.client().await;
    let expired = refused_for_now(&mut alice, Some(&token), 30.s()).await;
    assert!(
        expired > 0,
        "a second is enough for two of {MESSAGES} that take half a second each"
    );
    in_flight(&stack.terminators()[0], 0.0).await;
    assert_eq!(alice.request("echo", Some(&token), json!(1)).await["payload"], 1);
    let letters = eventually(20.s(), "each is a dead letter", async || {
        let buried = stack.workers()[0].metric("countersign_worker_dead_letters_total").await;
        if buried >= f64::from(expired) {
            Ok(buried)
        } else {
            Err(buried)
        }
    })
    .await;
    println!("{expired} of {MESSAGES} expired, {letters} dead letters");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_because_of_a_short_max_length_is_handled_or_refused_for_now_and_never_lost() {
    let broker = Arc::new(Broker::start().await);
    let stack = one_at_a_time(&broker)
        .setting("batch", "off")
        .setting("publish-timeout", "2s")
        .start()
        .await;
    let token = token_for("alice").mint();
    let mut alice = stack.client().await;
    alice.authenticate(&token).await;
    set_policy(&broker, &json!({"max-length": 2})).await;
    let refused = refused_for_now(&mut alice, None, 60.s()).await;
    assert!(refused < MESSAGES, "there is room for two at a time");
    alice.expect_nothing_shown().await;
    in_flight(&stack.terminators()[0], 0.0).await;
    // A push, too, is told of.
    let outcome = stack.producer().await.push_to("alice", 1).await;
    assert_eq!(outcome, "delivered");
    assert_eq!(alice.push(30.s()).await["payload"], 1);
    println!("{refused} of {MESSAGES} were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_expires_on_the_broker_is_told_to_its_producer() {
    let broker = Arc::new(Broker::start().await);
    let mut stack = Stack::builder().broker(&broker).poisoned_workers(1).start().await;
    set_policy(&broker, &json!({"message-ttl": 1_000})).await;
    // A frozen worker is the one consumer of pushes, and takes 256 of them into its socket.
    stack.worker(0).freeze().await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    for number in 0..300 {
        let mut headers = lapin::types::FieldTable::default();
        headers.insert("subject".into(), lapin::types::AMQPValue::LongString("alice".into()));
        let properties: BasicProperties = replies.properties().with_headers(headers);
        let properties = properties.with_correlation_id(format!("{number}").into());
        queue.publish("push", number.to_string(), properties).await;
    }
    let failed = format!("{}.injected.failed", stack.namespace());
    eventually(20.s(), "some have expired", async || queue.count(&failed).await > 0).await;
    stack.worker(0).thaw();
    let mut refused = 0;
    while refused == 0 {
        let outcome = replies.next(30.s()).await.json();
        if outcome["outcome"] == "refused" {
            assert_eq!(outcome["error"]["code"], "busy", "{outcome}");
            assert_eq!(outcome["error"]["temporary"], true, "{outcome}");
            refused += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_a_policy_removes_come_back_when_they_are_needed() {
    let broker = Arc::new(Broker::start().await);
    let stack = Stack::builder().broker(&broker).poisoned_workers(1).start().await;
    let dead = format!("{}.dead", stack.namespace());
    set_policy(&broker, &json!({"expires": 1_000})).await;
    eventually(30.s(), "the queue that nobody consumes is gone", async || {
        broker.list_queues().await.iter().all(|(name, _)| *name != dead)
    })
    .await;
    // Its refusal is heard by no one, so it is to be a dead letter.
    let queue = stack.queue().await;
    queue.publish("message", "no JSON", BasicProperties::default()).await;
    eventually(30.s(), "it was buried", async || {
        let buried = stack.workers()[0].metric("countersign_worker_dead_letters_total").await;
        if buried >= 1.0 { Ok(()) } else { Err(buried) }
    })
    .await;
    broker.ctl(&["clear_policy", "everything"]).await;
    let token = token_for("alice").mint();
    assert_eq!(
        stack.client().await.request("echo", Some(&token), json!(1)).await["payload"],
        1
    );
    in_flight(&stack.terminators()[0], 0.0).await;
}
