//! What is revoked before its time.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::envelope::Bounced;
use shared::wire::grant::{Grant, Policy};
use shared::wire::revocation::{Revocation, Target};

use super::fixture::*;

fn at(seconds: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(seconds))
}

/// Takes back what the identity was issued before the tenth second, from that second on.
pub(super) fn revocation(of: u8, effective: u64) -> Revocation {
    Revocation {
        target: Target::Identity(identity(of)),
        issued_before: at(10),
        effective: at(effective),
        until: at(10_000),
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_closes_whom_it_means_and_nobody_else() {
    let mut fixture = Fixture::new().await;
    let (mut alice, _) = fixture.client_of(grant(1, 600, Policy::Ignore)).await;
    let (mut bob, of_bob) = fixture.client_of(grant(2, 600, Policy::Ignore)).await;
    fixture.revoke(revocation(1, 0)).await;
    alice.expect_error("token_revoked").await;
    assert_eq!(alice.close_code().await, 4503);
    drop(alice);
    let (_, code) = fixture.closed().await;
    assert_eq!(code, Some(4503));
    fixture.push(of_bob, 2, "p").await;
    assert_eq!(bob.text().await, "p");
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_a_grant_is_taken_back_is_not_written() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client_with(512).await;
    let (client, connection) = fixture.authenticate(client, grant(1, 600, Policy::Ignore)).await;
    let large = "x".repeat(20_000);
    fixture.push(connection, 1, &large).await;
    fixture.push(connection, 1, "waits").await;
    fixture.revoke(revocation(1, 0)).await;
    assert!(
        client.rest().await <= 512,
        "what the stream had not taken came after all"
    );
    fixture.expect_given_back(Bounced::Expired, &large).await;
    fixture.expect_given_back(Bounced::Expired, "waits").await;
    let (_, code) = fixture.closed().await;
    assert_eq!(code, Some(4503));
}

#[tokio::test(start_paused = true)]
async fn a_grace_asks_first_and_a_newer_token_ends_it() {
    let mut fixture = Fixture::new().await;
    let (mut alice, connection) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    fixture.revoke(revocation(1, 30)).await;
    let asked = alice.expect_required("revoked").await;
    assert!(
        (29_000..=30_000).contains(&asked["deadline_ms"].as_u64().unwrap()),
        "{asked}"
    );
    fixture.push(connection, 1, "within the grace").await;
    assert_eq!(alice.text().await, "within the grace");
    let newer = Grant {
        issued_at: Some(at(10)),
        ..grant(1, 600, Policy::Reauthenticate)
    };
    fixture.renew(&mut alice, newer).await;
    pass(Duration::from_secs(60)).await;
    fixture.push(connection, 1, "after it").await;
    assert_eq!(alice.text().await, "after it");
}

#[tokio::test(start_paused = true)]
async fn a_grace_that_passes_closes() {
    let mut fixture = Fixture::new().await;
    let (mut alice, _) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    fixture.revoke(revocation(1, 30)).await;
    alice.expect_required("revoked").await;
    // The same token again, and what revokes it is heeded again.
    fixture.renew(&mut alice, grant(1, 600, Policy::Reauthenticate)).await;
    alice.expect_required("revoked").await;
    pass(Duration::from_secs(29)).await;
    alice.expect_nothing().await;
    pass(Duration::from_secs(1)).await;
    alice.expect_error("token_revoked").await;
    assert_eq!(alice.close_code().await, 4503);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_after_its_revocation_is_none() {
    let mut fixture = Fixture::new().await;
    fixture.revoke(revocation(1, 0)).await;
    let mut client = fixture.client().await;
    client.send("token").await;
    let (forwarded, _) = fixture.forwarded().await;
    fixture
        .answer(forwarded.message_id, live(grant(1, 600, Policy::Ignore)), "ok")
        .await;
    assert_eq!(client.text().await, "ok");
    client.expect_error("token_revoked").await;
    assert_eq!(client.close_code().await, 4503);
}
