//! Logging a connection out.

use std::sync::atomic::Ordering;

use serde_json::json;
use shared::wire::envelope::{AuthSnapshot, Change, MessageKind, Verdict};

use super::super::connection::{authenticate, bare};
use super::super::outbound::tag;
use crate::store::Authentication;
use crate::tests::fixture::Fixture;

const FORGET: &str = r#"{"id":"f","type":"auth.logout"}"#;

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_logged_out_is_nobodys_on_every_side() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let said = fixture.say(&mut conn, FORGET).await;
    assert_eq!(said.body, json!({"type": "auth.ok", "id": "f"}));
    assert_eq!(said.answer.change, Some(Change::Forgotten));
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), []);
    let state = fixture.store.authentication(conn.id).await.unwrap();
    assert_eq!(
        state,
        Some(Authentication::Forgotten {
            by: said.message_id.sequence
        })
    );
    assert!(fixture.say(&mut conn, bare("m")).await.is_held());
    let said = fixture.say(&mut conn, authenticate("bob", 300)).await;
    assert_eq!(said.body["auth"]["subject"], "bob", "it is free for another");
    let what: Vec<_> = fixture.why(&conn).await.into_iter().map(|(what, _)| what).collect();
    assert_eq!(what, ["granted", "forgotten", "held", "granted"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_out_waits_for_what_came_before_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let snapshot = AuthSnapshot {
        unsettled: true,
        ..conn.snapshot.clone()
    };
    let message_id = conn.message_id();
    let said = fixture
        .ask_at(&mut conn, message_id, MessageKind::Message, snapshot, FORGET.into())
        .await;
    assert_eq!((said.answer.verdict, &said.answer.change), (Verdict::Again, &None));
    assert_eq!(
        said.body.to_string(),
        serde_json::from_str::<serde_json::Value>(FORGET).unwrap().to_string()
    );
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap().len(), 1);
    let snapshot = AuthSnapshot {
        again: true,
        ..conn.snapshot.clone()
    };
    let said = fixture
        .ask_at(&mut conn, message_id, MessageKind::Message, snapshot, FORGET.into())
        .await;
    assert_eq!(
        (&said.answer.change, said.answer.second),
        (&Some(Change::Forgotten), true)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_held_for_whoever_logs_out_is_refused() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    let held = fixture.say(&mut conn, bare("m")).await.message_id;
    let message_id = conn.message_id();
    fixture
        .forwarded(message_id, MessageKind::Message, conn.snapshot.clone(), FORGET.into())
        .await;
    let (to, write, body) = fixture.command_to_write().await;
    assert_eq!((to, write.key, write.identity), (conn.id, format!("{held}.0"), None));
    assert_eq!(
        (&body["id"], &body["error"]["code"]),
        (&json!("m"), &json!("auth_required"))
    );
    assert_eq!(fixture.said().await.answer.change, Some(Change::Forgotten));
    assert_eq!(fixture.store.held_messages(conn.id).await.unwrap(), []);
    assert_eq!(fixture.app.seen(), []);
}

#[tokio::test(start_paused = true)]
async fn a_log_out_that_comes_again_undoes_nothing_that_is_newer() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let snapshot = conn.snapshot.clone();
    let forget = fixture.say(&mut conn, FORGET).await.message_id;
    fixture.say(&mut conn, bare("newer")).await;
    for connections in [0, 1] {
        let said = fixture
            .ask_at(&mut conn, forget, MessageKind::Message, snapshot.clone(), FORGET.into())
            .await;
        assert_eq!(said.body["type"], "auth.ok");
        assert_eq!(
            fixture.store.connections(tag("alice")).await.unwrap().len(),
            connections
        );
        assert_eq!(fixture.store.held_messages(conn.id).await.unwrap().len(), 1);
        fixture.say(&mut conn, authenticate("alice", 300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_logs_nobody_out() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    fixture.store.set_away(true);
    let said = fixture.say(&mut conn, FORGET).await;
    assert_eq!((said.code(), &said.answer.change), (&json!("auth_unavailable"), &None));
    assert_eq!(fixture.say(&mut conn, bare("m")).await.body["type"], "reply");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_that_they_could_not_log_out_is_still_found_by_pushes() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("m")).await;
    fixture.store.failing_message_drops.store(1, Ordering::SeqCst);
    let message_id = conn.message_id();
    fixture
        .forwarded(message_id, MessageKind::Message, conn.snapshot.clone(), FORGET.into())
        .await;
    fixture.command_to_write().await;
    let said = fixture.said().await;
    assert_eq!((said.code(), &said.answer.change), (&json!("auth_unavailable"), &None));
    let connections = fixture.store.connections(tag("alice")).await.unwrap();
    assert_eq!(connections.first().map(|entry| entry.connection), Some(conn.id));
}
