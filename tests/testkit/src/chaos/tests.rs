use std::collections::BTreeSet;

use super::*;
use shared::bus::topology::{FilledBy, Limits, QueueKind, Topology};
use shared::bus::{Message, Properties, Route};

const LATENCY: LatencyModel = LatencyModel {
    usual: Duration::from_millis(5),
    slow: Duration::from_millis(50),
};
const SEEDS: std::ops::Range<u64> = 0..50;

fn queue(single_active_consumer: bool) -> Queue {
    Queue {
        name: "q".to_owned(),
        kind: QueueKind::Quorum(Limits {
            single_active_consumer,
            ..Limits::default()
        }),
        bindings: Vec::new(),
        former_bindings: Vec::new(),
        filled_by: FilledBy::Us,
    }
}

fn broker() -> MemoryBus {
    MemoryBus::new(&Topology {
        exchanges: Vec::new(),
        queues: vec![queue(false)],
    })
}

fn numbered(number: u64) -> Message {
    Message {
        body: bytes::Bytes::new(),
        properties: Properties {
            correlation_id: Some(number.to_string()),
            ..Properties::default()
        },
    }
}

fn number(delivery: &shared::bus::Delivery) -> u64 {
    let id = delivery.message.properties.correlation_id.as_deref();
    id.and_then(|id| id.parse().ok()).expect("it is numbered")
}

/// A process that publishes 20 numbers, loses its connection now and then, and hears what became of each.
fn publish(bus: &ChaosBus, mut rng: Rng) -> impl Future<Output = ()> + use<'_> {
    let publisher = bus.publisher(PublishTimeout::Endless);
    async move {
        let mut confirms = Vec::new();
        for n in 0..20 {
            let publisher = publisher.clone();
            confirms.push(tokio::spawn(async move {
                publisher.publish(Route::queue("q"), numbered(n)).await
            }));
            sleep(rng.time(LATENCY.usual)).await;
            if rng.chance(20) {
                bus.lose(Role::Publishing, LATENCY.slow, false);
            }
        }
        for confirm in confirms {
            assert_eq!(confirm.await.expect("it does not panic"), Ok(()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_weather_all_arrives_and_for_the_first_time_in_order() {
    for seed in SEEDS {
        let mut rng = Rng::new(seed);
        let shared = broker();
        let process = ChaosBus::new(&shared, LATENCY, rng.fork());
        publish(&process, rng.fork()).await;
        let mut consumer = process.consumer(queue(false), 100);
        let mut first = Vec::new();
        while first.len() < 20 {
            if rng.chance(20) {
                process.lose(Role::Consuming, LATENCY.slow, false);
            }
            let delivery = consumer.recv().await.expect("it is not stopped");
            let n = number(&delivery);
            if !first.contains(&n) {
                first.push(n);
            }
            delivery.ack();
        }
        assert_eq!(first, (0..20).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_had_comes_to_another_in_order() {
    for seed in SEEDS {
        let mut rng = Rng::new(seed);
        let shared = broker();
        let (one, other) = (
            ChaosBus::new(&shared, LATENCY, rng.fork()),
            ChaosBus::new(&shared, LATENCY, rng.fork()),
        );
        publish(&one, rng.fork()).await;
        let mut dying = one.consumer(queue(false), 10);
        let mut taken = BTreeSet::new();
        let mut held = Vec::new();
        for _ in 0..rng.between(0, 9) {
            let delivery = dying.recv().await.expect("it is not stopped");
            taken.insert(number(&delivery));
            held.push(delivery);
        }
        one.kill();
        while shared.depth("q").1 > 0 {
            tokio::task::yield_now().await;
        }
        let mut consumer = other.consumer(queue(false), 100);
        let mut came = Vec::new();
        let mut again = BTreeSet::new();
        while came.len() < 20 {
            let delivery = consumer.recv().await.expect("it is not stopped");
            let n = number(&delivery);
            if delivery.is_redelivered() {
                again.insert(n);
            }
            if !came.contains(&n) {
                came.push(n);
            }
            delivery.ack();
        }
        assert!(again.is_superset(&taken), "seed {seed}");
        assert_eq!(came, (0..20).collect::<Vec<_>>(), "seed {seed}");
        // A late acknowledgement by the dead changes nothing.
        held.into_iter().for_each(shared::bus::Delivery::ack);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_consumer_gets_what_it_was_given_and_then_its_end() {
    let shared = broker();
    let process = ChaosBus::new(&shared, LATENCY, Rng::new(1));
    publish(&process, Rng::new(2)).await;
    let mut consumer = process.consumer(queue(false), 5);
    let delivery = consumer.recv().await.expect("there are twenty");
    consumer.stop();
    delivery.ack();
    let mut rest = 0;
    while let Some(delivery) = consumer.recv().await {
        delivery.ack();
        rest += 1;
    }
    assert!(rest >= 4, "{rest}");
}
