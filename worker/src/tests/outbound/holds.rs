//! What comes back, how it is held, and how it leaves the hold.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use shared::bus::Message;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Bounced, Command, MessageKind, Reply};

use super::{Outcomes, identity, tag};
use crate::tests::connection::{Conn, authenticate};
use crate::tests::fixture::{Fixture, HOLD_TTL, settle};

/// An answer on behalf of alice.
fn answer(fixture: &Fixture, sequence: u64, id: &str) -> Message {
    let answer = Reply {
        identity: Some(tag("alice")),
        ..Reply::ONLY
    };
    let body = json!({"type": "reply", "id": id}).to_string();
    answer.to_message(Some(fixture.message_id(1, sequence).to_string()), body.into())
}

#[tokio::test(start_paused = true)]
async fn what_an_expired_connection_gives_back_waits_for_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.connect(fixture.connection(1), "alice", -1).await;
    fixture.connect(fixture.connection(2), "alice", 300).await;
    fixture.bounce(Bounced::Expired, answer(&fixture, 7, "i")).await;
    let push = fixture.write(fixture.connection(1), "alice", "a");
    fixture.bounce(Bounced::Expired, push.clone()).await;
    fixture.bounce(Bounced::Expired, push).await;
    fixture.expect_no_answer().await;
    let keys = [format!("{}.0", fixture.message_id(1, 7)), "p:a".to_owned()];
    assert_eq!(fixture.answers_held(fixture.connection(1)).await, [keys[0].as_str()]);
    assert_eq!(fixture.held("alice").await, ["p:a"], "once, and nobody else is told");
    fixture.fetch(fixture.connection(1), "alice").await;
    for key in keys {
        let (connection, written, released, body) = fixture.written().await;
        assert_eq!((connection, &written, released), (fixture.connection(1), &key, true));
        assert!(body["id"].is_string());
    }
    assert_eq!(fixture.command().await.1, Command::Fetched { left: 0, fetch: 0 });
    assert!(fixture.is_empty(&fixture.names.undelivered()).await);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_that_is_gone_gives_back_is_told_to_the_live_ones() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.connect(fixture.connection(2), "alice", 300).await;
    fixture.connect(fixture.connection(3), "alice", -1).await;
    // Expired, and closed since: it will not ask for it.
    for (why, key) in [(Bounced::Gone, "a"), (Bounced::Expired, "b")] {
        fixture
            .bounce(why, fixture.write(fixture.connection(1), "alice", key))
            .await;
        assert_eq!(
            fixture.command().await,
            (fixture.connection(2), Command::Wake { from: None }, json!(null))
        );
    }
    // Of the copies of one push, one is told of.
    fixture
        .bounce(Bounced::Gone, fixture.write(fixture.connection(4), "alice", "b"))
        .await;
    fixture.expect_no_answer().await;
    assert_eq!(fixture.held("alice").await, ["p:a", "p:b"]);
    fixture.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_connection_that_leaves_is_told_to_the_live_ones() {
    for closes in [true, false] {
        let mut fixture = Fixture::new();
        let _worker = fixture.worker();
        let mut conn = Conn::new(&fixture, 1);
        fixture.say(&mut conn, authenticate("alice", 300)).await;
        fixture.connect(fixture.connection(2), "alice", 300).await;
        fixture
            .bounce(Bounced::Expired, fixture.write(conn.id, "alice", "a"))
            .await;
        fixture.expect_no_answer().await;
        let (message_id, snapshot) = (conn.message_id(), conn.snapshot.clone());
        let (notice, body) = match closes {
            true => (MessageKind::Closed { code: None }, ""),
            false => (MessageKind::Message, r#"{"type":"auth.logout"}"#),
        };
        fixture.forwarded(message_id, notice, snapshot, body.into()).await;
        let (connection, command, _) = fixture.command().await;
        assert_eq!(
            (connection, command),
            (fixture.connection(2), Command::Wake { from: None })
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_found_unfetched_is_as_what_is_gone() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let Message { body, properties } = fixture.write(fixture.connection(1), "alice", "a");
    fixture.publish(fixture.undelivered(), body, properties).await;
    settle().await;
    assert_eq!(fixture.held("alice").await, ["p:a"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_broker_did_not_keep_is_held_and_still_settles_its_request() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let queue = fixture.names.return_queue(fixture.terminator).name;
    let silent = Reply::ONLY.to_message(Some(fixture.message_id(1, 8).to_string()), "".into());
    for (original, number) in [(answer(&fixture, 7, "i"), 7), (silent, 8)] {
        let mut expired = original.clone();
        let died = [
            (shared::bus::DEATH_QUEUE, queue.clone()),
            ("x-first-death-reason", "expired".to_owned()),
        ];
        let died = died.map(|(name, text)| (name.to_owned(), shared::bus::Value::Text(text)));
        expired.properties.headers.extend(died);
        fixture
            .publish(fixture.undelivered(), expired.body, expired.properties)
            .await;
        let settlement = fixture.returned().await;
        assert!(settlement.body.is_empty());
        assert_eq!(
            settlement.properties.correlation_id,
            Some(fixture.message_id(1, number).to_string())
        );
        assert!(
            settlement
                .properties
                .headers
                .iter()
                .all(|(name, _)| !name.starts_with("x-"))
        );
        assert_eq!(Reply::read(&settlement.properties), Reply::read(&original.properties));
        if number == 7 {
            // The connection may be open still, and does not know that it is to ask for it.
            assert_eq!(fixture.command().await.1, Command::Wake { from: None });
        }
    }
    settle().await;
    let held = fixture.answers_held(fixture.connection(1)).await;
    assert_eq!(held, [format!("{}.0", fixture.message_id(1, 7))]);
    assert!(fixture.is_empty(&fixture.names.undelivered()).await);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_not_for_an_identity_is_done_with() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let plain = Reply::ONLY.to_message(Some(fixture.message_id(1, 1).to_string()), "{}".into());
    let settlement = answer(&fixture, 2, "i").properties;
    let fetched = Command::Fetched { left: 1, fetch: 0 }.to_message(fixture.connection(1), "".into());
    let woken = Command::Wake { from: None }.to_message(fixture.connection(1), "".into());
    let empty = Message {
        body: "".into(),
        properties: settlement,
    };
    for message in [plain, empty, fetched, woken, Message::default()] {
        fixture.bounce(Bounced::Gone, message).await;
    }
    assert!(fixture.is_empty(&fixture.names.undelivered()).await);
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_given_back_before_the_fetch_comes_with_it() {
    let mut fixture = Fixture::new();
    for number in 0..3 {
        let push = fixture.write(fixture.connection(1), "alice", &number.to_string());
        fixture.bounce(Bounced::Expired, push).await;
    }
    fixture.fetch(fixture.connection(1), "alice").await;
    let _worker = fixture.worker();
    for number in 0..3 {
        assert_eq!(fixture.written().await.1, format!("p:{number}"));
    }
    assert_eq!(fixture.command().await.1, Command::Fetched { left: 0, fetch: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cut_short_before_it_is_forgotten_repeats_the_same_keys_and_loses_nothing() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    for name in ["a", "b"] {
        fixture
            .bounce(Bounced::Expired, fixture.write(fixture.connection(1), "alice", name))
            .await;
    }
    settle().await;
    fixture.store.failing_drops.store(1, Ordering::SeqCst);
    fixture.fetch(fixture.connection(1), "alice").await;
    for key in ["p:a", "p:b", "p:a", "p:b"] {
        assert_eq!(fixture.written().await.1, key);
    }
    assert_eq!(fixture.command().await.1, Command::Fetched { left: 0, fetch: 0 });
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_within_a_fetch_is_followed_by_one_that_repeats_it() {
    let mut fixture = Fixture::new();
    let first = fixture.worker();
    fixture
        .bounce(Bounced::Expired, fixture.write(fixture.connection(1), "alice", "a"))
        .await;
    settle().await;
    fixture.store.failing_drops.store(1, Ordering::SeqCst);
    fixture.fetch(fixture.connection(1), "alice").await;
    assert_eq!(fixture.written().await.1, "p:a");
    drop(first);
    settle().await;
    let _second = fixture.worker();
    assert_eq!(fixture.written().await.1, "p:a");
    assert_eq!(fixture.command().await.1, Command::Fetched { left: 0, fetch: 0 });
}

#[tokio::test(start_paused = true)]
async fn what_cannot_reach_whoever_asked_stays_held() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let gone = shared::wire::id::ConnectionId {
        terminator: shared::wire::id::TerminatorId::random(),
        number: 1,
    };
    fixture
        .bounce(Bounced::Expired, fixture.write(gone, "alice", "a"))
        .await;
    fixture.fetch(gone, "alice").await;
    assert!(fixture.is_empty(&fixture.names.undelivered()).await);
    assert_eq!(fixture.held("alice").await, ["p:a"]);
}

#[tokio::test(start_paused = true)]
async fn a_producer_hears_that_what_came_back_does_not_fit_and_a_client_that_its_answer_does_not() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    for number in 0..fixture.limits.hold.messages {
        let push = fixture.write(fixture.connection(1), "alice", &number.to_string());
        fixture.bounce(Bounced::Expired, push).await;
    }
    let mut push = fixture.write(fixture.connection(1), "alice", "late");
    let wanted = outcomes.wanted("late");
    for (name, text) in [("outcome-to", wanted.reply_to), ("outcome-id", wanted.correlation_id)] {
        let text = shared::bus::Value::Text(text.unwrap());
        push.properties.headers.push((name.to_owned(), text));
    }
    fixture.bounce(Bounced::Expired, push).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!(
        (about.as_str(), &outcome["error"]["code"]),
        ("about late", &json!("hold_overflow"))
    );
    // Answers have room of their own.
    for sequence in 1..=fixture.limits.hold.messages {
        fixture
            .bounce(Bounced::Expired, answer(&fixture, sequence, "fits"))
            .await;
    }
    fixture.bounce(Bounced::Expired, answer(&fixture, 77, "i")).await;
    let (connection, command, body) = fixture.command().await;
    assert_eq!(connection, fixture.connection(1));
    assert!(
        matches!(command, Command::Write(Write { identity: None, .. })),
        "{command:?}"
    );
    assert_eq!(
        (&body["id"], &body["error"]["code"], &body["error"]["temporary"]),
        (&json!("i"), &json!("hold_overflow"), &json!(true))
    );
    // Of what has no one at all, a dead letter is kept.
    fixture
        .bounce(
            Bounced::Expired,
            fixture.write(fixture.connection(1), "alice", "nobody's"),
        )
        .await;
    let letter = fixture.next_of(fixture.names.dead()).await;
    assert!(String::from_utf8_lossy(&letter.body).contains("nobody's"));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_too_long_is_given_up_and_told() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.push(&[("subject", "alice")], "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1["outcome"], "held");
    fixture.bounce(Bounced::Expired, answer(&fixture, 7, "i")).await;
    settle().await;
    fixture.clock.advance(HOLD_TTL - Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.held("alice").await.len(), 1, "not yet");
    assert_eq!(fixture.answers_held(fixture.connection(1)).await.len(), 1, "not yet");
    fixture.clock.advance(Duration::from_secs(2));
    assert_eq!(
        outcomes.next().await,
        ("about a".to_owned(), json!({"outcome": "expired"}))
    );
    let (connection, _, body) = fixture.command().await;
    assert_eq!(connection, fixture.connection(1));
    assert_eq!(
        (&body["id"], &body["error"]["code"]),
        (&json!("i"), &json!("hold_expired"))
    );
    settle().await;
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_time_is_neither_held_nor_written() {
    let mut fixture = Fixture::new();
    let late = fixture.write(fixture.connection(1), "alice", "a");
    fixture.bounce(Bounced::Expired, late).await;
    fixture.clock.advance(HOLD_TTL);
    let worker = fixture.worker();
    settle().await;
    assert_eq!(fixture.held("alice").await, [""; 0]);
    fixture
        .bounce(Bounced::Expired, fixture.write(fixture.connection(1), "alice", "b"))
        .await;
    settle().await;
    assert_eq!(fixture.held("alice").await, ["p:b"]);
    fixture.clock.advance(HOLD_TTL);
    fixture.fetch(fixture.connection(1), "alice").await;
    assert_eq!(fixture.command().await.1, Command::Fetched { left: 0, fetch: 0 });
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_word_for_a_connection_that_is_gone_goes_to_its_successor() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (first, second, third) = (fixture.connection(1), fixture.connection(2), fixture.connection(3));
    let digest = [0; 32];
    for (from, successor) in [(first, second), (second, third)] {
        fixture.connect(from, "alice", 300).await;
        assert!(
            fixture
                .store
                .resume(from, &digest, &identity("alice"), successor)
                .await
                .unwrap()
        );
    }
    let word = Command::Wake { from: Some(first) }.to_message(second, "".into());
    fixture.bounce(Bounced::Gone, word).await;
    let (connection, command, _) = fixture.command().await;
    assert_eq!((connection, command), (third, Command::Wake { from: Some(first) }));
    let nobody = Command::Wake { from: Some(first) }.to_message(third, "".into());
    fixture.bounce(Bounced::Gone, nobody).await;
    assert!(fixture.is_empty(&fixture.names.undelivered()).await);
}
