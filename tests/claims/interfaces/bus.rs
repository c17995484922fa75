//! The bus keeps its promises, on RabbitMQ and within one process alike.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::bus::memory::MemoryBus;
use shared::bus::rabbitmq::{Access, MOST_BODY, RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::{Exchange, ExchangeKind, FilledBy, Limits, Names, Overflow, Queue, QueueKind, Topology};
use shared::bus::{
    Bus, Consumer, Delivery, Message, Properties, Publication, PublishError, PublishTimeout, Route, Value,
};
use tests::nodes::rabbitmq::shared_broker;
use tokio::time::timeout;

/// Far longer than anything here takes, so that a claim that fails does so by itself.
const LIMIT: Duration = Duration::from_secs(20);

/// A bus, and names on it that no one else uses.
struct Implementation {
    bus: Arc<dyn Bus>,
    prefix: String,
}

impl Implementation {
    async fn in_process() -> Self {
        let prefix = unique();
        Self {
            bus: Arc::new(MemoryBus::new(&exchanges(&prefix))),
            prefix,
        }
    }

    async fn on_rabbitmq() -> Self {
        let broker = shared_broker().await;
        let prefix = unique();
        let topology = exchanges(&prefix);
        let config = RabbitmqConfig {
            access: Access::of_urls(&[broker.url()]).unwrap(),
            name: "claims".into(),
            topology,
            most_body: MOST_BODY,
            batches: None,
        };
        Self {
            bus: Arc::new(RabbitmqBus::new(config)),
            prefix,
        }
    }

    fn queue(&self, name: &str, limits: Limits) -> Queue {
        let name = format!("{}.{name}", self.prefix);
        Queue {
            bindings: vec![(self.exchange(), name.clone())],
            former_bindings: Vec::new(),
            name,
            kind: QueueKind::Quorum(limits),
            filled_by: FilledBy::Us,
        }
    }

    fn exchange(&self) -> String {
        format!("{}.exchange", self.prefix)
    }

    /// A consumer of a queue that is certainly there by the time that this returns.
    async fn consumer(&self, queue: &Queue, prefetch: u16) -> Consumer {
        let consumer = self.bus.consumer(queue.clone(), prefetch);
        let mut link = self.bus.link();
        within(link.wait_for(shared::bus::Link::is_up)).await.unwrap();
        consumer
    }

    async fn publish(&self, queue: &Queue, text: &str) -> Result<(), PublishError> {
        within(
            self.bus
                .publisher(PublishTimeout::Endless)
                .publish(Route::queue(&queue.name), message(text)),
        )
        .await
    }
}

fn exchanges(prefix: &str) -> Topology {
    let exchange = |name: &str, kind| Exchange {
        name: format!("{prefix}.{name}"),
        kind,
    };
    Topology {
        exchanges: vec![
            exchange("exchange", ExchangeKind::Direct),
            exchange("topics", ExchangeKind::Topic),
        ],
        queues: Vec::new(),
    }
}

fn unique() -> String {
    format!("claims-{:016x}", rand::random::<u64>())
}

fn message(text: &str) -> Message {
    Message {
        body: Bytes::copy_from_slice(text.as_bytes()),
        properties: Properties::default(),
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).unwrap()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("takes too long")
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    within(consumer.recv()).await.expect("the consumer has ended")
}

macro_rules! claims_of_both_implementations {
    ($($claim:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                super::$claim(super::Implementation::in_process().await).await;
            })*
        }
        mod on_rabbitmq {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                super::$claim(super::Implementation::on_rabbitmq().await).await;
            })*
        }
    };
}

pub(crate) use claims_of_both_implementations;

claims_of_both_implementations!(
    a_publication_arrives_with_all_that_stood_around_it,
    publications_of_one_publisher_arrive_in_order,
    what_no_queue_takes_is_told_to_its_publisher_and_nothing_else_is,
    a_delivery_that_is_dropped_comes_again_and_is_counted,
    what_is_given_back_too_often_is_dead_lettered,
    what_sat_too_long_is_dead_lettered,
    a_message_that_may_not_wait_longer_goes_before_its_queue_s_own_limit,
    a_topic_exchange_chooses_queues_by_the_words_of_the_key,
    no_more_than_the_prefetch_is_unsettled,
    a_consumer_that_stops_gets_what_was_delivered_and_leaves_the_rest_to_others,
    what_a_consumer_leaves_unsettled_goes_to_another,
    a_full_queue_refuses,
    what_is_acknowledged_never_comes_again,
    closing_waits_until_all_is_told,
    a_look_tells_whether_somebody_consumes,
    one_of_several_consumers_is_active_and_gets_all_in_order,
    what_an_active_consumer_leaves_goes_to_the_next_before_all_that_follows,
    what_led_to_a_queue_once_leads_there_no_more,
    a_queue_that_is_full_by_bytes_refuses,
);

