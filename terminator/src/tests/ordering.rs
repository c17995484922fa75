//! Messages of one connection, one after the other.

use std::time::Duration;

use bytes::Bytes;
use shared::envelope::run::{self, Entry};
use shared::envelope::{Answer, Notice, Question, Release, Verdict};
use shared::grant::{Grant, Policy};
use shared::id::Stamp;
use shared::protocol::Reason;
use shared::tag::TokenTag;

use super::bench::*;

const ORDER: &[(&str, &str)] = &[("order", "connection")];

/// A run that came, with the texts of its messages.
async fn run(bench: &mut Bench) -> (Question, Vec<String>) {
    let (question, entries) = entries(bench).await;
    let texts = entries
        .into_iter()
        .map(|entry| String::from_utf8(entry.body.to_vec()).unwrap());
    (question, texts.collect())
}

async fn entries(bench: &mut Bench) -> (Question, Vec<Entry>) {
    let (question, body) = bench.bytes().await;
    assert_eq!(question.notice, Notice::Run);
    (question, run::decode(&body).unwrap())
}

/// What a later token earns.
fn fresher(seconds: u64) -> Grant {
    Grant {
        token: TokenTag::of(&[10; 32]),
        ..grant(1, seconds, Policy::Reauthenticate)
    }
}

fn held() -> Answer {
    Answer {
        verdict: Verdict::Held {
            reason: Reason::Expired,
            hold_ms: 300_000,
        },
        ..Answer::ONLY
    }
}

