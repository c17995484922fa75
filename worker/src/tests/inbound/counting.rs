//! That everything is counted that an operator may want to know of.

use bytes::Bytes;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::json;
use shared::wire::envelope::{AuthSnapshot, MessageKind};
use shared::wire::grant::Policy;

use super::super::connection::{Conn, bare, stranger, with_token};
use crate::Worker;
use crate::config::Policies;
use crate::tests::fixture::{Fixture, HOLD_TTL, settle, token_for};

struct Counted {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Counted {
    fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        Self {
            handle: recorder.handle(),
            recorder,
        }
    }

    fn worker(&self, fixture: &Fixture) -> Worker {
        metrics::with_local_recorder(&self.recorder, || fixture.worker())
    }

    async fn expect(&self, lines: &[&str]) {
        settle().await;
        let text = self.handle.render();
        for line in lines {
            let line = format!("countersign_worker_{line}");
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_and_released_is_counted() {
    let counted = Counted::new();
    let mut fixture = Fixture::new();
    let _worker = counted.worker(&fixture);
    let mut conn = Conn::new(&fixture, 1);
    fixture.say(&mut conn, with_token("bobs", "bob", -60)).await;
    fixture.say(&mut conn, bare("a")).await;
    fixture.clock.advance(HOLD_TTL / 2);
    fixture.say(&mut conn, bare("b")).await;
    assert_eq!(fixture.say(&mut conn, bare("c")).await.code(), "hold_overflow");
    fixture.renew(&mut conn, "alice").await;
    let release = fixture.release(&mut conn, None).await;
    for _ in 0..3 {
        fixture.command_to_write().await;
    }
    fixture.settled(release).await;
    let mut other = Conn::new(&fixture, 2);
    fixture.say(&mut other, bare("d")).await;
    fixture.clock.advance(HOLD_TTL);
    let release = fixture.release(&mut other, None).await;
    fixture.command_to_write().await;
    fixture.settled(release).await;
    counted
        .expect(&[
            r#"messages_total{outcome="held"} 4"#,
            r#"messages_total{outcome="hold_overflow"} 1"#,
            r#"messages_total{outcome="release"} 2"#,
            r#"messages_total{outcome="authenticated"} 1"#,
            r#"messages_total{outcome="handled"} 2"#,
            r#"holds_total{result="missing"} 3"#,
            r#"holds_total{result="expired"} 1"#,
            r#"holds_total{result="overflow"} 1"#,
            r#"held_messages_completed_total{result="handled"} 2"#,
            r#"held_messages_completed_total{result="mismatch"} 1"#,
            r#"held_messages_completed_total{result="expired"} 1"#,
            "grants_total 1",
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_back_forgotten_revoked_and_closed_is_counted() {
    let counted = Counted::new();
    let mut fixture = Fixture::new();
    fixture.limits.on_unauthenticated = Policies::all(Policy::Close);
    let _worker = counted.worker(&fixture);
    let mut conn = fixture.authenticated(1, "alice").await;
    let unsettled = AuthSnapshot {
        unsettled: true,
        ..conn.snapshot.clone()
    };
    fixture
        .say_snapshot(&mut conn, unsettled, r#"{"type":"auth.logout"}"#)
        .await;
    fixture.say(&mut conn, r#"{"type":"auth.logout"}"#).await;
    fixture.say(&mut conn, bare("m")).await;
    fixture
        .say(&mut conn, json!({"type": "x", "token": "no"}).to_string())
        .await;
    let mut bob = fixture.authenticated(2, "bob").await;
    fixture.say(&mut bob, with_token("m", "alice", 300)).await;
    let route = shared::bus::Route::new(&fixture.names.exchange().name, shared::bus::topology::keys::REVOKE);
    fixture
        .publish(route, r#"{"subject":"bob"}"#, shared::bus::Properties::default())
        .await;
    fixture.returned().await;
    settle().await;
    fixture.say(&mut bob, with_token("m", "bob", 300)).await;
    counted
        .expect(&[
            r#"messages_total{outcome="again"} 1"#,
            r#"messages_total{outcome="forgotten"} 1"#,
            "tokens_revoked_total 1",
            r#"close_requests_total{code="4401"} 1"#,
            r#"close_requests_total{code="4501"} 1"#,
            r#"close_requests_total{code="4503"} 1"#,
            r#"close_requests_total{code="4509"} 1"#,
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_over_and_what_is_lost_is_counted() {
    let counted = Counted::new();
    let mut fixture = Fixture::new();
    let worker = counted.worker(&fixture);
    let mut old = fixture.authenticated(1, "alice").await;
    let key = fixture.renew(&mut old, "alice").await.body["auth"]["resume"].clone();
    for (number, key) in [(2, &key), (3, &json!(format!("{}.{:032x}", old.id, 7)))] {
        let mut conn = Conn::new(&fixture, number);
        let token = token_for("alice", 300);
        let body = json!({"type": "auth.authenticate", "token": token, "payload": {"resume": key}});
        fixture.say(&mut conn, body.to_string()).await;
    }
    let message_id = old.message_id();
    fixture
        .forwarded(message_id, MessageKind::Message, stranger(), bare("m").into())
        .await;
    fixture.command().await;
    fixture.said().await;
    fixture.store.set_away(true);
    let message_id = old.message_id();
    let notice = MessageKind::Closed { code: Some(1_001) };
    fixture
        .forwarded(message_id, notice, old.snapshot.clone(), Bytes::new())
        .await;
    settle().await;
    fixture.store.set_away(false);
    counted
        .expect(&[
            r#"resumes_total{result="taken"} 1"#,
            r#"resumes_total{result="refused"} 1"#,
            "resume_notifications_total 1",
            "decision_write_errors_total 1",
            "replies_undelivered_total 0",
        ])
        .await;
    drop(worker);
    settle().await;
    let counted = Counted::new();
    fixture.lose_the_terminator().await;
    let _worker = counted.worker(&fixture);
    let mut conn = Conn::new(&fixture, 4);
    let message_id = conn.message_id();
    let body = with_token("m", "alice", 300);
    fixture
        .forwarded(message_id, MessageKind::Message, stranger(), body.into())
        .await;
    counted.expect(&["replies_undelivered_total 1"]).await;
}