async fn a_publication_arrives_with_all_that_stood_around_it(tested: Implementation) {
    let queue = tested.queue("whole", Limits::default());
    let mut consumer = tested.consumer(&queue, 1).await;
    let sent = Message {
        body: Bytes::from_static(b"\x00\xff body"),
        properties: Properties {
            content_type: Some("application/json".into()),
            kind: Some("message".into()),
            message_id: Some("m1".into()),
            correlation_id: Some("c1".into()),
            reply_to: Some("somewhere".into()),
            timestamp_s: Some(1_700_000_000),
            expiration: None,
            headers: vec![("index".into(), Value::Integer(3)), ("more".into(), Value::Flag(true))],
        },
    };
    let route = Route::new(&tested.exchange(), &queue.name);
    within(
        tested
            .bus
            .publisher(PublishTimeout::Endless)
            .publish(route, sent.clone()),
    )
    .await
    .unwrap();
    let delivery = next(&mut consumer).await;
    let mut arrived = delivery.message.clone();
    arrived
        .properties
        .headers
        .retain(|(name, _)| name != "x-delivery-count");
    assert_eq!(arrived, sent);
    assert_eq!(
        (&*delivery.exchange, &*delivery.routing_key),
        (&*tested.exchange(), &*queue.name)
    );
    assert!(!delivery.is_redelivered());
    delivery.ack();
}

async fn publications_of_one_publisher_arrive_in_order(tested: Implementation) {
    let queue = tested.queue("order", Limits::default());
    let mut consumer = tested.consumer(&queue, 1_000).await;
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    for number in 0..3_000 {
        let route = Route::queue(&queue.name);
        publisher
            .submit(Publication {
                route,
                message: message(&number.to_string()),
                receipt: Box::new(|_| {}),
            })
            .await;
    }
    for number in 0..3_000 {
        let delivery = next(&mut consumer).await;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack();
    }
}

async fn what_no_queue_takes_is_told_to_its_publisher_and_nothing_else_is(tested: Implementation) {
    let queue = tested.queue("routable", Limits::default());
    let _consumer = tested.consumer(&queue, 1).await;
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    let outcomes = (0..300).map(|number| {
        let lost = number % 7 == 3;
        let route = if lost {
            Route::new(&tested.exchange(), "nobody")
        } else {
            Route::queue(&queue.name)
        };
        let publishing = publisher.publish(route, message("x"));
        async move { (lost, publishing.await) }
    });
    for (lost, outcome) in within(futures_util::future::join_all(outcomes)).await {
        assert_eq!(outcome, if lost { Err(PublishError::Unroutable) } else { Ok(()) });
    }
}

async fn a_delivery_that_is_dropped_comes_again_and_is_counted(tested: Implementation) {
    let queue = tested.queue("again", Limits::default());
    let mut consumer = tested.consumer(&queue, 1).await;
    tested.publish(&queue, "x").await.unwrap();
    for count in 0..3 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.delivery_count, count);
        assert_eq!(delivery.is_redelivered(), count > 0);
    }
}

async fn what_is_given_back_too_often_is_dead_lettered(tested: Implementation) {
    let grave = tested.queue("grave", Limits::default());
    let mut dead = tested.consumer(&grave, 1).await;
    let limits = Limits {
        delivery_limit: Some(2),
        dead_letter: Some((tested.exchange(), grave.name.clone())),
        ..Limits::default()
    };
    let queue = tested.queue("poisoned", limits);
    let mut consumer = tested.consumer(&queue, 1).await;
    tested.publish(&queue, "poison").await.unwrap();
    for _ in 0..3 {
        drop(next(&mut consumer).await);
    }
    let letter = next(&mut dead).await;
    assert_eq!(text(&letter), "poison");
    assert_eq!(
        letter.message.properties.header("x-first-death-reason"),
        Some(&Value::Text("delivery_limit".into()))
    );
    letter.ack();
}

