//! What a client sends, until it is settled.

use std::time::Duration;

use shared::envelope::errand::Write;
use shared::envelope::{Answer, Change, Errand, Notice, Part, Release, Verdict};
use shared::grant::{Grant, Policy};
use shared::id::{ConnectionId, Sequence, Stamp};
use shared::protocol::Reason;

use super::bench::*;

const AGAIN: Answer = Answer {
    verdict: Verdict::Again,
    ..Answer::ONLY
};
const SECOND: Answer = Answer {
    second: true,
    ..Answer::ONLY
};

fn held(reason: Reason) -> Answer {
    Answer {
        verdict: Verdict::Held {
            reason,
            hold_ms: 300_000,
        },
        id: Some(shared::request_id::RequestId::text("its name")),
        ..Answer::ONLY
    }
}

fn released(left: u64) -> Answer {
    Answer { left, ..Answer::ONLY }
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
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send("1").await;
    let (first, _) = bench.question().await;
    assert!(first.standing.resume.is_some() && first.standing.by.is_none());
    assert!(!first.standing.unsettled);
    client.send(r#"{"token":"2"}"#).await;
    let (second, _) = bench.question().await;
    assert!(!second.standing.unsettled, "what has no token changes nothing");
    let alice = grant(1, 60, Policy::Reauthenticate);
    bench.answer(first.stamp, live(alice.clone()), "ok").await;
    client.send("3").await;
    let (third, _) = bench.question().await;
    assert_eq!(third.standing.by, Some(first.stamp.sequence));
    assert_eq!(third.standing.grant, Some(alice.to_facts()));
    assert_eq!(third.standing.principal.as_deref(), Some("who"));
    assert_eq!(third.standing.resume, None);
    assert!(third.standing.unsettled, "the second is not settled");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_told_before_its_answer_counts_at_once_and_the_answer_is_written_once() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send(r#"{"token":"1"}"#).await;
    let (asked, _) = bench.question().await;
    let early = Answer {
        part: Part { index: 0, more: true },
        ..live(grant(1, 60, Policy::Reauthenticate))
    };
    bench.answer(asked.stamp, early.clone(), "").await;
    bench.push(asked.stamp.connection, 1, "pushed").await;
    assert_eq!(client.text().await, "pushed");
    client.send("2").await;
    let (next, _) = bench.question().await;
    assert_eq!(next.standing.by, Some(asked.stamp.sequence));
    assert!(!next.standing.unsettled, "what it proves is known");
    // Another worker that had it again says it again.
    bench.answer(asked.stamp, early.clone(), "").await;
    bench
        .answer(asked.stamp, live(grant(1, 60, Policy::Reauthenticate)), "answer")
        .await;
    assert_eq!(client.text().await, "answer");
    bench.answer(asked.stamp, early, "").await;
    bench.answer(next.stamp, reply(1), "2").await;
    assert_eq!(client.text().await, "2");
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_a_barrier_is_read_until_it_is_settled() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send(r#"{"type":"auth.forget"}"#).await;
    client.send("behind").await;
    let (barrier, _) = bench.question().await;
    bench.expect_no_question().await;
    bench
        .answer(
            barrier.stamp,
            Answer {
                part: Part { index: 0, more: true },
                ..Answer::ONLY
            },
            "one of two",
        )
        .await;
    bench.expect_no_question().await;
    bench
        .answer(
            barrier.stamp,
            Answer {
                part: Part { index: 1, more: false },
                ..Answer::ONLY
            },
            "",
        )
        .await;
    let (behind, body) = bench.question().await;
    assert_eq!(body, "behind");
    assert!(!behind.standing.unsettled);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_back_is_sent_again_when_all_before_it_is_settled() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send(r#"{"token":"1"}"#).await;
    client.send("no token").await;
    let (first, _) = bench.question().await;
    let (second, _) = bench.question().await;
    bench.answer(second.stamp, AGAIN, "no token").await;
    bench.expect_no_question().await;
    bench.answer(first.stamp, live(grant(1, 60, Policy::Close)), "").await;
    let (again, body) = bench.question().await;
    assert_eq!((again.stamp, body.as_str()), (second.stamp, "no token"));
    assert!(again.standing.again && !again.standing.unsettled && again.standing.grant.is_some());
    bench.answer(second.stamp, reply(1), "late answer to the first").await;
    bench
        .answer(
            second.stamp,
            Answer {
                identity: Some(identity(1)),
                ..SECOND
            },
            "answer",
        )
        .await;
    assert_eq!(client.text().await, "answer");
    client.expect_nothing().await;
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_back_twice_is_refused() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send(r#"{"id":"7"}"#).await;
    let (question, body) = bench.question().await;
    bench.answer(question.stamp, AGAIN, &body).await;
    let (again, body) = bench.question().await;
    bench.answer(again.stamp, Answer { second: true, ..AGAIN }, &body).await;
    let told = client.json().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&"7".into(), &"internal".into()));
    bench.expect_no_question().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sent_before_it_left_is_sent_again_all_the_same() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send(r#"{"token":"1"}"#).await;
    client.send("no token").await;
    let (first, _) = bench.question().await;
    let (second, _) = bench.question().await;
    bench.answer(second.stamp, AGAIN, "no token").await;
    drop(client);
    settle().await;
    bench.answer(first.stamp, live(grant(1, 60, Policy::Close)), "").await;
    let (again, _) = bench.question().await;
    assert!(again.standing.again && again.standing.grant.is_some());
    let (closed, _) = bench.question().await;
    assert_eq!(closed.notice, Notice::Closed { code: None });
}

/// Has three messages held, with room for one in flight. The sequences of the held.
async fn hold_three(bench: &mut Bench, client: &mut Client) -> (ConnectionId, Vec<Sequence>) {
    let mut sequences = Vec::new();
    let mut connection = None;
    for number in 0..3 {
        client.send(&format!("{number}")).await;
        let (question, _) = bench.question().await;
        assert_eq!(question.standing.held, number > 0);
        bench.answer(question.stamp, held(Reason::Missing), "").await;
        sequences.push(question.stamp.sequence);
        connection = Some(question.stamp.connection);
    }
    (connection.unwrap(), sequences)
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_once_for_a_token_and_what_is_held_is_released_by_it() {
    let mut bench = Bench::with(&[("max-in-flight", "1")]).await;
    let mut client = bench.client().await;
    hold_three(&mut bench, &mut client).await;
    let asked = client.expect_required("missing").await;
    assert!(asked["deadline_ms"].as_u64().unwrap() > 299_000);
    assert_eq!(asked["held"]["inbound"], 1);
    client.expect_nothing().await;

    bench.renew(&mut client, grant(1, 60, Policy::Close)).await;
    let (release, body) = bench.question().await;
    assert_eq!(
        (release.notice, body.as_str()),
        (Notice::Release { from: None }, "[1,2,3]"),
        "what is known to be held"
    );
    assert!(release.standing.grant.is_some());
    client.send("meanwhile").await;
    let (meanwhile, _) = bench.question().await;
    assert!(!meanwhile.standing.unsettled, "a release is no message of the client's");
    bench.answer(release.stamp, released(1), &came_to(&[1, 2], &[3])).await;
    let (rest, _) = bench.question().await;
    assert_eq!(rest.notice, Notice::Release { from: None });
    bench.answer(rest.stamp, released(0), &came_to(&[1, 2, 3], &[])).await;
    bench.expect_no_question().await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_release_does_not_know_of_is_refused_by_its_name_unless_it_was_answered() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    let (connection, _) = hold_three(&mut bench, &mut client).await;
    client.expect_required("missing").await;
    bench.renew(&mut client, grant(1, 60, Policy::Close)).await;
    let (release, _) = bench.question().await;
    // Of a worker that has died since, and the store has forgotten it.
    let answered = write(1, "answered", true);
    let stamp = Stamp {
        connection,
        sequence: Sequence::new(2),
    };
    let errand = Errand::Write(Write {
        key: format!("{stamp}.0"),
        ..answered
    });
    bench.errand(connection, errand, "answered").await;
    assert_eq!(client.text().await, "answered");
    bench.answer(release.stamp, released(0), &came_to(&[], &[])).await;
    for _ in 0..2 {
        let told = client.json().await;
        assert_eq!(told["id"], "its name");
        assert_eq!(
            (&told["error"]["code"], &told["error"]["temporary"]),
            (&"busy".into(), &true.into())
        );
    }
    client.expect_nothing().await;
    bench.expect_no_question().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_when_its_connection_is_logged_out_is_refused_too() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    let (connection, _) = hold_three(&mut bench, &mut client).await;
    client.expect_required("missing").await;
    client.send("auth.forget").await;
    let (forget, _) = bench.question().await;
    // Whoever logs it out refuses what it finds.
    for sequence in [1, 3] {
        let errand = Errand::Write(Write {
            key: format!("{connection}.{sequence}.0"),
            identity: None,
            ..write(1, "refused", false)
        });
        bench.errand(connection, errand, "refused").await;
        assert_eq!(client.text().await, "refused");
    }
    let forgotten = Answer {
        change: Some(Change::Forgotten),
        ..Answer::ONLY
    };
    bench.answer(forget.stamp, forgotten, "").await;
    client.expect_error("busy").await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_came_to_nothing_is_asked_for_again_on_a_silent_connection() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    hold_three(&mut bench, &mut client).await;
    client.expect_required("missing").await;
    bench.renew(&mut client, grant(1, 60, Policy::Close)).await;
    for _ in 0..3 {
        let (release, _) = bench.question().await;
        assert_eq!(release.notice, Notice::Release { from: None });
        // The store is away.
        bench.answer(release.stamp, released(u32::MAX.into()), "").await;
        bench.expect_no_question().await;
        pass(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_out_and_a_release_wait_for_each_other() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    hold_three(&mut bench, &mut client).await;
    client.expect_required("missing").await;
    bench.renew(&mut client, grant(1, 60, Policy::Close)).await;
    let (release, _) = bench.question().await;
    client.send("auth.forget").await;
    let (forget, body) = bench.question().await;
    assert!(forget.standing.unsettled, "what is held is being handled");
    bench.answer(forget.stamp, AGAIN, &body).await;
    bench.expect_no_question().await;
    bench.answer(release.stamp, released(1), &came_to(&[1, 2], &[3])).await;
    let (rest, _) = bench.question().await;
    assert_eq!(
        rest.notice,
        Notice::Release { from: None },
        "all that was sent before the log-out is handled"
    );
    bench.expect_no_question().await;
    bench.answer(rest.stamp, released(0), &came_to(&[3], &[])).await;
    let (forget, _) = bench.question().await;
    assert!(forget.standing.again);
    bench.expect_no_question().await;
    let forgotten = Answer {
        change: Some(Change::Forgotten),
        ..SECOND
    };
    bench.answer(forget.stamp, forgotten, "").await;
    bench.expect_no_question().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_token_can_release_is_released_before_a_log_out_that_came_after_it() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    for text in ["held", "slow", "token", "auth.forget"] {
        client.send(text).await;
    }
    let (first, _) = bench.question().await;
    let (slow, _) = bench.question().await;
    let (token, _) = bench.question().await;
    let (forget, body) = bench.question().await;
    bench.answer(first.stamp, held(Reason::Missing), "").await;
    bench.answer(token.stamp, live(grant(1, 60, Policy::Close)), "").await;
    bench.answer(forget.stamp, AGAIN, &body).await;
    bench.expect_no_question().await;
    bench.answer(slow.stamp, held(Reason::Missing), "").await;
    let (release, _) = bench.question().await;
    assert_eq!(release.notice, Notice::Release { from: None });
    bench.expect_no_question().await;
    bench.answer(release.stamp, released(0), &came_to(&[1, 2], &[])).await;
    let (forget, _) = bench.question().await;
    assert!(forget.standing.again);
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_all_that_was_sent_before_the_token() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send("held").await;
    client.send("slow").await;
    client.send("token").await;
    let (first, _) = bench.question().await;
    let (slow, _) = bench.question().await;
    let (token, _) = bench.question().await;
    bench.answer(first.stamp, held(Reason::Missing), "").await;
    bench.answer(token.stamp, live(grant(1, 60, Policy::Close)), "").await;
    bench.expect_no_question().await;
    bench.answer(slow.stamp, held(Reason::Missing), "").await;
    let (release, _) = bench.question().await;
    assert_eq!(release.notice, Notice::Release { from: None });
}

#[tokio::test(start_paused = true)]
async fn what_is_held_too_long_is_given_up() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    hold_three(&mut bench, &mut client).await;
    pass(Duration::from_secs(290)).await;
    bench.expect_no_question().await;
    pass(Duration::from_secs(10)).await;
    let (release, _) = bench.question().await;
    assert_eq!(release.notice, Notice::Release { from: None });
    assert_eq!(release.standing.grant, None);
    bench
        .answer(release.stamp, released(0), &came_to(&[1, 2, 3], &[]))
        .await;
    pass(Duration::from_secs(600)).await;
    bench.expect_no_question().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_takes_over_what_another_has_left_held() {
    let mut bench = Bench::new().await;
    let gone = |number| ConnectionId {
        terminator: "0000000000000001".parse().unwrap(),
        number,
    };
    let resuming = Grant {
        resumes: Some(gone(4)),
        ..grant(1, 60, Policy::Close)
    };
    let (_client, connection) = bench.client_of(resuming).await;
    let (release, _) = bench.question().await;
    assert_eq!(release.notice, Notice::Release { from: Some(gone(4)) });
    bench.errand(connection, Errand::Wake { from: Some(gone(5)) }, "").await;
    bench.expect_no_question().await;
    bench.answer(release.stamp, released(0), "").await;
    let (release, _) = bench.question().await;
    assert_eq!(release.notice, Notice::Release { from: Some(gone(5)) });
}

#[tokio::test(start_paused = true)]
async fn a_log_out_makes_the_connection_nobody_s_whatever_comes_late() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send("token").await;
    let (first, _) = bench.question().await;
    client.send("auth.forget").await;
    let (forget, _) = bench.question().await;
    let forgotten = Answer {
        change: Some(Change::Forgotten),
        ..Answer::ONLY
    };
    bench.answer(forget.stamp, forgotten, "").await;
    bench.answer(first.stamp, live(grant(1, 60, Policy::Close)), "").await;
    client.send("who am I").await;
    let (question, _) = bench.question().await;
    assert_eq!(question.standing.by, Some(forget.stamp.sequence));
    assert!(question.standing.grant.is_none());
    assert_ne!(question.standing.resume, first.standing.resume);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_question_that_was_never_asked_is_acknowledged_and_dropped() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Close)).await;
    let stamp = Stamp {
        connection,
        sequence: Sequence::new(99),
    };
    bench.answer(stamp, reply(1), "forged").await;
    client.expect_nothing().await;
    assert!(bench.is_all_settled().await);
}
