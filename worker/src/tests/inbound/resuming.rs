//! A client that comes back, and what it had left held.

use serde_json::json;
use shared::envelope::{Errand, Notice};
use shared::tag::ResumeSecret;

use super::super::bench::{Bench, settle, token_for};
use super::super::connection::{Conn, Said, bare};
use super::super::outbound::tag;
use crate::store::Store;

/// `auth.authenticate` that resumes.
fn resuming(subject: &str, key: &str) -> String {
    let token = token_for(subject, 9_000);
    json!({"id": "a", "type": "auth.authenticate", "token": token, "payload": {"resume": key}}).to_string()
}

fn key_of(said: &Said) -> String {
    said.body["auth"]["resume"].as_str().expect("it was told").to_owned()
}

/// A connection of alice that has closed with one message held, and the key to it.
async fn left_behind(bench: &mut Bench) -> (Conn, String) {
    let mut conn = bench.authenticated(1, "alice").await;
    let key = key_of(&bench.renew(&mut conn, "alice").await);
    bench.clock.advance(std::time::Duration::from_secs(3_606));
    bench.say(&mut conn, bare("held")).await;
    let stamp = conn.stamp();
    let notice = Notice::Closed { code: None };
    bench
        .question(stamp, notice, conn.standing.clone(), bytes::Bytes::new())
        .await;
    settle().await;
    (conn, key)
}

#[tokio::test(start_paused = true)]
async fn whoever_shows_the_key_as_the_same_identity_takes_over_what_was_held() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (old, key) = left_behind(&mut bench).await;
    let mut conn = Conn::new(&bench, 2);
    let said = bench.say(&mut conn, resuming("alice", &key)).await;
    assert_eq!(said.grant().resumes, Some(old.id));
    assert_eq!(bench.replaced, [old.id], "its socket may be open still");
    assert_ne!(key_of(&said), key, "it has a key of its own");
    let release = bench.release(&mut conn, Some(old.id)).await;
    let (to, write, body) = bench.errand_to_write().await;
    assert_eq!(
        (to, write.key, write.identity),
        (conn.id, format!("{}.3.0", old.id), Some(tag("alice")))
    );
    assert_eq!(body["id"], "held");
    assert_eq!(bench.settled(release).await, 0);
    assert_eq!(bench.app.seen()[0].stamp.unwrap().connection, old.id);
}

#[tokio::test(start_paused = true)]
async fn what_one_connection_has_taken_over_is_no_others_but_of_whoever_takes_over_from_it() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (old, key) = left_behind(&mut bench).await;
    let mut heir = Conn::new(&bench, 2);
    let key = key_of(&bench.say(&mut heir, resuming("alice", &key)).await);
    let mut other = Conn::new(&bench, 3);
    let nobodys = format!("{}.{}", old.id, ResumeSecret::random());
    bench.say(&mut other, resuming("alice", &nobodys)).await;
    assert_eq!(bench.release_of_nothing(&mut other, Some(old.id)).await, 0);
    let mut next = Conn::new(&bench, 4);
    bench.say(&mut next, resuming("alice", &key)).await;
    let release = bench.release(&mut next, Some(old.id)).await;
    assert_eq!(bench.errand_to_write().await.2["id"], "held");
    assert_eq!(bench.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_lost_two_connections_in_a_row_is_told_what_is_held_of_the_first() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (old, key) = left_behind(&mut bench).await;
    let mut heir = Conn::new(&bench, 2);
    let key = key_of(&bench.say(&mut heir, resuming("alice", &key)).await);
    let mut next = Conn::new(&bench, 3);
    bench.say(&mut next, resuming("alice", &key)).await;
    let release = bench.release(&mut next, Some(heir.id)).await;
    let (to, errand, _) = bench.errand().await;
    assert_eq!((to, errand), (next.id, Errand::Wake { from: Some(old.id) }));
    assert_eq!(bench.settled(release).await, 0);
    let release = bench.release(&mut next, Some(old.id)).await;
    assert_eq!(bench.errand_to_write().await.2["id"], "held");
    assert_eq!(bench.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_key_or_identity_nothing_is_taken_over_and_authentication_holds() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (old, key) = left_behind(&mut bench).await;
    let wrong = format!("{}.{}", old.id, ResumeSecret::random());
    for (number, subject, key) in [(2, "alice", &wrong), (3, "bob", &key)] {
        let mut conn = Conn::new(&bench, number);
        let said = bench.say(&mut conn, resuming(subject, key)).await;
        assert_eq!(said.body["type"], "auth.ok");
        assert_eq!(said.grant().resumes, None);
        assert_eq!(bench.release_of_nothing(&mut conn, Some(old.id)).await, 0);
    }
    assert_eq!(bench.app.seen(), []);
    assert_eq!(bench.store.held_messages(old.id).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_no_longer_good_once_its_connection_was_logged_out() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut old = bench.authenticated(1, "alice").await;
    let key = key_of(&bench.renew(&mut old, "alice").await);
    bench.say(&mut old, r#"{"type":"auth.forget"}"#).await;
    let mut conn = Conn::new(&bench, 2);
    let said = bench.say(&mut conn, resuming("alice", &key)).await;
    assert_eq!((&said.body["type"], said.grant().resumes), (&json!("auth.ok"), None));
}

#[tokio::test(start_paused = true)]
async fn the_key_stays_the_same_while_the_connection_is_the_same_identitys() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut conn = bench.authenticated(1, "alice").await;
    let (first, second) = (
        key_of(&bench.renew(&mut conn, "alice").await),
        key_of(&bench.renew(&mut conn, "alice").await),
    );
    assert_eq!(first, second);
    // It has nothing to take over from itself.
    let said = bench.say(&mut conn, resuming("alice", &first)).await;
    assert_eq!(said.grant().resumes, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_late_of_a_connection_that_was_taken_over_wakes_the_one_that_took_over() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (mut old, key) = left_behind(&mut bench).await;
    let mut conn = Conn::new(&bench, 2);
    bench.say(&mut conn, resuming("alice", &key)).await;
    let (stamp, standing) = (old.stamp(), old.standing.clone());
    bench
        .question(stamp, Notice::Message, standing, bare("late").into())
        .await;
    let (to, errand, _) = bench.errand().await;
    assert_eq!((to, errand), (conn.id, Errand::Wake { from: Some(old.id) }));
    assert!(bench.said().await.is_held());
    let release = bench.release(&mut conn, Some(old.id)).await;
    for id in ["held", "late"] {
        assert_eq!(bench.errand_to_write().await.2["id"], id);
    }
    assert_eq!(bench.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nobody_resumes_and_nobody_is_logged_in() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (_, key) = left_behind(&mut bench).await;
    bench.store.set_away(true);
    let mut conn = Conn::new(&bench, 2);
    let said = bench.say(&mut conn, resuming("alice", &key)).await;
    assert_eq!((said.code(), &said.answer.change), (&json!("auth_unavailable"), &None));
}

#[tokio::test(start_paused = true)]
async fn no_two_connections_are_heirs_of_each_other() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (old, key) = left_behind(&mut bench).await;
    let mut heir = Conn::new(&bench, 2);
    let key_of_heir = key_of(&bench.say(&mut heir, resuming("alice", &key)).await);
    let mut old = old;
    bench.say(&mut old, resuming("alice", &key_of_heir)).await;
    assert_eq!(bench.store.heir(heir.id).await.unwrap(), None);
    assert_eq!(bench.store.heir(old.id).await.unwrap(), Some(heir.id));
}
