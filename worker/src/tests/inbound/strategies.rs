//! By what a client proves who it is.

use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use shared::bus::Properties;
use shared::wire::envelope::{Part, Reply};
use shared::wire::grant::Policy;

use super::super::connection::{Conn, authenticate, bare, with_token};
use super::super::outbound::tag;
use crate::config::{Policies, Strategy};
use crate::tests::fixture::{Fixture, json_of, token_for};

#[tokio::test(start_paused = true)]
async fn authentication_is_answered_once_each_time_and_serves_all_that_comes_after() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    for _ in 0..2 {
        let said = fixture.say(&mut conn, authenticate("alice", 300)).await;
        let auth = &said.body["auth"];
        assert_eq!((&said.body["type"], &said.body["id"]), (&json!("auth.ok"), &json!("a")));
        assert_eq!((&auth["subject"], &auth["expires_in"]), (&json!("alice"), &json!(300)));
        assert_eq!(said.grant().identity, tag("alice"));
        assert_eq!(said.answer.identity, None, "whoever proved it may read it");
    }
    let said = fixture.say(&mut conn, bare("m")).await;
    assert_eq!(said.body, json!({"type": "reply", "id": "m", "payload": "m"}));
    assert_eq!(said.answer.identity, Some(tag("alice")));
    assert_eq!(fixture.app.seen()[0].subject, "alice");
    let entries = fixture.store.connections(tag("alice")).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].connection, conn.id);
    let granted = ("granted".to_owned(), "auth.authenticate".to_owned());
    assert_eq!(fixture.why(&conn).await, [granted.clone(), granted]);
}

#[tokio::test(start_paused = true)]
async fn the_steady_state_asks_no_store_and_says_only_for_whom_it_answers() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    fixture.say(&mut conn, with_token("first", "alice", 300)).await;
    let before = fixture.store.calls.load(Ordering::SeqCst);
    for body in [with_token("own", "alice", 300), bare("none")] {
        let said = fixture.say(&mut conn, body).await;
        let expected = Reply {
            identity: Some(tag("alice")),
            ..Reply::ONLY
        };
        assert_eq!(said.answer, expected);
        assert_eq!(said.body.get("auth"), None);
    }
    assert_eq!(fixture.store.calls.load(Ordering::SeqCst), before);
    assert_eq!(fixture.why(&conn).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_token_renews_the_connection_and_says_so_with_the_first_answer() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let three = json!({"type": "three", "token": token_for("alice", 600)}).to_string();
    let message_id = conn.message_id();
    fixture
        .forwarded(
            message_id,
            shared::wire::envelope::MessageKind::Message,
            conn.snapshot.clone(),
            three.into(),
        )
        .await;
    for index in 0..3 {
        let said = fixture.said().await;
        assert_eq!(said.answer.part, Part { index, more: index < 2 });
        assert_eq!(said.answer.identity, Some(tag("alice")));
        assert_eq!(said.answer.change.is_some(), index == 0);
        assert_eq!(said.body.get("auth").is_some(), index == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn where_only_authentication_counts_a_token_elsewhere_is_a_mistake() {
    let mut fixture = Fixture::new();
    fixture.limits.strategy = Strategy::Explicit;
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let said = fixture.say(&mut conn, with_token("m", "alice", 300)).await;
    assert_eq!((said.code(), said.close()), (&json!("bad_request"), None));
    assert_eq!(said.answer.change, None);
    assert_eq!(fixture.say(&mut conn, bare("m")).await.body["type"], "reply");
    // Who has no connection has nothing but the token.
    let queue = fixture.names.inject_queue(1);
    let mut answers = shared::bus::Bus::consumer(&*fixture.bus, queue.clone(), 1);
    let properties = Properties {
        reply_to: Some(queue.name),
        ..Properties::default()
    };
    fixture.inject(with_token("i", "bob", 300), properties).await;
    let delivery = answers.recv().await.unwrap();
    assert_eq!(json_of(&delivery.message.body)["type"], "reply");
}

#[tokio::test(start_paused = true)]
async fn where_each_message_needs_its_own_token_one_that_has_none_is_refused() {
    let mut fixture = Fixture::new();
    fixture.limits.strategy = Strategy::PerMessage;
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let said = fixture.say(&mut conn, bare("m")).await;
    assert_eq!((said.code(), said.close()), (&json!("auth_required"), None));
    let said = fixture.say(&mut conn, with_token("n", "alice", 300)).await;
    assert_eq!(said.body["type"], "reply");
    assert_eq!(fixture.app.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_identitys_token_is_refused_and_ends_the_connection() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    for expired in [false, true] {
        for body in [with_token("m", "bob", 600), authenticate("bob", 600)] {
            let said = fixture.say(&mut conn, body).await;
            assert_eq!(
                (said.code(), said.close()),
                (&json!("identity_mismatch"), Some(4509)),
                "{expired}"
            );
            assert_eq!((&said.answer.change, said.answer.identity), (&None, None));
        }
        fixture.clock.advance(super::EXPIRY);
    }
    assert_eq!(fixture.app.seen(), []);
    assert!(fixture.store.connections(tag("bob")).await.unwrap().is_empty());
    let (what, why) = fixture.why(&conn).await.pop().unwrap();
    assert_eq!(what, "refused");
    assert!(why.starts_with("identity_mismatch: "), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_protocols_own_types_need_a_connection_their_bytes_and_what_they_are_for() {
    let mut fixture = Fixture::new();
    fixture.limits.on_unauthenticated = Policies::all(Policy::Close);
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let token = token_for("alice", 300);
    for body in [
        r#"{"type":"auth.unknown"}"#.to_owned(),
        r#"{"type":"auth.authenticate"}"#.to_owned(),
        json!({"type": "auth.authenticate", "token": token, "payload": {"resume": "no"}}).to_string(),
        json!({"type": "auth.logout", "token": token}).to_string(),
        format!(r#"{{"type":"\u0061uth.authenticate","token":"{token}"}}"#),
        r#"{"type":"auth\u002eforget"}"#.to_owned(),
    ] {
        let said = fixture.say(&mut conn, body.clone()).await;
        assert_eq!((said.code(), said.close()), (&json!("bad_request"), None), "{body}");
        assert_eq!(said.answer.change, None, "{body}");
    }
    let queue = fixture.names.inject_queue(1);
    let mut answers = shared::bus::Bus::consumer(&*fixture.bus, queue.clone(), 1);
    for body in [authenticate("alice", 300), r#"{"type":"auth.logout"}"#.to_owned()] {
        let properties = Properties {
            reply_to: Some(queue.name.clone()),
            ..Properties::default()
        };
        fixture.inject(body, properties).await;
        let delivery = answers.recv().await.unwrap();
        assert_eq!(json_of(&delivery.message.body)["error"]["code"], "bad_request");
        delivery.ack();
    }
    assert_eq!((fixture.store.writes(), fixture.app.seen().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handlers_error_is_for_whoever_asked_and_ours_are_for_whoever_reads_them() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let said = fixture.say(&mut conn, r#"{"type":"forbidden"}"#).await;
    assert_eq!(
        (said.code(), said.answer.identity),
        (&json!("forbidden"), Some(tag("alice")))
    );
    let said = fixture.say(&mut conn, "no message").await;
    assert_eq!((said.code(), said.answer.identity), (&json!("bad_request"), None));
    let said = fixture
        .say(&mut conn, json!({"type": "x", "token": "no"}).to_string())
        .await;
    assert_eq!((said.code(), said.answer.identity), (&json!("token_invalid"), None));
    assert_ne!(said.body["error"]["message"], Json::Null);
}
