//! What is to be done about a message that was not written: pure.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use shared::bus::{DEATH_QUEUE, Message, Value};
use shared::service::clock::Timestamp;
use shared::wire::envelope::command::{Producer, Write};
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{self, Bounced, Command, Fetch, Return};
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;

use crate::outbound::answers::Unheard;
use crate::outbound::metrics::Came;
use crate::store::HeldWrite;

/// What is done in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Identity(IdentityTag),
    Connection(ConnectionId),
    Broadcasts,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// An answer was not written, that was asked for on behalf of that identity.
    HoldAnswer {
        identity: IdentityTag,
        unheard: Unheard,
        write: HeldWrite,
    },
    /// A push was not written.
    Hold {
        why: Bounced,
        connection: ConnectionId,
        /// For whom it was besides, if the broker gave it up.
        also: Vec<ConnectionId>,
        identity: IdentityTag,
        /// Whether no live connection has it.
        alone: bool,
        write: HeldWrite,
    },
    /// A push was written.
    Written {
        identity: IdentityTag,
        producer: Producer,
        connections: u64,
    },
    /// A connection asks for what is held for it.
    Fetch(Fetch),
    /// A connection was to be told that messages of another may be handled on it.
    Wake { gone: ConnectionId, from: ConnectionId },
    /// A connection that counts as one of the identity is gone.
    Leave {
        connection: ConnectionId,
        identity: IdentityTag,
    },
    /// A broadcast has waited in that queue for longer than the queue keeps anything.
    PutBack { queue: String, message: Message },
    /// Many messages in one that cannot be read.
    DeadLetter,
    /// So has an answer that only settled its request: see [`settlement`].
    Settle(ConnectionId),
}

impl Job {
    /// What to do about a message; none if no one waits for it.
    pub(super) fn of(message: &Message, now: Timestamp) -> Option<Self> {
        let (why, original) = match Undelivered::read(message)? {
            Undelivered::Fetch(fetch) => return Some(Self::Fetch(fetch)),
            Undelivered::Written(write) => {
                let (identity, producer) = write.identity.zip(write.producer)?;
                return Some(Self::Written {
                    identity,
                    producer,
                    connections: write.connections,
                });
            }
            Undelivered::Bounced(why, original) => (why, original),
        };
        let body = || {
            let text = std::str::from_utf8(&message.body).ok()?;
            // An empty answer only settles its request, and its terminator has seen it.
            (!text.is_empty()).then(|| text.to_owned())
        };
        match original {
            Return::Reply(message_id, answer) => {
                let held = answer.identity.zip(body().and_then(without_auth));
                let Some((identity, body)) = held else {
                    return settlement(message).map(|_| Self::Settle(message_id.connection));
                };
                Some(Self::HoldAnswer {
                    identity,
                    unheard: Unheard {
                        asked_by: message_id.connection,
                        on: message_id.connection,
                        why,
                    },
                    write: HeldWrite {
                        key: format!("{message_id}.{}", answer.part.index),
                        body,
                        asker: Some(identity),
                        producer: None,
                        since: now,
                        until: None,
                    },
                })
            }
            Return::Command(connection, Command::Write(write)) => {
                let Write {
                    key,
                    identity,
                    producer,
                    alone,
                    asked_by,
                    since,
                    until,
                    ..
                } = write;
                let (identity, body) = identity.zip(body())?;
                let write = HeldWrite {
                    key,
                    body,
                    asker: asked_by.map(|_| identity),
                    producer,
                    since,
                    until,
                };
                Some(match asked_by {
                    Some(asked_by) => Self::HoldAnswer {
                        identity,
                        unheard: Unheard {
                            asked_by,
                            on: connection,
                            why,
                        },
                        write,
                    },
                    None => Self::Hold {
                        why,
                        connection,
                        also: Vec::new(),
                        identity,
                        alone,
                        write,
                    },
                })
            }
            // See `for_one`.
            Return::Spread(_) => None,
            Return::Command(gone, Command::Wake { from: Some(from) }) => Some(Self::Wake { gone, from }),
            // What the broker gave up says nothing of a terminator that may be there without it.
            Return::Command(connection, Command::OverLimit { identity } | Command::Check { identity }) => {
                Bounced::is_said(&message.properties).then_some(Self::Leave { connection, identity })
            }
            // Others of the identity were told too, and anyone who comes is told when it registers.
            Return::Command(
                _,
                Command::Wake { from: None } | Command::Fetched { .. } | Command::Replaced | Command::Entered,
            ) => None,
            Return::Revoked(revocations) => Self::put_back(message, envelope::revoked(&revocations)),
            Return::Epoch(epoch) => Self::put_back(message, envelope::epoch(epoch)),
            Return::Rules(_) | Return::Cancelled(_) | Return::Load(_) => None,
        }
    }

