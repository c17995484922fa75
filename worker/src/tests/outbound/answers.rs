//! An answer that was not written is its asker's: nobody else of the identity hears it.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use shared::bus::Message;
use shared::envelope::errand::Write;
use shared::envelope::{Answer, Bounced, Errand};
use shared::id::ConnectionId;

use super::{identity, tag};
use crate::store::Store;
use crate::tests::bench::{Bench, HOLD_TTL, settle};

/// The answer to a question of that connection, in the name of `subject`.
fn answer(bench: &Bench, number: u64, sequence: u64, subject: &str) -> Message {
    let answer = Answer {
        identity: Some(tag(subject)),
        ..Answer::ONLY
    };
    let body = json!({"type": "reply", "id": "2"}).to_string();
    answer.to_message(Some(bench.stamp(number, sequence).to_string()), body.into())
}

fn key(bench: &Bench, number: u64, sequence: u64) -> String {
    format!("{}.0", bench.stamp(number, sequence))
}

impl Bench {
    async fn take_over(&self, from: ConnectionId, heir: ConnectionId) {
        self.connect(heir, "alice", 300).await;
        let taken = self.store.resume(from, &[0; 32], &identity("alice"), heir).await;
        assert!(taken.unwrap());
    }

    /// All keys that a connection is given, if it asks for what is held.
    async fn fetched(&mut self, connection: ConnectionId, subject: &str) -> Vec<String> {
        self.fetch(connection, subject).await;
        let mut keys = Vec::new();
        loop {
            match self.errand().await {
                (to, Errand::Write(write), _) if to == connection => keys.push(write.key),
                (_, Errand::Fetched { left: 0 }, _) => return keys,
                other => panic!("what is this? {other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_the_answers_of_a_connection_that_is_gone_until_its_key_is_shown() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    for number in [1, 2] {
        bench.connect(bench.connection(number), "alice", 300).await;
    }
    for sequence in [7, 8] {
        bench.bounce(Bounced::Gone, answer(&bench, 1, sequence, "alice")).await;
    }
    bench.expect_no_answer().await;
    assert_eq!(
        bench.connect(bench.connection(3), "alice", 300).await,
        0,
        "nothing waits for it"
    );
    for other in [2, 3] {
        assert_eq!(bench.fetched(bench.connection(other), "alice").await, [""; 0]);
    }
    bench.take_over(bench.connection(1), bench.connection(4)).await;
    assert_eq!(bench.fetched(bench.connection(5), "alice").await, [""; 0]);
    let owed = [key(&bench, 1, 7), key(&bench, 1, 8)];
    assert_eq!(bench.fetched(bench.connection(4), "alice").await, owed);
    assert_eq!(bench.fetched(bench.connection(4), "alice").await, [""; 0], "once");
    assert!(bench.is_empty(&bench.names.undelivered()).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_taken_over_is_told_of_what_comes_back_later() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.take_over(bench.connection(1), bench.connection(2)).await;
    bench.take_over(bench.connection(2), bench.connection(3)).await;
    for why in [Bounced::Gone, Bounced::Lapsed] {
        bench.bounce(why, answer(&bench, 1, 7, "alice")).await;
        let told = bench.errand().await;
        assert_eq!(told, (bench.connection(3), Errand::Wake { from: None }, json!(null)));
    }
    assert_eq!(bench.fetched(bench.connection(3), "alice").await, [key(&bench, 1, 7)]);
}

#[tokio::test(start_paused = true)]
async fn an_heir_of_several_is_given_what_each_is_owed_before_its_own() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    for number in [1, 2, 3] {
        bench.connect(bench.connection(number), "alice", 300).await;
        bench.bounce(Bounced::Lapsed, answer(&bench, number, 7, "alice")).await;
    }
    bench
        .bounce(Bounced::Lapsed, bench.write(bench.connection(3), "alice", "a"))
        .await;
    settle().await;
    for number in [1, 2] {
        bench.clock.advance(Duration::from_millis(1));
        bench.take_over(bench.connection(number), bench.connection(3)).await;
    }
    let owed = [
        key(&bench, 1, 7),
        key(&bench, 2, 7),
        key(&bench, 3, 7),
        "p:a".to_owned(),
    ];
    assert_eq!(bench.fetched(bench.connection(3), "alice").await, owed);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_in_another_s_name_on_the_same_connection_is_not_heard() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench.bounce(Bounced::Gone, answer(&bench, 1, 7, "alice")).await;
    assert_eq!(bench.fetched(bench.connection(1), "bob").await, [""; 0]);
    assert_eq!(bench.fetched(bench.connection(1), "alice").await, [key(&bench, 1, 7)]);
}

#[tokio::test(start_paused = true)]
async fn what_an_heir_gives_back_is_still_the_asker_s() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.take_over(bench.connection(1), bench.connection(2)).await;
    let write = Write {
        key: key(&bench, 1, 7),
        identity: Some(tag("alice")),
        producer: None,
        alone: false,
        asked_by: Some(bench.connection(1)),
        released: true,
        since: shared::clock::Clock::now(&*bench.clock),
    };
    let body = json!({"type": "reply", "id": "2"}).to_string();
    let released = Errand::Write(write).to_message(bench.connection(2), body.into());
    bench.bounce(Bounced::Lapsed, released).await;
    bench.expect_no_answer().await;
    assert_eq!(bench.answers_held(bench.connection(1)).await, [key(&bench, 1, 7)]);
    assert_eq!(bench.fetched(bench.connection(3), "alice").await, [""; 0]);
    assert_eq!(bench.fetched(bench.connection(2), "alice").await, [key(&bench, 1, 7)]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_fetches_are_counted_and_explained() {
    let bench = Bench::new();
    let recorder = PrometheusBuilder::new().build_recorder();
    let _worker = metrics::with_local_recorder(&recorder, || bench.worker());
    for sequence in 1..=300 {
        bench.bounce(Bounced::Gone, answer(&bench, sequence, 7, "alice")).await;
    }
    settle().await;
    bench.clock.advance(HOLD_TTL + Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let all = recorder.handle().render();
    for (name, count) in [
        (r#"writes_held_total{kind="answer"}"#, 300),
        (r#"writes_held_total{kind="push"}"#, 0),
        (r#"holds_given_up_total{reason="expired",kind="answer"}"#, 300),
        (r#"holds_given_up_total{reason="expired",kind="push"}"#, 0),
    ] {
        let line = format!("countersign_worker_{name} {count}\n");
        assert!(all.contains(&line), "{line}{all}");
    }
    let decisions = bench.store.decisions(bench.connection(1)).await.unwrap();
    let told: Vec<_> = decisions
        .iter()
        .map(|one| {
            (
                one.what.as_str(),
                one.id.as_deref(),
                one.sequence.map(shared::id::Sequence::get),
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
