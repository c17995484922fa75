//! What crosses the broker around a client's bytes, which are the AMQP body untouched.
//!
//! Each direction has a module: [`request`] is what terminators tell workers,
//! [`reply`] what workers reply, [`command`] what workers have terminators do on
//! their own account, and [`undelivered`] what terminators give back.
//!
//! | | exchange, key | `type` | `correlation_id` |
//! |---|---|---|---|
//! | request | `<ns>.internal`, `forward` | `message`, `run`, `closed`, `release`, `announced`, `back` | the message id: `<connection>.<sequence>` |
//! | answer | default exchange, the `reply_to` | none | the request's, as it came |
//! | command | default exchange, a return queue | `write`, `fetched`, `wake` | the connection |
//! | spread | default exchange, a return queue | `spread` | the terminator |
//! | revocations | `<ns>.internal`, `revoked` | `revoked` | |
//! | epoch of the store | `<ns>.internal`, `revoked` | `epoch` | |
//! | what was given up | `<ns>.internal`, `rules` | `cancelled` | |
//! | what a worker can spare | `<ns>.internal`, `rules` | `load` | |
//! | bounce | `<ns>.internal`, `undelivered` | as it came | as it came |
//! | fetch | `<ns>.internal`, `undelivered` | `fetch` | the connection |
//!
//! Each may carry `traceparent` and `tracestate` besides, where it is traced: [`crate::service::trace::headers`].
//!
//! Message ids, grants and commands are believed because of the exchange or queue that
//! they came through, never for what they say: an injector may publish to
//! `<ns>`, and by the broker's permissions to none of these.

pub mod clocks;
pub mod command;
pub mod release;
pub mod reply;
pub mod request;
pub mod run;
pub mod spread;
pub mod undelivered;

use serde::{Deserialize, Serialize};

use super::id::{ConnectionId, MessageId, Sequence};
use super::revocation::Revocation;
use crate::bus::{Message, Properties, Value};

pub use super::envelope::clocks::Clocks;
pub use super::envelope::command::Command;
pub use super::envelope::release::Release;
pub use super::envelope::reply::{Change, Part, Reply, Verdict};
pub use super::envelope::request::{AuthSnapshot, ForwardedMessage, MessageKind};
pub use super::envelope::spread::Spread;
pub use super::envelope::undelivered::{Bounced, Fetch};

/// The media type of a client message and of an answer: one JSON text (RFC 8259).
pub const JSON: &str = "application/json";

const TYPE_REVOKED: &str = "revoked";
const TYPE_RULES: &str = "rules";
const TYPE_EPOCH: &str = "epoch";
const TYPE_CANCELLED: &str = "cancelled";
const TYPE_LOAD: &str = "load";

/// What comes out of a return queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// The answer to a request.
    Reply(MessageId, Reply),
    /// Something to do for a connection.
    Command(ConnectionId, Command),
    /// Something to write to several connections.
    Spread(Spread),
    /// Something is revoked; in one message at most [`MOST_AT_A_TIME`](crate::wire::revocation::MOST_AT_A_TIME).
    Revoked(Vec<Revocation>),
    /// The store may have lost what it had: terminators announce their connections anew.
    Epoch(Epoch),
    /// A worker tells the others by which rules it goes.
    Rules(Rules),
    /// A worker tells the others what a client has given up.
    Cancelled(Cancel),
    /// A worker tells the others what it can spare.
    Load(Load),
}

/// By which rules a worker goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Which worker: a number that it draws at its start.
    pub worker: String,
    /// A digest of them.
    pub digest: String,
    /// To how many queues it passes pushes on.
    #[serde(default)]
    pub push_shards: u16,
}

/// What a worker can spare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Which worker: a number that it draws at its start.
    pub worker: String,
    /// What it has too much of.
    pub spare: Spare,
}

/// What a worker may have too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spare {
    /// Messages that wait for their turn.
    Messages,
    /// Places to handle some: nothing waits.
    Places,
}

/// From when on the store has kept all that it was given. Another one than before says that it has lost something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Drawn at random.
    pub epoch: u64,
}