    fn put_back(died: &Message, broadcast: Message) -> Option<Self> {
        match died.properties.header(DEATH_QUEUE)? {
            Value::Text(queue) => Some(Self::PutBack {
                queue: queue.clone(),
                message: broadcast,
            }),
            _ => None,
        }
    }

    /// In which order it is done.
    pub(super) const fn lane(&self) -> Lane {
        match self {
            Self::Hold { identity, .. } | Self::HoldAnswer { identity, .. } => Lane::Identity(*identity),
            Self::Fetch(fetch) => Lane::Identity(fetch.identity),
            Self::Written { identity, .. } | Self::Leave { identity, .. } => Lane::Identity(*identity),
            Self::Settle(connection) => Lane::Connection(*connection),
            Self::Wake { from, .. } => Lane::Connection(*from),
            Self::PutBack { .. } | Self::DeadLetter => Lane::Broadcasts,
        }
    }

    /// As what it is counted.
    pub(super) const fn kind(&self) -> Came {
        match self {
            Self::Hold { why, .. }
            | Self::HoldAnswer {
                unheard: Unheard { why, .. },
                ..
            } => match why {
                Bounced::Expired => Came::Expired,
                Bounced::Gone => Came::Gone,
            },
            Self::Leave { .. } => Came::Gone,
            Self::Fetch(_) => Came::Fetch,
            Self::Written { .. } => Came::Written,
            Self::Wake { .. } => Came::Wake,
            Self::PutBack { .. } => Came::Revocation,
            Self::Settle(_) | Self::DeadLetter => Came::Ignored,
        }
    }
}

/// An answer without what it says of its own connection's authentication: it may be told to another connection of its
/// identity, or later. None if it says nothing else.
fn without_auth(text: String) -> Option<String> {
    let Ok(mut members) = serde_json::from_str::<BTreeMap<&str, &RawValue>>(&text) else {
        return Some(text);
    };
    if members.get("type").is_some_and(|kind| kind.get() == r#""auth.ok""#) {
        return None;
    }
    match members.remove("auth") {
        Some(_) => serde_json::to_string(&members).ok(),
        None => Some(text),
    }
}

/// What of an answer that the broker did not keep is put back into that queue: all but its text, which waits for its
/// identity. The connection that asked may be open still, and its request with it, and has to know what was decided.
pub(super) fn settlement(message: &Message) -> Option<(String, Message)> {
    let properties = &message.properties;
    let Some(Value::Text(queue)) = properties.header(DEATH_QUEUE) else {
        return None;
    };
    if Bounced::is_said(properties) || !matches!(Return::read(message), Some(Return::Reply(..))) {
        return None;
    }
    let mut properties = properties.clone();
    // They are about a journey that is over.
    properties.headers.retain(|(name, _)| !name.starts_with("x-"));
    let settlement = Message {
        body: bytes::Bytes::new(),
        properties,
    };
    Some((queue.clone(), settlement))
}

/// What was for several connections and the broker gave up, so that none of them has it: as if it had been for the first,
/// because what is held of it is the identity's. And for which others it was.
pub(super) fn for_one(message: &Message) -> Option<(Message, Vec<ConnectionId>)> {
    let Return::Spread(spread) = Return::read(message)? else {
        return None;
    };
    let mut connections = spread.connections();
    let mut one = spread.to_one(connections.next()?);
    let headers = &mut one.properties.headers;
    let of_broker = message
        .properties
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-"));
    headers.extend(of_broker.cloned());
    Some((one, connections.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Option<String> {
        without_auth(text.to_owned())
    }

    #[test]
    fn what_an_answer_says_of_its_own_connection_is_not_told_to_another() {
        let reply = r#"{"type":"reply","id":"1","payload":{"auth":1.50},"auth":{"subject":"alice"}}"#;
        assert_eq!(
            kept(reply).as_deref(),
            Some(r#"{"id":"1","payload":{"auth":1.50},"type":"reply"}"#)
        );
        assert_eq!(kept(r#"{"type":"auth.ok","id":"1","auth":{"subject":"alice"}}"#), None);
        let plain = r#"{"type":"reply","payload":"auth"}"#;
        assert_eq!(kept(plain).as_deref(), Some(plain));
    }
}
