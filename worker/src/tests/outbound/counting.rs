//! Each counter counts what it says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::json;
use shared::bus::topology::keys;
use shared::bus::{Properties, Route};
use shared::wire::envelope::{Bounced, Command, Return};
use shared::wire::id::{ConnectionId, TerminatorId};

use super::Outcomes;
use crate::Worker;
use crate::tests::fixture::{Fixture, HOLD_TTL, settle};

/// A worker whose counters are its own.
fn counted(fixture: &Fixture) -> (Worker, PrometheusHandle) {
    let recorder: PrometheusRecorder = PrometheusBuilder::new().build_recorder();
    let worker = metrics::with_local_recorder(&recorder, || fixture.worker());
    (worker, recorder.handle())
}

fn count(handle: &PrometheusHandle, name: &str) -> f64 {
    let all = handle.render();
    let line = all.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.map_or(0.0, |number| number.parse().expect("a number"))
}

#[track_caller]
fn expect(handle: &PrometheusHandle, counts: &[(&str, f64)]) {
    for (name, expected) in counts {
        let name = format!("countersign_worker_{name}");
        assert!(
            (count(handle, &name) - expected).abs() < 0.1,
            "{name}:\n{}",
            handle.render()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_are_counted_by_what_became_of_them() {
    let mut fixture = Fixture::new();
    let (_worker, handle) = counted(&fixture);
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.connect(fixture.connection(2), "alice", 300).await;
    let gone = ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    };
    fixture.connect(gone, "carol", 300).await;
    let nobody = fixture.connection(99).to_string();
    for headers in [
        &[("subject", "alice")][..],
        &[("subject", "bob")],
        &[("subject", "carol")],
        &[("connection", nobody.as_str())],
        &[],
    ] {
        fixture.push(headers, "1", outcomes.wanted("p")).await;
        if headers == [("subject", "alice")] {
            for _ in 0..2 {
                fixture.written().await;
            }
        }
        outcomes.next().await;
    }
    expect(
        &handle,
        &[
            (r#"pushes_total{outcome="delivered"}"#, 1.0),
            (r#"pushes_total{outcome="held"}"#, 2.0),
            (r#"pushes_total{outcome="no_recipient"}"#, 1.0),
            (r#"pushes_total{outcome="refused"}"#, 1.0),
            ("push_writes_total", 2.0),
            (r#"writes_held_total{kind="push"}"#, 2.0),
            ("connections_unregistered_total", 1.0),
            ("outcomes_lost_total", 0.0),
        ],
    );
    let unheard = Properties {
        reply_to: Some("nobody's".to_owned()),
        ..Properties::default()
    };
    fixture.push(&[("subject", "alice")], "1", unheard).await;
    fixture.written().await;
    settle().await;
    expect(&handle, &[("outcomes_lost_total", 1.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_a_terminator_that_is_away_for_longer_than_anything_else_does() {
    let mut fixture = Fixture::new();
    let (_worker, handle) = counted(&fixture);
    let route = Route::new(&fixture.names.exchange().name, keys::REVOKE);
    fixture
        .publish(route, r#"{"subject":"alice"}"#, Properties::default())
        .await;
    // Twice as long as a return queue keeps an answer.
    fixture.leave_the_terminator_away(Duration::from_secs(150)).await;
    let told = fixture.returned().await;
    assert!(matches!(Return::read(&told), Some(Return::Revoked(_))), "{told:?}");
    assert_eq!(told.properties.headers, [], "it does not grow with each time");
    fixture.expect_no_answer().await;
    expect(&handle, &[(r#"undelivered_total{kind="revocation"}"#, 2.0)]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_counted_and_so_is_what_leaves_the_hold() {
    let mut fixture = Fixture::new();
    let (_worker, handle) = counted(&fixture);
    fixture.connect(fixture.connection(1), "alice", -1).await;
    fixture.connect(fixture.connection(2), "alice", 300).await;
    let write = |fixture: &Fixture, name: &str| fixture.write(fixture.connection(1), "alice", name);
    fixture.bounce(Bounced::Expired, write(&fixture, "a")).await;
    fixture.bounce(Bounced::Gone, write(&fixture, "b")).await;
    let woken = Command::Wake {
        from: Some(fixture.connection(7)),
    };
    fixture
        .bounce(Bounced::Gone, woken.to_message(fixture.connection(1), "".into()))
        .await;
    fixture.bounce(Bounced::Gone, Default::default()).await;
    fixture.store.failing_drops.store(1, Ordering::SeqCst);
    fixture.fetch(fixture.connection(2), "alice").await;
    // The word to the live one, then what it asked for, twice.
    for _ in 0..6 {
        fixture.command().await;
    }
    expect(
        &handle,
        &[
            (r#"undelivered_total{kind="expired"}"#, 1.0),
            (r#"undelivered_total{kind="gone"}"#, 1.0),
            (r#"undelivered_total{kind="wake"}"#, 1.0),
            (r#"undelivered_total{kind="fetch"}"#, 1.0),
            (r#"undelivered_total{kind="ignored"}"#, 1.0),
            (r#"writes_held_total{kind="push"}"#, 2.0),
            (r#"writes_released_total{kind="push"}"#, 2.0),
            ("hold_notifications_total", 1.0),
            ("outbound_retries_total", 1.0),
        ],
    );
    for name in ["c", "d", "e", "f"] {
        fixture.bounce(Bounced::Expired, write(&fixture, name)).await;
    }
    settle().await;
    fixture.clock.advance(HOLD_TTL + Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    expect(
        &handle,
        &[
            (r#"holds_dropped_total{reason="overflow",kind="push"}"#, 1.0),
            (r#"holds_dropped_total{reason="expired",kind="push"}"#, 3.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn revocations_are_counted_where_they_are_asked_for_and_where_they_are_heard() {
    let fixture = Fixture::new();
    let (_worker, handle) = counted(&fixture);
    let mut outcomes = Outcomes::of(&fixture);
    for body in [json!({"subject": "alice"}), json!({"subject": "bob"}), json!({})] {
        let route = Route::new(&fixture.names.exchange().name, keys::REVOKE);
        fixture.publish(route, body.to_string(), outcomes.wanted("r")).await;
        outcomes.next().await;
    }
    settle().await;
    expect(
        &handle,
        &[
            (r#"revocations_total{outcome="revoked"}"#, 2.0),
            (r#"revocations_total{outcome="refused"}"#, 1.0),
            ("revocations_received_total", 2.0),
            ("revocations_active", 2.0),
        ],
    );
}
