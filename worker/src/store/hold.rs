//! What is held until a fresh token comes: messages by connection, and what is to be written by mailbox.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::service::clock::Timestamp;
use shared::wire::envelope::command::Producer;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::request_id::RequestId;
use shared::wire::revocation::Subject;
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

use super::HOLD_GRACE;
use super::around::store_part;
use crate::auth::rights::Allowed;

store_part! {
    /// Holds messages of connections.
    pub trait MessageStore {
        /// Holds a message of a connection, once for each sequence: one that was held and dropped is not held again, as it
        /// has had its answer. It is told to be held, since that is what its first holder may not have said.
        fn hold_message(connection: ConnectionId, message: &'a HeldMessage, limits: &'a HoldLimits) -> Holding;

        /// What is held of a connection, in its order. What is past its time is still there, for a while.
        fn held_messages(connection: ConnectionId) -> Vec<HeldMessage>;

        /// Those of the messages that were held of a connection that are dropped, as far as that is remembered.
        fn dropped_messages(connection: ConnectionId) -> Vec<Sequence>;

        /// Forgets held messages. Tells how many are left.
        fn drop_messages(connection: ConnectionId, sequences: &'a [Sequence]) -> u64;

        /// Keeps what is held of a connection, if anything is, for so long from now at least.
        fn keep_messages(connection: ConnectionId, keep: Duration) -> ();

        /// Forgets what is held of a closed connection, and holds nothing more of it, unless someone was proved to be on it
        /// who has not logged out: no one could ever ask for it. Tells how many messages that were.
        fn discard_messages(connection: ConnectionId) -> u64;
    }
}

store_part! {
    /// Counts what is held of connections that are no one's.
    pub trait ReservationStore {
        /// Counts what is to be held of a connection that is no one's yet. Tells whether that is not too much; if it is, nothing
        /// is counted.
        fn reserve(connection: ConnectionId, reservation: &'a Reservation) -> bool;

        /// Gives back all that was counted of a connection.
        fn unreserve(connection: ConnectionId) -> ();

        /// How many bytes are counted of all connections together.
        fn reserved() -> u64;
    }
}

/// How much may be held of one connection's messages, as much again of answers to it, and of pushes to one identity; and for
/// how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// The number of messages.
    pub messages: u64,
    /// How many bytes of bodies, all together.
    pub bytes: u64,
    /// How many of what is held for one identity may be one user's.
    pub of_sender: u64,
    /// How long one waits before it is given up.
    pub ttl: Duration,
}

/// How much may be held of connections that are no one's, as anyone who reaches the port has as many of those as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnauthenticatedLimits {
    /// Of one connection, and for how long.
    pub hold: HoldLimits,
    /// How many bytes of all connections of one terminator.
    pub bytes_of_terminator: u64,
    /// How many bytes of all connections.
    pub bytes_of_all: u64,
}

/// What is to be held of a connection that is no one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// How many bytes.
    pub bytes: u64,
    /// How many all connections of its terminator may have.
    pub most_of_terminator: u64,
    /// How many all connections may have.
    pub most_of_all: u64,
    /// When they are given back, if no one does before.
    pub until: Timestamp,
}

/// What each held message takes besides its text, about, in the store.
const BYTES_BESIDES: u64 = 512;

impl UnauthenticatedLimits {
    /// What is to be counted before the message is held.
    pub(crate) fn reservation(&self, message: &HeldMessage, now: Timestamp) -> Reservation {
        Reservation {
            bytes: message.bytes() + BYTES_BESIDES,
            most_of_terminator: self.bytes_of_terminator,
            most_of_all: self.bytes_of_all,
            until: self.hold.gone_at(message.since, now),
        }
    }
}

/// With what the keys of what backends push begin. Those of answers are message ids, and begin like neither.
pub(crate) const PUSH: &str = "p:";

/// With what the keys of what users send begin, before the user's tag. No one else's begin like it.
const USER: &str = "u:";

