//! What a terminator gives back to the workers, through `<ns>.undelivered`: answers and writes whose connection is gone
//! or has expired. It is the message as it came, with one header more:
//!
//! | header | |
//! |---|---|
//! | `bounced` | `expired` or `gone`; absent: the broker dead-lettered it, because its terminator did not fetch it in time; `written`: it is written, and its producer wants to know; then there is no body |
//!
//! A terminator asks by the same way for what is held (`fetch`), so that whatever
//! it gave back before has been put away when it is asked.

use bytes::Bytes;

use super::Headers;
use super::command::{FETCH, Write};
use super::{Command, InvalidHeader, Return, number, parsed};
use crate::bus::{Message, Properties, Value};
use crate::wire::id::ConnectionId;
use crate::wire::tag::IdentityTag;

const TYPE_FETCH: &str = "fetch";
const BOUNCED: &str = "bounced";
const FOR: &str = "identity";
const EXPIRED: &str = "expired";
const GONE: &str = "gone";
const WRITTEN: &str = "written";

/// Why something was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounced {
    /// The connection's authentication has expired. Its terminator asks for what is held when it is renewed.
    Expired,
    /// The connection is closed, or is someone else's now, or its terminator is gone.
    Gone,
}

impl Bounced {
    /// The message that gives `original` back.
    pub fn to_message(self, original: Message) -> Message {
        match self {
            Self::Expired => saying(EXPIRED, original),
            Self::Gone => saying(GONE, original),
        }
    }

    /// Whether a terminator has given it back, rather than the broker.
    pub fn is_said(properties: &Properties) -> bool {
        properties.header(BOUNCED).is_some()
    }

    /// Why it was not written: what the broker dead-lettered is gone.
    pub fn read(properties: &Properties) -> Self {
        match properties.header(BOUNCED) {
            Some(Value::Text(word)) if word == EXPIRED => Self::Expired,
            _ => Self::Gone,
        }
    }
}

/// The message that tells that `original` is written.
pub fn written(original: Message) -> Message {
    Message {
        body: Bytes::new(),
        ..saying(WRITTEN, original)
    }
}

fn saying(word: &str, mut original: Message) -> Message {
    let headers = &mut original.properties.headers;
    headers.retain(|(name, _)| name != BOUNCED);
    headers.push((BOUNCED.to_owned(), Value::Text(word.to_owned())));
    original
}

/// A connection asks for what is held for it: answers to it and to those that it took over from, and what is for its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// The connection that asks.
    pub connection: ConnectionId,
    /// Whose it is.
    pub identity: IdentityTag,
    /// Which fetch of the connection's this is, from 1: what a worker says of an earlier one is no answer to it.
    pub number: u64,
}

impl Fetch {
    /// The message that asks.
    pub fn to_message(self) -> Message {
        Message {
            body: Bytes::new(),
            properties: Properties {
                kind: Some(TYPE_FETCH.to_owned()),
                correlation_id: Some(self.connection.to_string()),
                headers: Headers::default()
                    .text(FOR, Some(self.identity))
                    .number(FETCH, self.number)
                    .0,
                ..Properties::default()
            },
        }
    }
}

/// What comes out of `<ns>.undelivered`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// Something that was not written.
    Bounced(Bounced, Return),
    /// Someone asks for what is held.
    Fetch(Fetch),
    /// This is written.
    Written(Write),
}

impl Undelivered {
    /// What it is; none if it is neither.
    pub fn read(message: &Message) -> Option<Self> {
        let properties = &message.properties;
        if properties.kind.as_deref() == Some(TYPE_FETCH) {
            return Self::fetch(properties).ok().flatten();
        }
        let original = Return::read(message)?;
        if let Return::Command(_, Command::Write(write)) = &original
            && matches!(properties.header(BOUNCED), Some(Value::Text(word)) if word == WRITTEN)
        {
            return Some(Self::Written(write.clone()));
        }
        Some(Self::Bounced(Bounced::read(properties), original))
    }

    fn fetch(properties: &Properties) -> Result<Option<Self>, InvalidHeader> {
        let connection = properties.correlation_id.as_deref().and_then(|id| id.parse().ok());
        let identity = parsed(properties, FOR)?;
        let number = number(properties, FETCH)?;
        Ok(connection.zip(identity).map(|(connection, identity)| {
            Self::Fetch(Fetch {
                connection,
                identity,
                number,
            })
        }))
    }
}
