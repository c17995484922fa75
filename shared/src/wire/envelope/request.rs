//! What a terminator tells the workers: a client's message, or that something has become of a connection.
//!
//! | header | |
//! |---|---|
//! | `auth-sequence` | the sequence of the message that last changed the connection's authentication; absent: none did |
//! | `grant`, `principal` | the grant's two texts, if the connection has one, in force or expired |
//! | `resume` | the connection's resume secret, while there is no grant that holds it |
//! | `unsettled` | an earlier message of the connection, by which this one may have to be decided, is not yet settled |
//! | `held` | a message of the connection is held |
//! | `ordered` | the connection's messages are handled one after the other |
//! | `ahead` | it is sent ahead of its turn, for what it says of who the connection is alone |
//! | `unsure` | the terminator does not know by how much its clock differs from the workers' |
//! | `is-retry` | a worker has sent it back once: it must be decided now |
//! | `from` | on a release: whose held messages, if not the connection's own |
//! | `code` | on a close: the status code, if it was we who closed |
//! | `received-ms` | when the terminator received the message, as `timestamp` but in milliseconds since 1970; by the workers' clock, as far as it knows that |
//!
//! The body of a release is which messages are known to be held, if they are the connection's own
//! ([`release`](super::release)).
//!
//! `reply_to` is the terminator's return queue, `timestamp` when it received the
//! message, in seconds.

use std::sync::Arc;

use bytes::Bytes;

use super::{Headers, InvalidHeader, JSON, flag, number, parsed, text};
use crate::bus::{Message, Properties};
use crate::service::clock::Timestamp;
use crate::wire::id::{ConnectionId, MessageId, Sequence};
use crate::wire::tag::ResumeSecret;

const TYPE_MESSAGE: &str = "message";
const TYPE_RUN: &str = "run";
const TYPE_CLOSED: &str = "closed";
const TYPE_RELEASE: &str = "release";
const TYPE_ANNOUNCED: &str = "announced";
const TYPE_BACK: &str = "back";

const BY: &str = "auth-sequence";
const GRANT: &str = "grant";
const PRINCIPAL: &str = "principal";
const RESUME: &str = "resume";
const UNSETTLED: &str = "unsettled";
const HELD: &str = "held";
const ORDERED: &str = "ordered";
const AHEAD: &str = "ahead";
const UNSURE: &str = "unsure";
const AGAIN: &str = "is-retry";
const FROM: &str = "from";
const CODE: &str = "code";
/// When a terminator received a message, in milliseconds since the Unix epoch.
pub const RECEIVED_MS: &str = "received-ms";

/// What a terminator tells the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A client sent the body.
    Message,
    /// A client sent the messages of the body, one after the other ([`run`](super::run)): a worker handles them in that
    /// order. The message id is that of the first.
    Run,
    /// The connection has closed; the sequence is one past its last message.
    Closed {
        /// The status code of our close frame (RFC 6455 §7.4), if it was we who closed.
        code: Option<u16>,
    },
    /// What is held of the connection may be handled now, on behalf of the grant, if it is in force; what has waited
    /// too long is refused in any case. It is a request: it has a sequence of its own and is settled.
    Release {
        /// The connection whose held messages are meant, if it is another that this one resumes.
        from: Option<ConnectionId>,
    },
    /// The connection is there, as it stands: for a store that has lost it. The sequence is that of the message that last
    /// changed it; nothing is answered.
    Announced,
    /// The terminator was without the broker for so long that its queue may have gone, and revocations with it: it is
    /// told all of them. The message id is of no connection, and that is all that is answered.
    Back,
}

/// How a connection stood when its terminator forwarded something of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthSnapshot {
    /// The message that last changed its authentication.
    pub by: Option<Sequence>,
    /// The facts of its grant: [`crate::wire::grant::Grant::to_facts`].
    pub grant: Option<Arc<str>>,
    /// The principal of its grant, opaque to the terminator.
    pub principal: Option<Arc<str>>,
    /// Its resume secret, while there is no grant.
    pub resume: Option<ResumeSecret>,
    /// Whether an earlier message, by which this one may have to be decided, is not yet settled.
    pub unsettled: bool,
    /// Whether messages of it are held.
    pub held: bool,
    /// Whether its messages are handled one after the other. What is held of them then comes before what brings the fresh
    /// token.
    pub ordered: bool,
    /// Whether it is sent ahead of its turn, because others of its connection take their time: it counts for who the
    /// connection is, and is sent back to be handled when its turn comes.
    pub ahead: bool,
    /// Whether a worker sent this one back already.
    pub again: bool,
    /// Whether the terminator does not know what time it is for workers: nothing may depend on when it received this.
    pub unsure: bool,
}

