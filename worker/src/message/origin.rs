//! Who sent a delivery: a client through a terminator, or anyone else.
//!
//! A message id, and all that a terminator says of the connection, is believed for the
//! exchange that it came through, never for what it says. An injector can write any
//! `correlation_id`, but cannot write to `<namespace>.internal`.

use std::fmt;

use shared::bus::topology::{Names, keys};
use shared::bus::{Delivery, Properties, Value};
use shared::wire::envelope::ForwardedMessage;
use shared::wire::id::MessageId;

use super::{MAX_BODY_BYTES, MAX_FORWARDED_BYTES};

/// On a message that was moved to be processed alone: the key that it first came with.
pub(crate) const HEADER_ORIGIN: &str = "origin";

/// On a message that was moved, and on a dead letter: when it was first seen, in seconds since the Unix epoch.
pub(crate) const HEADER_FIRST_SEEN: &str = "first_seen";

/// Who sent a delivery, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A terminator: a client's message, or something about its connection.
    Terminator(Box<ForwardedMessage>),
    /// Anyone: a message of no connection.
    Injected,
}

impl Origin {
    /// Of this delivery, where `internal` is the exchange that injectors cannot write to.
    pub(crate) fn of(delivery: &Delivery, internal: &str) -> Self {
        if !is_forwarded(delivery, internal) {
            return Self::Injected;
        }
        // What no terminator of ours writes gets no connection's rights.
        ForwardedMessage::read(&delivery.message.properties)
            .map_or(Self::Injected, |forwarded| Self::Terminator(Box::new(forwarded)))
    }

    /// What a terminator says, if it was one.
    pub(crate) fn forwarded(&self) -> Option<&ForwardedMessage> {
        match self {
            Self::Terminator(forwarded) => Some(forwarded),
            Self::Injected => None,
        }
    }

    /// Where its answer goes. What was injected gets none into a queue of ours: it would be taken for an answer to
    /// someone else's request.
    pub(crate) fn reply_to<'a>(&self, properties: &'a Properties, names: &Names) -> Option<&'a str> {
        let reply_to = properties.reply_to.as_deref()?;
        (*self != Self::Injected || names.may_be_answered(reply_to)).then_some(reply_to)
    }

    /// How large its body may be. Terminators let no client send more than their setting says.
    pub(crate) const fn most_bytes(&self) -> usize {
        match self {
            Self::Terminator(_) => MAX_FORWARDED_BYTES,
            Self::Injected => MAX_BODY_BYTES,
        }
    }

    /// Which message of which connection, if it is one.
    pub(crate) fn message_id(&self) -> Option<MessageId> {
        self.forwarded().map(|forwarded| forwarded.message_id)
    }
}

/// For the journey's events.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message_id() {
            Some(message_id) => message_id.fmt(f),
            None => f.write_str("injected"),
        }
    }
}

/// Whether a terminator published it, perhaps some deliveries ago.
pub(crate) fn is_forwarded(delivery: &Delivery, internal: &str) -> bool {
    let moved = || text_header(&delivery.message.properties, HEADER_ORIGIN) == Some(keys::FORWARD);
    *delivery.exchange == *internal
        && match &*delivery.routing_key {
            keys::RETRY => moved(),
            key => keys::is_forward(key),
        }
}

/// The key by which it goes back to the queue that it came from, unless that is one where what was moved waits.
pub(crate) fn key_of(delivery: &Delivery) -> &str {
    Some(&*delivery.routing_key)
        .filter(|key| keys::is_forward(key))
        .unwrap_or(keys::FORWARD)
}

/// Whether a worker moved it, because it had been given out before.
pub(crate) fn was_moved(delivery: &Delivery, internal: &str) -> bool {
    *delivery.exchange == *internal && [keys::RETRY, keys::INJECTED].contains(&&*delivery.routing_key)
}

/// Whether it was moved here, and no one but an injector published it.
pub(crate) fn was_injected(properties: &Properties) -> bool {
    text_header(properties, HEADER_ORIGIN) == Some(keys::MESSAGE)
}

/// When it was first seen, as far as those say who are believed: the header of the one who moved it, or a
/// terminator's timestamp.
pub(crate) fn first_seen_s(delivery: &Delivery, internal: &str) -> Option<u64> {
    let properties = &delivery.message.properties;
    if *delivery.exchange != *internal {
        return None;
    }
    match properties.header(HEADER_FIRST_SEEN) {
        Some(Value::Integer(seconds)) if !keys::is_forward(&delivery.routing_key) => u64::try_from(*seconds).ok(),
        _ => properties.timestamp_s,
    }
}

pub(crate) fn text_header<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    match properties.header(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}
