//! Messages of one connection, one after the other.

use std::time::Duration;

use bytes::Bytes;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::run::{self, Entry};
use shared::wire::envelope::{Bounced, Command, ForwardedMessage, MessageKind, Release, Reply, Verdict};
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::{ConnectionId, MessageId};
use shared::wire::protocol::Reason;
use shared::wire::tag::TokenTag;

use super::fixture::*;

const ORDER: &[(&str, &str)] = &[("order", "connection")];

/// A run that came, with the texts of its messages.
async fn run(fixture: &mut Fixture) -> (ForwardedMessage, Vec<String>) {
    let (forwarded, entries) = entries(fixture).await;
    let texts = entries
        .into_iter()
        .map(|entry| String::from_utf8(entry.body.to_vec()).unwrap());
    (forwarded, texts.collect())
}

async fn entries(fixture: &mut Fixture) -> (ForwardedMessage, Vec<Entry>) {
    let (forwarded, body) = fixture.bytes().await;
    assert_eq!(forwarded.notice, MessageKind::Run);
    (forwarded, run::decode(&body).unwrap())
}

/// What a later token earns.
fn fresher(seconds: u64) -> Grant {
    Grant {
        token: TokenTag::of(&[10; 32]),
        ..grant(1, seconds, Policy::Reauthenticate)
    }
}

fn held() -> Reply {
    Reply {
        verdict: Verdict::Held {
            reason: Reason::Expired,
            hold_ms: 300_000,
        },
        ..Reply::ONLY
    }
}

