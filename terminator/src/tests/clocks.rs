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
    let (question, _) = fixture.question().await;
    assert!(question.standing.unsure, "no worker has told the time yet");
    let stamp = question.stamp;
    // By the worker's clock, two minutes ahead, it is good for ten seconds.
    let grant = grant(1, 130, Policy::Reauthenticate);
    let mut message = live(grant).to_message(Some(stamp.to_string()), Bytes::from_static(b"ok"));
    let clocks = Clocks {
        asked: START,
        answered: START.saturating_add(Duration::from_secs(120)),
        leeway: Duration::from_secs(5),
    };
    clocks.write(&mut message.properties);
    fixture.give(message).await;
    assert_eq!(client.text().await, "ok");
    client.send("more").await;
    assert!(!fixture.question().await.0.standing.unsure);
    fixture.push(stamp.connection, 1, "in time").await;
    assert_eq!(client.text().await, "in time");
    pass(Duration::from_secs(10)).await;
    fixture.push(stamp.connection, 1, "late").await;
    fixture.expect_given_back(Bounced::Expired, "late").await;
    client.expect_required("expired").await;
}