async fn what_sat_too_long_is_dead_lettered(tested: Implementation) {
    let grave = tested.queue("late", Limits::default());
    let mut dead = tested.consumer(&grave, 1).await;
    let limits = Limits {
        message_ttl: Some(Duration::from_millis(300)),
        dead_letter: Some((tested.exchange(), grave.name.clone())),
        ..Limits::default()
    };
    let queue = tested.queue("hasty", limits);
    drop(tested.consumer(&queue, 1).await);
    tested.publish(&queue, "x").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(
        letter.message.properties.header("x-first-death-reason"),
        Some(&Value::Text("expired".into()))
    );
    letter.ack();
}

async fn no_more_than_the_prefetch_is_unsettled(tested: Implementation) {
    let queue = tested.queue("few", Limits::default());
    let mut first = tested.consumer(&queue, 2).await;
    for number in 0..3 {
        tested.publish(&queue, &number.to_string()).await.unwrap();
    }
    let held = [next(&mut first).await, next(&mut first).await];
    // The third is still to be had, so it was not given out to the first.
    let mut second = tested.consumer(&queue, 1).await;
    assert_eq!(text(&next(&mut second).await), "2");
    drop(held);
}

async fn a_consumer_that_stops_gets_what_was_delivered_and_leaves_the_rest_to_others(tested: Implementation) {
    let queue = tested.queue("stop", Limits::default());
    let mut leaving = tested.consumer(&queue, 10).await;
    tested.publish(&queue, "before").await.unwrap();
    let before = next(&mut leaving).await;
    leaving.stop();
    assert!(within(leaving.recv()).await.is_none());
    tested.publish(&queue, "after").await.unwrap();
    let mut staying = tested.consumer(&queue, 10).await;
    let after = next(&mut staying).await;
    assert_eq!((text(&before), text(&after)), ("before".into(), "after".into()));
    before.ack();
    after.ack();
    drop(leaving);
    // What was acknowledged after the stop does not come again: the next is a new one.
    tested.publish(&queue, "last").await.unwrap();
    assert_eq!(text(&next(&mut staying).await), "last");
}

async fn what_a_consumer_leaves_unsettled_goes_to_another(tested: Implementation) {
    let queue = tested.queue("inherit", Limits::default());
    let mut first = tested.consumer(&queue, 10).await;
    for number in 0..3 {
        tested.publish(&queue, &number.to_string()).await.unwrap();
    }
    next(&mut first).await.ack();
    let unsettled = next(&mut first).await;
    drop(first);
    let mut second = tested.consumer(&queue, 10).await;
    let mut inherited = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut second).await;
        assert!(delivery.is_redelivered());
        inherited.push(text(&delivery));
        delivery.ack();
    }
    inherited.sort();
    assert_eq!(inherited, ["1", "2"]);
    drop(unsettled);
}

async fn a_message_that_may_not_wait_longer_goes_before_its_queue_s_own_limit(tested: Implementation) {
    let grave = tested.queue("expired", Limits::default());
    let mut dead = tested.consumer(&grave, 1).await;
    let limits = Limits {
        message_ttl: Some(LIMIT * 10),
        dead_letter: Some((tested.exchange(), grave.name.clone())),
        ..Limits::default()
    };
    let queue = tested.queue("patient", limits);
    drop(tested.consumer(&queue, 1).await);
    let mut hasty = message("hasty");
    hasty.properties.expiration = Some(Duration::from_millis(300));
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    within(publisher.publish(Route::queue(&queue.name), hasty))
        .await
        .unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(text(&letter), "hasty");
    assert_eq!(
        letter.message.properties.header("x-first-death-reason"),
        Some(&Value::Text("expired".into()))
    );
    letter.ack();
}