/// What a client has given up: what it sent under that name before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// On which connection.
    pub connection: ConnectionId,
    /// Its own name for it.
    pub id: String,
    /// The message that said so.
    pub before: Sequence,
}

impl Return {
    /// What it is; none if it is none of these.
    pub fn read(message: &Message) -> Option<Self> {
        match message.properties.kind.as_deref() {
            None => Reply::read(&message.properties).map(|(message_id, answer)| Self::Reply(message_id, answer)),
            Some(TYPE_REVOKED) => serde_json::from_slice(&message.body).ok().map(Self::Revoked),
            Some(TYPE_RULES) => serde_json::from_slice(&message.body).ok().map(Self::Rules),
            Some(TYPE_CANCELLED) => serde_json::from_slice(&message.body).ok().map(Self::Cancelled),
            Some(TYPE_LOAD) => serde_json::from_slice(&message.body).ok().map(Self::Load),
            Some(TYPE_EPOCH) => serde_json::from_slice(&message.body).ok().map(Self::Epoch),
            Some(spread::TYPE) => Spread::read(message).map(Self::Spread),
            Some(_) => {
                Command::read(&message.properties).map(|(connection, command)| Self::Command(connection, command))
            }
        }
    }
}

/// The broadcast of revocations.
pub fn revoked(revocations: &[Revocation]) -> Message {
    broadcast(TYPE_REVOKED, &revocations)
}

/// The broadcast of the store's epoch, to all terminators.
pub fn epoch(epoch: Epoch) -> Message {
    broadcast(TYPE_EPOCH, &epoch)
}

/// The broadcast of a worker's rules, to all workers.
pub fn rules(rules: &Rules) -> Message {
    broadcast(TYPE_RULES, rules)
}

/// The broadcast of what a client has given up, to all workers.
pub fn cancelled(cancel: &Cancel) -> Message {
    broadcast(TYPE_CANCELLED, cancel)
}

/// The broadcast of what a worker can spare, to all workers.
pub fn load(load: &Load) -> Message {
    broadcast(TYPE_LOAD, load)
}

fn broadcast(kind: &str, body: &impl Serialize) -> Message {
    Message {
        // Nothing in it can fail to be written.
        body: serde_json::to_vec(body).unwrap_or_default().into(),
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            kind: Some(kind.to_owned()),
            ..Properties::default()
        },
    }
}

/// Headers to be, of which those that say nothing are left out.
#[derive(Default)]
struct Headers(Vec<(String, Value)>);

impl Headers {
    fn text(mut self, name: &str, text: Option<impl ToString>) -> Self {
        self.0
            .extend(text.map(|text| (name.to_owned(), Value::Text(text.to_string()))));
        self
    }

    fn number(mut self, name: &str, number: u64) -> Self {
        if number > 0 {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.0.push((name.to_owned(), Value::Integer(number)));
        }
        self
    }

    fn flag(mut self, name: &str, flag: bool) -> Self {
        if flag {
            self.0.push((name.to_owned(), Value::Flag(true)));
        }
        self
    }
}

/// A header that is not of the shape that it has here.
struct InvalidHeader;

fn text<'a>(properties: &'a Properties, name: &str) -> Result<Option<&'a str>, InvalidHeader> {
    match properties.header(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(InvalidHeader),
    }
}

fn parsed<T: std::str::FromStr>(properties: &Properties, name: &str) -> Result<Option<T>, InvalidHeader> {
    text(properties, name)?
        .map(|text| text.parse().map_err(|_| InvalidHeader))
        .transpose()
}

fn number(properties: &Properties, name: &str) -> Result<u64, InvalidHeader> {
    match properties.header(name) {
        None => Ok(0),
        Some(Value::Integer(number)) => u64::try_from(*number).map_err(|_| InvalidHeader),
        Some(_) => Err(InvalidHeader),
    }
}

fn flag(properties: &Properties, name: &str) -> bool {
    matches!(properties.header(name), Some(Value::Flag(true)))
}

#[cfg(test)]
mod tests;
