//! What a worker has a terminator do for a connection, that no one on it has asked.
//!
//! | `type` | header | |
//! |---|---|---|
//! | `write` | | write the body, once: `message_id` is its key |
//! | | `identity` | the identity for which it may be written, and no other; absent: any reader |
//! | | `outcome-to`, `outcome-id`, `outcome-key` | where, and under which `correlation_id`, the producer of a push is told of its outcome; and by what it is known that they were |
//! | | `outcome-of` | of which of the many subjects that the push named |
//! | | `connections` | to how many live connections a push was sent |
//! | | `no-live-recipient` | no live connection of the identity has it: any that comes may have it |
//! | | `asked-by` | it answers that connection's request, and is for the one who has taken over from it at most; absent: it is a push, or a word of our own |
//! | | `released` | it comes out of a hold, so it may go back there: its client is not closed for reading too slowly |
//! | | `fetched` | the connection has asked for it, so it goes before what has arrived meanwhile |
//! | | `since-ms`, `until-ms` | when it was first given to us, exactly, and until when it may be held, if its producer has said so |
//! | `fetched` | `remaining` | what was held for the connection is on its way, but for so many |
//! | `wake` | `from` | something is held that the connection may ask for: of that connection; else answers that are its own by now, or what is for its identity |
//! | `replaced` | | another connection has taken over from it: it is to be closed |
//! | `entered` | | the store knows of it: the terminator need not announce it again |
//! | `over-limit` | `identity` | that identity has more connections than it may have, and this is the oldest: it is to be closed; if it is gone, this is returned |
//! | `check` | `identity` | if it is gone, this is returned; it counts as one of that identity until then |
//!
//! `correlation_id` is the connection, `timestamp` when what is written was first
//! given to us, in seconds.

use bytes::Bytes;

use super::{Headers, InvalidHeader, JSON, flag, number, parsed, text};
use crate::bus::{Message, Properties};
use crate::service::clock::Timestamp;
use crate::wire::id::ConnectionId;
use crate::wire::tag::IdentityTag;

const TYPE_WRITE: &str = "write";
const TYPE_FETCHED: &str = "fetched";
const TYPE_WAKE: &str = "wake";
const TYPE_REPLACED: &str = "replaced";
const TYPE_ENTERED: &str = "entered";
const TYPE_OVER_LIMIT: &str = "over-limit";
const TYPE_CHECK: &str = "check";

const FOR: &str = "identity";
const OUTCOME_TO: &str = "outcome-to";
const OUTCOME_ID: &str = "outcome-id";
const OUTCOME_OF: &str = "outcome-of";
const OUTCOME_KEY: &str = "outcome-key";
const CONNECTIONS: &str = "connections";
const ALONE: &str = "no-live-recipient";
const ASKED_BY: &str = "asked-by";
const RELEASED: &str = "released";
const FETCHED: &str = "fetched";
const SINCE_MS: &str = "since-ms";
const UNTIL_MS: &str = "until-ms";
const LEFT: &str = "remaining";
const FROM: &str = "from";
pub(super) const FETCH: &str = "fetch";

/// Something to do for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Write the body.
    Write(Write),
    /// All that was held for it and asked for has been sent, but for so many, which may be asked for at once.
    Fetched {
        /// How many are still held.
        left: u64,
        /// Which fetch of the connection's that was; 0 if it did not say.
        fetch: u64,
    },
    /// Something is held that it may ask for.
    Wake {
        /// The messages of that connection, which this one resumes; or what is to be written to this one or to its identity.
        from: Option<ConnectionId>,
    },
    /// Another connection has taken over from it: it is to be closed.
    Replaced,
    /// The store knows of it: its terminator, which has announced it, need not do so again.
    Entered,
    /// Its identity has more connections than it may have, and this is the oldest: it is to be closed. If it is gone, this is returned.
    OverLimit {
        /// The identity that has too many.
        identity: IdentityTag,
    },
    /// If it is gone, this is returned: it counts as a connection of that identity until then.
    Check {
        /// The identity as one of whose connections it counts.
        identity: IdentityTag,
    },
}

/// A text for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// By which it is known if it comes twice: at most 255 bytes.
    pub key: String,
    /// On whose behalf it may be written.
    pub identity: Option<IdentityTag>,
    /// Who wants to know what becomes of it, if it is a push.
    pub producer: Option<Producer>,
    /// To how many live connections it was sent, if it is a push.
    pub connections: u64,
    /// Whether no live connection of its identity has it. If it is not written either, anyone who comes may have it.
    pub alone: bool,
    /// Whose request it answers: no one hears it but that connection, and the one who has taken over from it.
    pub asked_by: Option<ConnectionId>,
    /// Whether it comes out of a hold.
    pub released: bool,
    /// Whether it answers a fetch of the connection's.
    pub fetched: bool,
    /// When it was first given to us.
    pub since: Timestamp,
    /// Until when it may be held, if its producer has said so.
    pub until: Option<Timestamp>,
}

/// Where the producer of a push is told of its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// The queue.
    pub reply_to: String,
    /// What the outcome repeats.
    pub correlation_id: Option<String>,
    /// Of which of the many subjects that the push named.
    pub subject: Option<String>,
    /// By what it is known that they were told what became of it, once and for all: a number that is drawn for each push.
    pub key: u64,
}

