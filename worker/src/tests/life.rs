//! How a worker ends, and that several are one.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value as Json;

use super::bench::{Bench, message, settle};

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_finishes_what_it_has_and_takes_nothing_new() {
    let mut bench = Bench::new();
    bench.limits.prefetch = 2;
    let worker = bench.worker();
    for sequence in 1..=3 {
        bench
            .forward(bench.stamp(1, sequence), message("i", "wait", "alice", &Json::Null))
            .await;
    }
    settle().await;
    worker.shutdown();
    settle().await;
    bench.app.open.notify_waiters();
    worker.join().await;
    assert_eq!(bench.app.seen().len(), 2);
    for _ in 0..2 {
        assert_eq!(bench.answer().await.1["type"], "reply");
    }
    settle().await;
    assert_eq!(bench.bus.depth(&bench.names.messages().name), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_deadline_and_gives_back_the_rest() {
    let mut bench = Bench::new();
    bench.limits.handler_timeout = Duration::from_secs(3_600);
    let worker = bench.worker();
    bench
        .forward(bench.stamp(1, 1), message("i", "hang", "alice", &Json::Null))
        .await;
    settle().await;
    worker.shutdown();
    let started = tokio::time::Instant::now();
    worker.join().await;
    assert_eq!(started.elapsed(), bench.limits.drain_timeout);
    settle().await;
    assert_eq!(bench.bus.depth(&bench.names.messages().name), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn workers_that_come_and_go_lose_nothing() {
    let mut bench = Bench::new();
    let mut workers = vec![bench.worker(), bench.worker()];
    for sequence in 1..=100 {
        bench
            .forward(bench.stamp(1, sequence), message("i", "slow", "alice", &Json::Null))
            .await;
        if sequence % 20 == 0 {
            drop(workers.remove(0));
            workers.push(bench.worker());
        }
    }
    let mut settled = HashSet::new();
    while settled.len() < 100 {
        settled.insert(bench.answer().await.0.correlation_id);
    }
}
