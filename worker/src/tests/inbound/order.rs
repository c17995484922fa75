//! That what is decided is what a reader would decide who takes the messages one by one.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use shared::wire::envelope::{AuthSnapshot, MessageKind, Verdict};
use shared::wire::id::Sequence;

use super::super::connection::{Conn, authenticate, bare, stranger, with_token};
use super::super::outbound::tag;
use crate::store::Authentication;
use crate::tests::fixture::{Fixture, settle, token_for};

fn unsettled(snapshot: &AuthSnapshot) -> AuthSnapshot {
    AuthSnapshot {
        unsettled: true,
        ..snapshot.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_depends_on_an_earlier_one_is_sent_back_as_it_came_and_once() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let (first, second) = (conn.message_id(), conn.message_id());
    let snapshot = unsettled(&conn.snapshot);
    let said = fixture
        .ask_at(
            &mut conn,
            second,
            MessageKind::Message,
            snapshot.clone(),
            bare("m").into(),
        )
        .await;
    assert_eq!((said.answer.verdict, said.answer.second), (Verdict::Again, false));
    assert_eq!(said.body.to_string(), bare("m"));
    assert_eq!(fixture.app.seen(), []);
    let said = fixture
        .ask_at(
            &mut conn,
            first,
            MessageKind::Message,
            stranger(),
            authenticate("alice", 300).into(),
        )
        .await;
    assert_eq!(said.body["type"], "auth.ok");
    let again = AuthSnapshot {
        again: true,
        ..conn.snapshot.clone()
    };
    let said = fixture
        .ask_at(&mut conn, second, MessageKind::Message, again, bare("m").into())
        .await;
    assert_eq!((&said.body["type"], said.answer.second), (&json!("reply"), true));
}

#[tokio::test(start_paused = true)]
async fn whatever_a_message_comes_to_that_was_sent_back_it_is_not_sent_back_again() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    for body in [
        r#"{"type":"auth.logout"}"#.to_owned(),
        bare("m"),
        "no message".to_owned(),
    ] {
        let snapshot = AuthSnapshot {
            again: true,
            ..unsettled(&conn.snapshot)
        };
        let said = fixture.say_snapshot(&mut conn, snapshot, body).await;
        assert_ne!(said.answer.verdict, Verdict::Again);
        assert!(said.answer.second, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_expired_on_the_way_is_asked_for_anew_once() {
    let mut fixture = Fixture::new();
    let mut conn = {
        let _worker = fixture.worker();
        fixture.authenticated(1, "alice").await
    };
    let message_id = conn.message_id();
    fixture
        .forwarded(
            message_id,
            MessageKind::Message,
            conn.snapshot.clone(),
            bare("m").into(),
        )
        .await;
    fixture.clock.advance(super::EXPIRY);
    let _worker = fixture.worker();
    assert_eq!(fixture.said().await.answer.verdict, Verdict::Again);
    let snapshot = AuthSnapshot {
        again: true,
        ..conn.snapshot.clone()
    };
    let said = fixture
        .ask_at(&mut conn, message_id, MessageKind::Message, snapshot, bare("m").into())
        .await;
    assert!(said.is_held() && said.answer.second);
}

#[tokio::test(start_paused = true)]
async fn a_message_with_its_own_token_never_waits_for_another() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    for body in [with_token("m", "alice", 300), authenticate("alice", 300)] {
        let snapshot = unsettled(&conn.snapshot);
        let said = fixture.say_snapshot(&mut conn, snapshot, body).await;
        assert_eq!(said.answer.verdict, Verdict::Done);
        assert_eq!(said.grant().identity, tag("alice"));
    }
}

#[tokio::test(start_paused = true)]
async fn until_the_terminator_knows_each_answer_tells_it_and_the_store_is_told_once() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    for _ in 0..3 {
        let said = fixture
            .say_snapshot(&mut conn, stranger(), with_token("m", "alice", 300))
            .await;
        assert_eq!(said.grant().identity, tag("alice"));
        assert_eq!(said.body["auth"]["subject"], "alice");
    }
    assert_eq!(fixture.store.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_remembers_does_not_outlive_a_log_out_that_another_did() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    fixture.say(&mut conn, with_token("m", "alice", 300)).await;
    // Another worker has taken it, and this one has not heard of it.
    let forgotten = conn.message_id().sequence;
    let state = Authentication::Forgotten { by: forgotten };
    fixture.store.record(conn.id, &state).await.unwrap();
    fixture
        .store
        .unregister(tag("alice"), conn.id, Some(forgotten))
        .await
        .unwrap();
    let snapshot = AuthSnapshot {
        by: Some(forgotten),
        ..stranger()
    };
    let said = fixture
        .say_snapshot(&mut conn, snapshot, with_token("n", "alice", 300))
        .await;
    assert_eq!(said.grant().identity, tag("alice"));
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap().len(), 1);
    let state = fixture.store.authentication(conn.id).await.unwrap();
    assert!(
        matches!(state, Some(Authentication::Live { by, .. }) if by > forgotten),
        "{state:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_older_proof_that_comes_late_grants_but_changes_no_record() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let (older, newer) = (conn.message_id(), conn.message_id());
    for (message_id, expires_in, told) in [(newer, 600, true), (older, 300, false)] {
        let said = fixture
            .ask_at(
                &mut conn,
                message_id,
                MessageKind::Message,
                stranger(),
                with_token("m", "alice", expires_in).into(),
            )
            .await;
        assert_eq!(said.body["type"], "reply");
        assert_eq!(
            said.grant().identity,
            tag("alice"),
            "it is for the terminator to say which counts"
        );
        assert_eq!(said.body.get("auth").is_some(), told);
    }
    let entries = fixture.store.connections(tag("alice")).await.unwrap();
    let until = shared::service::clock::Clock::now(&*fixture.clock).saturating_add(Duration::from_secs(605));
    assert_eq!((entries.len(), entries[0].until), (1, until));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_leaves_the_index_whatever_its_terminator_knew() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    for (number, known) in [(1, true), (2, false)] {
        let mut conn = fixture.authenticated(number, "alice").await;
        let snapshot = if known { conn.snapshot.clone() } else { stranger() };
        let message_id = conn.message_id();
        let notice = MessageKind::Closed { code: Some(4401) };
        fixture.forwarded(message_id, notice, snapshot, Bytes::new()).await;
        settle().await;
        assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), [], "{known}");
        let state = fixture.store.authentication(conn.id).await.unwrap();
        assert_eq!(state, Some(Authentication::Closed { by: Sequence::new(2) }));
        let (what, why) = fixture.why(&conn).await.pop().unwrap();
        assert_eq!(what, "closed");
        assert!(why.starts_with("4401: "), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_while_it_is_entered_is_not_in_the_index() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let (message_id, closed) = (conn.message_id(), conn.message_id());
    *fixture.store.closes_before_a_register.lock().unwrap() = Some((conn.id, closed.sequence));
    let body = json!({"type": "echo", "token": token_for("alice", 300)}).to_string();
    let said = fixture
        .ask_at(&mut conn, message_id, MessageKind::Message, stranger(), body.into())
        .await;
    assert_eq!(said.body["type"], "reply");
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), []);
}
