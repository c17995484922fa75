//! How much one identity may have and do, and who counts.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use shared::bus::Bus;
use shared::service::clock::Clock;
use shared::wire::envelope::{Bounced, Command, MessageKind};
use shared::wire::id::{ConnectionId, TerminatorId};

use super::super::connection::{Conn, Said, authenticate, bare};
use super::super::outbound::tag;
use crate::store::{Admission, ConnectionLimit, ConnectionSlot, OnConnectionLimit};
use crate::tests::fixture::{Fixture, json_of, settle, token_for};

const OF_ONE: ConnectionLimit = ConnectionLimit {
    most: 1,
    on_more: OnConnectionLimit::Refuse,
};

/// A deployment where an identity may have so many connections.
fn limited(limit: ConnectionLimit) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.limits.connections_per_identity = Some(limit);
    fixture
}

impl Fixture {
    /// A connection of alice's that counts, although it was never heard of here.
    async fn unheard_of(&self, connection: ConnectionId) {
        let place = ConnectionSlot {
            connection,
            until: self.clock.now().saturating_add(Duration::from_secs(300)),
            is_renewal: false,
            replaces: None,
            limit: OF_ONE,
        };
        let admitted = self.store.admit(tag("alice"), place).await.unwrap();
        assert_eq!(admitted, Admission::Admitted(Vec::new()));
    }

