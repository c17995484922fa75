//! Claims about the harness's words on pushes and expires: what they cannot do, no other claim can rest on.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use lapin::BasicProperties;
use serde_json::{Value, json};
use shared::bus::{Bus, Properties, PublishTimeout, Route, memory::MemoryBus, topology::Names};
use tests::{Producer, Push, Queue, Span, eventually, lateness::Seen, shared_broker, token_for};

/// A push with a `message_id` and a subject, and one for a connection.
async fn asks_twice(producer: &mut Producer) -> [String; 2] {
    let first = producer.send(&Push::to("alice", json!({"n": 1})).id("one")).await;
    [first, producer.send(&Push::to_connection("c", 2)).await]
}

/// The second is answered first, by an echo.
async fn is_told_of_each(mut producer: Producer, [first, second]: [String; 2]) {
    assert_eq!(producer.outcome_of(&first, 5.s()).await, json!({"n": 1}));
    assert_eq!(producer.outcome_of(&second, 5.s()).await, 2);
}

#[tokio::test]
async fn a_producer_within_this_process_finds_each_outcome_by_its_request() {
    let names = Names::new("harness");
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(&names.common()));
    let mut pushes = bus.consumer(names.pushes(), 10);
    let mut producer = Producer::within(&bus, &names);
    let asked = asks_twice(&mut producer).await;
    let mut taken = Vec::new();
    for (id, header) in [(Some("one"), "subject"), (None, "connection")] {
        let mut delivery = pushes.recv().await.unwrap();
        let push = delivery.take_message();
        delivery.ack();
        assert!(push.properties.header(header).is_some());
        assert_eq!(push.properties.message_id.as_deref(), id);
        taken.push(push);
    }
    for mut push in taken.into_iter().rev() {
        let route = Route::queue(&push.properties.reply_to.take().unwrap());
        push.properties = Properties {
            correlation_id: push.properties.correlation_id,
            ..Properties::default()
        };
        bus.publisher(PublishTimeout::Endless)
            .publish(route, push)
            .await
            .unwrap();
    }
    is_told_of_each(producer, asked).await;
}

#[tokio::test]
async fn a_producer_on_the_broker_finds_each_outcome_by_its_request() {
    // No namespace: the exchange is the default one, and the key is the queue.
    let queue = Queue::connect(&shared_broker().await.url(), "").await;
    let mut producer = Producer::on(Queue::connect(&shared_broker().await.url(), "").await).await;
    queue.declare_quorum_queue("push").await;
    queue.purge("push").await;
    let asked = asks_twice(&mut producer).await;
    let mut taken = Vec::new();
    for header in ["subject", "connection"] {
        let push = eventually(5.s(), "the push", async || queue.get("push").await).await;
        assert!(push.header(header).is_some());
        taken.push(push);
    }
    for push in taken.into_iter().rev() {
        let reply_to = push.properties.reply_to().clone().unwrap();
        let correlation = push.properties.correlation_id().clone().unwrap();
        let properties = BasicProperties::default().with_correlation_id(correlation);
        queue.publish_to("", reply_to.as_str(), push.body, properties).await;
    }
    is_told_of_each(producer, asked).await;
    queue.delete("push").await;
}

#[test]
fn lateness_is_counted_from_the_end_to_the_last_arrival() {
    let end = SystemTime::now();
    let arrived = |after: Duration| (end + after, Value::Null);
    let mut seen = Seen::default();
    assert_eq!(seen.lateness(end), Duration::ZERO);
    seen.pushes = vec![(end - 1.s(), Value::Null), arrived(300.ms()), arrived(200.ms())];
    assert_eq!((seen.lateness(end), seen.in_time(end)), (300.ms(), 1));
}

#[tokio::test]
async fn a_brief_token_has_expired_when_that_is_awaited() {
    let token = token_for("alice").expiring_in(1.s());
    assert!(SystemTime::now() + 900.ms() < token.expires_at());
    token.expired().await;
    assert!(SystemTime::now() > token.expires_at());
}
