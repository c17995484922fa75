//! An answer that was not written is its asker's: no one else of the identity hears it.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use shared::bus::Message;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Bounced, Command, Reply};
use shared::wire::id::ConnectionId;

use super::{identity, tag};
use crate::tests::fixture::{Fixture, HOLD_TTL, settle};

/// The answer to a request of that connection, on behalf of `subject`.
fn answer(fixture: &Fixture, number: u64, sequence: u64, subject: &str) -> Message {
    let answer = Reply {
        identity: Some(tag(subject)),
        ..Reply::ONLY
    };
    let body = json!({"type": "reply", "id": "2"}).to_string();
    answer.to_message(Some(fixture.message_id(number, sequence).to_string()), body.into())
}

fn key(fixture: &Fixture, number: u64, sequence: u64) -> String {
    format!("{}.0", fixture.message_id(number, sequence))
}

impl Fixture {
    async fn take_over(&self, from: ConnectionId, successor: ConnectionId) {
        self.connect(successor, "alice", 300).await;
        let taken = self.store.resume(from, &[0; 32], &identity("alice"), successor).await;
        assert!(taken.unwrap());
    }

    /// All keys that a connection is given, if it asks for what is held.
    async fn fetched(&mut self, connection: ConnectionId, subject: &str) -> Vec<String> {
        self.fetch(connection, subject).await;
        let mut keys = Vec::new();
        loop {
            match self.command().await {
                (to, Command::Write(write), _) if to == connection => keys.push(write.key),
                (_, Command::Fetched { left: 0, .. }, _) => return keys,
                other => panic!("what is this? {other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_the_answers_of_a_connection_that_is_gone_until_its_key_is_shown() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    for number in [1, 2] {
        fixture.connect(fixture.connection(number), "alice", 300).await;
    }
    for sequence in [7, 8] {
        fixture
            .bounce(Bounced::Gone, answer(&fixture, 1, sequence, "alice"))
            .await;
    }
    fixture.expect_no_answer().await;
    assert_eq!(
        fixture.connect(fixture.connection(3), "alice", 300).await,
        0,
        "nothing waits for it"
    );
    for other in [2, 3] {
        assert_eq!(fixture.fetched(fixture.connection(other), "alice").await, [""; 0]);
    }
    fixture.take_over(fixture.connection(1), fixture.connection(4)).await;
    assert_eq!(fixture.fetched(fixture.connection(5), "alice").await, [""; 0]);
    let owed = [key(&fixture, 1, 7), key(&fixture, 1, 8)];
    assert_eq!(fixture.fetched(fixture.connection(4), "alice").await, owed);
    assert_eq!(fixture.fetched(fixture.connection(4), "alice").await, [""; 0], "once");
    assert!(fixture.is_empty(&fixture.names.undelivered()).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_taken_over_is_told_of_what_comes_back_later() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.take_over(fixture.connection(1), fixture.connection(2)).await;
    fixture.take_over(fixture.connection(2), fixture.connection(3)).await;
    for why in [Bounced::Gone, Bounced::Expired] {
        fixture.bounce(why, answer(&fixture, 1, 7, "alice")).await;
        let told = fixture.command().await;
        assert_eq!(told, (fixture.connection(3), Command::Wake { from: None }, json!(null)));
    }
    assert_eq!(
        fixture.fetched(fixture.connection(3), "alice").await,
        [key(&fixture, 1, 7)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_successor_of_several_is_given_what_each_is_owed_before_its_own() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    for number in [1, 2, 3] {
        fixture.connect(fixture.connection(number), "alice", 300).await;
        fixture
            .bounce(Bounced::Expired, answer(&fixture, number, 7, "alice"))
            .await;
    }
    fixture
        .bounce(Bounced::Expired, fixture.write(fixture.connection(3), "alice", "a"))
        .await;
    settle().await;
    for number in [1, 2] {
        fixture.clock.advance(Duration::from_millis(1));
        fixture
            .take_over(fixture.connection(number), fixture.connection(3))
            .await;
    }
    let owed = [
        key(&fixture, 1, 7),
        key(&fixture, 2, 7),
        key(&fixture, 3, 7),
        "p:a".to_owned(),
    ];
    assert_eq!(fixture.fetched(fixture.connection(3), "alice").await, owed);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_in_another_s_name_on_the_same_connection_is_not_heard() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.bounce(Bounced::Gone, answer(&fixture, 1, 7, "alice")).await;
    assert_eq!(fixture.fetched(fixture.connection(1), "bob").await, [""; 0]);
    assert_eq!(
        fixture.fetched(fixture.connection(1), "alice").await,
        [key(&fixture, 1, 7)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_successor_gives_back_is_still_the_asker_s() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.take_over(fixture.connection(1), fixture.connection(2)).await;
    let write = Write {
        key: key(&fixture, 1, 7),
        identity: Some(tag("alice")),
        producer: None,
        connections: 0,
        alone: false,
        asked_by: Some(fixture.connection(1)),
        released: true,
        fetched: true,
        since: shared::service::clock::Clock::now(&*fixture.clock),
        until: None,
    };
    let body = json!({"type": "reply", "id": "2"}).to_string();
    let released = Command::Write(write).to_message(fixture.connection(2), body.into());
    fixture.bounce(Bounced::Expired, released).await;
    fixture.expect_no_answer().await;
    assert_eq!(fixture.answers_held(fixture.connection(1)).await, [key(&fixture, 1, 7)]);
    assert_eq!(fixture.fetched(fixture.connection(3), "alice").await, [""; 0]);
    assert_eq!(
        fixture.fetched(fixture.connection(2), "alice").await,
        [key(&fixture, 1, 7)]
    );
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_fetches_are_counted_and_explained() {
    let fixture = Fixture::new();
    let recorder = PrometheusBuilder::new().build_recorder();
    let _worker = metrics::with_local_recorder(&recorder, || fixture.worker());
    for sequence in 1..=300 {
        fixture
            .bounce(Bounced::Gone, answer(&fixture, sequence, 7, "alice"))
            .await;
    }
    settle().await;
    fixture.clock.advance(HOLD_TTL + Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let all = recorder.handle().render();
    for (name, count) in [
        (r#"writes_held_total{kind="answer"}"#, 300),
        (r#"writes_held_total{kind="push"}"#, 0),
        (r#"holds_dropped_total{reason="expired",kind="answer"}"#, 300),
        (r#"holds_dropped_total{reason="expired",kind="push"}"#, 0),
    ] {
        let line = format!("countersign_worker_{name} {count}\n");
        assert!(all.contains(&line), "{line}{all}");
    }
    let decisions = fixture.store.decisions(fixture.connection(1)).await.unwrap();
    let told: Vec<_> = decisions
        .iter()
        .map(|one| {
            (
                one.what.as_str(),
                one.id.as_deref(),
                one.sequence.map(shared::wire::id::Sequence::get),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("answer_held", Some("2"), Some(7)),
            ("answer_expired", Some("2"), Some(7))
        ]
    );
}
