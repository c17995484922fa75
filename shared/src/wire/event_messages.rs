//! Events of connections as they leave: each in an AMQP message of its own, or those of one kind together.
//!
//! A message is most of what an event costs, for its publisher, the broker and its consumers. An event is a JSON object; those that
//! leave together are an array of such, also if it is only one. In any form, the events of a connection stay in their order.

use std::collections::HashMap;

use bytes::Bytes;

use super::connection_event::{CONTENT_TYPE, ConnectionEvent, EventKind};
use super::id::ConnectionId;
use crate::bus::{Message, Properties};
use crate::service::clock::Timestamp;
use crate::service::config::EventForm;

/// How many events a message has: 1 MiB, if each names an identity as long as a token may be.
const MOST_TOGETHER: usize = 128;

/// Events of one kind that leave as one message.
#[derive(Debug)]
pub struct EventMessage {
    kind: EventKind,
    texts: Vec<Bytes>,
    /// The name of the first.
    name: String,
    /// When that happened.
    at: Timestamp,
    form: EventForm,
}

impl EventMessage {
    fn of(event: &ConnectionEvent, form: EventForm) -> Self {
        Self {
            kind: event.event,
            texts: vec![event.to_json().into()],
            name: event.name(),
            at: event.at_ms,
            form,
        }
    }

    fn takes(&self, event: &ConnectionEvent) -> bool {
        self.form == EventForm::Batched && self.kind == event.event && self.texts.len() < MOST_TOGETHER
    }

    /// What has happened.
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// Each event, as JSON.
    pub fn texts(&self) -> &[Bytes] {
        &self.texts
    }

    /// As it is published.
    pub fn message(&self) -> Message {
        Message {
            body: self.body(),
            properties: Properties {
                content_type: Some(CONTENT_TYPE.to_owned()),
                kind: Some(self.kind.key().to_owned()),
                message_id: Some(self.name.clone()),
                timestamp_s: Some(self.at.as_secs()),
                ..Properties::default()
            },
        }
    }

    fn body(&self) -> Bytes {
        match (self.form, self.texts.as_slice()) {
            (EventForm::On, [text]) => text.clone(),
            (_, texts) => {
                let array = [&b"["[..], &texts.join(&b","[..]), b"]"].concat();
                array.into()
            }
        }
    }
}

/// The messages for these events, in an order that keeps that of each connection. Those that travel together fill few of them: one
/// stands in the first of its kind that does not come before the event before it.
pub fn pack(events: &[ConnectionEvent], form: EventForm) -> Vec<EventMessage> {
    let mut messages: Vec<EventMessage> = Vec::new();
    let mut last: HashMap<ConnectionId, usize> = HashMap::new();
    for event in events {
        let first = match form {
            EventForm::On => messages.len(),
            EventForm::Batched => last.get(&event.connection).copied().unwrap_or_default(),
        };
        let open = messages.iter().skip(first).position(|message| message.takes(event));
        let place = open.map_or(messages.len(), |skipped| first + skipped);
        match messages.get_mut(place) {
            Some(message) => message.texts.push(event.to_json().into()),
            None => messages.push(EventMessage::of(event, form)),
        }
        last.insert(event.connection, place);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::TerminatorId;

    fn event(number: u64, sequence: u64, event: EventKind) -> ConnectionEvent {
        let terminator: TerminatorId = "0000000000000007".parse().unwrap();
        ConnectionEvent {
            event,
            connection: ConnectionId { terminator, number },
            terminator,
            sequence,
            at_ms: Timestamp::from_secs(1_000),
            identity: None,
            jti: None,
            sid: None,
            expires_at_ms: None,
            code: None,
            reason: None,
            again: false,
        }
    }

    /// What a consumer makes of it.
    fn read(message: &EventMessage) -> Vec<(EventKind, u64, u64)> {
        let all: Vec<ConnectionEvent> = serde_json::from_slice(&message.message().body).unwrap();
        all.iter()
            .map(|event| (event.event, event.connection.number, event.sequence))
            .collect()
    }

    #[test]
    fn those_together_are_few_messages_and_keep_the_order_of_each_connection() {
        use EventKind::{Authenticated, Closed, Expired, Opened};
        let events = [
            event(1, 1, Opened),
            event(1, 2, Authenticated),
            event(2, 1, Opened),
            event(1, 3, Closed),
            event(2, 2, Closed),
            event(3, 1, Opened),
            event(3, 2, Authenticated),
            event(3, 3, Expired),
            event(3, 4, Authenticated),
        ];
        let messages = pack(&events, EventForm::Batched);
        let read: Vec<_> = messages.iter().map(read).collect();
        assert_eq!(
            read,
            [
                vec![(Opened, 1, 1), (Opened, 2, 1), (Opened, 3, 1)],
                vec![(Authenticated, 1, 2), (Authenticated, 3, 2)],
                vec![(Closed, 1, 3), (Closed, 2, 2)],
                vec![(Expired, 3, 3)],
                vec![(Authenticated, 3, 4)],
            ]
        );
        let properties = messages[0].message().properties;
        assert_eq!(properties.kind.as_deref(), Some("connection.opened"));
        assert_eq!(properties.message_id, Some(events[0].name()));
        assert_eq!(properties.timestamp_s, Some(1_000));
    }

    #[test]
    fn none_is_longer_than_its_bound() {
        let events: Vec<_> = (0..300).map(|number| event(number, 1, EventKind::Opened)).collect();
        let lengths: Vec<_> = pack(&events, EventForm::Batched)
            .iter()
            .map(|message| message.texts().len())
            .collect();
        assert_eq!(lengths, [MOST_TOGETHER, MOST_TOGETHER, 300 - 2 * MOST_TOGETHER]);
    }

    #[test]
    fn alone_each_is_an_object_and_together_one_is_an_array_too() {
        let events = [event(1, 1, EventKind::Opened), event(2, 1, EventKind::Opened)];
        let alone = pack(&events, EventForm::On);
        assert_eq!(alone.len(), 2);
        for (message, event) in alone.iter().zip(&events) {
            assert_eq!(
                ConnectionEvent::from_json(&message.message().body).as_ref(),
                Some(event)
            );
        }
        let together = pack(&events[..1], EventForm::Batched);
        assert_eq!(read(&together[0]), [(EventKind::Opened, 1, 1)]);
    }
}
