//! A message that comes twice has its effect once: what is between the two, second by second.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::bus::Properties;
use shared::id::Stamp;

use super::bench::{Bench, message, settle};
use crate::store::Store;

const WINDOW: Duration = Duration::from_secs(600);
/// The handler's time, and the margin.
const LEASE: Duration = Duration::from_secs(15);

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.limits.idempotency = Some(WINDOW);
    bench
}

fn once(kind: &str) -> String {
    message("once", kind, "alice", &json!(1))
}

impl Bench {
    async fn once(&mut self, stamp: Stamp, kind: &str) -> Json {
        self.ask(stamp, once(kind)).await
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.app.seen().into_iter().map(|seen| seen.stamp).collect()
    }

    fn calls(&self) -> usize {
        self.store.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn it_costs_one_call_before_and_one_after_and_nothing_where_it_is_off_or_there_is_no_name() {
    for (window, cost) in [(Some(WINDOW), 2), (None, 0)] {
        let mut bench = Bench::new();
        bench.limits.idempotency = window;
        let _worker = bench.worker();
        let first = json!({"type": "echo", "token": super::bench::token_for("alice", 300)}).to_string();
        bench.ask(bench.stamp(1, 1), first.clone()).await;
        let before = bench.calls();
        bench.ask(bench.stamp(1, 2), first).await;
        assert_eq!(bench.calls(), before);
        bench.once(bench.stamp(1, 3), "echo").await;
        assert_eq!(bench.calls(), before + cost);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_message_takes_over_at_once_and_another_when_the_lease_is_over() {
    let mut bench = bench();
    let dying = bench.worker();
    let (cut_off, another) = (bench.stamp(1, 1), bench.stamp(2, 1));
    bench.forward(cut_off, once("wait")).await;
    settle().await;
    assert_eq!(bench.stamps(), [Some(cut_off)]);
    drop(dying);
    bench.clock.advance(LEASE - Duration::from_secs(1));
    let living = bench.worker();
    settle().await;
    assert_eq!(bench.stamps(), [Some(cut_off); 2]);
    bench.clock.advance(LEASE - Duration::from_secs(1));
    let refused = bench.once(another, "wait").await;
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["retry_after_ms"]),
        (&json!("busy"), &json!(1_000))
    );
    bench.app.open.notify_one();
    let (properties, answer) = bench.answer().await;
    assert_eq!(
        (properties.correlation_id, &answer["payload"]),
        (Some(cut_off.to_string()), &json!(1))
    );
    assert_eq!(bench.once(another, "wait").await["payload"], 1);
    assert_eq!(bench.stamps().len(), 2);

    // Of one that never comes again, another takes the place.
    let (lost, another) = (bench.stamp(1, 2), bench.stamp(2, 2));
    let body = message("lost", "wait", "alice", &json!(2));
    bench.forward(lost, body.clone()).await;
    settle().await;
    drop(living);
    settle().await;
    bench.next_of(bench.names.messages()).await;
    let _worker = bench.worker();
    bench.clock.advance(LEASE - Duration::from_secs(1));
    assert_eq!(bench.ask(another, body.clone()).await["error"]["code"], "busy");
    bench.clock.advance(Duration::from_secs(1));
    bench.app.open.notify_one();
    assert_eq!(bench.ask(bench.stamp(2, 3), body).await["payload"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_published_twice_waits_for_its_first_copy() {
    let mut bench = bench();
    let _worker = bench.worker();
    let stamp = bench.stamp(1, 1);
    // As a terminator does that has lost a confirm: neither is redelivered, so that both may be in somebody's hands.
    for _ in 0..2 {
        bench.forward(stamp, once("wait")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.stamps(), [Some(stamp)]);
    bench.app.open.notify_one();
    for _ in 0..2 {
        assert_eq!(bench.answer().await.1["payload"], 1, "nobody is told to try again");
    }
    assert_eq!(bench.stamps(), [Some(stamp)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_injected_and_cut_off_waits_for_its_own_lease_although_nobody_hears_it() {
    let bench = bench();
    let dying = bench.worker();
    bench.inject(once("wait"), Properties::default()).await;
    settle().await;
    drop(dying);
    settle().await;
    bench.app.open.notify_one();
    let _worker = bench.worker();
    tokio::time::sleep(LEASE / 2).await;
    assert_eq!(bench.stamps(), [None], "it may be running for all that is known");
    bench.clock.advance(LEASE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.stamps(), [None; 2]);
    assert!(bench.is_empty(&bench.names.retries(5)[1]).await);
    assert!(bench.is_empty(&bench.names.dead()).await);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_took_too_long_may_be_tried_again() {
    let mut bench = bench();
    let _worker = bench.worker();
    for sequence in 1..=2 {
        let answer = bench.once(bench.stamp(1, sequence), "hang").await;
        assert_eq!(answer["error"]["message"], "the message took too long to handle");
    }
    assert_eq!(bench.stamps().len(), 2);
    // A panic says nothing of what was done before it.
    for sequence in 3..=4 {
        let body = message("panic", "panic", "alice", &Json::Null);
        assert_eq!(
            bench.ask(bench.stamp(1, sequence), body).await["error"]["code"],
            "internal"
        );
    }
    assert_eq!(bench.stamps().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_the_effect_is_answered_although_the_store_went_away_meanwhile() {
    let mut bench = bench();
    let _worker = bench.worker();
    bench.forward(bench.stamp(1, 1), once("wait")).await;
    settle().await;
    bench.store.set_away(true);
    bench.app.open.notify_one();
    assert_eq!(bench.answer().await.1["payload"], 1);
    // Nobody knows what came of it, so nobody else has the effect before the lease is over.
    bench.store.set_away(false);
    assert_eq!(bench.once(bench.stamp(1, 2), "wait").await["error"]["code"], "busy");
    assert_eq!(bench.stamps().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_in_time_is_told_all_the_same() {
    let mut bench = bench();
    let _worker = bench.worker();
    bench.forward(bench.stamp(1, 1), once("wait")).await;
    settle().await;
    bench.store.set_away(true);
    bench.app.open.notify_one();
    tokio::time::sleep(Duration::from_millis(700)).await;
    bench.store.set_away(false);
    assert_eq!(bench.answer().await.1["payload"], 1);
    assert_eq!(bench.once(bench.stamp(1, 2), "wait").await["payload"], 1);
    assert_eq!(bench.stamps().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_noted_for_whoever_asks_why() {
    let mut bench = bench();
    let _worker = bench.worker();
    bench.once(bench.stamp(1, 1), "echo").await;
    let refused = bench.once(bench.stamp(1, 2), "three").await;
    assert_eq!(refused["error"]["code"], "duplicate");
    settle().await;
    let decisions = bench.store.decisions(bench.connection(1)).await.unwrap();
    let said: Vec<_> = decisions.iter().map(|one| (&*one.what, one.id.as_deref())).collect();
    assert_eq!(said, [("refused", Some("once"))]);
    assert!(
        decisions.iter().all(|one| one.why.starts_with("duplicate: ")),
        "{decisions:?}"
    );
}