fn after(message_id: MessageId, places: u64) -> MessageId {
    MessageId {
        sequence: shared::wire::id::Sequence::new(message_id.sequence.get() + places),
        ..message_id
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_gathered_goes_together_when_all_before_it_is_settled() {
    let mut fixture = Fixture::with(ORDER).await;
    let mut client = fixture.client().await;
    client.send("1").await;
    let (first, _) = fixture.forwarded().await;
    assert_eq!(first.notice, MessageKind::Message);
    for text in ["2", "3", "4"] {
        client.send(text).await;
    }
    client.ping("meanwhile").await;
    assert_eq!(client.pong().await, "meanwhile");
    fixture.expect_no_request().await;
    fixture.answer(first.message_id, Reply::ONLY, "one").await;
    assert_eq!(client.text().await, "one");
    let (second, texts) = run(&mut fixture).await;
    assert_eq!(texts, ["2", "3", "4"]);
    assert_eq!(second.message_id, after(first.message_id, 1));
    client.send("5").await;
    for place in 0..3 {
        fixture.expect_no_request().await;
        fixture
            .answer(after(second.message_id, place), Reply::ONLY, "more")
            .await;
        assert_eq!(client.text().await, "more");
    }
    assert_eq!(fixture.forwarded().await.1, "5");
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_goes_together_from_the_first_on() {
    let mut fixture = Fixture::with(ORDER).await;
    let alice = grant(1, 300, Policy::Reauthenticate);
    let (mut client, _) = fixture.client_of(alice).await;
    client.send_together(&["1", "2", "3"]).await;
    let (first, texts) = run(&mut fixture).await;
    assert_eq!(texts, ["1", "2", "3"]);
    client.send_together(&["4", "5"]).await;
    fixture.expect_no_request().await;
    for place in 0..3 {
        fixture.answer(after(first.message_id, place), Reply::ONLY, "ok").await;
        assert_eq!(client.text().await, "ok");
    }
    assert_eq!(run(&mut fixture).await.1, ["4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_renew_a_connection_does_not_wait_behind_what_came_together_with_it() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, _) = fixture.client_of(grant(1, 300, Policy::Reauthenticate)).await;
    client.send_together(&["slow", r#"{"token":"fresh"}"#]).await;
    let (slow, text) = fixture.forwarded().await;
    assert_eq!((slow.notice, &*text), (MessageKind::Message, "slow"));
    pass(Duration::from_secs(1)).await;
    let (ahead, text) = fixture.forwarded().await;
    assert!(ahead.snapshot.ahead && text.contains("fresh"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_batches_gets_one_at_a_time() {
    let mut fixture = Fixture::with(&[("order", "connection"), ("batch", "off")]).await;
    let mut client = fixture.client().await;
    for text in ["1", "2", "3"] {
        client.send(text).await;
    }
    for text in ["1", "2", "3"] {
        let (forwarded, body) = fixture.forwarded().await;
        assert_eq!((forwarded.notice, &*body), (MessageKind::Message, text));
        fixture.expect_no_request().await;
        fixture.answer(forwarded.message_id, Reply::ONLY, "ok").await;
        assert_eq!(client.text().await, "ok");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_token_does_not_go_behind_one_that_may_decide_it() {
    let mut fixture = Fixture::with(ORDER).await;
    let mut client = fixture.client().await;
    client.send("1").await;
    let (first, _) = fixture.forwarded().await;
    for text in [
        "2",
        r#"{"token":"a"}"#,
        r#"{"token":"b"}"#,
        "5",
        r#"{"type":"auth.logout"}"#,
    ] {
        client.send(text).await;
    }
    fixture.answer(first.message_id, Reply::ONLY, "ok").await;
    let (forwarded, found) = entries(&mut fixture).await;
    let unsettled: Vec<_> = found.iter().map(|entry| entry.unsettled).collect();
    assert_eq!(unsettled, [false, false, true]);
    assert!(!forwarded.snapshot.unsettled && forwarded.snapshot.ordered);
    for place in 0..3 {
        fixture
            .answer(after(forwarded.message_id, place), Reply::ONLY, "ok")
            .await;
    }
    let (fifth, text) = fixture.forwarded().await;
    assert_eq!(text, "5");
    fixture.expect_no_request().await;
    fixture.answer(fifth.message_id, Reply::ONLY, "ok").await;
    let (barrier, _) = fixture.forwarded().await;
    assert!(!barrier.snapshot.unsettled);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_goes_ahead_of_large_messages_too() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, _) = fixture.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    client.send("slow").await;
    fixture.forwarded().await;
    let large = "x".repeat(60 * 1_024);
    for _ in 0..10 {
        client.send(&large).await;
    }
    client.send(r#"{"token":"fresh"}"#).await;
    client.ping("behind").await;
    assert_eq!(client.pong().await, "behind");
    pass(Duration::from_secs(1)).await;
    let (ahead, text) = fixture.forwarded().await;
    assert!(ahead.snapshot.ahead && text.contains("fresh"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_ahead_again_and_again_does_not_have_a_socket_read_for_ever() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, _) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    client.send("slow").await;
    fixture.forwarded().await;
    let between = "x".repeat(15 * 1_024);
    let mut cancels = 0;
    for _ in 0..200 {
        client.send(&between).await;
        client.send(r#"{"cancel":"1"}"#).await;
        let soon = tokio::time::timeout(Duration::from_millis(500), fixture.forwarded());
        let Ok((cancel, _)) = soon.await else { break };
        fixture.answer(cancel.message_id, Reply::ONLY, "").await;
        cancels += 1;
    }
    assert!((32..=80).contains(&cancels), "{cancels}");
    client.ping("not read").await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_goes_ahead_of_a_slow_message_and_is_handled_in_its_turn() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    client.send("slow").await;
    let (slow, _) = fixture.forwarded().await;
    client.send("between").await;
    client.send(r#"{"token":"fresh","payload":1}"#).await;
    client.send(r#"{"token":"fresh","payload":2}"#).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (ahead, text) = fixture.forwarded().await;
    assert_eq!(text, r#"{"token":"fresh","payload":1}"#);
    assert!(ahead.snapshot.ahead && !ahead.snapshot.again);
    assert_eq!(ahead.message_id, after(slow.message_id, 2));
    fixture.expect_no_request().await;
    // It counts at once.
    let sent_back = Reply {
        verdict: Verdict::Again,
        ..live(fresher(600))
    };
    fixture.answer(ahead.message_id, sent_back, &text).await;
    fixture.expect_no_request().await;
    fixture.answer(slow.message_id, Reply::ONLY, "slow").await;
    assert_eq!(client.text().await, "slow");
    // What stands before it is decided by what was there then, and comes first.
    let (between, text) = fixture.forwarded().await;
    assert_eq!((between.message_id, &*text), (after(slow.message_id, 1), "between"));
    assert!(!between.snapshot.again);
    assert_ne!(between.snapshot.by, Some(ahead.message_id.sequence));
    fixture.answer(between.message_id, Reply::ONLY, "between").await;
    let (again, _) = fixture.forwarded().await;
    assert!(again.snapshot.again && !again.snapshot.ahead);
    assert_eq!(
        (again.message_id, again.snapshot.by),
        (ahead.message_id, Some(ahead.message_id.sequence))
    );
    assert_eq!(again.message_id.connection, connection);
    let second = Reply {
        second: true,
        ..Reply::ONLY
    };
    fixture.answer(again.message_id, second, "fresh").await;
    assert_eq!(fixture.forwarded().await.1, r#"{"token":"fresh","payload":2}"#);
}

#[tokio::test(start_paused = true)]
async fn what_another_has_left_held_is_asked_for_as_soon_as_the_answers_before_it_are_written() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    client.send("asks").await;
    let (asks, _) = fixture.forwarded().await;
    pass(Duration::from_secs(11)).await;
    fixture.answer(asks.message_id, reply(1), "answer").await;
    fixture.expect_given_back(Bounced::Expired, "answer").await;
    client.expect_required("expired").await;
    let gone = ConnectionId {
        number: 99,
        ..connection
    };
    let renewed = Grant {
        resumes: Some(gone),
        ..fresher(600)
    };
    fixture.renew(&mut client, renewed).await;
    fixture.expect_fetch().await;
    fixture.expect_no_request().await;
    let released = Write {
        asked_by: Some(connection),
        ..write(1, &format!("{}.0", asks.message_id), true)
    };
    fixture.command(connection, Command::Write(released), "answer").await;
    fixture.expect_no_request().await;
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    let (release, _) = fixture.bytes().await;
    assert_eq!(release.notice, MessageKind::Release { from: Some(gone) });
}

#[tokio::test(start_paused = true)]
async fn a_log_out_ends_pushes_at_once_and_what_was_asked_before_it_is_answered() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, connection) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    client.send("takes long").await;
    let (asked, _) = fixture.forwarded().await;
    client.send(r#"{"type":"auth.logout"}"#).await;
    fixture.push(connection, 1, "for alice").await;
    fixture.expect_given_back(Bounced::Gone, "for alice").await;
    fixture.expect_no_request().await;
    fixture.answer(asked.message_id, reply(1), "answer").await;
    assert_eq!(client.text().await, "answer");
    // It fails: who it was is told again, and gets what was pushed.
    let (log_out, _) = fixture.forwarded().await;
    fixture.push(connection, 1, "meanwhile").await;
    fixture.expect_given_back(Bounced::Gone, "meanwhile").await;
    fixture.answer(log_out.message_id, Reply::ONLY, "cannot be").await;
    assert_eq!(client.text().await, "cannot be");
    fixture.expect_fetch().await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_released_message_waits_for_one_before_it_that_is_held() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    client.send("asks").await;
    let (asks, _) = fixture.forwarded().await;
    pass(Duration::from_secs(11)).await;
    fixture.answer(asks.message_id, reply(1), "first").await;
    fixture.expect_given_back(Bounced::Expired, "first").await;
    client.expect_required("expired").await;
    fixture.renew(&mut client, fresher(600)).await;
    fixture.expect_fetch().await;
    let of = |key: &str, fetched| {
        Command::Write(Write {
            asked_by: Some(connection),
            fetched,
            ..write(1, key, true)
        })
    };
    fixture.command(connection, of("later.0", false), "second").await;
    client.expect_nothing().await;
    fixture
        .command(connection, of(&format!("{}.0", asks.message_id), true), "first")
        .await;
    assert_eq!(client.text().await, "first");
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    assert_eq!(client.text().await, "second");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_released_before_what_comes_after_it() {
    let mut fixture = Fixture::with(ORDER).await;
    let (mut client, _) = fixture.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    client.send("held").await;
    let (first, _) = fixture.forwarded().await;
    fixture.answer(first.message_id, held(), "").await;
    let _required = client.text().await;
    client.send(r#"{"token":"fresh"}"#).await;
    let (fresh, body) = fixture.forwarded().await;
    assert!(fresh.snapshot.held && fresh.snapshot.ordered);
    client.send("later").await;
    let sent_back = Reply {
        verdict: Verdict::Again,
        ..live(fresher(600))
    };
    fixture.answer(fresh.message_id, sent_back, &body).await;
    let (release, known) = fixture.bytes().await;
    assert!(matches!(release.notice, MessageKind::Release { from: None }));
    assert_ne!(known, Bytes::new());
    fixture.expect_no_request().await;
    let settled = Release {
        settled: [first.message_id.sequence].into(),
        held: [].into(),
    };
    let settled = String::from_utf8(settled.to_body().to_vec()).unwrap();
    fixture.answer(release.message_id, Reply::ONLY, &settled).await;
    let (again, _) = fixture.forwarded().await;
    assert_eq!(again.message_id, fresh.message_id);
    assert!(again.snapshot.again && !again.snapshot.held);
    let second = Reply {
        second: true,
        ..Reply::ONLY
    };
    fixture.answer(again.message_id, second, "fresh").await;
    assert_eq!(fixture.forwarded().await.1, "later");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_a_message_does_not_wait_for_it() {
    let mut fixture = Fixture::with(ORDER).await;
    let mut client = fixture.client().await;
    client.send("slow").await;
    let (slow, _) = fixture.forwarded().await;
    client.send("between").await;
    client.send(r#"{"cancel":"1"}"#).await;
    let (cancel, text) = fixture.forwarded().await;
    assert_eq!(text, r#"{"cancel":"1"}"#);
    assert!(cancel.snapshot.ahead);
    assert_eq!(cancel.message_id, after(slow.message_id, 2));
    fixture.answer(cancel.message_id, Reply::ONLY, "").await;
    fixture.expect_no_request().await;
    fixture.answer(slow.message_id, Reply::ONLY, "cancelled").await;
    assert_eq!(client.text().await, "cancelled");
    assert_eq!(fixture.forwarded().await.1, "between");
}
