//! What is told of connections outside.

use std::time::Duration;

use shared::bus::topology::Queue;
use shared::bus::{Bus, Consumer};
use shared::wire::connection_event::{ConnectionEvent, EventKind};
use shared::wire::envelope::{Change, Reply};
use shared::wire::grant::Policy;
use shared::wire::id::ConnectionId;

use super::fixture::*;
use super::revoking::revocation;

/// Who hears of everything, and what the workers hear.
struct Heard {
    events: Consumer,
    open: Consumer,
}

async fn with_events() -> (Fixture, Heard) {
    let fixture = Fixture::with(&[("connection-events", "on")]).await;
    let heard = Heard::of(&fixture);
    (fixture, heard)
}

impl Heard {
    fn of(fixture: &Fixture) -> Self {
        let queue = Queue {
            name: "audience".to_owned(),
            bindings: vec![(fixture.names.events_exchange().name, "connection.#".to_owned())],
            ..fixture.names.inject_queue(1)
        };
        Self {
            events: fixture.bus.consumer(queue, 1_000),
            open: fixture.bus.consumer(fixture.names.open_connections(), 1_000),
        }
    }

    /// All of a connection until its end.
    async fn until_closed(&mut self, connection: ConnectionId) -> Vec<ConnectionEvent> {
        let mut all = Vec::new();
        loop {
            let event = next(&mut self.events).await;
            if event.connection == connection {
                let is_end = event.event == EventKind::Closed;
                all.push(event);
                if is_end {
                    return all;
                }
            }
        }
    }
}

async fn next(consumer: &mut Consumer) -> ConnectionEvent {
    let delivery = tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await;
    let delivery = delivery.expect("no event came").expect("the bus lives");
    let event = ConnectionEvent::from_json(&delivery.message.body).expect("an event");
    delivery.ack();
    event
}

fn kinds(events: &[ConnectionEvent]) -> Vec<EventKind> {
    events.iter().map(|event| event.event).collect()
}

fn are_in_order(events: &[ConnectionEvent]) -> bool {
    events.iter().map(|event| event.sequence).eq(1..=events.len() as u64)
}

#[tokio::test(start_paused = true)]
async fn a_life_is_told_in_its_order_to_whoever_listens_and_to_the_workers() {
    let (mut fixture, mut heard) = with_events().await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    // The same once more is no news.
    fixture.renew(&mut client, grant(1, 10, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(11)).await;
    fixture.renew(&mut client, grant(1, 600, Policy::Reauthenticate)).await;
    client.send("auth.logout").await;
    let (forwarded, _) = fixture.forwarded().await;
    let logged_out = Reply {
        change: Some(Change::Forgotten),
        ..Reply::ONLY
    };
    fixture.answer(forwarded.message_id, logged_out, "ok").await;
    assert_eq!(client.text().await, "ok");
    drop(client);
    let told = heard.until_closed(connection).await;
    assert_eq!(
        kinds(&told),
        [
            EventKind::Opened,
            EventKind::Authenticated,
            EventKind::Expired,
            EventKind::Renewed,
            EventKind::LoggedOut,
            EventKind::Closed,
        ]
    );
    assert!(are_in_order(&told), "{told:?}");
    assert_eq!(told[5].code, None);
    assert!(told[1].expires_at_ms.is_some() && told[1].at_ms < told[2].at_ms);
    for expected in &told {
        assert_eq!(next(&mut heard.open).await, *expected, "workers hear the same");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_told_before_the_end_that_it_brings() {
    let (mut fixture, mut heard) = with_events().await;
    let (mut alice, connection) = fixture.client_of(grant(1, 600, Policy::Ignore)).await;
    fixture.revoke(revocation(1, 0)).await;
    alice.expect_error("token_revoked").await;
    assert_eq!(alice.close_code().await, 4503);
    drop(alice);
    let told = heard.until_closed(connection).await;
    let expected = [
        EventKind::Opened,
        EventKind::Authenticated,
        EventKind::Revoked,
        EventKind::Closed,
    ];
    assert_eq!(kinds(&told), expected);
    assert_eq!(told[3].code, Some(4503));
}

#[tokio::test(start_paused = true)]
async fn all_that_is_open_is_told_again_after_a_long_absence_from_the_broker() {
    let (mut fixture, mut heard) = with_events().await;
    let (client, connection) = fixture.client_of(grant(1, 600, Policy::Ignore)).await;
    let stranger = fixture.client().await;
    pass(Duration::from_secs(10)).await;
    // It has slept for longer than its return queue outlives it.
    fixture.sleep(170);
    pass(Duration::from_secs(10)).await;
    drop((client, stranger));
    let told = heard.until_closed(connection).await;
    let expected = [
        EventKind::Opened,
        EventKind::Authenticated,
        EventKind::Opened,
        EventKind::Authenticated,
        EventKind::Closed,
    ];
    assert_eq!(kinds(&told), expected);
    let sequences: Vec<_> = told.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 4, 5, 6], "the number between may be a worker's");
    let again: Vec<_> = told.iter().map(|event| event.again).collect();
    assert_eq!(again, [false, false, true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_where_that_is_off() {
    let mut fixture = Fixture::new().await;
    let heard = Heard::of(&fixture);
    let (client, _) = fixture.client_of(grant(1, 600, Policy::Ignore)).await;
    drop(client);
    fixture.closed().await;
    settle().await;
    assert_eq!(fixture.bus.depth("audience"), (0, 0));
    assert_eq!(fixture.bus.depth(&fixture.names.open_connections().name), (0, 0));
    drop(heard);
}
