//! How connections end for their authentication, and what becomes of what they had.

use std::time::Duration;

use shared::wire::envelope::{Bounced, Command, Reply, Verdict};
use shared::wire::grant::Policy;
use shared::wire::protocol::CloseCode;

use super::fixture::*;

#[tokio::test(start_paused = true)]
async fn another_identity_on_a_live_connection_ends_it_and_is_shown_nothing() {
    let mut fixture = Fixture::new().await;
    let (mut client, _) = fixture.client_of(grant(1, 600, Policy::Ignore)).await;
    client.send("alice asks").await;
    client.send("bob's token").await;
    let (alice, _) = fixture.forwarded().await;
    let (bob, _) = fixture.forwarded().await;
    let answer = Reply {
        identity: Some(identity(2)),
        ..live(grant(2, 600, Policy::Ignore))
    };
    fixture.answer(bob.message_id, answer, "for bob").await;
    fixture.answer(alice.message_id, reply(1), "for alice").await;
    client.expect_error("identity_mismatch").await;
    assert_eq!(client.close_code().await, 4509);
    fixture.expect_given_back(Bounced::Gone, "for bob").await;
    fixture.expect_given_back(Bounced::Gone, "for alice").await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_s_close_comes_after_its_error_and_after_all_that_is_in_flight() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    for text in [r#"{"token":"first"}"#, r#"{"id":"waits"}"#, "third"] {
        client.send(text).await;
    }
    let (first, _) = fixture.forwarded().await;
    let (waits, body) = fixture.forwarded().await;
    let (third, _) = fixture.forwarded().await;
    let again = Reply {
        verdict: Verdict::Again,
        ..Reply::ONLY
    };
    fixture.answer(waits.message_id, again, &body).await;
    let close = Reply {
        close: Some(CloseCode::TokenInvalid),
        ..Reply::ONLY
    };
    fixture.answer(third.message_id, close, "the error").await;
    client.send(r#"{"id":"too late"}"#).await;
    fixture.expect_no_request().await;
    assert_eq!(client.text().await, "the error");
    let told = client.json().await;
    assert_eq!(
        (&told["id"], &told["error"]["code"]),
        (&"waits".into(), &"auth_required".into())
    );
    client.expect_nothing().await;
    fixture.answer(first.message_id, Reply::ONLY, "answer").await;
    assert_eq!(client.text().await, "answer");
    let told = client.json().await;
    assert_eq!(
        (&told["id"], &told["error"]["code"]),
        (&"too late".into(), &"auth_required".into())
    );
    assert_eq!(client.close_code().await, 4501);
    drop(client);
    let (_, code) = fixture.closed().await;
    assert_eq!(code, Some(4501));
}

#[tokio::test(start_paused = true)]
async fn who_closes_does_not_wait_for_the_answer_to_what_they_have_sent() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("never answered").await;
    fixture.forwarded().await;
    client.socket.close(None).await.expect("it is open");
    let before = tokio::time::Instant::now();
    client.rest().await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_ever_for_what_is_in_flight() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("never answered").await;
    client.send("second").await;
    fixture.forwarded().await;
    let (second, _) = fixture.forwarded().await;
    let close = Reply {
        close: Some(CloseCode::AuthRequired),
        ..Reply::ONLY
    };
    fixture.answer(second.message_id, close, "").await;
    pass(Duration::from_secs(9)).await;
    client.expect_nothing().await;
    pass(Duration::from_secs(1)).await;
    client.expect_error("auth_required").await;
    assert_eq!(client.close_code().await, 4401);
}

#[tokio::test(start_paused = true)]
async fn a_drained_connection_leaves_though_its_outbound_waits_and_gives_it_back() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "behind").await;
    fixture.terminator.shutdown();
    assert_eq!(client.close_code().await, 1012);
    fixture.expect_given_back(Bounced::Gone, "behind").await;
    drop(client);
    let Fixture { terminator, .. } = fixture;
    assert!(terminator.join().await, "it drained in time");
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_sent_again_is_refused_when_the_terminator_ends() {
    let mut fixture = Fixture::with(&[("drain-timeout", "1s")]).await;
    let mut client = fixture.client().await;
    client.send(r#"{"token":"never answered"}"#).await;
    client.send(r#"{"id":"waits"}"#).await;
    fixture.forwarded().await;
    let (waits, body) = fixture.forwarded().await;
    let again = Reply {
        verdict: Verdict::Again,
        ..Reply::ONLY
    };
    fixture.answer(waits.message_id, again, &body).await;
    fixture.terminator.shutdown();
    let told = client.json().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&"waits".into(), &"busy".into()));
    assert_eq!(client.close_code().await, 1012);
}

#[tokio::test(start_paused = true)]
async fn workers_are_told_whether_what_a_closed_connection_sent_may_still_prove_who_it_was() {
    let mut fixture = Fixture::new().await;
    for (text, may_prove) in [(r#"{"type":"x"}"#, false), (r#"{"type":"x","token":"t"}"#, true)] {
        let mut client = fixture.client().await;
        client.send(text).await;
        // It leaves without having had an answer.
        drop(client);
        let (closed, _) = fixture.closed().await;
        assert_eq!((closed.snapshot.unsettled, closed.snapshot.grant), (may_prove, None));
    }
}
