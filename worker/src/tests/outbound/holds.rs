//! What comes back, how it is held, and how it leaves the hold.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use shared::bus::Message;
use shared::envelope::errand::Write;
use shared::envelope::{Answer, Bounced, Errand, Notice};

use super::{Outcomes, identity, tag};
use crate::store::Store;
use crate::tests::bench::{Bench, HOLD_TTL, settle};
use crate::tests::connection::{Conn, authenticate};

/// An answer in the name of alice.
fn answer(bench: &Bench, sequence: u64, id: &str) -> Message {
    let answer = Answer {
        identity: Some(tag("alice")),
        ..Answer::ONLY
    };
    let body = json!({"type": "reply", "id": id}).to_string();
    answer.to_message(Some(bench.stamp(1, sequence).to_string()), body.into())
}

#[tokio::test(start_paused = true)]
async fn what_a_lapsed_connection_gives_back_waits_for_it() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench.connect(bench.connection(1), "alice", -1).await;
    bench.connect(bench.connection(2), "alice", 300).await;
    bench.bounce(Bounced::Lapsed, answer(&bench, 7, "i")).await;
    let push = bench.write(bench.connection(1), "alice", "a");
    bench.bounce(Bounced::Lapsed, push.clone()).await;
    bench.bounce(Bounced::Lapsed, push).await;
    bench.expect_no_answer().await;
    let keys = [format!("{}.0", bench.stamp(1, 7)), "p:a".to_owned()];
    assert_eq!(bench.answers_held(bench.connection(1)).await, [keys[0].as_str()]);
    assert_eq!(bench.held("alice").await, ["p:a"], "once, and nobody else is told");
    bench.fetch(bench.connection(1), "alice").await;
    for key in keys {
        let (connection, written, released, body) = bench.written().await;
        assert_eq!((connection, &written, released), (bench.connection(1), &key, true));
        assert!(body["id"].is_string());
    }
    assert_eq!(bench.errand().await.1, Errand::Fetched { left: 0 });
    assert!(bench.is_empty(&bench.names.undelivered()).await);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_that_is_gone_gives_back_is_told_to_the_live_ones() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench.connect(bench.connection(2), "alice", 300).await;
    bench.connect(bench.connection(3), "alice", -1).await;
    // Lapsed, and closed since: it will not ask for it.
    for (why, key) in [(Bounced::Gone, "a"), (Bounced::Lapsed, "b")] {
        bench.bounce(why, bench.write(bench.connection(1), "alice", key)).await;
        assert_eq!(
            bench.errand().await,
            (bench.connection(2), Errand::Wake { from: None }, json!(null))
        );
    }
    // Of the copies of one push, one is told of.
    bench
        .bounce(Bounced::Gone, bench.write(bench.connection(4), "alice", "b"))
        .await;
    bench.expect_no_answer().await;
    assert_eq!(bench.held("alice").await, ["p:a", "p:b"]);
    bench.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_connection_that_leaves_is_told_to_the_live_ones() {
    for closes in [true, false] {
        let mut bench = Bench::new();
        let _worker = bench.worker();
        let mut conn = Conn::new(&bench, 1);
        bench.say(&mut conn, authenticate("alice", 300)).await;
        bench.connect(bench.connection(2), "alice", 300).await;
        bench.bounce(Bounced::Lapsed, bench.write(conn.id, "alice", "a")).await;
        bench.expect_no_answer().await;
        let (stamp, standing) = (conn.stamp(), conn.standing.clone());
        let (notice, body) = match closes {
            true => (Notice::Closed { code: None }, ""),
            false => (Notice::Message, r#"{"type":"auth.forget"}"#),
        };
        bench.question(stamp, notice, standing, body.into()).await;
        let (connection, errand, _) = bench.errand().await;
        assert_eq!((connection, errand), (bench.connection(2), Errand::Wake { from: None }));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_found_unfetched_is_as_what_is_gone() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let Message { body, properties } = bench.write(bench.connection(1), "alice", "a");
    bench.publish(bench.undelivered(), body, properties).await;
    settle().await;
    assert_eq!(bench.held("alice").await, ["p:a"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_broker_did_not_keep_is_held_and_still_settles_its_question() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let queue = bench.names.return_queue(bench.terminator).name;
    let silent = Answer::ONLY.to_message(Some(bench.stamp(1, 8).to_string()), "".into());
    for (original, number) in [(answer(&bench, 7, "i"), 7), (silent, 8)] {
        let mut expired = original.clone();
        let died = [
            (shared::bus::DEATH_QUEUE, queue.clone()),
            ("x-first-death-reason", "expired".to_owned()),
        ];
        let died = died.map(|(name, text)| (name.to_owned(), shared::bus::Value::Text(text)));
        expired.properties.headers.extend(died);
        bench
            .publish(bench.undelivered(), expired.body, expired.properties)
            .await;
        let settlement = bench.returned().await;
        assert!(settlement.body.is_empty());
        assert_eq!(
            settlement.properties.correlation_id,
            Some(bench.stamp(1, number).to_string())
        );
        assert!(
            settlement
                .properties
                .headers
                .iter()
                .all(|(name, _)| !name.starts_with("x-"))
        );
        assert_eq!(Answer::read(&settlement.properties), Answer::read(&original.properties));
        if number == 7 {
            // The connection may be open still, and does not know that it is to ask for it.
            assert_eq!(bench.errand().await.1, Errand::Wake { from: None });
        }
    }
    settle().await;
    let held = bench.answers_held(bench.connection(1)).await;
    assert_eq!(held, [format!("{}.0", bench.stamp(1, 7))]);
    assert!(bench.is_empty(&bench.names.undelivered()).await);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_not_for_an_identity_is_done_with() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let plain = Answer::ONLY.to_message(Some(bench.stamp(1, 1).to_string()), "{}".into());
    let settlement = answer(&bench, 2, "i").properties;
    let fetched = Errand::Fetched { left: 1 }.to_message(bench.connection(1), "".into());
    let woken = Errand::Wake { from: None }.to_message(bench.connection(1), "".into());
    let empty = Message {
        body: "".into(),
        properties: settlement,
    };
    for message in [plain, empty, fetched, woken, Message::default()] {
        bench.bounce(Bounced::Gone, message).await;
    }
    assert!(bench.is_empty(&bench.names.undelivered()).await);
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_given_back_before_the_fetch_comes_with_it() {
    let mut bench = Bench::new();
    for number in 0..3 {
        let push = bench.write(bench.connection(1), "alice", &number.to_string());
        bench.bounce(Bounced::Lapsed, push).await;
    }
    bench.fetch(bench.connection(1), "alice").await;
    let _worker = bench.worker();
    for number in 0..3 {
        assert_eq!(bench.written().await.1, format!("p:{number}"));
    }
    assert_eq!(bench.errand().await.1, Errand::Fetched { left: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cut_short_before_it_is_forgotten_repeats_the_same_keys_and_loses_nothing() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    for name in ["a", "b"] {
        bench
            .bounce(Bounced::Lapsed, bench.write(bench.connection(1), "alice", name))
            .await;
    }
    settle().await;
    bench.store.failing_drops.store(1, Ordering::SeqCst);
    bench.fetch(bench.connection(1), "alice").await;
    for key in ["p:a", "p:b", "p:a", "p:b"] {
        assert_eq!(bench.written().await.1, key);
    }
    assert_eq!(bench.errand().await.1, Errand::Fetched { left: 0 });
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_within_a_fetch_is_followed_by_one_that_repeats_it() {
    let mut bench = Bench::new();
    let first = bench.worker();
    bench
        .bounce(Bounced::Lapsed, bench.write(bench.connection(1), "alice", "a"))
        .await;
    settle().await;
    bench.store.failing_drops.store(1, Ordering::SeqCst);
    bench.fetch(bench.connection(1), "alice").await;
    assert_eq!(bench.written().await.1, "p:a");
    drop(first);
    settle().await;
    let _second = bench.worker();
    assert_eq!(bench.written().await.1, "p:a");
    assert_eq!(bench.errand().await.1, Errand::Fetched { left: 0 });
}

#[tokio::test(start_paused = true)]
async fn what_cannot_reach_whoever_asked_stays_held() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let gone = shared::id::ConnectionId {
        terminator: shared::id::TerminatorId::random(),
        number: 1,
    };
    bench.bounce(Bounced::Lapsed, bench.write(gone, "alice", "a")).await;
    bench.fetch(gone, "alice").await;
    assert!(bench.is_empty(&bench.names.undelivered()).await);
    assert_eq!(bench.held("alice").await, ["p:a"]);
}

#[tokio::test(start_paused = true)]
async fn a_producer_hears_that_what_came_back_does_not_fit_and_a_client_that_its_answer_does_not() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    for number in 0..bench.limits.hold.messages {
        let push = bench.write(bench.connection(1), "alice", &number.to_string());
        bench.bounce(Bounced::Lapsed, push).await;
    }
    let mut push = bench.write(bench.connection(1), "alice", "late");
    let wanted = outcomes.wanted("late");
    for (name, text) in [("outcome-to", wanted.reply_to), ("outcome-id", wanted.correlation_id)] {
        let text = shared::bus::Value::Text(text.unwrap());
        push.properties.headers.push((name.to_owned(), text));
    }
    bench.bounce(Bounced::Lapsed, push).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!(
        (about.as_str(), &outcome["error"]["code"]),
        ("about late", &json!("hold_overflow"))
    );
    // Answers have room of their own.
    for sequence in 1..=bench.limits.hold.messages {
        bench.bounce(Bounced::Lapsed, answer(&bench, sequence, "fits")).await;
    }
    bench.bounce(Bounced::Lapsed, answer(&bench, 77, "i")).await;
    let (connection, errand, body) = bench.errand().await;
    assert_eq!(connection, bench.connection(1));
    assert!(
        matches!(errand, Errand::Write(Write { identity: None, .. })),
        "{errand:?}"
    );
    assert_eq!(
        (&body["id"], &body["error"]["code"], &body["error"]["temporary"]),
        (&json!("i"), &json!("hold_overflow"), &json!(true))
    );
    // Of what has nobody at all, a dead letter is kept.
    bench
        .bounce(Bounced::Lapsed, bench.write(bench.connection(1), "alice", "nobody's"))
        .await;
    let letter = bench.next_of(bench.names.dead()).await;
    assert!(String::from_utf8_lossy(&letter.body).contains("nobody's"));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_too_long_is_given_up_and_told() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.push(&[("subject", "alice")], "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1["outcome"], "held");
    bench.bounce(Bounced::Lapsed, answer(&bench, 7, "i")).await;
    settle().await;
    bench.clock.advance(HOLD_TTL - Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.held("alice").await.len(), 1, "not yet");
    assert_eq!(bench.answers_held(bench.connection(1)).await.len(), 1, "not yet");
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(
        outcomes.next().await,
        ("about a".to_owned(), json!({"outcome": "expired"}))
    );
    let (connection, _, body) = bench.errand().await;
    assert_eq!(connection, bench.connection(1));
    assert_eq!(
        (&body["id"], &body["error"]["code"]),
        (&json!("i"), &json!("hold_expired"))
    );
    settle().await;
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_time_is_neither_held_nor_written() {
    let mut bench = Bench::new();
    let late = bench.write(bench.connection(1), "alice", "a");
    bench.bounce(Bounced::Lapsed, late).await;
    bench.clock.advance(HOLD_TTL);
    let worker = bench.worker();
    settle().await;
    assert_eq!(bench.held("alice").await, [""; 0]);
    bench
        .bounce(Bounced::Lapsed, bench.write(bench.connection(1), "alice", "b"))
        .await;
    settle().await;
    assert_eq!(bench.held("alice").await, ["p:b"]);
    bench.clock.advance(HOLD_TTL);
    bench.fetch(bench.connection(1), "alice").await;
    assert_eq!(bench.errand().await.1, Errand::Fetched { left: 0 });
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_word_for_a_connection_that_is_gone_goes_to_its_heir() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let (first, second, third) = (bench.connection(1), bench.connection(2), bench.connection(3));
    let digest = [0; 32];
    for (from, heir) in [(first, second), (second, third)] {
        bench.connect(from, "alice", 300).await;
        assert!(
            bench
                .store
                .resume(from, &digest, &identity("alice"), heir)
                .await
                .unwrap()
        );
    }
    let word = Errand::Wake { from: Some(first) }.to_message(second, "".into());
    bench.bounce(Bounced::Gone, word).await;
    let (connection, errand, _) = bench.errand().await;
    assert_eq!((connection, errand), (third, Errand::Wake { from: Some(first) }));
    let nobody = Errand::Wake { from: Some(first) }.to_message(third, "".into());
    bench.bounce(Bounced::Gone, nobody).await;
    assert!(bench.is_empty(&bench.names.undelivered()).await);
}
