//! What a terminator tells of its own accord, when a store or a queue may have lost something.

use std::time::Duration;

use shared::bus::Route;
use shared::bus::topology::keys;
use shared::wire::envelope::{Command, Epoch, ForwardedMessage, MessageKind, epoch};
use shared::wire::grant::Policy;

use super::fixture::{Fixture, grant, pass, settle};

/// Longer than the pause after which those are announced that have changed since.
const LONG: Duration = Duration::from_secs(10);

impl Fixture {
    async fn begins(&self, number: u64) {
        let route = Route::new(&self.names.internal_exchange().name, keys::REVOKED);
        self.publish(route, epoch(Epoch { epoch: number })).await;
        settle().await;
    }

    /// The next announcement, which the workers do not confirm.
    async fn announced(&mut self) -> (ForwardedMessage, String) {
        let (forwarded, body) = self.forwarded().await;
        assert_eq!(forwarded.notice, MessageKind::Announced);
        (forwarded, body)
    }

    /// The next announcement, which the workers confirm.
    async fn enters(&mut self) -> ForwardedMessage {
        let (forwarded, _) = self.announced().await;
        self.command(forwarded.message_id.connection, Command::Entered, "")
            .await;
        forwarded
    }

    async fn expect_quiet(&mut self) {
        let waited = tokio::time::timeout(LONG, self.forwarded()).await;
        assert!(waited.is_err(), "something was asked: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_of_the_store_has_each_connection_that_is_somebody_s_announced_once() {
    let mut fixture = Fixture::new().await;
    let (_one, first) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    let (_other, second) = fixture.client_of(grant(2, 600, Policy::Reauthenticate)).await;
    let _nobody = fixture.client().await;
    fixture.begins(1).await;
    let mut announced = Vec::new();
    for _ in 0..2 {
        let forwarded = fixture.enters().await;
        assert_eq!(forwarded.snapshot.by, Some(forwarded.message_id.sequence));
        assert!(forwarded.snapshot.grant.is_some() && forwarded.snapshot.principal.is_some());
        announced.push(forwarded.message_id.connection);
    }
    announced.sort();
    assert_eq!(announced, [first, second]);
    fixture.expect_quiet().await;
    // Each worker that saw it begin says so.
    fixture.begins(1).await;
    fixture.expect_quiet().await;
    fixture.begins(2).await;
    for _ in 0..2 {
        fixture.enters().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_announced_until_it_is_known_that_the_store_knows_it() {
    let mut fixture = Fixture::new().await;
    let (_client, connection) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    fixture.begins(1).await;
    pass(Duration::from_secs(200)).await;
    let mut times = 0;
    while tokio::time::timeout(Duration::from_secs(1), fixture.announced())
        .await
        .is_ok()
    {
        times += 1;
    }
    assert!((4..20).contains(&times), "{times} times in 200 s");
    fixture.command(connection, Command::Entered, "").await;
    pass(Duration::from_secs(200)).await;
    fixture.expect_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_before_and_is_heard_of_only_then_is_announced_too() {
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    client.send("token").await;
    let (forwarded, _) = fixture.forwarded().await;
    fixture.begins(1).await;
    let change = super::fixture::live(grant(1, 600, Policy::Reauthenticate));
    fixture.answer(forwarded.message_id, change, "ok").await;
    assert_eq!(client.text().await, "ok");
    let announced = fixture.enters().await;
    assert_eq!(
        (announced.notice, announced.message_id),
        (MessageKind::Announced, forwarded.message_id)
    );
    fixture.expect_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_was_away_for_longer_than_its_queue_lives_asks_what_was_revoked() {
    let mut fixture = Fixture::new().await;
    let (_client, connection) = fixture.client_of(grant(1, 6_000, Policy::Reauthenticate)).await;
    fixture.sleep(100);
    fixture.expect_quiet().await;
    fixture.sleep(200);
    let (back, _) = fixture.forwarded().await;
    assert_eq!(back.notice, MessageKind::Back);
    assert_ne!(back.message_id.connection, connection);
    let announced = fixture.enters().await;
    assert_eq!(
        (announced.notice, announced.message_id.connection),
        (MessageKind::Announced, connection)
    );
    fixture.expect_quiet().await;
}
