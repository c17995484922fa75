//! A client that comes back, and what it had left held.

use serde_json::json;
use shared::wire::envelope::{Command, MessageKind};
use shared::wire::tag::ResumeSecret;

use super::super::connection::{Conn, Said, bare};
use super::super::outbound::tag;
use crate::tests::fixture::{Fixture, settle, token_for};

/// `auth.authenticate` that resumes.
fn resuming(subject: &str, key: &str) -> String {
    let token = token_for(subject, 9_000);
    json!({"id": "a", "type": "auth.authenticate", "token": token, "payload": {"resume": key}}).to_string()
}

fn key_of(said: &Said) -> String {
    said.body["auth"]["resume"].as_str().expect("it was told").to_owned()
}

/// A connection of alice that has closed with one message held, and the key to it.
async fn left_behind(fixture: &mut Fixture) -> (Conn, String) {
    let mut conn = fixture.authenticated(1, "alice").await;
    let key = key_of(&fixture.renew(&mut conn, "alice").await);
    fixture.clock.advance(std::time::Duration::from_secs(3_606));
    fixture.say(&mut conn, bare("held")).await;
    let message_id = conn.message_id();
    let notice = MessageKind::Closed { code: None };
    fixture
        .forwarded(message_id, notice, conn.snapshot.clone(), bytes::Bytes::new())
        .await;
    settle().await;
    (conn, key)
}

#[tokio::test(start_paused = true)]
async fn whoever_shows_the_key_as_the_same_identity_takes_over_what_was_held() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (old, key) = left_behind(&mut fixture).await;
    let mut conn = Conn::new(&fixture, 2);
    let said = fixture.say(&mut conn, resuming("alice", &key)).await;
    assert_eq!(said.grant().resumes, Some(old.id));
    assert_eq!(fixture.replaced, [old.id], "its socket may be open still");
    assert_ne!(key_of(&said), key, "it has a key of its own");
    let release = fixture.release(&mut conn, Some(old.id)).await;
    let (to, write, body) = fixture.command_to_write().await;
    assert_eq!(
        (to, write.key, write.identity),
        (conn.id, format!("{}.3.0", old.id), Some(tag("alice")))
    );
    assert_eq!(body["id"], "held");
    assert_eq!(fixture.settled(release).await, 0);
    assert_eq!(fixture.app.seen()[0].message_id.unwrap().connection, old.id);
}

#[tokio::test(start_paused = true)]
async fn what_one_connection_has_taken_over_is_no_others_but_of_whoever_takes_over_from_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (old, key) = left_behind(&mut fixture).await;
    let mut successor = Conn::new(&fixture, 2);
    let key = key_of(&fixture.say(&mut successor, resuming("alice", &key)).await);
    let mut other = Conn::new(&fixture, 3);
    let nobodys = format!("{}.{}", old.id, ResumeSecret::random());
    fixture.say(&mut other, resuming("alice", &nobodys)).await;
    assert_eq!(fixture.release_of_nothing(&mut other, Some(old.id)).await, 0);
    let mut next = Conn::new(&fixture, 4);
    fixture.say(&mut next, resuming("alice", &key)).await;
    let release = fixture.release(&mut next, Some(old.id)).await;
    assert_eq!(fixture.command_to_write().await.2["id"], "held");
    assert_eq!(fixture.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_lost_two_connections_in_a_row_is_told_what_is_held_of_the_first() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (old, key) = left_behind(&mut fixture).await;
    let mut successor = Conn::new(&fixture, 2);
    let key = key_of(&fixture.say(&mut successor, resuming("alice", &key)).await);
    let mut next = Conn::new(&fixture, 3);
    fixture.say(&mut next, resuming("alice", &key)).await;
    let release = fixture.release(&mut next, Some(successor.id)).await;
    let (to, command, _) = fixture.command().await;
    assert_eq!((to, command), (next.id, Command::Wake { from: Some(old.id) }));
    assert_eq!(fixture.settled(release).await, 0);
    let release = fixture.release(&mut next, Some(old.id)).await;
    assert_eq!(fixture.command_to_write().await.2["id"], "held");
    assert_eq!(fixture.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_key_or_identity_nothing_is_taken_over_and_authentication_holds() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (old, key) = left_behind(&mut fixture).await;
    let wrong = format!("{}.{}", old.id, ResumeSecret::random());
    for (number, subject, key) in [(2, "alice", &wrong), (3, "bob", &key)] {
        let mut conn = Conn::new(&fixture, number);
        let said = fixture.say(&mut conn, resuming(subject, key)).await;
        assert_eq!(said.body["type"], "auth.ok");
        assert_eq!(said.grant().resumes, None);
        assert_eq!(fixture.release_of_nothing(&mut conn, Some(old.id)).await, 0);
    }
    assert_eq!(fixture.app.seen(), []);
    assert_eq!(fixture.store.held_messages(old.id).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_no_longer_good_once_its_connection_was_logged_out() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut old = fixture.authenticated(1, "alice").await;
    let key = key_of(&fixture.renew(&mut old, "alice").await);
    fixture.say(&mut old, r#"{"type":"auth.logout"}"#).await;
    let mut conn = Conn::new(&fixture, 2);
    let said = fixture.say(&mut conn, resuming("alice", &key)).await;
    assert_eq!((&said.body["type"], said.grant().resumes), (&json!("auth.ok"), None));
}

#[tokio::test(start_paused = true)]
async fn the_key_stays_the_same_while_the_connection_is_the_same_identitys() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let (first, second) = (
        key_of(&fixture.renew(&mut conn, "alice").await),
        key_of(&fixture.renew(&mut conn, "alice").await),
    );
    assert_eq!(first, second);
    // It has nothing to take over from itself.
    let said = fixture.say(&mut conn, resuming("alice", &first)).await;
    assert_eq!(said.grant().resumes, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_late_of_a_connection_that_was_taken_over_wakes_the_one_that_took_over() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (mut old, key) = left_behind(&mut fixture).await;
    let mut conn = Conn::new(&fixture, 2);
    fixture.say(&mut conn, resuming("alice", &key)).await;
    let (message_id, snapshot) = (old.message_id(), old.snapshot.clone());
    fixture
        .forwarded(message_id, MessageKind::Message, snapshot, bare("late").into())
        .await;
    let (to, command, _) = fixture.command().await;
    assert_eq!((to, command), (conn.id, Command::Wake { from: Some(old.id) }));
    assert!(fixture.said().await.is_held());
    let release = fixture.release(&mut conn, Some(old.id)).await;
    for id in ["held", "late"] {
        assert_eq!(fixture.command_to_write().await.2["id"], id);
    }
    assert_eq!(fixture.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nobody_resumes_and_nobody_is_logged_in() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (_, key) = left_behind(&mut fixture).await;
    fixture.store.set_away(true);
    let mut conn = Conn::new(&fixture, 2);
    let said = fixture.say(&mut conn, resuming("alice", &key)).await;
    assert_eq!((said.code(), &said.answer.change), (&json!("auth_unavailable"), &None));
}

#[tokio::test(start_paused = true)]
async fn no_two_connections_are_heirs_of_each_other() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (old, key) = left_behind(&mut fixture).await;
    let mut successor = Conn::new(&fixture, 2);
    let key_of_successor = key_of(&fixture.say(&mut successor, resuming("alice", &key)).await);
    let mut old = old;
    fixture.say(&mut old, resuming("alice", &key_of_successor)).await;
    assert_eq!(fixture.store.successor(successor.id).await.unwrap(), None);
    assert_eq!(fixture.store.successor(old.id).await.unwrap(), Some(successor.id));
}