/// The key of something that a user sends.
pub fn key_of_user(sender: IdentityTag, id: &str) -> String {
    format!("{USER}{sender}:{id}")
}

impl HoldLimits {
    /// How many of what is held for one identity users may have, all together: backends have the rest.
    pub(super) fn messages_of_users(&self) -> u64 {
        (self.messages / 2).max(1)
    }

    /// How many bytes.
    pub(super) fn bytes_of_users(&self) -> u64 {
        self.bytes / 2
    }

    /// Until when to keep what is held since then: beyond its time, so that anyone who waits for it can be told.
    pub(super) fn gone_at(&self, since: Timestamp, now: Timestamp) -> Timestamp {
        // What came back from elsewhere may be past its time already, and is still told.
        since.saturating_add(self.ttl).max(now).saturating_add(HOLD_GRACE)
    }
}

/// A client's message that waits, without its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMessage {
    /// Its place in its connection's order.
    pub sequence: Sequence,
    /// The client's own name for it.
    pub id: Option<RequestId<'static>>,
    /// Its `type`.
    pub kind: String,
    /// Its payload, one JSON text.
    pub payload: Option<String>,
    /// On whose behalf alone it may be handled: the identity that its expired token proved, or else the connection's.
    pub owner: Option<IdentityTag>,
    /// The `jti` of that token, by which it may be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenIdTag>,
    /// Its `sid`, by which its session may be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionTag>,
    /// Its `iat`, by which it may be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// What its own token allowed, if it brought one: it may do no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Allowed>,
    /// The client of that token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// When it was held.
    pub since: Timestamp,
    /// Whether its connection was no one's then: it does not wait for long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unauthenticated: bool,
    /// Until when its sender waits, if they have said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Where in which trace that was, if it was traced: a `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl HeldMessage {
    /// How much it counts against the limit.
    pub fn bytes(&self) -> u64 {
        let id = self.id.as_ref().map(RequestId::as_str);
        let texts = [Some(self.kind.as_str()), id, self.payload.as_deref()];
        let allowed = self.allowed.as_ref().map_or(0, Allowed::bytes);
        allowed + texts.into_iter().flatten().map(|text| text.len() as u64).sum::<u64>()
    }

    /// What a revocation must mean to concern it, as a message of that connection; none if no one was proved.
    pub(crate) fn subject(&self, connection: ConnectionId) -> Option<Subject> {
        Some(Subject {
            identity: self.owner?,
            token_id: self.token_id,
            session: self.session,
            issued_at: self.issued_at,
            proven: None,
            connection: Some(connection),
        })
    }
}

/// Something to be written that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldWrite {
    /// By which it is known if it comes twice.
    pub key: String,
    /// The text, as it crosses the socket.
    pub body: String,
    /// On whose behalf it was asked, if it is an answer: they alone may hear it, though the connection be another's by now.
    pub asker: Option<IdentityTag>,
    /// Who wants to know what becomes of it, if it is a push.
    pub producer: Option<Producer>,
    /// When it was first given to us.
    pub since: Timestamp,
    /// Until when it may be held, if its producer has said so.
    pub until: Option<Timestamp>,
}

impl HeldWrite {
    /// Whether it has waited for longer than its producer wants.
    pub fn is_past(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// With what the keys of its sender begin, if that is a user.
    pub(crate) fn sender(&self) -> Option<&str> {
        let behind = self.key.strip_prefix(USER)?.find(':')?;
        self.key.get(..=USER.len() + behind)
    }

    /// How much it counts against the limit.
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64
    }
}

/// What became of something that was to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It is held, now or since an earlier call: it is there once.
    Held {
        /// How many are held.
        count: u64,
        /// The connection that has taken over what this one had held: it must be told. For messages alone.
        successor: Option<ConnectionId>,
    },
    /// It is not: there is too much already.
    Overflow,
    /// It is not: its connection has closed, and was no one's.
    Deserted,
}