fn after(stamp: Stamp, places: u64) -> Stamp {
    Stamp {
        sequence: shared::id::Sequence::new(stamp.sequence.get() + places),
        ..stamp
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_gathered_goes_together_when_all_before_it_is_settled() {
    let mut bench = Bench::with(ORDER).await;
    let mut client = bench.client().await;
    client.send("1").await;
    let (first, _) = bench.question().await;
    assert_eq!(first.notice, Notice::Message);
    for text in ["2", "3", "4"] {
        client.send(text).await;
    }
    client.ping("meanwhile").await;
    assert_eq!(client.pong().await, "meanwhile");
    bench.expect_no_question().await;
    bench.answer(first.stamp, Answer::ONLY, "one").await;
    assert_eq!(client.text().await, "one");
    let (second, texts) = run(&mut bench).await;
    assert_eq!(texts, ["2", "3", "4"]);
    assert_eq!(second.stamp, after(first.stamp, 1));
    client.send("5").await;
    for place in 0..3 {
        bench.expect_no_question().await;
        bench.answer(after(second.stamp, place), Answer::ONLY, "more").await;
        assert_eq!(client.text().await, "more");
    }
    assert_eq!(bench.question().await.1, "5");
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_batches_gets_one_at_a_time() {
    let mut bench = Bench::with(&[("order", "connection"), ("batch", "off")]).await;
    let mut client = bench.client().await;
    for text in ["1", "2", "3"] {
        client.send(text).await;
    }
    for text in ["1", "2", "3"] {
        let (question, body) = bench.question().await;
        assert_eq!((question.notice, &*body), (Notice::Message, text));
        bench.expect_no_question().await;
        bench.answer(question.stamp, Answer::ONLY, "ok").await;
        assert_eq!(client.text().await, "ok");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_token_does_not_go_behind_one_that_may_decide_it() {
    let mut bench = Bench::with(ORDER).await;
    let mut client = bench.client().await;
    client.send("1").await;
    let (first, _) = bench.question().await;
    for text in [
        "2",
        r#"{"token":"a"}"#,
        r#"{"token":"b"}"#,
        "5",
        r#"{"type":"auth.forget"}"#,
    ] {
        client.send(text).await;
    }
    bench.answer(first.stamp, Answer::ONLY, "ok").await;
    let (question, found) = entries(&mut bench).await;
    let unsettled: Vec<_> = found.iter().map(|entry| entry.unsettled).collect();
    assert_eq!(unsettled, [false, false, true]);
    assert!(!question.standing.unsettled && question.standing.ordered);
    for place in 0..3 {
        bench.answer(after(question.stamp, place), Answer::ONLY, "ok").await;
    }
    let (fifth, text) = bench.question().await;
    assert_eq!(text, "5");
    bench.expect_no_question().await;
    bench.answer(fifth.stamp, Answer::ONLY, "ok").await;
    let (barrier, _) = bench.question().await;
    assert!(!barrier.standing.unsettled);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_goes_ahead_of_a_slow_message_and_is_handled_in_its_turn() {
    let mut bench = Bench::with(ORDER).await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    client.send("slow").await;
    let (slow, _) = bench.question().await;
    client.send("between").await;
    client.send(r#"{"token":"fresh","payload":1}"#).await;
    client.send(r#"{"token":"fresh","payload":2}"#).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (ahead, text) = bench.question().await;
    assert_eq!(text, r#"{"token":"fresh","payload":1}"#);
    assert!(ahead.standing.ahead && !ahead.standing.again);
    assert_eq!(ahead.stamp, after(slow.stamp, 2));
    bench.expect_no_question().await;
    // It counts at once.
    let sent_back = Answer {
        verdict: Verdict::Again,
        ..live(fresher(600))
    };
    bench.answer(ahead.stamp, sent_back, &text).await;
    bench.expect_no_question().await;
    bench.answer(slow.stamp, Answer::ONLY, "slow").await;
    assert_eq!(client.text().await, "slow");
    // What stands before it is decided by what was there then, and comes first.
    let (between, text) = bench.question().await;
    assert_eq!((between.stamp, &*text), (after(slow.stamp, 1), "between"));
    assert!(!between.standing.again);
    assert_ne!(between.standing.by, Some(ahead.stamp.sequence));
    bench.answer(between.stamp, Answer::ONLY, "between").await;
    let (again, _) = bench.question().await;
    assert!(again.standing.again && !again.standing.ahead);
    assert_eq!(
        (again.stamp, again.standing.by),
        (ahead.stamp, Some(ahead.stamp.sequence))
    );
    assert_eq!(again.stamp.connection, connection);
    let second = Answer {
        second: true,
        ..Answer::ONLY
    };
    bench.answer(again.stamp, second, "fresh").await;
    assert_eq!(bench.question().await.1, r#"{"token":"fresh","payload":2}"#);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_released_before_what_comes_after_it() {
    let mut bench = Bench::with(ORDER).await;
    let (mut client, _) = bench.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    client.send("held").await;
    let (first, _) = bench.question().await;
    bench.answer(first.stamp, held(), "").await;
    let _required = client.text().await;
    client.send(r#"{"token":"fresh"}"#).await;
    let (fresh, body) = bench.question().await;
    assert!(fresh.standing.held && fresh.standing.ordered);
    client.send("later").await;
    let sent_back = Answer {
        verdict: Verdict::Again,
        ..live(fresher(600))
    };
    bench.answer(fresh.stamp, sent_back, &body).await;
    let (release, known) = bench.bytes().await;
    assert!(matches!(release.notice, Notice::Release { from: None }));
    assert_ne!(known, Bytes::new());
    bench.expect_no_question().await;
    let settled = Release {
        settled: [first.stamp.sequence].into(),
        held: [].into(),
    };
    let settled = String::from_utf8(settled.to_body().to_vec()).unwrap();
    bench.answer(release.stamp, Answer::ONLY, &settled).await;
    let (again, _) = bench.question().await;
    assert_eq!(again.stamp, fresh.stamp);
    assert!(again.standing.again && !again.standing.held);
    let second = Answer {
        second: true,
        ..Answer::ONLY
    };
    bench.answer(again.stamp, second, "fresh").await;
    assert_eq!(bench.question().await.1, "later");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_a_message_does_not_wait_for_it() {
    let mut bench = Bench::with(ORDER).await;
    let mut client = bench.client().await;
    client.send("slow").await;
    let (slow, _) = bench.question().await;
    client.send("between").await;
    client.send(r#"{"cancel":"1"}"#).await;
    let (cancel, text) = bench.question().await;
    assert_eq!(text, r#"{"cancel":"1"}"#);
    assert!(cancel.standing.ahead);
    assert_eq!(cancel.stamp, after(slow.stamp, 2));
    bench.answer(cancel.stamp, Answer::ONLY, "").await;
    bench.expect_no_question().await;
    bench.answer(slow.stamp, Answer::ONLY, "cancelled").await;
    assert_eq!(client.text().await, "cancelled");
    assert_eq!(bench.question().await.1, "between");
}