    /// Alice authenticates a connection.
    async fn comes(&mut self, conn: &mut Conn) -> Said {
        self.say(conn, authenticate("alice", 9_000)).await
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_is_told_so_and_closed_but_no_renewal_is() {
    let mut fixture = limited(OF_ONE);
    let _worker = fixture.worker();
    let (mut first, mut second, mut third) = (Conn::new(&fixture, 1), Conn::new(&fixture, 2), Conn::new(&fixture, 3));
    fixture.say(&mut first, authenticate("alice", 300)).await;
    // It is there still, and may be renewed.
    fixture.clock.advance(Duration::from_secs(306));
    let message_id = second.message_id();
    let message = Bytes::from(authenticate("alice", 9_000));
    fixture
        .forwarded(message_id, MessageKind::Message, second.snapshot.clone(), message)
        .await;
    let (checked, command, _) = fixture.command().await;
    let identity = tag("alice");
    assert_eq!((checked, command), (first.id, Command::Check { identity }));
    let refused = fixture.said().await;
    assert_eq!((refused.code(), refused.close()), (&json!("forbidden"), Some(4505)));
    assert_eq!(refused.answer.change, None);
    // When it has been expired for long, another gets its place, and it is not refused either.
    fixture.clock.advance(Duration::from_secs(3_600));
    assert_eq!(fixture.comes(&mut second).await.body["type"], "auth.ok");
    assert_eq!(fixture.comes(&mut first).await.body["type"], "auth.ok");
    fixture
        .forwarded(
            third.message_id(),
            MessageKind::Message,
            third.snapshot.clone(),
            bare("b").into(),
        )
        .await;
    assert_ne!(fixture.said().await.close(), Some(4505), "it is nobody's yet");
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_no_longer_than_its_terminator_is_there() {
    let mut fixture = limited(OF_ONE);
    let _worker = fixture.worker();
    let of_another = ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    };
    fixture.unheard_of(of_another).await;
    let mut conn = Conn::new(&fixture, 1);
    let said = fixture.comes(&mut conn).await;
    assert_eq!(said.body["type"], "auth.ok", "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_no_longer_than_its_terminator_knows_it() {
    let mut fixture = limited(OF_ONE);
    let _worker = fixture.worker();
    let gone = fixture.connection(9);
    fixture.unheard_of(gone).await;
    let mut conn = Conn::new(&fixture, 1);
    let ask = async |fixture: &mut Fixture, conn: &mut Conn| {
        let (message_id, message) = (conn.message_id(), Bytes::from(authenticate("alice", 9_000)));
        fixture
            .forwarded(message_id, MessageKind::Message, conn.snapshot.clone(), message)
            .await;
        let check = fixture.returned().await;
        assert_eq!(fixture.said().await.close(), Some(4505));
        check
    };
    let check = ask(&mut fixture, &mut conn).await;
    // The broker gave it up: its terminator may be there all the same.
    fixture
        .publish(fixture.undelivered(), check.body, check.properties)
        .await;
    settle().await;
    let check = ask(&mut fixture, &mut conn).await;
    fixture.bounce(Bounced::Gone, check).await;
    settle().await;
    assert_eq!(fixture.comes(&mut conn).await.body["type"], "auth.ok");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_connection_is_closed_where_that_is_wanted() {
    let mut fixture = limited(ConnectionLimit {
        on_more: OnConnectionLimit::CloseOldest,
        ..OF_ONE
    });
    let _worker = fixture.worker();
    let (mut first, mut second) = (Conn::new(&fixture, 1), Conn::new(&fixture, 2));
    fixture.comes(&mut first).await;
    fixture.clock.advance(Duration::from_secs(1));
    let message_id = second.message_id();
    let message = Bytes::from(authenticate("alice", 9_000));
    fixture
        .forwarded(message_id, MessageKind::Message, second.snapshot.clone(), message)
        .await;
    let (closed, command, _) = fixture.command().await;
    let identity = tag("alice");
    let over_limit = Command::OverLimit { identity };
    assert_eq!((closed, &command), (first.id, &over_limit));
    assert_eq!(fixture.said().await.body["type"], "auth.ok");
    // It was gone already, and is not named to the next one.
    fixture
        .bounce(Bounced::Gone, over_limit.to_message(closed, Bytes::new()))
        .await;
    settle().await;
    fixture.clock.advance(Duration::from_secs(1));
    let mut third = Conn::new(&fixture, 3);
    let (message_id, message) = (third.message_id(), Bytes::from(authenticate("alice", 9_000)));
    fixture
        .forwarded(message_id, MessageKind::Message, third.snapshot.clone(), message)
        .await;
    assert_eq!(fixture.command().await.0, second.id);
    assert_eq!(fixture.said().await.body["type"], "auth.ok");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_lost_who_is_there_is_told_it_anew_and_counts_them() {
    let mut fixture = limited(OF_ONE);
    let _worker = fixture.worker();
    let mut first = Conn::new(&fixture, 1);
    fixture.comes(&mut first).await;
    fixture.store.unregister(tag("alice"), first.id, None).await.unwrap();
    let by = shared::wire::id::MessageId {
        connection: first.id,
        sequence: first.snapshot.by.unwrap(),
    };
    fixture
        .forwarded(by, MessageKind::Announced, first.snapshot.clone(), Bytes::new())
        .await;
    assert_eq!(fixture.command().await.1, Command::Entered);
    let mut second = Conn::new(&fixture, 2);
    let (message_id, message) = (second.message_id(), Bytes::from(authenticate("alice", 9_000)));
    fixture
        .forwarded(message_id, MessageKind::Message, second.snapshot.clone(), message)
        .await;
    assert_eq!(fixture.command().await.0, first.id);
    assert_eq!(fixture.said().await.close(), Some(4505));
}

#[tokio::test(start_paused = true)]
async fn messages_are_counted_against_their_identity_whichever_way_they_come() {
    let mut fixture = Fixture::new();
    fixture.limits.messages_per_second_per_identity = Some(2);
    let _worker = fixture.worker();
    let (mut one, mut two) = (Conn::new(&fixture, 1), Conn::new(&fixture, 2));
    fixture.comes(&mut one).await;
    fixture.comes(&mut two).await;
    assert_eq!(fixture.say(&mut one, bare("1")).await.body["type"], "reply");
    assert_eq!(fixture.say(&mut two, bare("2")).await.body["type"], "reply");
    let refused = fixture.say(&mut two, bare("3")).await.body;
    assert_eq!(refused["error"]["code"], "rate_limited", "{refused}");
    assert_eq!(
        (&refused["error"]["retry_after_ms"], &refused["error"]["effect"]),
        (&json!(500), &json!("none"))
    );
    let token = token_for("alice", 9_000);
    let message = json!({"id": "i", "type": "echo", "token": token}).to_string();
    let queue = fixture.names.inject_queue(1);
    let mut answers = fixture.bus.consumer(queue.clone(), 1);
    let properties = shared::bus::Properties {
        reply_to: Some(queue.name),
        ..Default::default()
    };
    fixture.inject(message, properties).await;
    let told = json_of(&answers.recv().await.unwrap().take_message().body);
    assert_eq!(told["error"]["code"], "rate_limited", "{told}");
    fixture.clock.advance(Duration::from_millis(500));
    assert_eq!(fixture.say(&mut one, bare("4")).await.body["type"], "reply");
    // It protects the application, and is no reason to refuse anything while the store is away.
    fixture.store.set_away(true);
    assert_eq!(fixture.say(&mut one, bare("5")).await.body["type"], "reply");
}
