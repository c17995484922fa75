//! Pushes, what comes back, and what is held.

mod answers;
mod counting;
mod holds;
mod missed;
mod open;
mod pushes;
mod shards;
mod together;

use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::bus::topology::keys;
use shared::bus::{Bus, Consumer, Message, Properties, Route, Value};
use shared::service::clock::Clock;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Bounced, Command, Fetch, Return, undelivered};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::tag::IdentityTag;

use super::fixture::{Fixture, ISSUER, json_of};
use crate::auth::identity::{Identity, Issuer, Subject};
use crate::store::{Authentication, HeldWrite, Registered};
use crate::token::Rules;

/// Where outcomes go.
pub(super) struct Outcomes {
    queue: String,
    consumer: Consumer,
}

impl Outcomes {
    pub(super) fn of(fixture: &Fixture) -> Self {
        let queue = fixture.names.inject_queue(7);
        Self {
            queue: queue.name.clone(),
            consumer: fixture.bus.consumer(queue, 100),
        }
    }

    /// Properties that ask for the outcome of something of that name.
    pub(super) fn wanted(&self, name: &str) -> Properties {
        Properties {
            message_id: Some(name.to_owned()),
            correlation_id: Some(format!("about {name}")),
            reply_to: Some(self.queue.clone()),
            ..Properties::default()
        }
    }

    /// Sees that nothing is told for a while.
    pub(super) async fn none(&mut self) {
        let told = tokio::time::timeout(Duration::from_secs(30), self.consumer.recv()).await;
        assert!(told.is_err(), "an outcome came");
    }

    /// The next outcome, and what it is about.
    pub(super) async fn next(&mut self) -> (String, Json) {
        let delivery = tokio::time::timeout(Duration::from_secs(120), self.consumer.recv());
        let delivery = delivery.await.expect("no outcome came").expect("the bus lives");
        let told = (
            delivery.message.properties.correlation_id.clone().unwrap_or_default(),
            json_of(&delivery.message.body),
        );
        delivery.ack();
        told
    }
}

pub(super) fn identity(subject: &str) -> Identity {
    Identity::new(Issuer::new(ISSUER), Subject::new(subject))
}

pub(super) fn tag(subject: &str) -> IdentityTag {
    identity(subject).tag()
}

impl Fixture {
    /// What the store has of a connection, authenticated until so many seconds from now.
    pub(super) fn entry(&self, connection: ConnectionId, seconds: i64) -> Registered {
        let now = i64::try_from(self.clock.now().as_secs()).unwrap();
        Registered {
            connection,
            by: Sequence::FIRST,
            until: shared::service::clock::Timestamp::from_secs(u64::try_from(now + seconds).unwrap()),
            issued_at: Some(self.clock.now()),
            token_id: None,
            session: None,
        }
    }

    /// A connection of `subject`, authenticated until so many seconds from now. Tells how many writes wait for it.
    pub(super) async fn connect(&self, connection: ConnectionId, subject: &str, seconds: i64) -> u64 {
        let entry = self.entry(connection, seconds);
        let authentication = Authentication::Live {
            identity: identity(subject),
            until: shared::service::clock::Timestamp::from_secs(entry.until.as_secs() - Rules::LEEWAY.as_secs()),
            by: Sequence::FIRST,
            resume: [0; 32],
        };
        self.store.record(connection, &authentication).await.unwrap();
        self.store.register(tag(subject), entry).await.unwrap().unwrap()
    }

    /// Publishes a push with these headers.
    pub(super) async fn push(&self, headers: &[(&str, &str)], body: &str, mut properties: Properties) {
        for (name, text) in headers {
            properties
                .headers
                .push(((*name).to_owned(), Value::Text((*text).to_owned())));
        }
        let route = Route::new(&self.names.exchange().name, keys::PUSH);
        self.publish(route, body.to_owned(), properties).await;
    }

    /// The next command to the terminator.
    pub(super) async fn command(&mut self) -> (ConnectionId, Command, Json) {
        let message = self.returned().await;
        match Return::read(&message) {
            Some(Return::Command(connection, command)) => (connection, command, json_of(&message.body)),
            other => panic!("no command: {other:?}"),
        }
    }

    /// The next command, which is to write something: to whom, under which key, and whether it comes out of a hold.
    pub(super) async fn written(&mut self) -> (ConnectionId, String, bool, Json) {
        let message = self.returned().await;
        match Return::read(&message) {
            Some(Return::Command(connection, Command::Write(Write { key, released, .. }))) => {
                let body = json_of(&message.body);
                self.is_written(message).await;
                (connection, key, released, body)
            }
            other => panic!("nothing to write: {other:?}"),
        }
    }

    /// As a terminator says when it has written something.
    pub(super) async fn is_written(&self, message: Message) {
        if Command::has_producer(&message.properties) {
            let Message { body, properties } = undelivered::written(message);
            self.publish(self.undelivered(), body, properties).await;
        }
    }

    /// What a terminator gives back.
    pub(super) async fn bounce(&self, why: Bounced, message: Message) {
        let Message { body, properties } = why.to_message(message);
        self.publish(self.undelivered(), body, properties).await;
    }

    /// What a terminator asks for.
    pub(super) async fn fetch(&self, connection: ConnectionId, subject: &str) {
        let asked = Fetch {
            connection,
            identity: tag(subject),
            number: 0,
        };
        self.publish(self.undelivered(), "", asked.to_message().properties)
            .await;
    }

    pub(super) fn undelivered(&self) -> Route {
        Route::new(&self.names.internal_exchange().name, keys::UNDELIVERED)
    }

    /// A push as it came to the terminator.
    pub(super) fn write(&self, connection: ConnectionId, subject: &str, name: &str) -> Message {
        let write = Write {
            key: format!("p:{name}"),
            identity: Some(tag(subject)),
            producer: None,
            connections: 0,
            alone: false,
            asked_by: None,
            released: false,
            fetched: false,
            since: self.clock.now(),
            until: None,
        };
        let body = json!({"type": "push", "id": name}).to_string();
        Command::Write(write).to_message(connection, body.into())
    }

    /// The keys of the answers that are held for a connection.
    pub(super) async fn answers_held(&self, connection: ConnectionId) -> Vec<String> {
        let held = self.store.held_writes(connection.into(), 1_000).await.unwrap();
        held.into_iter().map(|write| write.key).collect()
    }

    /// The keys of the pushes that are held.
    pub(super) async fn held(&self, subject: &str) -> Vec<String> {
        let held: Vec<HeldWrite> = self.store.held_writes(tag(subject).into(), 1_000).await.unwrap();
        held.into_iter().map(|write| write.key).collect()
    }
}
