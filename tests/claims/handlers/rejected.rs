//! An application on the broker that rejects a message has its asker told at once, if its queue says where such go.

use futures_util::StreamExt;
use lapin::{
    Consumer,
    options::{BasicConsumeOptions, BasicRejectOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::{Queue, Span, Stack, eventually, token_for};

/// A queue of an application that dead-letters what it rejects, and takes it.
async fn application(stack: &Stack, queue: &Queue, arguments: &[(&str, AMQPValue)]) -> (String, Consumer) {
    let name = format!("{}-app-{:08x}", stack.namespace(), rand::random::<u32>());
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let text = |text: String| AMQPValue::LongString(text.into());
    table.insert("x-dead-letter-exchange".into(), text(String::new()));
    table.insert(
        "x-dead-letter-routing-key".into(),
        text(format!("{}.rejected", stack.namespace())),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let channel = queue.channel();
    channel
        .queue_declare(name.as_str().into(), durable, table)
        .await
        .expect("a queue");
    let exchange = format!("{}.app", stack.namespace());
    channel
        .queue_bind(
            name.as_str().into(),
            exchange.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a worker has declared the exchange");
    let consumer = channel
        .basic_consume(
            name.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    (name, consumer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_request_is_told_at_once_whichever_worker_asked() {
    // No one would be told anything else within an hour.
    let stack = Stack::builder()
        .workers(3)
        .setting("handler", "amqp")
        .setting("handler-timeout", "1h")
        .start()
        .await;
    let queue = stack.queue().await;
    let quorum = [("x-queue-type", AMQPValue::LongString("quorum".into()))];
    let (_, mut app) = application(&stack, &queue, &quorum).await;
    for _ in 0..6 {
        let mut client = stack.client().await;
        client.authenticate(&token_for("alice").mint()).await;
        let id = client.ask("x", None, json!({"n": 1})).await;
        let delivery = app.next().await.expect("the queue is there").expect("a message");
        let reject = BasicRejectOptions { requeue: false };
        delivery.reject(reject).await.expect("the channel is there");
        let error = &client.answer_to(&id, 30.s()).await["error"];
        assert_eq!(
            (&error["code"], &error["message"], &error["temporary"]),
            (
                &json!("internal"),
                &json!("the application rejected the message"),
                &json!(false)
            )
        );
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_queue_drops_because_it_is_too_long_is_told_too() {
    let stack = Stack::builder()
        .setting("handler", "amqp")
        .setting("handler-timeout", "1h")
        .start()
        .await;
    let queue = stack.queue().await;
    let short = [("x-max-length", AMQPValue::LongInt(1))];
    let channel = queue.channel();
    let (name, app) = application(&stack, &queue, &short).await;
    channel
        .basic_cancel(app.tag(), lapin::options::BasicCancelOptions::default())
        .await
        .expect("it takes nothing");
    // Two connections: those of one are for their order to say.
    let (mut first, mut second) = (stack.client().await, stack.client().await);
    let token = token_for("alice").mint();
    let id = first.ask("x", Some(&token), Value::Null).await;
    eventually(30.s(), "it waits", async || queue.count(&name).await == 1).await;
    second.ask("x", Some(&token), Value::Null).await;
    let error = &first.answer_to(&id, 30.s()).await["error"];
    assert_eq!((&error["code"], &error["temporary"]), (&json!("busy"), &json!(true)));
    second.expect_nothing_shown().await;
}
