//! Workers whose clock is another than the terminator's.

use std::time::Duration;

use bytes::Bytes;
use shared::wire::envelope::{Bounced, Clocks};
use shared::wire::grant::Policy;

use super::fixture::*;

#[tokio::test(start_paused = true)]
async fn a_grant_ends_by_the_clock_of_the_worker_that_gave_it() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("a token").await;
    let (forwarded, _) = fixture.forwarded().await;
    assert!(forwarded.snapshot.unsure, "no worker has told the time yet");
    let message_id = forwarded.message_id;
    // By the worker's clock, two minutes ahead, it is good for ten seconds.
    let grant = grant(1, 130, Policy::Reauthenticate);
    let mut message = live(grant).to_message(Some(message_id.to_string()), Bytes::from_static(b"ok"));
    let clocks = Clocks {
        asked: START,
        answered: START.saturating_add(Duration::from_secs(120)),
        leeway: Duration::from_secs(5),
    };
    clocks.write(&mut message.properties);
    fixture.give(message).await;
    assert_eq!(client.text().await, "ok");
    client.send("more").await;
    assert!(!fixture.forwarded().await.0.snapshot.unsure);
    fixture.push(message_id.connection, 1, "in time").await;
    assert_eq!(client.text().await, "in time");
    pass(Duration::from_secs(10)).await;
    fixture.push(message_id.connection, 1, "late").await;
    fixture.expect_given_back(Bounced::Expired, "late").await;
    client.expect_required("expired").await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_after_the_clock_was_turned_back_ends_no_later() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("a token").await;
    let message_id = fixture.forwarded().await.0.message_id;
    // Before the answer comes: what that says of the clocks cannot be, then.
    fixture.turn_back(120);
    let mut message =
        live(grant(1, 10, Policy::Reauthenticate)).to_message(Some(message_id.to_string()), Bytes::from_static(b"ok"));
    let clocks = Clocks {
        asked: START,
        answered: START,
        leeway: Duration::from_secs(5),
    };
    clocks.write(&mut message.properties);
    fixture.give(message).await;
    assert_eq!(client.text().await, "ok");
    fixture.push(message_id.connection, 1, "in time").await;
    assert_eq!(client.text().await, "in time");
    pass(Duration::from_secs(10)).await;
    fixture.push(message_id.connection, 1, "late").await;
    fixture.expect_given_back(Bounced::Expired, "late").await;
}
