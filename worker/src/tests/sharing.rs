//! That what waits for a place in one worker is handled by one that has nothing to do.

use std::time::Duration;

use serde_json::json;
use shared::bus::Route;
use shared::bus::topology::keys;
use shared::service::clock::Clock;
use shared::wire::envelope::run::{self, Entry};
use shared::wire::envelope::{ForwardedMessage, MessageKind, Reply};

use super::connection::stranger;
use super::fixture::{Fixture, message};

fn crowded() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.limits.concurrency = 1;
    fixture.limits.handler_timeout = Duration::from_secs(3_600);
    fixture
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_handles_what_another_had_taken_in() {
    let mut fixture = crowded();
    let _first = fixture.worker();
    fixture
        .forward(fixture.message_id(1, 1), message("i", "hang", "bob", &json!(0)))
        .await;
    for number in 2..6 {
        let message_id = fixture.message_id(number, 1);
        fixture
            .forward(message_id, message("i", "echo", "alice", &json!(number)))
            .await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.app.seen().len(), 1);
    let _second = fixture.worker();
    let mut answered = Vec::new();
    while answered.len() < 4 {
        let (properties, _) = fixture.answer().await;
        answered.extend(Reply::read(&properties).map(|(message_id, _)| message_id.connection.number));
    }
    answered.sort_unstable();
    assert_eq!(answered, [2, 3, 4, 5]);
    fixture.expect_no_answer().await;
    assert_eq!(fixture.app.seen().len(), 5, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_elsewhere_in_its_order() {
    let mut fixture = crowded();
    let _first = fixture.worker();
    fixture
        .forward(fixture.message_id(1, 1), message("i", "hang", "bob", &json!(0)))
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = ForwardedMessage {
        message_id: fixture.message_id(2, 1),
        notice: MessageKind::Run,
        snapshot: stranger(),
    };
    let entries = [1, 2, 3].map(|number| Entry {
        body: message(&number.to_string(), "echo", "alice", &json!(number)).into(),
        received: fixture.clock.now(),
        unsettled: false,
        trace: Vec::new(),
    });
    let run = run::to_message(&first, &entries, &fixture.names.return_queue(fixture.terminator).name);
    let route = Route::new(&fixture.names.internal_exchange().name, keys::FORWARD);
    fixture.publisher.publish(route, run).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _second = fixture.worker();
    for number in 1..=3 {
        let (properties, answer) = fixture.answer().await;
        let (message_id, _) = Reply::read(&properties).unwrap();
        assert_eq!(
            (message_id, &answer["payload"]),
            (fixture.message_id(2, number), &json!(number))
        );
    }
    fixture.expect_no_answer().await;
}

/// Neither ever waits for long, and yet there is work for two.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_moment_at_a_time_is_shared_too() {
    const ENTRIES: u64 = 20;
    let mut fixture = crowded();
    let _first = fixture.worker();
    let route = Route::new(&fixture.names.internal_exchange().name, keys::FORWARD);
    for connection in 1..=2 {
        let first = ForwardedMessage {
            message_id: fixture.message_id(connection, 1),
            notice: MessageKind::Run,
            snapshot: stranger(),
        };
        let entries: Vec<_> = (1..=ENTRIES)
            .map(|number| Entry {
                body: message(&number.to_string(), "brief", "alice", &json!(number)).into(),
                received: fixture.clock.now(),
                unsettled: false,
                trace: Vec::new(),
            })
            .collect();
        let run = run::to_message(&first, &entries, &fixture.names.return_queue(fixture.terminator).name);
        fixture.publisher.publish(route.clone(), run).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = tokio::time::Instant::now();
    let _second = fixture.worker();
    let mut last = [0; 2];
    for _ in 0..2 * ENTRIES {
        let (properties, _) = fixture.answer().await;
        let (message_id, _) = Reply::read(&properties).unwrap();
        let of = &mut last[usize::try_from(message_id.connection.number - 1).unwrap()];
        assert_eq!(message_id.sequence.get(), *of + 1, "each in its order");
        *of += 1;
    }
    // One worker alone takes 4 s.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    fixture.expect_no_answer().await;
}