impl Write {
    /// The message of that type that carries it.
    pub(super) fn to_message(&self, kind: &str, to: String, body: Bytes) -> Message {
        let producer = self.producer.as_ref();
        let headers = Headers::default()
            .text(FOR, self.identity)
            .text(OUTCOME_TO, producer.map(|producer| &producer.reply_to))
            .text(
                OUTCOME_ID,
                producer.and_then(|producer| producer.correlation_id.as_ref()),
            )
            .text(OUTCOME_OF, producer.and_then(|producer| producer.subject.as_ref()))
            .number(OUTCOME_KEY, producer.map_or(0, |producer| producer.key))
            .number(CONNECTIONS, self.connections)
            .flag(ALONE, self.alone)
            .text(ASKED_BY, self.asked_by)
            .flag(RELEASED, self.released)
            .flag(FETCHED, self.fetched)
            .number(SINCE_MS, self.since.as_millis())
            .number(UNTIL_MS, self.until.map_or(0, Timestamp::as_millis));
        Message {
            body,
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                kind: Some(kind.to_owned()),
                correlation_id: Some(to),
                message_id: Some(self.key.clone()),
                timestamp_s: Some(self.since.as_secs()),
                headers: headers.0,
                ..Properties::default()
            },
        }
    }

    pub(super) fn read(properties: &Properties) -> Result<Self, InvalidHeader> {
        Ok(Self {
            key: properties.message_id.clone().ok_or(InvalidHeader)?,
            identity: parsed(properties, FOR)?,
            producer: text(properties, OUTCOME_TO)?.map(|reply_to| Producer {
                reply_to: reply_to.to_owned(),
                correlation_id: text(properties, OUTCOME_ID).ok().flatten().map(str::to_owned),
                subject: text(properties, OUTCOME_OF).ok().flatten().map(str::to_owned),
                key: number(properties, OUTCOME_KEY).unwrap_or_default(),
            }),
            connections: number(properties, CONNECTIONS)?,
            alone: flag(properties, ALONE),
            asked_by: parsed(properties, ASKED_BY)?,
            released: flag(properties, RELEASED),
            fetched: flag(properties, FETCHED),
            since: match number(properties, SINCE_MS)? {
                0 => Timestamp::from_secs(properties.timestamp_s.unwrap_or_default()),
                exactly => Timestamp::from_millis(exactly),
            },
            until: Some(number(properties, UNTIL_MS)?)
                .filter(|until| *until > 0)
                .map(Timestamp::from_millis),
        })
    }
}

impl Command {
    /// The message that carries it.
    pub fn to_message(&self, connection: ConnectionId, body: Bytes) -> Message {
        let mut properties = Properties {
            content_type: Some(JSON.to_owned()),
            correlation_id: Some(connection.to_string()),
            ..Properties::default()
        };
        let (kind, headers) = match self {
            Self::Write(write) => return write.to_message(TYPE_WRITE, connection.to_string(), body),
            Self::Fetched { left, fetch } => (
                TYPE_FETCHED,
                Headers::default().number(LEFT, *left).number(FETCH, *fetch),
            ),
            Self::Wake { from } => (TYPE_WAKE, Headers::default().text(FROM, *from)),
            Self::Replaced => (TYPE_REPLACED, Headers::default()),
            Self::Entered => (TYPE_ENTERED, Headers::default()),
            Self::OverLimit { identity } => (TYPE_OVER_LIMIT, Headers::default().text(FOR, Some(*identity))),
            Self::Check { identity } => (TYPE_CHECK, Headers::default().text(FOR, Some(*identity))),
        };
        properties.kind = Some(kind.to_owned());
        properties.headers = headers.0;
        Message { body, properties }
    }

    /// Whether it is to write something that was held.
    pub fn is_released(properties: &Properties) -> bool {
        properties.kind.as_deref() == Some(TYPE_WRITE) && flag(properties, RELEASED)
    }

    /// Whether it is to write a push, or a word of ours that is written in an identity's name like one.
    pub fn is_push(properties: &Properties) -> bool {
        let is_write = properties.kind.as_deref() == Some(TYPE_WRITE);
        is_write && properties.header(FOR).is_some() && properties.header(ASKED_BY).is_none()
    }

    /// Whether it is to write something of which a producer wants to know what becomes of it.
    pub fn has_producer(properties: &Properties) -> bool {
        properties.kind.as_deref() == Some(TYPE_WRITE) && properties.header(OUTCOME_TO).is_some()
    }

    /// What to do for which connection; none if it is no command.
    pub fn read(properties: &Properties) -> Option<(ConnectionId, Self)> {
        let connection = properties.correlation_id.as_deref()?.parse().ok()?;
        let command = Self::try_read(properties).ok().flatten()?;
        Some((connection, command))
    }

    fn try_read(properties: &Properties) -> Result<Option<Self>, InvalidHeader> {
        Ok(match properties.kind.as_deref() {
            Some(TYPE_WRITE) => Some(Self::Write(Write::read(properties)?)),
            Some(TYPE_FETCHED) => Some(Self::Fetched {
                left: number(properties, LEFT)?,
                fetch: number(properties, FETCH)?,
            }),
            Some(TYPE_WAKE) => Some(Self::Wake {
                from: parsed(properties, FROM)?,
            }),
            Some(TYPE_REPLACED) => Some(Self::Replaced),
            Some(TYPE_ENTERED) => Some(Self::Entered),
            Some(TYPE_OVER_LIMIT) => parsed(properties, FOR)?.map(|identity| Self::OverLimit { identity }),
            Some(TYPE_CHECK) => parsed(properties, FOR)?.map(|identity| Self::Check { identity }),
            _ => None,
        })
    }
}