async fn a_topic_exchange_chooses_queues_by_the_words_of_the_key(tested: Implementation) {
    let topics = format!("{}.topics", tested.prefix);
    let mut consumers = Vec::new();
    for pattern in ["orders.create", "orders.*", "orders.#", "#", "others.*"] {
        let mut queue = tested.queue(&pattern.replace('#', "all"), Limits::default());
        queue.bindings = vec![(topics.clone(), pattern.to_owned())];
        consumers.push((pattern, tested.consumer(&queue, 10).await));
    }
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    for key in ["orders.create", "orders.create.now", "orders", "last"] {
        within(publisher.publish(Route::new(&topics, key), message(key)))
            .await
            .unwrap();
    }
    for (pattern, consumer) in &mut consumers {
        let expected: &[&str] = match *pattern {
            "orders.create" | "orders.*" => &["orders.create"],
            "orders.#" => &["orders.create", "orders.create.now", "orders"],
            "#" => &["orders.create", "orders.create.now", "orders", "last"],
            _ => &[],
        };
        for key in expected {
            let delivery = next(consumer).await;
            assert_eq!((&*text(&delivery), &*delivery.routing_key), (*key, *key), "{pattern}");
            delivery.ack();
        }
        let more = timeout(Duration::from_millis(50), consumer.recv()).await;
        assert!(more.is_err(), "{pattern}");
    }
}

async fn a_full_queue_refuses(tested: Implementation) {
    let limits = Limits {
        max_length: Some((3, Overflow::RejectPublish)),
        ..Limits::default()
    };
    let queue = tested.queue("full", limits);
    drop(tested.consumer(&queue, 1).await);
    let mut outcomes = Vec::new();
    // One publisher: a queue that has taken nothing through a channel may be without a leader, and is asked again for a while.
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    // The broker lets a few more in before it notices.
    for _ in 0..50 {
        let route = Route::new(&tested.exchange(), &queue.name);
        outcomes.push(within(publisher.publish(route, Message::default())).await);
    }
    assert_eq!(outcomes.first(), Some(&Ok(())));
    assert_eq!(outcomes.last(), Some(&Err(PublishError::Refused)));
}

async fn a_queue_that_is_full_by_bytes_refuses(tested: Implementation) {
    let limits = Limits {
        max_length: Some((1_000, Overflow::RejectPublish)),
        max_length_bytes: Some(10_000),
        ..Limits::default()
    };
    let queue = tested.queue("heavy", limits);
    drop(tested.consumer(&queue, 1).await);
    // One that has seen the queue take something believes at once that it is full.
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    let mut outcomes = Vec::new();
    for _ in 0..50 {
        let sent = publisher.publish(Route::queue(&queue.name), message(&"x".repeat(1_000)));
        outcomes.push(within(sent).await);
    }
    assert_eq!(outcomes.first(), Some(&Ok(())));
    assert_eq!(outcomes.last(), Some(&Err(PublishError::Refused)));
}

async fn what_led_to_a_queue_once_leads_there_no_more(tested: Implementation) {
    let queue = tested.queue("moved", Limits::default());
    let route = Route::new(&tested.exchange(), &queue.name);
    let _earlier = tested.consumer(&queue, 1).await;
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    assert_eq!(within(publisher.publish(route.clone(), message("x"))).await, Ok(()));
    let later = Queue {
        former_bindings: queue.bindings.clone(),
        bindings: Vec::new(),
        ..queue
    };
    let _later = tested.consumer(&later, 1).await;
    let outcome = within(publisher.publish(route, message("x"))).await;
    assert_eq!(outcome, Err(PublishError::Unroutable));
    assert_eq!(tested.publish(&later, "by its name").await, Ok(()));
}

async fn what_is_acknowledged_never_comes_again(tested: Implementation) {
    let queue = tested.queue("gone", Limits::default());
    let mut first = tested.consumer(&queue, 100).await;
    for number in 0..100 {
        tested.publish(&queue, &number.to_string()).await.unwrap();
    }
    let mut kept = Vec::new();
    for number in 0..100 {
        let delivery = next(&mut first).await;
        // Out of order, with gaps.
        if number % 3 == 1 {
            kept.push(delivery)
        } else {
            delivery.ack()
        }
    }
    kept.pop();
    kept.into_iter().rev().for_each(Delivery::ack);
    drop(first);
    let mut second = tested.consumer(&queue, 100).await;
    tested.publish(&queue, "sentinel").await.unwrap();
    // The first consumer may still be on its way out, so what it gave back may come after the sentinel.
    let mut left = BTreeSet::new();
    while !left.contains("97") || !left.contains("sentinel") {
        let delivery = next(&mut second).await;
        left.insert(text(&delivery));
        delivery.ack();
    }
    assert_eq!(
        Vec::from_iter(&left),
        ["97", "sentinel"],
        "only what was given back comes again"
    );
}

