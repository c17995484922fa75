//! How connections end for their authentication, and what becomes of what they had.

use std::time::Duration;

use shared::envelope::{Answer, Bounced, Errand, Verdict};
use shared::grant::Policy;
use shared::protocol::CloseCode;

use super::bench::*;

#[tokio::test(start_paused = true)]
async fn another_identity_on_a_live_connection_ends_it_and_is_shown_nothing() {
    let mut bench = Bench::new().await;
    let (mut client, _) = bench.client_of(grant(1, 600, Policy::Ignore)).await;
    client.send("alice asks").await;
    client.send("bob's token").await;
    let (alice, _) = bench.question().await;
    let (bob, _) = bench.question().await;
    let answer = Answer {
        identity: Some(identity(2)),
        ..live(grant(2, 600, Policy::Ignore))
    };
    bench.answer(bob.stamp, answer, "for bob").await;
    bench.answer(alice.stamp, reply(1), "for alice").await;
    client.expect_error("identity_mismatch").await;
    assert_eq!(client.close_code().await, 4509);
    bench.expect_given_back(Bounced::Gone, "for bob").await;
    bench.expect_given_back(Bounced::Gone, "for alice").await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_s_close_comes_after_its_error_and_after_all_that_is_in_flight() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    for text in [r#"{"token":"first"}"#, r#"{"id":"waits"}"#, "third"] {
        client.send(text).await;
    }
    let (first, _) = bench.question().await;
    let (waits, body) = bench.question().await;
    let (third, _) = bench.question().await;
    let again = Answer {
        verdict: Verdict::Again,
        ..Answer::ONLY
    };
    bench.answer(waits.stamp, again, &body).await;
    let close = Answer {
        close: Some(CloseCode::TokenInvalid),
        ..Answer::ONLY
    };
    bench.answer(third.stamp, close, "the error").await;
    client.send(r#"{"id":"too late"}"#).await;
    bench.expect_no_question().await;
    assert_eq!(client.text().await, "the error");
    let told = client.json().await;
    assert_eq!(
        (&told["id"], &told["error"]["code"]),
        (&"waits".into(), &"auth_required".into())
    );
    client.expect_nothing().await;
    bench.answer(first.stamp, Answer::ONLY, "answer").await;
    assert_eq!(client.text().await, "answer");
    let told = client.json().await;
    assert_eq!(
        (&told["id"], &told["error"]["code"]),
        (&"too late".into(), &"auth_required".into())
    );
    assert_eq!(client.close_code().await, 4501);
    drop(client);
    let (_, code) = bench.closed().await;
    assert_eq!(code, Some(4501));
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_ever_for_what_is_in_flight() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send("never answered").await;
    client.send("second").await;
    bench.question().await;
    let (second, _) = bench.question().await;
    let close = Answer {
        close: Some(CloseCode::AuthRequired),
        ..Answer::ONLY
    };
    bench.answer(second.stamp, close, "").await;
    pass(Duration::from_secs(9)).await;
    client.expect_nothing().await;
    pass(Duration::from_secs(1)).await;
    client.expect_error("auth_required").await;
    assert_eq!(client.close_code().await, 4401);
}

#[tokio::test(start_paused = true)]
async fn a_drained_connection_leaves_though_its_outbound_waits_and_gives_it_back() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    bench.errand(connection, Errand::Wake { from: None }, "").await;
    bench.expect_fetch().await;
    bench.push(connection, 1, "behind").await;
    bench.terminator.shutdown();
    assert_eq!(client.close_code().await, 1012);
    bench.expect_given_back(Bounced::Gone, "behind").await;
    drop(client);
    let Bench { terminator, .. } = bench;
    assert!(terminator.join().await, "it drained in time");
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_sent_again_is_refused_when_the_terminator_ends() {
    let mut bench = Bench::with(&[("drain-timeout", "1s")]).await;
    let mut client = bench.client().await;
    client.send(r#"{"token":"never answered"}"#).await;
    client.send(r#"{"id":"waits"}"#).await;
    bench.question().await;
    let (waits, body) = bench.question().await;
    let again = Answer {
        verdict: Verdict::Again,
        ..Answer::ONLY
    };
    bench.answer(waits.stamp, again, &body).await;
    bench.terminator.shutdown();
    let told = client.json().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&"waits".into(), &"busy".into()));
    assert_eq!(client.close_code().await, 1012);
}

#[tokio::test(start_paused = true)]
async fn workers_are_told_whether_what_a_closed_connection_sent_may_still_prove_who_it_was() {
    let mut bench = Bench::new().await;
    for (text, may_prove) in [(r#"{"type":"x"}"#, false), (r#"{"type":"x","token":"t"}"#, true)] {
        let mut client = bench.client().await;
        client.send(text).await;
        // It leaves without having had an answer.
        drop(client);
        let (closed, _) = bench.closed().await;
        assert_eq!((closed.standing.unsettled, closed.standing.grant), (may_prove, None));
    }
}
