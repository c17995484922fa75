//! Which connections are open, and the ends of those of a terminator that is lost.

use std::time::Duration;

use shared::bus::topology::{Queue, keys};
use shared::bus::{Bus, Consumer, Message, Properties, Route};
use shared::service::clock::Clock;
use shared::service::config::EventForm;
use shared::wire::connection_event::{ConnectionEvent, EventKind, IdentityNames, TERMINATOR_LOST};
use shared::wire::id::{ConnectionId, TerminatorId};
use tokio::time::timeout;

use super::super::fixture::Fixture;

/// Longer than it takes to see that a terminator is lost, twice.
const LONG: Duration = Duration::from_secs(60);

/// A terminator that says what it has open, and who hears of its end.
struct Scene {
    fixture: Fixture,
    terminator: TerminatorId,
    heard: Consumer,
}

impl Scene {
    fn new() -> Self {
        let mut fixture = Fixture::new();
        fixture.limits.connection_events = Some(EventForm::On);
        let everything = (fixture.names.events_exchange().name, "connection.#".to_owned());
        let queue = Queue {
            name: "audience".to_owned(),
            bindings: vec![everything],
            ..fixture.names.inject_queue(1)
        };
        let heard = fixture.bus.consumer(queue, 1_000);
        Self {
            terminator: TerminatorId::random(),
            heard,
            fixture,
        }
    }

    /// The return queue, which is there as long as this is, and for three minutes after.
    fn lives(&self) -> Consumer {
        let queue = self.fixture.names.return_queue(self.terminator);
        self.fixture.bus.consumer(queue, 1)
    }

    async fn tell(&self, number: u64, sequence: u64, event: EventKind) {
        let event = ConnectionEvent {
            event,
            connection: ConnectionId {
                terminator: self.terminator,
                number,
            },
            terminator: self.terminator,
            sequence,
            at_ms: self.fixture.clock.now(),
            identity: (sequence > 1).then(|| IdentityNames {
                issuer: "i".to_owned(),
                subject: "alice".to_owned(),
            }),
            jti: None,
            sid: None,
            expires_at_ms: None,
            code: None,
            reason: None,
            again: false,
        };
        self.publish(event.to_json()).await;
    }

    async fn publish(&self, body: Vec<u8>) {
        let route = Route::new(&self.fixture.names.internal_exchange().name, keys::OPEN);
        let message = Message {
            body: body.into(),
            properties: Properties::default(),
        };
        let published = self.fixture.publisher.publish(route, message).await;
        published.expect("there is a queue");
    }

    /// Lets both clocks go on by a while.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.fixture.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn heard(&mut self) -> Option<ConnectionEvent> {
        let delivery = timeout(Duration::from_millis(1), self.heard.recv()).await.ok()??;
        let event = ConnectionEvent::from_json(&delivery.message.body);
        delivery.ack();
        event
    }
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_what_a_lost_terminator_had_open_are_told_once_and_of_nothing_else() {
    let mut scene = Scene::new();
    let _worker = scene.fixture.worker();
    let alive = scene.lives();
    for (number, sequence, event) in [
        (1, 1, EventKind::Opened),
        (2, 1, EventKind::Opened),
        (3, 1, EventKind::Opened),
        (1, 2, EventKind::Authenticated),
        (2, 2, EventKind::Closed),
        (3, 2, EventKind::LoggedOut),
    ] {
        scene.tell(number, sequence, event).await;
    }
    scene.publish(b"no event".to_vec()).await;
    scene.pass(LONG).await;
    assert_eq!(scene.heard().await, None, "it is alive");
    drop(alive);
    // It may come back.
    scene.pass(Duration::from_secs(120)).await;
    assert_eq!(scene.heard().await, None);
    scene.pass(Duration::from_secs(60) + LONG).await;
    let mut ends = Vec::new();
    while let Some(end) = scene.heard().await {
        assert_eq!(
            (end.event, end.reason.as_deref()),
            (EventKind::Closed, Some(TERMINATOR_LOST))
        );
        let subject = end.identity.map(|identity| identity.subject);
        ends.push((end.connection.number, end.sequence, subject));
    }
    ends.sort();
    assert_eq!(ends, [(1, 3, Some("alice".to_owned())), (3, 3, None)]);
    let left = scene.fixture.store.open_connections(scene.terminator, 10).await;
    assert_eq!(left.unwrap(), []);
    scene.pass(LONG).await;
    assert_eq!(scene.heard().await, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_of_it_while_the_store_is_away() {
    let mut scene = Scene::new();
    let _worker = scene.fixture.worker();
    scene.fixture.store.set_away(true);
    scene.tell(1, 1, EventKind::Opened).await;
    scene.pass(LONG).await;
    assert_eq!(scene.heard().await, None);
    scene.fixture.store.set_away(false);
    scene.pass(LONG).await;
    assert_eq!(scene.heard().await.map(|end| end.sequence), Some(2));
}

#[tokio::test(start_paused = true)]
async fn ends_are_told_together_where_events_are() {
    let mut scene = Scene::new();
    scene.fixture.limits.connection_events = Some(EventForm::Batched);
    let _worker = scene.fixture.worker();
    for number in [1, 2] {
        scene.tell(number, 1, EventKind::Opened).await;
    }
    scene.pass(LONG).await;
    let delivery = timeout(Duration::from_secs(1), scene.heard.recv()).await;
    let delivery = delivery.expect("a message").expect("the bus lives");
    let ends: Vec<ConnectionEvent> = serde_json::from_slice(&delivery.message.body).expect("an array of events");
    let ends: Vec<_> = ends.iter().map(|end| (end.event, end.connection.number)).collect();
    assert_eq!(ends, [(EventKind::Closed, 1), (EventKind::Closed, 2)]);
    delivery.ack();
}
