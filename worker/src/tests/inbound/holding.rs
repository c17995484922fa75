//! Messages that wait for a fresh token, and what comes of them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use shared::bus::topology::keys;
use shared::bus::{Message, Route};
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{AuthSnapshot, Bounced, Command, MessageKind, Return};
use shared::wire::id::Sequence;

use super::super::connection::{Conn, bare, stranger, with_token};
use super::super::outbound::tag;
use crate::tests::fixture::{Fixture, HOLD_TTL, settle, token_for};

fn words(decisions: &[(String, String)]) -> Vec<&str> {
    decisions.iter().map(|(what, _)| what.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_held_is_handled_in_order_in_the_name_of_the_fresh_token() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    let mut message_ids = Vec::new();
    for id in ["a", "b", "c"] {
        let said = fixture.say(&mut conn, bare(id)).await;
        assert!(said.is_held());
        message_ids.push(said.message_id);
    }
    assert_eq!(fixture.app.seen(), []);
    fixture.renew(&mut conn, "alice").await;
    let release = fixture.release(&mut conn, None).await;
    for (message_id, id) in message_ids.iter().zip(["a", "b", "c"]) {
        let (to, write, body) = fixture.command_to_write().await;
        assert_eq!(to, conn.id);
        assert_eq!(
            (write.key, write.identity, write.released),
            (format!("{message_id}.0"), Some(tag("alice")), true)
        );
        assert_eq!(body, json!({"type": "reply", "id": id, "payload": id}));
    }
    assert_eq!(fixture.settled(release).await, 0);
    let seen: Vec<_> = fixture
        .app
        .seen()
        .into_iter()
        .map(|seen| (seen.subject, seen.message_id.unwrap()))
        .collect();
    let expected: Vec<_> = message_ids
        .into_iter()
        .map(|message_id| ("alice".to_owned(), message_id))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(fixture.store.held_messages(conn.id).await.unwrap(), []);
    let decisions = fixture.why(&conn).await;
    let expected = [
        "granted", "held", "held", "held", "granted", "released", "released", "released",
    ];
    assert_eq!(words(&decisions), expected);
}

#[tokio::test(start_paused = true)]
async fn every_answer_of_a_held_message_comes_and_silence_too() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    for kind in ["none", "three", "forbidden"] {
        assert!(
            fixture
                .say(&mut conn, json!({"type": kind}).to_string())
                .await
                .is_held()
        );
    }
    fixture.renew(&mut conn, "alice").await;
    let release = fixture.release(&mut conn, None).await;
    for index in 0..3 {
        let (_, write, body) = fixture.command_to_write().await;
        assert_eq!(
            (write.key, &body["payload"]),
            (format!("{}.3.{index}", conn.id), &json!(index))
        );
    }
    let (_, write, body) = fixture.command_to_write().await;
    assert_eq!(
        (write.key, write.identity),
        (format!("{}.4.0", conn.id), Some(tag("alice")))
    );
    assert_eq!(body["error"]["code"], "forbidden");
    assert_eq!(fixture.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_proof_releases_exactly_what_is_older() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("older")).await;
    let between = conn.snapshot.clone();
    fixture.renew(&mut conn, "alice").await;
    // It was on its way, and came to a worker late.
    fixture
        .say_snapshot(&mut conn, AuthSnapshot { again: true, ..between }, bare("newer"))
        .await;
    let release = fixture.release(&mut conn, None).await;
    assert_eq!(fixture.command_to_write().await.2["id"], "older");
    assert_eq!(fixture.settled(release).await, 0, "what is newer is not meant");
    assert_eq!(fixture.app.seen().len(), 1);
    // The same token proves it anew, as something is held.
    let said = fixture.say(&mut conn, with_token("proof", "alice", 3_600)).await;
    assert_eq!(said.grant().identity, tag("alice"));
    let release = fixture.release(&mut conn, None).await;
    assert_eq!(fixture.command_to_write().await.2["id"], "newer");
    assert_eq!(fixture.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_another_identity_had_proved_is_refused_to_the_one_that_came() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let said = fixture.say(&mut conn, with_token("m", "bob", -60)).await;
    assert!(said.is_held());
    fixture.say(&mut conn, bare("n")).await;
    fixture.renew(&mut conn, "alice").await;
    let release = fixture.release(&mut conn, None).await;
    let (_, write, body) = fixture.command_to_write().await;
    assert_eq!((write.key, write.identity), (format!("{}.0", said.message_id), None));
    assert_eq!(
        (&body["id"], &body["error"]["code"]),
        (&json!("m"), &json!("identity_mismatch"))
    );
    assert_eq!(fixture.command_to_write().await.2["id"], "n");
    assert_eq!(fixture.settled(release).await, 0);
    assert_eq!(fixture.app.seen().len(), 1);
    assert_eq!(
        words(&fixture.why(&conn).await),
        ["held", "held", "granted", "refused", "released"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_held_too_long_is_given_up_though_nobody_is_there_and_the_rest_stays() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("first")).await;
    fixture.clock.advance(HOLD_TTL / 2);
    fixture.say(&mut conn, bare("second")).await;
    assert_eq!(fixture.release_of_nothing(&mut conn, None).await, 2);
    fixture.clock.advance(HOLD_TTL / 2);
    let release = fixture.release(&mut conn, None).await;
    let (_, write, body) = fixture.command_to_write().await;
    assert_eq!(write.identity, None);
    assert_eq!(
        (&body["id"], &body["error"]["code"]),
        (&json!("first"), &json!("hold_expired"))
    );
    assert_eq!(fixture.settled(release).await, 1);
    assert_eq!(fixture.app.seen(), []);
    assert_eq!(words(&fixture.why(&conn).await).last(), Some(&"expired"));
}

#[tokio::test(start_paused = true)]
async fn a_release_without_a_grant_in_force_releases_nothing() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("m")).await;
    // The grant expires between the terminator's look and the worker's.
    fixture.renew(&mut conn, "alice").await;
    fixture.clock.advance(Duration::from_secs(280));
    let expired = AuthSnapshot {
        grant: conn.snapshot.grant.clone().map(|facts| {
            let mut grant = shared::wire::grant::Grant::from_facts(&facts).unwrap();
            grant.until = shared::service::clock::Clock::now(&*fixture.clock);
            grant.to_facts().into()
        }),
        ..conn.snapshot.clone()
    };
    let message_id = conn.message_id();
    fixture
        .forwarded(message_id, MessageKind::Release { from: None }, expired, Bytes::new())
        .await;
    assert_eq!(fixture.settled(message_id).await, 1);
    let message_id = conn.message_id();
    fixture
        .forwarded(
            message_id,
            MessageKind::Release { from: None },
            stranger(),
            Bytes::new(),
        )
        .await;
    assert_eq!(fixture.settled(message_id).await, 1);
    assert_eq!(fixture.app.seen(), []);
}