async fn closing_waits_until_all_is_told(tested: Implementation) {
    let queue = tested.queue("last", Limits::default());
    let mut consumer = tested.consumer(&queue, 10).await;
    let publisher = tested.bus.publisher(PublishTimeout::Endless);
    let route = Route::queue(&queue.name);
    within(publisher.publish(route, message("x"))).await.unwrap();
    next(&mut consumer).await.ack();
    drop((consumer, publisher));
    within(tested.bus.close()).await;
}

async fn a_look_tells_whether_somebody_consumes(tested: Implementation) {
    let queue = tested.queue("looked-at", Limits::default());
    let other = tested.queue("other", Limits::default());
    let mut witness = tested.consumer(&other, 1).await;
    let looks = async || within(tested.bus.is_consumed(&queue.name)).await;
    assert!(!looks().await, "there is no such queue yet");
    let consumer = tested.consumer(&queue, 1).await;
    assert!(looks().await);
    drop(consumer);
    // It takes its time to leave.
    within(async {
        while looks().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!looks().await, "the queue is there, and nobody consumes it");
    // Whatever was looked for in vain has disturbed no one.
    tested.publish(&other, "x").await.unwrap();
    let delivery = next(&mut witness).await;
    assert!(tested.bus.link().borrow().is_up() && !delivery.is_redelivered());
    delivery.ack();
}

fn single_active_consumer() -> Limits {
    Limits {
        single_active_consumer: true,
        ..Limits::default()
    }
}

async fn one_of_several_consumers_is_active_and_gets_all_in_order(tested: Implementation) {
    let queue = tested.queue("single", single_active_consumer());
    let mut active = tested.consumer(&queue, 10).await;
    let mut waiting = tested.consumer(&queue, 10).await;
    for number in 0..50 {
        tested.publish(&queue, &number.to_string()).await.unwrap();
    }
    for number in 0..50 {
        let delivery = next(&mut active).await;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack();
    }
    let idle = timeout(Duration::from_millis(100), waiting.recv()).await;
    assert!(idle.is_err(), "two were active at a time");
}

async fn what_an_active_consumer_leaves_goes_to_the_next_before_all_that_follows(tested: Implementation) {
    let queue = tested.queue("succession", single_active_consumer());
    let mut active = tested.consumer(&queue, 10).await;
    let mut successor = tested.consumer(&queue, 10).await;
    for number in 0..30 {
        tested.publish(&queue, &number.to_string()).await.unwrap();
    }
    next(&mut active).await.ack();
    let mut unsettled = Vec::new();
    for number in 1..=5 {
        unsettled.push(next(&mut active).await);
        assert_eq!(text(unsettled.last().unwrap()), number.to_string());
    }
    // In this order: what is given back must not come to it once more.
    drop(active);
    // Whatever order they are dropped in, it is the queue's that counts.
    for place in [3, 0, 2, 0, 0] {
        drop(unsettled.remove(place));
    }
    for number in 1..30 {
        let delivery = next(&mut successor).await;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack();
    }
}

mod names {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_queue_that_is_named_can_be_declared_on_a_real_broker() {
        let broker = shared_broker().await;
        let names = Names::new(&unique());
        let config = RabbitmqConfig {
            access: Access::of_urls(&[broker.url()]).unwrap(),
            name: "claims".into(),
            topology: Topology {
                exchanges: [names.common().exchanges, vec![names.app_exchange()]].concat(),
                ..names.common()
            },
            most_body: MOST_BODY,
            batches: None,
        };
        let bus = RabbitmqBus::new(config);
        let _retries = names.retries(5).map(|queue| bus.consumer(queue, 1));
        let _returns = bus.consumer(names.return_queue(shared::wire::id::TerminatorId::random()), 1);
        let _inject = bus.consumer(names.inject_queue(7), 1);
        let _replies = bus.consumer(names.reply_queue(7), 1);
        let mut link = bus.link();
        within(link.wait_for(shared::bus::Link::is_up)).await.unwrap();
    }
}
