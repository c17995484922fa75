//! Each counter counts what it says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::json;
use shared::bus::topology::keys;
use shared::bus::{Properties, Route};
use shared::envelope::{Bounced, Errand, Return};
use shared::id::{ConnectionId, TerminatorId};

use super::Outcomes;
use crate::Worker;
use crate::tests::bench::{Bench, HOLD_TTL, settle};

/// A worker whose counters are its own.
fn counted(bench: &Bench) -> (Worker, PrometheusHandle) {
    let recorder: PrometheusRecorder = PrometheusBuilder::new().build_recorder();
    let worker = metrics::with_local_recorder(&recorder, || bench.worker());
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
    let mut bench = Bench::new();
    let (_worker, handle) = counted(&bench);
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.connect(bench.connection(2), "alice", 300).await;
    let gone = ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    };
    bench.connect(gone, "carol", 300).await;
    let nobody = bench.connection(99).to_string();
    for headers in [
        &[("subject", "alice")][..],
        &[("subject", "bob")],
        &[("subject", "carol")],
        &[("connection", nobody.as_str())],
        &[],
    ] {
        bench.push(headers, "1", outcomes.wanted("p")).await;
        outcomes.next().await;
    }
    for _ in 0..2 {
        bench.written().await;
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
    bench.push(&[("subject", "alice")], "1", unheard).await;
    settle().await;
    expect(&handle, &[("outcomes_lost_total", 1.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_a_terminator_that_is_away_for_longer_than_anything_else_does() {
    let mut bench = Bench::new();
    let (_worker, handle) = counted(&bench);
    let route = Route::new(&bench.names.exchange().name, keys::REVOKE);
    bench
        .publish(route, r#"{"subject":"alice"}"#, Properties::default())
        .await;
    // Twice as long as a return queue keeps an answer.
    bench.leave_the_terminator_away(Duration::from_secs(150)).await;
    let told = bench.returned().await;
    assert!(matches!(Return::read(&told), Some(Return::Revoked(_))), "{told:?}");
    assert_eq!(told.properties.headers, [], "it does not grow with each time");
    bench.expect_no_answer().await;
    expect(&handle, &[(r#"undelivered_total{kind="revocation"}"#, 2.0)]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_counted_and_so_is_what_leaves_the_hold() {
    let mut bench = Bench::new();
    let (_worker, handle) = counted(&bench);
    bench.connect(bench.connection(1), "alice", -1).await;
    bench.connect(bench.connection(2), "alice", 300).await;
    let write = |bench: &Bench, name: &str| bench.write(bench.connection(1), "alice", name);
    bench.bounce(Bounced::Lapsed, write(&bench, "a")).await;
    bench.bounce(Bounced::Gone, write(&bench, "b")).await;
    let woken = Errand::Wake {
        from: Some(bench.connection(7)),
    };
    bench
        .bounce(Bounced::Gone, woken.to_message(bench.connection(1), "".into()))
        .await;
    bench.bounce(Bounced::Gone, Default::default()).await;
    bench.store.failing_drops.store(1, Ordering::SeqCst);
    bench.fetch(bench.connection(2), "alice").await;
    // The word to the live one, then what it asked for, twice.
    for _ in 0..6 {
        bench.errand().await;
    }
    expect(
        &handle,
        &[
            (r#"undelivered_total{kind="lapsed"}"#, 1.0),
            (r#"undelivered_total{kind="gone"}"#, 1.0),
            (r#"undelivered_total{kind="wake"}"#, 1.0),
            (r#"undelivered_total{kind="fetch"}"#, 1.0),
            (r#"undelivered_total{kind="ignored"}"#, 1.0),
            (r#"writes_held_total{kind="push"}"#, 2.0),
            (r#"writes_released_total{kind="push"}"#, 2.0),
            ("wakes_total", 1.0),
            ("outbound_retries_total", 1.0),
        ],
    );
    for name in ["c", "d", "e", "f"] {
        bench.bounce(Bounced::Lapsed, write(&bench, name)).await;
    }
    settle().await;
    bench.clock.advance(HOLD_TTL + Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    expect(
        &handle,
        &[
            (r#"holds_given_up_total{reason="overflow",kind="push"}"#, 1.0),
            (r#"holds_given_up_total{reason="expired",kind="push"}"#, 3.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn revocations_are_counted_where_they_are_asked_for_and_where_they_are_heard() {
    let bench = Bench::new();
    let (_worker, handle) = counted(&bench);
    let mut outcomes = Outcomes::of(&bench);
    for body in [json!({"subject": "alice"}), json!({"subject": "bob"}), json!({})] {
        let route = Route::new(&bench.names.exchange().name, keys::REVOKE);
        bench.publish(route, body.to_string(), outcomes.wanted("r")).await;
        outcomes.next().await;
    }
    settle().await;
    expect(
        &handle,
        &[
            (r#"revocations_total{outcome="revoked"}"#, 2.0),
            (r#"revocations_total{outcome="refused"}"#, 1.0),
            ("revocations_heard_total", 2.0),
            ("revocations_known", 2.0),
        ],
    );
}
