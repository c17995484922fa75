//! Many messages in one AMQP message, on both implementations of the bus: each arrives once and in order, is settled by itself, and
//! burns no neighbour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::types::AMQPValue;
use serde_json::json;
use shared::bus::batch::{CONTENT_TYPE, UNREADABLE_BATCH};
use shared::bus::memory::MemoryBus;
use shared::bus::rabbitmq::{Access, MOST_BODY, RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::{FilledBy, Names, Queue, QueueKind, keys};
use shared::bus::{
    Bus, Consumer, DEATH_REASON, Delivery, Link, Message, Properties, Publication, PublishTimeout, Route, Value,
};
use shared::wire::id::TerminatorId;
use tests::nodes::rabbitmq::shared_broker;
use tests::peers::load::Load;
use tests::{Stack, eventually, token_for};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::bus::{claims_of_both_implementations, next, within};

const LIMIT: Duration = Duration::from_secs(30);
/// More than one batch holds.
const BURST: usize = 200;

/// A broker with the queue of clients' messages, and how to reach it with another bus.
struct Implementation {
    bus: Arc<dyn Bus>,
    other: Arc<dyn Bus>,
    names: Names,
    queue: Queue,
    route: Route,
}

impl Implementation {
    fn new(names: Names, buses: [Arc<dyn Bus>; 2]) -> Self {
        let [bus, other] = buses;
        Self {
            bus,
            other,
            queue: names.messages(),
            route: Route::new(&names.internal_exchange().name, keys::FORWARD),
            names,
        }
    }

    async fn in_process() -> Self {
        let names = Names::new(&format!("claims-{:016x}", rand::random::<u64>()));
        let bus = MemoryBus::new(&names.common()).with_batches(names.clone());
        Self::new(names, [Arc::new(bus.clone()), Arc::new(bus)])
    }

    async fn on_rabbitmq() -> Self {
        let names = Names::new(&format!("claims-{:016x}", rand::random::<u64>()));
        let urls = vec![shared_broker().await.url()];
        let bus = || -> Arc<dyn Bus> {
            Arc::new(RabbitmqBus::new(RabbitmqConfig {
                access: Access::of_urls(&urls).unwrap(),
                name: "claims".into(),
                topology: names.common(),
                most_body: MOST_BODY,
                batches: Some(names.clone()),
            }))
        };
        Self::new(names.clone(), [bus(), bus()])
    }

    async fn consumer(&self, bus: &Arc<dyn Bus>, prefetch: u16) -> Consumer {
        let consumer = bus.consumer(self.queue.clone(), prefetch);
        within(bus.link().wait_for(Link::is_up)).await.unwrap();
        consumer
    }

    /// Has the queue be there, with no one who consumes it any more.
    async fn declare(&self) {
        drop(self.consumer(&self.bus, 1).await);
        eventually(LIMIT, "nobody consumes it", async || {
            match self.bus.is_consumed(&self.queue.name).await {
                true => Err("somebody does"),
                false => Ok(()),
            }
        })
        .await;
    }

    /// Publishes `0`, `1`, … at the same moment, and waits until all are confirmed.
    async fn publish(&self, count: usize) {
        let publisher = self.bus.publisher(PublishTimeout::Endless);
        let (told, mut outcomes) = mpsc::unbounded_channel();
        for number in 0..count {
            let told = told.clone();
            let publication = Publication {
                route: self.route.clone(),
                message: message(&number.to_string()),
                receipt: Box::new(move |outcome| told.send(outcome).unwrap()),
            };
            assert!(
                publisher.try_submit(publication).is_ok(),
                "there is room for all of them"
            );
        }
        for _ in 0..count {
            within(outcomes.recv()).await.unwrap().unwrap();
        }
    }

    /// How many AMQP messages are in the queue, and how many of them are batches. They stay there.
    async fn on_the_wire(&self) -> (usize, usize) {
        let as_they_are = Queue {
            filled_by: FilledBy::Outsiders,
            ..self.queue.clone()
        };
        let mut consumer = self.other.consumer(as_they_are, 1_000);
        let mut seen = Vec::new();
        while let Ok(Some(delivery)) = timeout(Duration::from_secs(1), consumer.recv()).await {
            seen.push(delivery);
        }
        let is_batch = |delivery: &&Delivery| delivery.message.properties.content_type.as_deref() == Some(CONTENT_TYPE);
        // Before what it has, so that all of it goes back in its order.
        drop(consumer);
        (seen.len(), seen.iter().filter(is_batch).count())
    }
}

fn message(text: &str) -> Message {
    Message {
        body: Bytes::copy_from_slice(text.as_bytes()),
        properties: Properties {
            correlation_id: Some(text.to_owned()),
            ..Properties::default()
        },
    }
}

fn number(delivery: &Delivery) -> usize {
    let text = str::from_utf8(&delivery.message.body).unwrap();
    assert_eq!(delivery.message.properties.correlation_id.as_deref(), Some(text));
    text.parse().unwrap()
}

claims_of_both_implementations!(
    a_burst_leaves_in_few_messages_and_arrives_in_order,
    what_is_given_back_comes_again_alone_and_its_neighbours_do_not,
    what_a_drain_leaves_comes_again_and_what_was_finished_does_not,
    what_was_never_settled_comes_again_with_its_count,
    what_a_queue_did_not_keep_says_so_of_each_of_its_entries,
    in_a_queue_with_one_consumer_at_a_time_the_order_stays,
    what_lies_about_itself_is_delivered_whole_with_the_reason,
);

async fn a_burst_leaves_in_few_messages_and_arrives_in_order(tested: Implementation) {
    tested.declare().await;
    tested.publish(BURST).await;
    let (messages, batches) = tested.on_the_wire().await;
    assert!(
        batches > 0 && messages < BURST / 4,
        "{messages} messages, {batches} batches"
    );
    let mut consumer = tested.consumer(&tested.bus, 1_000).await;
    for expected in 0..BURST {
        let delivery = next(&mut consumer).await;
        assert_eq!(number(&delivery), expected);
        delivery.ack();
    }
    drop(consumer);
    assert_eq!(tested.on_the_wire().await.0, 0, "all of it is acknowledged");
}

async fn what_is_given_back_comes_again_alone_and_its_neighbours_do_not(tested: Implementation) {
    let mut consumer = tested.consumer(&tested.bus, 1_000).await;
    tested.publish(BURST).await;
    let mut counts = BTreeMap::new();
    // Each seventh once, and the last of all three times.
    let times = |number| match number {
        _ if number == BURST - 1 => 3,
        _ => u32::from(number % 7 == 0),
    };
    let expected: usize = (0..BURST).map(|number| 1 + times(number) as usize).sum();
    for _ in 0..expected {
        let delivery = next(&mut consumer).await;
        let (number, count) = (number(&delivery), delivery.delivery_count);
        let before = counts.insert(number, count);
        assert_eq!(before.map_or(0, |before| before + 1), count, "{number}");
        if count < times(number) {
            drop(delivery);
        } else {
            delivery.ack();
        }
    }
    drop(consumer);
    assert_eq!(tested.on_the_wire().await.0, 0, "all of it is acknowledged");
    assert!(counts.into_iter().all(|(number, count)| count == times(number)));
}

async fn what_a_drain_leaves_comes_again_and_what_was_finished_does_not(tested: Implementation) {
    let mut consumer = tested.consumer(&tested.bus, 1_000).await;
    tested.publish(BURST).await;
    let mut unfinished = Vec::new();
    for _ in 0..BURST / 2 {
        let delivery = next(&mut consumer).await;
        match number(&delivery) % 3 {
            0 => unfinished.push(delivery),
            _ => delivery.ack(),
        }
    }
    // The other half was delivered, and not taken.
    drop(consumer);
    drop(unfinished);
    let mut successor = tested.consumer(&tested.other, 1_000).await;
    let is_left = |number: &usize| number.is_multiple_of(3) || *number >= BURST / 2;
    let mut left = Vec::new();
    for _ in (0..BURST).filter(is_left) {
        let delivery = next(&mut successor).await;
        assert!(delivery.is_redelivered());
        left.push(number(&delivery));
        delivery.ack();
    }
    left.sort_unstable();
    assert!(left.iter().copied().eq((0..BURST).filter(is_left)), "{left:?}");
    drop(successor);
    assert_eq!(tested.on_the_wire().await.0, 0, "nothing else is there");
}

async fn what_was_never_settled_comes_again_with_its_count(tested: Implementation) {
    let mut first = tested.consumer(&tested.bus, 1_000).await;
    tested.publish(BURST).await;
    let held: Vec<_> = {
        let mut held = Vec::new();
        for _ in 0..BURST {
            held.push(next(&mut first).await);
        }
        held
    };
    drop(first);
    let mut second = tested.consumer(&tested.other, 1_000).await;
    for expected in 0..BURST {
        let delivery = next(&mut second).await;
        assert_eq!((number(&delivery), delivery.delivery_count), (expected, 1));
        delivery.ack();
    }
    drop(held);
}

async fn what_a_queue_did_not_keep_says_so_of_each_of_its_entries(mut tested: Implementation) {
    // Nothing is kept in it for long, and what it does not keep goes to those who are not there.
    tested.queue = tested.names.return_queue(TerminatorId::random());
    tested.route = Route::queue(&tested.queue.name);
    let QueueKind::Quorum(limits) = &mut tested.queue.kind else {
        panic!("a quorum queue")
    };
    limits.message_ttl = Some(Duration::from_millis(200));
    let mut graves = tested.bus.consumer(tested.names.undelivered(), 1_000);
    tested.declare().await;
    tested.publish(BURST).await;
    for expected in 0..BURST {
        let delivery = next(&mut graves).await;
        let properties = &delivery.message.properties;
        assert_eq!(number(&delivery), expected);
        assert_eq!(properties.header(DEATH_REASON), Some(&Value::Text("expired".into())));
        assert_eq!(
            (&*delivery.exchange, &*delivery.routing_key),
            (tested.names.internal_exchange().name.as_str(), keys::UNDELIVERED)
        );
        delivery.ack();
    }
}

async fn in_a_queue_with_one_consumer_at_a_time_the_order_stays(mut tested: Implementation) {
    tested.queue = tested.names.undelivered();
    tested.route = Route::new(&tested.names.internal_exchange().name, keys::UNDELIVERED);
    let mut first = tested.consumer(&tested.bus, 1_000).await;
    tested.publish(BURST).await;
    // Until one is finished and its neighbour is not.
    let mut finished = 0;
    while finished == 0 || !first.is_amid_batch() {
        let delivery = next(&mut first).await;
        assert_eq!(number(&delivery), finished);
        delivery.ack();
        finished += 1;
    }
    drop(first);
    let mut second = tested.consumer(&tested.other, 1_000).await;
    let mut came = Vec::new();
    while came.last() != Some(&(BURST - 1)) {
        let delivery = next(&mut second).await;
        came.push(number(&delivery));
        delivery.ack();
    }
    // Something that was finished may come again with its batch, and nothing overtakes.
    assert!(came.is_sorted() && came.contains(&finished), "{came:?}");
}

async fn what_lies_about_itself_is_delivered_whole_with_the_reason(tested: Implementation) {
    let mut consumer = tested.consumer(&tested.bus, 1_000).await;
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    let lie = Message {
        body: Bytes::from_static(&[1, 1, 0, 0, 0, 0, 0, 9, 0]),
        properties: Properties {
            content_type: Some(CONTENT_TYPE.into()),
            ..Properties::default()
        },
    };
    within(publisher.publish(tested.route.clone(), lie.clone()))
        .await
        .unwrap();
    let delivery = next(&mut consumer).await;
    let reason = delivery.message.properties.header(UNREADABLE_BATCH);
    assert_eq!(reason, Some(&Value::Text("a batch that is cut off".into())));
    assert_eq!(delivery.message.body, lie.body);
    delivery.ack();
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_a_dead_letter_and_disturbs_nobody() {
    let stack = Stack::start().await;
    let queue = stack.queue().await;
    let mut client = stack.client().await;
    let token = token_for("alice").mint();
    let internal = format!("{}.internal", stack.namespace());
    let told = json!({"id": "lost", "type": "echo", "token": token}).to_string();
    // It says that three are in it, and is cut off behind the first.
    let mut lie = vec![1, 3, 0, 0];
    lie.extend(u32::try_from(told.len()).unwrap().to_be_bytes());
    lie.extend(told.as_bytes());
    let is_batch = || lapin::BasicProperties::default().with_content_type(CONTENT_TYPE.into());
    for key in [keys::FORWARD, keys::UNDELIVERED] {
        queue.publish_to(&internal, key, &lie, is_batch()).await;
        let answer = client.request("echo", Some(&token), json!(key)).await;
        assert_eq!(answer["type"], "reply", "a neighbour is not disturbed");
        let dead = queue.dead_letter(LIMIT).await;
        let Some(AMQPValue::LongString(reason)) = dead.header("reason") else {
            panic!("it says no reason: {}", dead.everything())
        };
        assert_eq!(reason.to_string(), "a batch that is cut off", "{key}");
        assert!(!dead.everything().contains(&token), "{key}");
    }
    client.close().await;
}

#[tokio::test]
async fn programs_that_pack_and_programs_that_do_not_live_together() {
    for (terminators, workers) in [("off", "auto"), ("auto", "off")] {
        let mut stack = Stack::builder()
            .workers(0)
            .setting("batch", terminators)
            .setting("messages-per-second", "off")
            .start()
            .await;
        stack.set_for_workers("batch", workers);
        stack.start_workers(2).await;
        let load = Load::on(stack.terminators(), &token_for("alice").mint())
            .connections(20)
            .messages(200)
            .in_flight(32);
        load.run(LIMIT * 2).await.assert_each_replied_once();
    }
}

/// Otherwise one would have what comes together, and the other nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn workers_share_what_comes_together() {
    const MESSAGES: f64 = 800.0;
    let stack = Stack::builder()
        .poisoned_workers(2)
        .setting("concurrency", "32")
        .setting("prefetch", "64")
        .setting("concurrency-per-type-percent", "100")
        .setting("concurrency-per-identity-percent", "100")
        .setting("messages-per-second", "off")
        // In order, a worker has all that a connection has sent meanwhile.
        .setting("order", "none")
        .start()
        .await;
    let load = Load::on(stack.terminators(), &token_for("alice").mint())
        .kind("slow")
        .unordered()
        .connections(50)
        .messages(16)
        .in_flight(16);
    load.run(LIMIT * 3).await.assert_each_replied_once();
    let mut handled = Vec::new();
    for worker in stack.workers() {
        let metrics = worker.metrics().await;
        handled.push(metrics["countersign_worker_messages_total{outcome=\"handled\"}"]);
    }
    assert!(handled.iter().sum::<f64>() >= MESSAGES, "{handled:?}");
    let least = handled.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least >= 0.8 * MESSAGES / 2.0, "{handled:?}");
}
