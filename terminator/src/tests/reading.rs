//! A socket is read although what it brings may not be forwarded yet.

use std::time::Duration;

use futures_util::SinkExt;
use shared::bus::memory::MemoryBus;
use shared::wire::envelope::Reply;
use shared::wire::grant::Policy;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::fixture::*;

/// A client that has as much in flight as it may.
async fn used_up() -> (Fixture, Client, shared::wire::id::MessageId) {
    let mut fixture = Fixture::with(&[("max-in-flight", "1"), ("publish-timeout", "60s")]).await;
    let mut client = fixture.client().await;
    client.send("1").await;
    let (first, _) = fixture.forwarded().await;
    (fixture, client, first.message_id)
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_while_the_share_in_flight_is_used_up() {
    let (mut fixture, mut client, first) = used_up().await;
    client.ping("before").await;
    assert_eq!(client.pong().await, "before");
    client.send("2").await;
    client.send("3").await;
    client.ping("behind messages").await;
    assert_eq!(client.pong().await, "behind messages");
    fixture.expect_no_request().await;
    // And they go in their order as soon as they may.
    let mut open = first;
    for expected in ["2", "3"] {
        fixture.answer(open, Reply::ONLY, "ok").await;
        assert_eq!(client.text().await, "ok");
        let (forwarded, body) = fixture.forwarded().await;
        assert_eq!(body, expected);
        fixture.expect_no_request().await;
        open = forwarded.message_id;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_behind_a_barrier_and_while_the_broker_is_away() {
    let (mut fixture, mut client, first) = used_up().await;
    fixture.answer(first, Reply::ONLY, "ok").await;
    assert_eq!(client.text().await, "ok");
    client.send(r#"{"type":"auth.logout"}"#).await;
    let (barrier, _) = fixture.forwarded().await;
    client.ping("barrier").await;
    assert_eq!(client.pong().await, "barrier");
    fixture.answer(barrier.message_id, Reply::ONLY, "ok").await;
    assert_eq!(client.text().await, "ok");
    away(&fixture.bus);
    settle().await;
    client.send("waits").await;
    client.ping("broker").await;
    assert_eq!(client.pong().await, "broker");
    back(&fixture.bus);
    let (_, body) = fixture.forwarded().await;
    assert_eq!(body, "waits");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_read_ahead_than_a_little() {
    let (_bench, mut client, _) = used_up().await;
    for _ in 0..64 {
        client.send("2").await;
    }
    client.ping("not read").await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_seen_that_a_client_has_left_and_what_it_sent_before_is_forwarded() {
    let (mut fixture, mut client, first) = used_up().await;
    client.send("2").await;
    client.socket.send(Frame::Close(None)).await.unwrap();
    settle().await;
    fixture.answer(first, Reply::ONLY, "ok").await;
    let (second, body) = fixture.forwarded().await;
    assert_eq!(body, "2");
    fixture.answer(second.message_id, Reply::ONLY, "ok").await;
    fixture.closed().await;
    // Nor does it take long to see where nothing is settled.
    let (mut fixture, client, _) = used_up().await;
    drop(client);
    let (_, code) = fixture.closed().await;
    assert_eq!(code, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sent_before_it_left_waits_for_the_broker() {
    let (mut fixture, mut client, first) = used_up().await;
    fixture.answer(first, Reply::ONLY, "ok").await;
    away(&fixture.bus);
    settle().await;
    client.send("2").await;
    client.socket.send(Frame::Close(None)).await.unwrap();
    pass(Duration::from_secs(15)).await;
    back(&fixture.bus);
    let (_, body) = fixture.forwarded().await;
    assert_eq!(body, "2");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_frame_that_breaks_the_rules_is_answered_first() {
    let (mut fixture, mut client, first) = used_up().await;
    client.send("2").await;
    client.socket.send(Frame::binary(vec![0])).await.unwrap();
    client.socket.send(Frame::text("3")).await.unwrap();
    client.expect_nothing().await;
    fixture.answer(first, Reply::ONLY, "to 1").await;
    assert_eq!(client.text().await, "to 1");
    let (second, body) = fixture.forwarded().await;
    assert_eq!(body, "2");
    fixture.answer(second.message_id, Reply::ONLY, "to 2").await;
    assert_eq!(client.text().await, "to 2");
    client.expect_error("bad_request").await;
    assert_eq!(client.close_code().await, 1003);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_and_is_not_forwarded_any_more_is_refused() {
    let (fixture, mut client, first) = used_up().await;
    client.send(r#"{"id":"2"}"#).await;
    client.socket.send(Frame::binary(vec![0])).await.unwrap();
    settle().await;
    let told = client.json().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&"2".into(), &"busy".into()));
    assert_eq!(told["error"]["temporary"], true);
    client.expect_error("bad_request").await;
    assert_eq!(client.close_code().await, 1003);
    drop((fixture, first));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_could_not_be_forwarded_in_time_was_sent_in_time() {
    let mut fixture = Fixture::with(&[("max-in-flight", "1"), ("auth-timeout", "10s")]).await;
    let mut client = fixture.client().await;
    client.send("slow").await;
    let (slow, _) = fixture.forwarded().await;
    client.send("a token").await;
    pass(Duration::from_secs(15)).await;
    fixture.answer(slow.message_id, Reply::ONLY, "ok").await;
    let (token, _) = fixture.forwarded().await;
    pass(Duration::from_secs(5)).await;
    fixture
        .answer(token.message_id, live(grant(1, 600, Policy::Ignore)), "ok")
        .await;
    assert_eq!(client.text().await, "ok");
    assert_eq!(client.text().await, "ok");
    pass(Duration::from_secs(5)).await;
    client.expect_nothing().await;
    // One that was sent too late does not put off the end.
    let mut client = fixture.client().await;
    client.send("slow").await;
    let (slow, _) = fixture.forwarded().await;
    pass(Duration::from_secs(11)).await;
    client.send("a token").await;
    fixture.answer(slow.message_id, Reply::ONLY, "ok").await;
    assert_eq!(client.text().await, "ok");
    client.expect_error("auth_required").await;
    assert_eq!(client.close_code().await, 4408);
}

fn away(bus: &MemoryBus) {
    bus.set_link(shared::bus::Link::Away("gone".into()));
}

fn back(bus: &MemoryBus) {
    bus.set_link(shared::bus::Link::Up);
}
