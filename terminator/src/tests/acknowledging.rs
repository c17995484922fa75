//! Pushes that a client acknowledges.

use std::time::Duration;

use serde_json::json;
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{Bounced, Command, Reply};
use shared::wire::grant::Policy;
use shared::wire::id::ConnectionId;

use super::fixture::*;
use super::outbound::wanted;

const ON: &[(&str, &str)] = &[("push-ack", "on")];

fn push(id: &str) -> String {
    json!({"type": "push", "id": id}).to_string()
}

impl Fixture {
    /// A client that acknowledges pushes.
    async fn client_that_acknowledges(&mut self) -> (Client, ConnectionId) {
        let (mut client, connection) = self.client_of(grant(1, 600, Policy::Reauthenticate)).await;
        client.send(r#"{"type":"push.ack","id":"on"}"#).await;
        let told = client.json().await;
        assert_eq!(
            told,
            json!({"type": "reply", "id": "on", "payload": {"acknowledged": 0, "unknown": 0}})
        );
        (client, connection)
    }

    async fn pushes(&self, connection: ConnectionId, ids: &[&str]) {
        for id in ids {
            self.command(connection, wanted(&format!("p:{id}")), &push(id)).await;
        }
    }
}

async fn reads(client: &mut Client, ids: &[&str]) {
    for id in ids {
        assert_eq!(client.text().await, push(id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_told_when_the_client_has_its_push_and_what_it_has_not_goes_back_in_order() {
    let mut fixture = Fixture::with(ON).await;
    let (mut client, connection) = fixture.client_that_acknowledges().await;
    fixture.pushes(connection, &["a", "b", "c"]).await;
    reads(&mut client, &["a", "b", "c"]).await;
    fixture.expect_nothing_given_back().await;
    client.send(r#"{"type":"push.ack","ids":["b"]}"#).await;
    let (told, _) = fixture.undelivered().await;
    assert!(matches!(told, Undelivered::Written(_)), "{told:?}");
    fixture.expect_nothing_given_back().await;
    fixture.expect_no_request().await;
    drop(client);
    for id in ["a", "c"] {
        fixture.expect_given_back(Bounced::Gone, &push(id)).await;
    }
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_goes_back_before_what_was_not_written() {
    let mut fixture = Fixture::with(ON).await;
    let client = fixture.client_with(512).await;
    let (mut client, connection) = fixture.authenticate(client, grant(1, 600, Policy::Close)).await;
    client.send(r#"{"type":"push.ack"}"#).await;
    fixture.pushes(connection, &["a"]).await;
    reads(&mut client, &["a"]).await;
    let large = json!({"type": "push", "id": "x".repeat(2_000)}).to_string();
    fixture.command(connection, wanted("p:large"), &large).await;
    fixture.pushes(connection, &["b"]).await;
    drop(client);
    for text in [push("a"), large, push("b")] {
        fixture.expect_given_back(Bounced::Gone, &text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_is_done_with_what_was_acknowledged() {
    let mut fixture = Fixture::with(ON).await;
    let (mut client, connection) = fixture.client_that_acknowledges().await;
    fixture.pushes(connection, &["a", "a"]).await;
    reads(&mut client, &["a"]).await;
    fixture.expect_nothing_given_back().await;
    client.send(r#"{"type":"push.ack","ids":["a"]}"#).await;
    // And so is what comes later.
    fixture.pushes(connection, &["a"]).await;
    for _ in 0..3 {
        let (told, _) = fixture.undelivered().await;
        assert!(matches!(told, Undelivered::Written(_)), "{told:?}");
    }
    client.expect_nothing().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_acknowledge_for_a_minute_is_closed() {
    let mut fixture = Fixture::with(ON).await;
    let (mut client, connection) = fixture.client_that_acknowledges().await;
    fixture.pushes(connection, &["a"]).await;
    reads(&mut client, &["a"]).await;
    pass(Duration::from_secs(30)).await;
    client.send(r#"{"type":"push.ack","ids":["a"]}"#).await;
    let _written = fixture.undelivered().await;
    fixture.pushes(connection, &["b"]).await;
    reads(&mut client, &["b"]).await;
    pass(Duration::from_secs(55)).await;
    client.ping("there").await;
    assert_eq!(client.pong().await, "there");
    pass(Duration::from_secs(6)).await;
    assert_eq!(client.close_code().await, 4410);
    fixture.expect_given_back(Bounced::Gone, &push("b")).await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_is_not_read_is_waited_for() {
    let mut fixture = Fixture::with(&[("push-ack", "on"), ("max-in-flight", "1")]).await;
    let (mut client, connection) = fixture.client_that_acknowledges().await;
    fixture.pushes(connection, &["a"]).await;
    reads(&mut client, &["a"]).await;
    for _ in 0..=64 {
        client.send("slow").await;
    }
    client.send(r#"{"type":"push.ack","ids":["a"]}"#).await;
    pass(Duration::from_secs(150)).await;
    client.expect_nothing().await;
    // It has a minute from when it is read.
    let (slow, _) = fixture.forwarded().await;
    fixture.answer(slow.message_id, Reply::ONLY, "done").await;
    assert_eq!(client.text().await, "done");
    let (told, _) = fixture.undelivered().await;
    assert!(matches!(told, Undelivered::Written(_)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_of_what_never_was_change_nothing() {
    let mut fixture = Fixture::with(ON).await;
    let (mut client, connection) = fixture.client_that_acknowledges().await;
    let (_other, of_other) = fixture.client_that_acknowledges().await;
    fixture.pushes(of_other, &["theirs"]).await;
    fixture.pushes(connection, &["mine"]).await;
    reads(&mut client, &["mine"]).await;
    let ids: Vec<_> = (0..999)
        .map(|number| number.to_string())
        .chain(["theirs".to_owned()])
        .collect();
    client
        .send(&json!({"type": "push.ack", "id": 7, "ids": ids}).to_string())
        .await;
    let told = client.json().await;
    assert_eq!(told["payload"], json!({"acknowledged": 0, "unknown": 1_000}));
    client.send(r#"{"type":"push.ack","id":"x","ids":[1]}"#).await;
    let told = client.json().await;
    assert_eq!(
        (&told["id"], &told["error"]["code"]),
        (&json!("x"), &json!("bad_request"))
    );
    fixture.expect_nothing_given_back().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_it_is_a_message_like_any_other() {
    let mut fixture = Fixture::new().await;
    let (mut client, _) = fixture.client_of(grant(1, 600, Policy::Close)).await;
    client.send(r#"{"type":"push.ack","ids":["a"]}"#).await;
    assert_eq!(fixture.forwarded().await.1, r#"{"type":"push.ack","ids":["a"]}"#);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_fetched_as_it_is_acknowledged() {
    let mut fixture = Fixture::with(&[("push-ack", "on"), ("send-queue-bytes", "4KiB")]).await;
    let (mut client, connection) = fixture.client_that_acknowledges().await;
    let large = json!({"type": "push", "id": "a", "payload": "x".repeat(3_000)}).to_string();
    fixture.command(connection, wanted("p:a"), &large).await;
    assert_eq!(client.text().await, large);
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture.expect_nothing_given_back().await;
    client.send(r#"{"type":"push.ack","ids":["a"]}"#).await;
    let (told, _) = fixture.undelivered().await;
    assert!(matches!(told, Undelivered::Written(_)), "{told:?}");
    fixture.expect_fetch().await;
}
