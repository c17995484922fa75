//! A message that comes twice has its effect once: what is between the two, second by second.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::bus::Properties;
use shared::wire::id::MessageId;

use super::fixture::{Fixture, message, settle};

const WINDOW: Duration = Duration::from_secs(600);
/// The handler's time, and the margin.
const LEASE: Duration = Duration::from_secs(15);

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.limits.idempotency = Some(WINDOW);
    fixture
}

fn once(kind: &str) -> String {
    message("once", kind, "alice", &json!(1))
}

impl Fixture {
    async fn once(&mut self, message_id: MessageId, kind: &str) -> Json {
        self.ask(message_id, once(kind)).await
    }

    fn message_ids(&self) -> Vec<Option<MessageId>> {
        self.app.seen().into_iter().map(|seen| seen.message_id).collect()
    }

    fn calls(&self) -> usize {
        self.store.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn it_costs_one_call_before_and_one_after_and_nothing_where_it_is_off_or_there_is_no_name() {
    for (window, cost) in [(Some(WINDOW), 2), (None, 0)] {
        let mut fixture = Fixture::new();
        fixture.limits.idempotency = window;
        let _worker = fixture.worker();
        let first = json!({"type": "echo", "token": super::fixture::token_for("alice", 300)}).to_string();
        fixture.ask(fixture.message_id(1, 1), first.clone()).await;
        let before = fixture.calls();
        fixture.ask(fixture.message_id(1, 2), first).await;
        assert_eq!(fixture.calls(), before);
        fixture.once(fixture.message_id(1, 3), "echo").await;
        assert_eq!(fixture.calls(), before + cost);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_message_takes_over_at_once_and_another_when_the_lease_is_over() {
    let mut fixture = fixture();
    let dying = fixture.worker();
    let (cut_off, another) = (fixture.message_id(1, 1), fixture.message_id(2, 1));
    fixture.forward(cut_off, once("wait")).await;
    settle().await;
    assert_eq!(fixture.message_ids(), [Some(cut_off)]);
    drop(dying);
    fixture.clock.advance(LEASE - Duration::from_secs(1));
    let living = fixture.worker();
    settle().await;
    assert_eq!(fixture.message_ids(), [Some(cut_off); 2]);
    fixture.clock.advance(LEASE - Duration::from_secs(1));
    let refused = fixture.once(another, "wait").await;
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["retry_after_ms"]),
        (&json!("busy"), &json!(1_000))
    );
    fixture.app.open.notify_one();
    let (properties, answer) = fixture.answer().await;
    assert_eq!(
        (properties.correlation_id, &answer["payload"]),
        (Some(cut_off.to_string()), &json!(1))
    );
    assert_eq!(fixture.once(another, "wait").await["payload"], 1);
    assert_eq!(fixture.message_ids().len(), 2);

    // Of one that never comes again, another takes the place.
    let (lost, another) = (fixture.message_id(1, 2), fixture.message_id(2, 2));
    let body = message("lost", "wait", "alice", &json!(2));
    fixture.forward(lost, body.clone()).await;
    settle().await;
    drop(living);
    settle().await;
    fixture.next_of(fixture.names.messages()).await;
    let _worker = fixture.worker();
    fixture.clock.advance(LEASE - Duration::from_secs(1));
    assert_eq!(fixture.ask(another, body.clone()).await["error"]["code"], "busy");
    fixture.clock.advance(Duration::from_secs(1));
    fixture.app.open.notify_one();
    assert_eq!(fixture.ask(fixture.message_id(2, 3), body).await["payload"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_published_twice_waits_for_its_first_copy() {
    let mut fixture = fixture();
    let _worker = fixture.worker();
    let message_id = fixture.message_id(1, 1);
    // As a terminator does that has lost a confirm: neither is redelivered, so that both may be in someone's hands.
    for _ in 0..2 {
        fixture.forward(message_id, once("wait")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.message_ids(), [Some(message_id)]);
    fixture.app.open.notify_one();
    for _ in 0..2 {
        assert_eq!(fixture.answer().await.1["payload"], 1, "nobody is told to try again");
    }
    assert_eq!(fixture.message_ids(), [Some(message_id)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_injected_and_cut_off_waits_for_its_own_lease_although_nobody_hears_it() {
    let fixture = fixture();
    let dying = fixture.worker();
    fixture.inject(once("wait"), Properties::default()).await;
    settle().await;
    drop(dying);
    settle().await;
    fixture.app.open.notify_one();
    let _worker = fixture.worker();
    tokio::time::sleep(LEASE / 2).await;
    assert_eq!(fixture.message_ids(), [None], "it may be running for all that is known");
    fixture.clock.advance(LEASE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.message_ids(), [None; 2]);
    assert!(fixture.is_empty(&fixture.names.retries(5)[1]).await);
    assert!(fixture.is_empty(&fixture.names.dead()).await);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_took_too_long_may_be_tried_again() {
    let mut fixture = fixture();
    let _worker = fixture.worker();
    for sequence in 1..=2 {
        let answer = fixture.once(fixture.message_id(1, sequence), "hang").await;
        assert_eq!(answer["error"]["message"], "the message took too long to handle");
    }
    assert_eq!(fixture.message_ids().len(), 2);
    // A panic says nothing of what was done before it.
    for sequence in 3..=4 {
        let body = message("panic", "panic", "alice", &Json::Null);
        assert_eq!(
            fixture.ask(fixture.message_id(1, sequence), body).await["error"]["code"],
            "internal"
        );
    }
    assert_eq!(fixture.message_ids().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_the_effect_is_answered_although_the_store_went_away_meanwhile() {
    let mut fixture = fixture();
    let _worker = fixture.worker();
    fixture.forward(fixture.message_id(1, 1), once("wait")).await;
    settle().await;
    fixture.store.set_away(true);
    fixture.app.open.notify_one();
    assert_eq!(fixture.answer().await.1["payload"], 1);
    // No one knows what came of it, so no one else has the effect before the lease is over.
    fixture.store.set_away(false);
    assert_eq!(
        fixture.once(fixture.message_id(1, 2), "wait").await["error"]["code"],
        "busy"
    );
    assert_eq!(fixture.message_ids().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_in_time_is_told_all_the_same() {
    let mut fixture = fixture();
    let _worker = fixture.worker();
    fixture.forward(fixture.message_id(1, 1), once("wait")).await;
    settle().await;
    fixture.store.set_away(true);
    fixture.app.open.notify_one();
    tokio::time::sleep(Duration::from_millis(700)).await;
    fixture.store.set_away(false);
    assert_eq!(fixture.answer().await.1["payload"], 1);
    assert_eq!(fixture.once(fixture.message_id(1, 2), "wait").await["payload"], 1);
    assert_eq!(fixture.message_ids().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_noted_for_whoever_asks_why() {
    let mut fixture = fixture();
    let _worker = fixture.worker();
    fixture.once(fixture.message_id(1, 1), "echo").await;
    let refused = fixture.once(fixture.message_id(1, 2), "three").await;
    assert_eq!(refused["error"]["code"], "duplicate");
    settle().await;
    let decisions = fixture.store.decisions(fixture.connection(1)).await.unwrap();
    let said: Vec<_> = decisions.iter().map(|one| (&*one.what, one.id.as_deref())).collect();
    assert_eq!(said, [("refused", Some("once"))]);
    assert!(
        decisions.iter().all(|one| one.why.starts_with("duplicate: ")),
        "{decisions:?}"
    );
}