#[tokio::test(start_paused = true)]
async fn too_much_is_not_held() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    for id in ["1", "2", "3"] {
        assert!(fixture.say(&mut conn, bare(id)).await.is_held());
    }
    let said = fixture.say(&mut conn, bare("4")).await;
    assert_eq!(
        (said.code(), &said.body["id"], said.close()),
        (&json!("hold_overflow"), &json!("4"), None)
    );
    let mut other = Conn::new(&fixture, 2);
    let big = json!({"type": "echo", "payload": "x".repeat(10_001)}).to_string();
    assert_eq!(fixture.say(&mut other, big).await.code(), "hold_overflow");
    assert_eq!(words(&fixture.why(&other).await), ["refused"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_held_and_nothing_released_and_all_is_told() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("held")).await;
    fixture.store.set_away(true);
    let said = fixture.say(&mut conn, bare("m")).await;
    assert_eq!((said.code(), said.close()), (&json!("auth_unavailable"), None));
    assert_eq!(said.body["error"]["temporary"], json!(true));
    assert_ne!(fixture.release_of_nothing(&mut conn, None).await, 0);
    fixture.store.set_away(false);
    fixture.renew(&mut conn, "alice").await;
    let release = fixture.release(&mut conn, None).await;
    assert_eq!(fixture.command_to_write().await.2["id"], "held");
    assert_eq!(fixture.settled(release).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_held_once_however_often_it_is_delivered() {
    let mut fixture = Fixture::new();
    let mut conn = Conn::new(&fixture, 1);
    let message_id = conn.message_id();
    fixture
        .forwarded(message_id, MessageKind::Message, stranger(), bare("m").into())
        .await;
    fixture
        .forwarded(message_id, MessageKind::Message, stranger(), bare("m").into())
        .await;
    let _worker = fixture.worker();
    for _ in 0..2 {
        assert!(fixture.said().await.is_held());
    }
    assert_eq!(fixture.store.held_messages(conn.id).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_delivered_again_handles_nothing_twice_that_was_dropped() {
    let mut fixture = Fixture::new();
    let worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("m")).await;
    fixture.renew(&mut conn, "alice").await;
    drop(worker);
    settle().await;
    fixture.release(&mut conn, None).await;
    fixture.die_with(fixture.names.messages(), 1).await;
    let release = Sequence::new(4);
    let message_id = shared::wire::id::MessageId {
        connection: conn.id,
        sequence: release,
    };
    let _worker = fixture.worker();
    assert_eq!(fixture.command_to_write().await.2["id"], "m");
    assert_eq!(fixture.settled(message_id).await, 0);
    fixture
        .forwarded(
            message_id,
            MessageKind::Release { from: None },
            conn.snapshot.clone(),
            Bytes::new(),
        )
        .await;
    let (left, release) = fixture.came_to(message_id).await;
    assert_eq!(left, 0);
    let release = release.expect("it came to an end");
    assert_eq!(
        (release.settled.len(), release.held.len()),
        (1, 0),
        "what was settled before is no loss"
    );
    assert_eq!(fixture.app.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_and_could_not_be_dropped_comes_again_under_the_same_key() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    let held = fixture.say(&mut conn, bare("m")).await.message_id;
    fixture.renew(&mut conn, "alice").await;
    fixture
        .store
        .failing_message_drops
        .store(1, std::sync::atomic::Ordering::SeqCst);
    let release = fixture.release(&mut conn, None).await;
    let (_, first, _) = fixture.command_to_write().await;
    assert_ne!(fixture.settled(release).await, 0);
    let release = fixture.release(&mut conn, None).await;
    let (_, second, _) = fixture.command_to_write().await;
    assert_eq!(fixture.settled(release).await, 0);
    assert_eq!((first.key, second.key), (format!("{held}.0"), format!("{held}.0")));
}

#[tokio::test(start_paused = true)]
async fn a_release_handles_so_many_at_most_and_says_how_many_are_left() {
    let mut fixture = Fixture::new();
    fixture.limits.hold.messages = 100;
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    for number in 0..40 {
        fixture.say(&mut conn, bare(&number.to_string())).await;
    }
    fixture.renew(&mut conn, "alice").await;
    let mut next = 0;
    for (count, left) in [(32, 8), (8, 0)] {
        let release = fixture.release(&mut conn, None).await;
        for _ in 0..count {
            assert_eq!(fixture.command_to_write().await.2["id"], next.to_string());
            next += 1;
        }
        assert_eq!(fixture.settled(release).await, left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_release_ends_after_a_while_and_leaves_the_rest() {
    let mut fixture = Fixture::new();
    fixture.limits.hold.messages = 100;
    fixture.limits.handler_timeout = Duration::from_secs(20);
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    for _ in 0..3 {
        fixture.say(&mut conn, r#"{"type":"hang"}"#).await;
    }
    fixture.renew(&mut conn, "alice").await;
    let release = fixture.release(&mut conn, None).await;
    for _ in 0..2 {
        assert_eq!(fixture.command_to_write().await.2["error"]["code"], "busy");
    }
    assert_eq!(fixture.settled(release).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_has_no_token_in_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let token = token_for("alice", -60);
    let body = json!({"id": token.get(..128), "type": "echo", "token": token, "payload": {"n": 1}}).to_string();
    assert!(fixture.say(&mut conn, body).await.is_held());
    let signature = token.rsplit('.').next().unwrap();
    let held = fixture.store.held_messages(conn.id).await.unwrap();
    assert!(!format!("{held:?}").contains(signature));
    let recent_decisions = fixture.store.decisions(conn.id).await.unwrap();
    assert!(!format!("{recent_decisions:?}").contains("eyJ"), "{recent_decisions:?}");
    assert_eq!(held[0].payload.as_deref(), Some(r#"{"n":1}"#));
}

#[tokio::test(start_paused = true)]
async fn what_is_for_a_terminator_that_is_gone_waits_for_its_reader() {
    let mut fixture = Fixture::new();
    let worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    fixture.say(&mut conn, bare("m")).await;
    fixture.renew(&mut conn, "alice").await;
    drop(worker);
    settle().await;
    let mut gone = fixture.undelivered_consumer();
    fixture.lose_the_terminator().await;
    let _worker = fixture.worker();
    let message_id = conn.message_id();
    fixture
        .forwarded(
            message_id,
            MessageKind::Message,
            conn.snapshot.clone(),
            bare("n").into(),
        )
        .await;
    let release = fixture.release(&mut conn, None).await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let mut delivery = tokio::time::timeout(Duration::from_secs(9), gone.recv())
            .await
            .expect("it is put away")
            .unwrap();
        let message: Message = delivery.take_message();
        delivery.ack();
        let given_back = Undelivered::read(&message);
        let what = match given_back {
            Some(Undelivered::Bounced(Bounced::Gone, Return::Reply(of, answer))) => {
                assert_eq!((of, answer.identity), (message_id, Some(tag("alice"))));
                "answer"
            }
            Some(Undelivered::Bounced(Bounced::Gone, Return::Command(to, Command::Write(write)))) => {
                assert_eq!((to, write.identity), (conn.id, Some(tag("alice"))));
                "write"
            }
            other => panic!("{other:?}"),
        };
        bodies.push(what);
    }
    bodies.sort_unstable();
    assert_eq!(bodies, ["answer", "write"]);
    let _ = release;
    assert!(fixture.is_empty(&fixture.names.messages()).await);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_kills_every_worker_is_settled_without_a_word_to_the_client() {
    let mut fixture = Fixture::new();
    let conn = Conn::new(&fixture, 1);
    let message_id = shared::wire::id::MessageId {
        connection: conn.id,
        sequence: Sequence::new(9),
    };
    let forwarded = shared::wire::envelope::ForwardedMessage {
        message_id,
        notice: MessageKind::Release { from: None },
        snapshot: stranger(),
    };
    let reply_to = fixture.names.return_queue(fixture.terminator).name;
    let mut message = forwarded.to_message(Bytes::new(), &reply_to, crate::tests::fixture::START);
    message.properties.headers.push(fixture.died_in_retry());
    let failed = Route::new(&fixture.names.internal_exchange().name, keys::FAILED);
    fixture.publisher.publish(failed, message).await.unwrap();
    let _worker = fixture.worker();
    assert_ne!(fixture.settled(message_id).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_sent_back_and_kills_every_worker_is_settled_as_such() {
    let mut fixture = Fixture::new();
    let mut conn = Conn::new(&fixture, 1);
    let forwarded = shared::wire::envelope::ForwardedMessage {
        message_id: conn.message_id(),
        notice: MessageKind::Message,
        snapshot: AuthSnapshot {
            again: true,
            ..stranger()
        },
    };
    let reply_to = fixture.names.return_queue(fixture.terminator).name;
    let mut message = forwarded.to_message(bare("m").into(), &reply_to, crate::tests::fixture::START);
    message.properties.headers.push(fixture.died_in_retry());
    let failed = Route::new(&fixture.names.internal_exchange().name, keys::FAILED);
    fixture.publisher.publish(failed, message).await.unwrap();
    let _worker = fixture.worker();
    let said = fixture.said().await;
    assert_eq!((said.code(), said.answer.second), (&json!("internal"), true));
    assert_ne!(said.body, Json::Null);
}
