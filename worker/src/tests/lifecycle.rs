//! How a worker ends, and that several are one.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value as Json;

use super::fixture::{Fixture, message, settle};

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_finishes_what_it_has_and_takes_nothing_new() {
    let mut fixture = Fixture::new();
    fixture.limits.prefetch = 2;
    let worker = fixture.worker();
    fixture.forward_all(1..=3, "wait").await;
    settle().await;
    worker.shutdown();
    settle().await;
    fixture.app.open.notify_waiters();
    worker.join().await;
    assert_eq!(fixture.app.seen().len(), 2);
    for _ in 0..2 {
        assert_eq!(fixture.answer().await.1["type"], "reply");
    }
    settle().await;
    assert_eq!(fixture.bus.depth(&fixture.names.messages().name), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_deadline_and_gives_back_the_rest() {
    let mut fixture = Fixture::new();
    fixture.limits.handler_timeout = Duration::from_secs(3_600);
    let worker = fixture.worker();
    fixture
        .forward(fixture.message_id(1, 1), message("i", "hang", "alice", &Json::Null))
        .await;
    settle().await;
    worker.shutdown();
    let started = tokio::time::Instant::now();
    worker.join().await;
    assert_eq!(started.elapsed(), fixture.limits.drain_timeout);
    settle().await;
    assert_eq!(fixture.bus.depth(&fixture.names.messages().name), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn workers_that_come_and_go_lose_nothing() {
    let mut fixture = Fixture::new();
    let mut workers = vec![fixture.worker(), fixture.worker()];
    for sequence in 1..=100 {
        fixture.forward_all(sequence..=sequence, "slow").await;
        if sequence % 20 == 0 {
            drop(workers.remove(0));
            workers.push(fixture.worker());
        }
    }
    let mut settled = HashSet::new();
    while settled.len() < 100 {
        settled.insert(fixture.answer().await.0.correlation_id);
    }
}
