//! What a client sends, until it is settled.

use std::time::Duration;

use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Change, Command, MessageKind, Part, Release, Reply, Verdict};
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::{ConnectionId, MessageId, Sequence};
use shared::wire::protocol::Reason;

use super::fixture::*;

const AGAIN: Reply = Reply {
    verdict: Verdict::Again,
    ..Reply::ONLY
};
const SECOND: Reply = Reply {
    second: true,
    ..Reply::ONLY
};

fn held(reason: Reason) -> Reply {
    Reply {
        verdict: Verdict::Held {
            reason,
            hold_ms: 300_000,
        },
        id: Some(shared::wire::request_id::RequestId::text("its name")),
        ..Reply::ONLY
    }
}

fn released(left: u64) -> Reply {
    Reply { left, ..Reply::ONLY }
}

/// What a release says of the messages of those sequences.
fn came_to(settled: &[u64], held: &[u64]) -> String {
    let sequences = |numbers: &[u64]| numbers.iter().copied().map(Sequence::new).collect();
    let release = Release {
        settled: sequences(settled),
        held: sequences(held),
    };
    String::from_utf8(release.to_body().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_message_tells_how_its_connection_stands() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("1").await;
    let (first, _) = fixture.forwarded().await;
    assert!(first.snapshot.resume.is_some() && first.snapshot.by.is_none());
    assert!(!first.snapshot.unsettled);
    client.send(r#"{"token":"2"}"#).await;
    let (second, _) = fixture.forwarded().await;
    assert!(!second.snapshot.unsettled, "what has no token changes nothing");
    let alice = grant(1, 60, Policy::Reauthenticate);
    fixture.answer(first.message_id, live(alice.clone()), "ok").await;
    client.send("3").await;
    let (third, _) = fixture.forwarded().await;
    assert_eq!(third.snapshot.by, Some(first.message_id.sequence));
    assert_eq!(third.snapshot.grant, Some(alice.to_facts().into()));
    assert_eq!(third.snapshot.principal.as_deref(), Some("who"));
    assert_eq!(third.snapshot.resume, None);
    assert!(third.snapshot.unsettled, "the second is not settled");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_told_before_its_answer_counts_at_once_and_the_answer_is_written_once() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send(r#"{"token":"1"}"#).await;
    let (asked, _) = fixture.forwarded().await;
    let early = Reply {
        part: Part { index: 0, more: true },
        ..live(grant(1, 60, Policy::Reauthenticate))
    };
    fixture.answer(asked.message_id, early.clone(), "").await;
    fixture.push(asked.message_id.connection, 1, "pushed").await;
    assert_eq!(client.text().await, "pushed");
    client.send("2").await;
    let (next, _) = fixture.forwarded().await;
    assert_eq!(next.snapshot.by, Some(asked.message_id.sequence));
    assert!(!next.snapshot.unsettled, "what it proves is known");
    // Another worker that had it again says it again.
    fixture.answer(asked.message_id, early.clone(), "").await;
    fixture
        .answer(asked.message_id, live(grant(1, 60, Policy::Reauthenticate)), "answer")
        .await;
    assert_eq!(client.text().await, "answer");
    fixture.answer(asked.message_id, early, "").await;
    fixture.answer(next.message_id, reply(1), "2").await;
    assert_eq!(client.text().await, "2");
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_a_barrier_is_read_until_it_is_settled() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send(r#"{"type":"auth.logout"}"#).await;
    client.send("behind").await;
    let (barrier, _) = fixture.forwarded().await;
    fixture.expect_no_request().await;
    fixture
        .answer(
            barrier.message_id,
            Reply {
                part: Part { index: 0, more: true },
                ..Reply::ONLY
            },
            "one of two",
        )
        .await;
    fixture.expect_no_request().await;
    fixture
        .answer(
            barrier.message_id,
            Reply {
                part: Part { index: 1, more: false },
                ..Reply::ONLY
            },
            "",
        )
        .await;
    let (behind, body) = fixture.forwarded().await;
    assert_eq!(body, "behind");
    assert!(!behind.snapshot.unsettled);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_back_is_sent_again_when_all_before_it_is_settled() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send(r#"{"token":"1"}"#).await;
    client.send("no token").await;
    let (first, _) = fixture.forwarded().await;
    let (second, _) = fixture.forwarded().await;
    fixture.answer(second.message_id, AGAIN, "no token").await;
    fixture.expect_no_request().await;
    fixture
        .answer(first.message_id, live(grant(1, 60, Policy::Close)), "")
        .await;
    let (again, body) = fixture.forwarded().await;
    assert_eq!((again.message_id, body.as_str()), (second.message_id, "no token"));
    assert!(again.snapshot.again && !again.snapshot.unsettled && again.snapshot.grant.is_some());
    fixture
        .answer(second.message_id, reply(1), "late answer to the first")
        .await;
    fixture
        .answer(
            second.message_id,
            Reply {
                identity: Some(identity(1)),
                ..SECOND
            },
            "answer",
        )
        .await;
    assert_eq!(client.text().await, "answer");
    client.expect_nothing().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_back_twice_is_refused() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send(r#"{"id":"7"}"#).await;
    let (forwarded, body) = fixture.forwarded().await;
    fixture.answer(forwarded.message_id, AGAIN, &body).await;
    let (again, body) = fixture.forwarded().await;
    fixture
        .answer(again.message_id, Reply { second: true, ..AGAIN }, &body)
        .await;
    let told = client.json().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&"7".into(), &"internal".into()));
    fixture.expect_no_request().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sent_before_it_left_is_sent_again_all_the_same() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send(r#"{"token":"1"}"#).await;
    client.send("no token").await;
    let (first, _) = fixture.forwarded().await;
    let (second, _) = fixture.forwarded().await;
    fixture.answer(second.message_id, AGAIN, "no token").await;
    drop(client);
    settle().await;
    fixture
        .answer(first.message_id, live(grant(1, 60, Policy::Close)), "")
        .await;
    let (again, _) = fixture.forwarded().await;
    assert!(again.snapshot.again && again.snapshot.grant.is_some());
    let (closed, _) = fixture.forwarded().await;
    assert_eq!(closed.notice, MessageKind::Closed { code: None });
}

/// Has three messages held, with room for one in flight. The sequences of the held.
async fn hold_three(fixture: &mut Fixture, client: &mut Client) -> (ConnectionId, Vec<Sequence>) {
    let mut sequences = Vec::new();
    let mut connection = None;
    for number in 0..3 {
        client.send(&format!("{number}")).await;
        let (forwarded, _) = fixture.forwarded().await;
        assert_eq!(forwarded.snapshot.held, number > 0);
        fixture.answer(forwarded.message_id, held(Reason::Missing), "").await;
        sequences.push(forwarded.message_id.sequence);
        connection = Some(forwarded.message_id.connection);
    }
    (connection.unwrap(), sequences)
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_once_for_a_token_and_what_is_held_is_released_by_it() {
    let mut fixture = Fixture::with(&[("max-in-flight", "1")]).await;
    let mut client = fixture.client().await;
    hold_three(&mut fixture, &mut client).await;
    let asked = client.expect_required("missing").await;
    assert!(asked["deadline_ms"].as_u64().unwrap() > 299_000);
    assert_eq!(asked["held"]["inbound"], 1);
    client.expect_nothing().await;

    fixture.renew(&mut client, grant(1, 60, Policy::Close)).await;
    let (release, body) = fixture.forwarded().await;
    assert_eq!(
        (release.notice, body.as_str()),
        (MessageKind::Release { from: None }, "[1,2,3]"),
        "what is known to be held"
    );
    assert!(release.snapshot.grant.is_some());
    client.send("meanwhile").await;
    let (meanwhile, _) = fixture.forwarded().await;
    assert!(!meanwhile.snapshot.unsettled, "a release is no message of the client's");
    fixture
        .answer(release.message_id, released(1), &came_to(&[1, 2], &[3]))
        .await;
    let (rest, _) = fixture.forwarded().await;
    assert_eq!(rest.notice, MessageKind::Release { from: None });
    fixture
        .answer(rest.message_id, released(0), &came_to(&[1, 2, 3], &[]))
        .await;
    fixture.expect_no_request().await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_release_does_not_know_of_is_refused_by_its_name_unless_it_was_answered() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    let (connection, _) = hold_three(&mut fixture, &mut client).await;
    client.expect_required("missing").await;
    fixture.renew(&mut client, grant(1, 60, Policy::Close)).await;
    let (release, _) = fixture.forwarded().await;
    // Of a worker that has died since, and the store has forgotten it.
    let answered = write(1, "answered", true);
    let message_id = MessageId {
        connection,
        sequence: Sequence::new(2),
    };
    let command = Command::Write(Write {
        key: format!("{message_id}.0"),
        ..answered
    });
    fixture.command(connection, command, "answered").await;
    assert_eq!(client.text().await, "answered");
    fixture
        .answer(release.message_id, released(0), &came_to(&[], &[]))
        .await;
    for _ in 0..2 {
        let told = client.json().await;
        assert_eq!(told["id"], "its name");
        assert_eq!(
            (&told["error"]["code"], &told["error"]["temporary"]),
            (&"busy".into(), &true.into())
        );
    }
    client.expect_nothing().await;
    fixture.expect_no_request().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_when_its_connection_is_logged_out_is_refused_too() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    let (connection, _) = hold_three(&mut fixture, &mut client).await;
    client.expect_required("missing").await;
    client.send("auth.logout").await;
    let (forget, _) = fixture.forwarded().await;
    // Anyone who logs it out refuses what it finds.
    for sequence in [1, 3] {
        let command = Command::Write(Write {
            key: format!("{connection}.{sequence}.0"),
            identity: None,
            ..write(1, "refused", false)
        });
        fixture.command(connection, command, "refused").await;
        assert_eq!(client.text().await, "refused");
    }
    let forgotten = Reply {
        change: Some(Change::Forgotten),
        ..Reply::ONLY
    };
    fixture.answer(forget.message_id, forgotten, "").await;
    client.expect_error("busy").await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_came_to_nothing_is_asked_for_again_on_a_silent_connection() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    hold_three(&mut fixture, &mut client).await;
    client.expect_required("missing").await;
    fixture.renew(&mut client, grant(1, 60, Policy::Close)).await;
    for _ in 0..3 {
        let (release, _) = fixture.forwarded().await;
        assert_eq!(release.notice, MessageKind::Release { from: None });
        // The store is away.
        fixture.answer(release.message_id, released(u32::MAX.into()), "").await;
        fixture.expect_no_request().await;
        pass(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_out_and_a_release_wait_for_each_other() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    hold_three(&mut fixture, &mut client).await;
    client.expect_required("missing").await;
    fixture.renew(&mut client, grant(1, 60, Policy::Close)).await;
    let (release, _) = fixture.forwarded().await;
    client.send("auth.logout").await;
    let (forget, body) = fixture.forwarded().await;
    assert!(forget.snapshot.unsettled, "what is held is being handled");
    fixture.answer(forget.message_id, AGAIN, &body).await;
    fixture.expect_no_request().await;
    fixture
        .answer(release.message_id, released(1), &came_to(&[1, 2], &[3]))
        .await;
    let (rest, _) = fixture.forwarded().await;
    assert_eq!(
        rest.notice,
        MessageKind::Release { from: None },
        "all that was sent before the log-out is handled"
    );
    fixture.expect_no_request().await;
    fixture.answer(rest.message_id, released(0), &came_to(&[3], &[])).await;
    let (forget, _) = fixture.forwarded().await;
    assert!(forget.snapshot.again);
    fixture.expect_no_request().await;
    let forgotten = Reply {
        change: Some(Change::Forgotten),
        ..SECOND
    };
    fixture.answer(forget.message_id, forgotten, "").await;
    fixture.expect_no_request().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_token_can_release_is_released_before_a_log_out_that_came_after_it() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    for text in ["held", "slow", "token", "auth.logout"] {
        client.send(text).await;
    }
    let (first, _) = fixture.forwarded().await;
    let (slow, _) = fixture.forwarded().await;
    let (token, _) = fixture.forwarded().await;
    let (forget, body) = fixture.forwarded().await;
    fixture.answer(first.message_id, held(Reason::Missing), "").await;
    fixture
        .answer(token.message_id, live(grant(1, 60, Policy::Close)), "")
        .await;
    fixture.answer(forget.message_id, AGAIN, &body).await;
    fixture.expect_no_request().await;
    fixture.answer(slow.message_id, held(Reason::Missing), "").await;
    let (release, _) = fixture.forwarded().await;
    assert_eq!(release.notice, MessageKind::Release { from: None });
    fixture.expect_no_request().await;
    fixture
        .answer(release.message_id, released(0), &came_to(&[1, 2], &[]))
        .await;
    let (forget, _) = fixture.forwarded().await;
    assert!(forget.snapshot.again);
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_all_that_was_sent_before_the_token() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("held").await;
    client.send("slow").await;
    client.send("token").await;
    let (first, _) = fixture.forwarded().await;
    let (slow, _) = fixture.forwarded().await;
    let (token, _) = fixture.forwarded().await;
    fixture.answer(first.message_id, held(Reason::Missing), "").await;
    fixture
        .answer(token.message_id, live(grant(1, 60, Policy::Close)), "")
        .await;
    fixture.expect_no_request().await;
    fixture.answer(slow.message_id, held(Reason::Missing), "").await;
    let (release, _) = fixture.forwarded().await;
    assert_eq!(release.notice, MessageKind::Release { from: None });
}

#[tokio::test(start_paused = true)]
async fn what_is_held_too_long_is_given_up() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    hold_three(&mut fixture, &mut client).await;
    pass(Duration::from_secs(290)).await;
    fixture.expect_no_request().await;
    pass(Duration::from_secs(10)).await;
    let (release, _) = fixture.forwarded().await;
    assert_eq!(release.notice, MessageKind::Release { from: None });
    assert_eq!(release.snapshot.grant, None);
    fixture
        .answer(release.message_id, released(0), &came_to(&[1, 2, 3], &[]))
        .await;
    pass(Duration::from_secs(600)).await;
    fixture.expect_no_request().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_takes_over_what_another_has_left_held() {
    let mut fixture = Fixture::new().await;
    let gone = |number| ConnectionId {
        terminator: "0000000000000001".parse().unwrap(),
        number,
    };
    let resuming = Grant {
        resumes: Some(gone(4)),
        ..grant(1, 60, Policy::Close)
    };
    let (_client, connection) = fixture.client_of(resuming).await;
    let (release, _) = fixture.forwarded().await;
    assert_eq!(release.notice, MessageKind::Release { from: Some(gone(4)) });
    fixture
        .command(connection, Command::Wake { from: Some(gone(5)) }, "")
        .await;
    fixture.expect_no_request().await;
    fixture.answer(release.message_id, released(0), "").await;
    let (release, _) = fixture.forwarded().await;
    assert_eq!(release.notice, MessageKind::Release { from: Some(gone(5)) });
}

#[tokio::test(start_paused = true)]
async fn a_log_out_makes_the_connection_nobody_s_whatever_comes_late() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("token").await;
    let (first, _) = fixture.forwarded().await;
    client.send("auth.logout").await;
    let (forget, _) = fixture.forwarded().await;
    let forgotten = Reply {
        change: Some(Change::Forgotten),
        ..Reply::ONLY
    };
    fixture.answer(forget.message_id, forgotten, "").await;
    fixture
        .answer(first.message_id, live(grant(1, 60, Policy::Close)), "")
        .await;
    client.send("who am I").await;
    let (forwarded, _) = fixture.forwarded().await;
    assert_eq!(forwarded.snapshot.by, Some(forget.message_id.sequence));
    assert!(forwarded.snapshot.grant.is_none());
    assert_ne!(forwarded.snapshot.resume, first.snapshot.resume);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_request_that_was_never_asked_is_acknowledged_and_dropped() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Close)).await;
    let message_id = MessageId {
        connection,
        sequence: Sequence::new(99),
    };
    fixture.answer(message_id, reply(1), "forged").await;
    client.expect_nothing().await;
    assert!(fixture.is_all_settled().await);
}
