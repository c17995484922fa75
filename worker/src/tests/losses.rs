//! What is brought back when a store or a queue has lost something.

use bytes::Bytes;
use serde_json::json;
use shared::bus::Route;
use shared::bus::topology::keys;
use shared::wire::envelope::release::to_be_released;
use shared::wire::envelope::{AuthSnapshot, Command, MessageKind, Return};
use shared::wire::id::{MessageId, Sequence};
use shared::wire::revocation::Revocation;

use super::connection::{Conn, authenticate, bare};
use super::fixture::{Fixture, MAX_REVOCATIONS, settle};
use super::outbound::{Outcomes, tag};
use crate::store::Authentication;

/// How a connection of alice's stands on a bench whose store is another's.
async fn snapshot_elsewhere() -> AuthSnapshot {
    let mut elsewhere = Fixture::new();
    let _worker = elsewhere.worker();
    let mut conn = Conn::new(&elsewhere, 1);
    elsewhere.say(&mut conn, authenticate("alice", 300)).await;
    assert!(conn.snapshot.grant.is_some());
    conn.snapshot
}

fn message_id(fixture: &Fixture, sequence: u64) -> MessageId {
    MessageId {
        connection: fixture.connection(1),
        sequence: Sequence::new(sequence),
    }
}

impl Fixture {
    async fn announce(&self, snapshot: &AuthSnapshot) {
        let by = snapshot.by.expect("it is somebody's");
        let message_id = message_id(self, by.get());
        self.forwarded(message_id, MessageKind::Announced, snapshot.clone(), Bytes::new())
            .await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_announced_is_pushed_to_by_a_store_that_knew_nothing_of_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    let snapshot = snapshot_elsewhere().await;
    fixture.announce(&snapshot).await;
    let state = fixture.store.authentication(fixture.connection(1)).await.unwrap();
    assert!(matches!(state, Some(Authentication::Live { by, .. }) if Some(by) == snapshot.by));
    // It is told of what is held, as no one else would ask.
    let (connection, command, _) = fixture.command().await;
    assert_eq!(
        (connection, command),
        (fixture.connection(1), Command::Wake { from: None })
    );
    let entered = fixture.store.connections(tag("alice")).await.unwrap();
    assert_eq!(
        entered.iter().map(|one| one.connection).collect::<Vec<_>>(),
        [fixture.connection(1)]
    );
    // Once more changes nothing.
    fixture.announce(&snapshot).await;
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), entered);
}

#[tokio::test(start_paused = true)]
async fn a_terminator_is_told_when_the_store_knows_a_connection_and_not_before() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let snapshot = snapshot_elsewhere().await;
    fixture.store.set_away(true);
    fixture.announce(&snapshot).await;
    fixture.store.set_away(false);
    fixture.announce(&snapshot).await;
    let (connection, command, _) = fixture.command().await;
    assert_eq!((connection, command), (fixture.connection(1), Command::Entered));
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap().len(), 1);
    let queue = fixture.names.return_queue(fixture.terminator).name;
    assert_eq!(fixture.bus.depth(&queue).0, 0, "once");
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_late_undoes_nothing_that_came_after_it() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let snapshot = snapshot_elsewhere().await;
    let closed = message_id(&fixture, 9);
    fixture
        .forwarded(
            closed,
            MessageKind::Closed { code: None },
            snapshot.clone(),
            Bytes::new(),
        )
        .await;
    settle().await;
    fixture.announce(&snapshot).await;
    let state = fixture.store.authentication(fixture.connection(1)).await.unwrap();
    assert_eq!(state, Some(Authentication::Closed { by: Sequence::new(9) }));
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_grant_or_a_revoked_one_is_not_entered() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    settle().await;
    let revoke = Route::new(&fixture.names.exchange().name, keys::REVOKE);
    let body = r#"{"subject":"alice"}"#.to_owned();
    fixture.publish(revoke, body, Default::default()).await;
    settle().await;
    let snapshot = snapshot_elsewhere().await;
    fixture.announce(&snapshot).await;
    let nobody = AuthSnapshot {
        grant: None,
        principal: None,
        ..snapshot
    };
    fixture.announce(&nobody).await;
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_terminator_that_is_back_is_told_all_that_is_revoked() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    settle().await;
    let mut outcomes = Outcomes::of(&fixture);
    for subject in ["alice", "bob"] {
        let revoke = Route::new(&fixture.names.exchange().name, keys::REVOKE);
        let body = json!({"subject": subject}).to_string();
        fixture.publish(revoke, body, outcomes.wanted(subject)).await;
        assert_eq!(outcomes.next().await.1["outcome"], "revoked");
        fixture.returned().await;
    }
    fixture
        .forwarded(
            message_id(&fixture, 1),
            MessageKind::Back,
            AuthSnapshot::default(),
            Bytes::new(),
        )
        .await;
    assert_eq!(revoked(&mut fixture).await.len(), 2);
    fixture.expect_no_answer().await;
}

async fn revoked(fixture: &mut Fixture) -> Vec<Revocation> {
    match Return::read(&fixture.returned().await) {
        Some(Return::Revoked(revocations)) => revocations,
        other => panic!("no revocation: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_come_meanwhile_is_revoked_together_and_what_is_too_many_refused() {
    let mut fixture = Fixture::new();
    let mut outcomes = Outcomes::of(&fixture);
    let many = MAX_REVOCATIONS + 2;
    for number in 0..many {
        let revoke = Route::new(&fixture.names.exchange().name, keys::REVOKE);
        let body = json!({"jti": number.to_string()}).to_string();
        fixture
            .publish(revoke, body, outcomes.wanted(&number.to_string()))
            .await;
    }
    let _worker = fixture.worker();
    let mut told = Vec::new();
    for _ in 0..many {
        let (_, outcome) = outcomes.next().await;
        told.push(outcome["outcome"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["refused", "refused", "revoked", "revoked", "revoked"]);
    let mut heard = 0;
    while heard < MAX_REVOCATIONS {
        heard += revoked(&mut fixture).await.len();
    }
    assert_eq!(heard, MAX_REVOCATIONS);
    fixture.expect_no_answer().await;
    assert_eq!(fixture.store.revocations().await.unwrap().len(), MAX_REVOCATIONS);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_to_the_hold_although_it_was_answered_is_not_handled_again() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    let (answered, waiting) = (
        fixture.say(&mut conn, bare("answered")).await.message_id,
        fixture.say(&mut conn, bare("waiting")).await.message_id,
    );
    fixture.renew(&mut conn, "alice").await;
    let message_id = conn.message_id();
    let known = to_be_released(&[waiting.sequence]);
    fixture
        .forwarded(
            message_id,
            MessageKind::Release { from: None },
            conn.snapshot.clone(),
            known,
        )
        .await;
    assert_eq!(fixture.command_to_write().await.2["id"], "waiting");
    let (left, release) = fixture.came_to(message_id).await;
    assert_eq!(left, 0);
    assert!(release.expect("it came to an end").held.is_empty());
    assert_eq!(fixture.store.held_messages(answered.connection).await.unwrap(), []);
    assert_eq!(fixture.app.seen().len(), 1);
}