/// What a terminator tells, of which message of which connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedMessage {
    /// Which message of which connection.
    pub message_id: MessageId,
    /// What it is.
    pub notice: MessageKind,
    /// How the connection stood.
    pub snapshot: AuthSnapshot,
}

impl ForwardedMessage {
    /// The message that carries it, and a client's bytes, to the workers.
    pub fn to_message(&self, body: Bytes, reply_to: &str, received: Timestamp) -> Message {
        let AuthSnapshot {
            by,
            grant,
            principal,
            resume,
            unsettled,
            held,
            ordered,
            ahead,
            again,
            unsure,
        } = &self.snapshot;
        let (kind, from, code) = match self.notice {
            MessageKind::Message => (TYPE_MESSAGE, None, None),
            MessageKind::Run => (TYPE_RUN, None, None),
            MessageKind::Closed { code } => (TYPE_CLOSED, None, code),
            MessageKind::Release { from } => (TYPE_RELEASE, from, None),
            MessageKind::Announced => (TYPE_ANNOUNCED, None, None),
            MessageKind::Back => (TYPE_BACK, None, None),
        };
        let headers = Headers::default()
            .number(BY, by.map_or(0, Sequence::get))
            .text(GRANT, grant.as_deref())
            .text(PRINCIPAL, principal.as_deref())
            .text(RESUME, *resume)
            .flag(UNSETTLED, *unsettled)
            .flag(HELD, *held)
            .flag(ORDERED, *ordered)
            .flag(AHEAD, *ahead)
            .flag(AGAIN, *again)
            .flag(UNSURE, *unsure)
            .text(FROM, from)
            .number(CODE, code.map_or(0, u64::from))
            .number(RECEIVED_MS, received.as_millis());
        Message {
            body,
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                kind: Some(kind.to_owned()),
                correlation_id: Some(self.message_id.to_string()),
                reply_to: Some(reply_to.to_owned()),
                timestamp_s: Some(received.as_secs()),
                headers: headers.0,
                ..Properties::default()
            },
        }
    }

    /// When the request says that it was received, in milliseconds.
    pub fn received_ms(properties: &Properties) -> Option<Timestamp> {
        let ms = number(properties, RECEIVED_MS).ok().filter(|ms| *ms > 0);
        ms.map(Timestamp::from_millis)
    }

    /// When the terminator received what the request carries. Of an older one, which tells the second alone, the end of
    /// that second.
    pub fn received(properties: &Properties) -> Option<Timestamp> {
        Self::received_ms(properties).or_else(|| {
            let second = properties.timestamp_s?;
            Some(Timestamp::from_secs(second.saturating_add(1)))
        })
    }

    /// The request of a message that came from a terminator; none if it is not of that shape.
    pub fn read(properties: &Properties) -> Option<Self> {
        Self::try_read(properties).ok().flatten()
    }

    fn try_read(properties: &Properties) -> Result<Option<Self>, InvalidHeader> {
        let message_id = properties.correlation_id.as_deref().and_then(|id| id.parse().ok());
        let (Some(message_id), Some(kind)) = (message_id, properties.kind.as_deref()) else {
            return Ok(None);
        };
        let code = u16::try_from(number(properties, CODE)?).map_err(|_| InvalidHeader)?;
        let notice = match kind {
            TYPE_MESSAGE => MessageKind::Message,
            TYPE_RUN => MessageKind::Run,
            TYPE_CLOSED => MessageKind::Closed {
                code: (code > 0).then_some(code),
            },
            TYPE_RELEASE => MessageKind::Release {
                from: parsed(properties, FROM)?,
            },
            TYPE_ANNOUNCED => MessageKind::Announced,
            TYPE_BACK => MessageKind::Back,
            _ => return Ok(None),
        };
        let by = number(properties, BY)?;
        Ok(Some(Self {
            message_id,
            notice,
            snapshot: AuthSnapshot {
                by: (by > 0).then_some(Sequence::new(by)),
                grant: text(properties, GRANT)?.map(Arc::from),
                principal: text(properties, PRINCIPAL)?.map(Arc::from),
                resume: parsed(properties, RESUME)?,
                unsettled: flag(properties, UNSETTLED),
                held: flag(properties, HELD),
                ordered: flag(properties, ORDERED),
                ahead: flag(properties, AHEAD),
                again: flag(properties, AGAIN),
                unsure: flag(properties, UNSURE),
            },
        }))
    }
}
