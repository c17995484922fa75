//! What happens to a message, to a push, and to what is held of either: as data.
//!
//! Anyone who brings it about raises an event, once, and knows nothing of who wants to know; the
//! `Observer` tells it on. What is no more than a number is counted where it happens, by
//! `Metrics`. No event has a token or a payload.

mod decision;
mod subject;
pub(crate) mod words;

use std::fmt::{Debug, Display};
use std::time::Duration;

use serde::{Serialize, Serializer};
use shared::wire::envelope::Bounced;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{CloseCode, ErrorCode, Reason};
use shared::wire::tag::IdentityTag;

pub(crate) use self::decision::is_noted;
pub use self::subject::{Redacted, Subject};
pub use self::words::{Checked, Proved, Released};
use crate::outbound::metrics::GaveUp;
use crate::outbound::outcome::Outcome;
use crate::store::{Mailbox, Recorded};

/// What has happened to it. Serialized, it is what else there is to tell.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Event<'a> {
    /// A worker has taken a message from its queue.
    Taken {
        /// How large it is.
        bytes: usize,
    },
    /// It is known what the message's own token proves.
    Judged {
        /// What the token proves, or why it proves nothing.
        #[serde(serialize_with = "as_word")]
        kind: Proved,
        /// Whether the verifier knew the token; none if there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        cached: Option<bool>,
        /// What the verifier said of it alone.
        #[serde(skip)]
        checked: Option<Checked>,
    },
    /// The message's connection has what its token earns it.
    Granted {
        /// What the store said; none if it was not asked.
        #[serde(serialize_with = "as_debug")]
        recorded: Option<Recorded>,
        /// How much is held for the identity.
        waiting: u64,
    },
    /// That was told before the reply, which takes its time.
    GrantedEarly,
    /// The message was `auth.authenticate`, and is true.
    Authenticated {
        /// The connection that its own takes over.
        resumes: Option<ConnectionId>,
    },
    /// A connection has shown the key of another.
    Resumed {
        /// The other.
        from: ConnectionId,
        /// Whether it takes it over.
        taken: bool,
    },
    /// The message was `auth.logout`, and its connection is logged out.
    LoggedOut {
        /// What the store said.
        #[serde(serialize_with = "as_debug")]
        recorded: Recorded,
    },
    /// A terminator has told that the message's connection is there.
    Announced {
        /// What the store said; none if it was not asked.
        #[serde(serialize_with = "as_debug")]
        recorded: Option<Recorded>,
        /// How much is held for the identity.
        waiting: u64,
    },
    /// A terminator is told all revocations, for which it asked.
    ToldRevocations {
        /// Its queue.
        queue: &'a str,
        /// How many they are.
        count: usize,
    },
    /// The message goes back to its terminator: it is not its turn.
    SentBack,
    /// The message waits for a fresh token.
    Held {
        /// Why it may not be handled yet.
        reason: Reason,
        /// How many wait with it.
        count: u64,
    },
    /// The application has had the message.
    Handled {
        /// Whether it did not fail.
        ok: bool,
        /// How long it took.
        #[serde(rename = "took_us", serialize_with = "as_micros")]
        took: Duration,
    },
    /// The message is refused.
    Refused {
        /// With this error.
        code: ErrorCode,
        /// Which says so.
        why: &'a str,
        /// With what its connection is closed, if it is.
        #[serde(serialize_with = "as_code")]
        close: Option<CloseCode>,
    },
    /// The broker has confirmed what is answered to the message.
    Replied {
        /// How long that took.
        #[serde(skip)]
        took: Duration,
    },
    /// The message gives another one up.
    Cancelled,
    /// The message was held, and is refused.
    HoldEnded {
        /// What became of it.
        #[serde(skip)]
        how: Released,
        /// In a sentence.
        #[serde(skip)]
        why: &'a str,
    },
    /// The message was held, and is handled.
    Released {
        /// Whose authentication let it go.
        by: ConnectionId,
    },
    /// A terminator has closed a connection.
    Closed {
        /// With this close code.
        code: u16,
    },
    /// It is decided what becomes of a push.
    Pushed {
        /// For whom it is, if for anyone.
        identity: Option<IdentityTag>,
        /// What became of it.
        #[serde(flatten)]
        outcome: &'a Outcome,
    },
    /// A push or a reply waits until it can be written.
    WriteHeld {
        /// Its key.
        key: Redacted<'a>,
        /// With what it waits.
        #[serde(serialize_with = "as_text")]
        mailbox: Mailbox,
        /// How many they are.
        count: u64,
    },
    /// That is a reply.
    ReplyHeld {
        /// Why it was not written.
        #[serde(skip)]
        why: Bounced,
    },
    /// A push or a reply will never be written.
    GivenUp {
        /// Its key.
        key: Redacted<'a>,
        /// With what it waited, or would have.
        #[serde(serialize_with = "as_text")]
        mailbox: Mailbox,
        /// Why it was dropped.
        #[serde(serialize_with = "as_debug")]
        why: GaveUp,
    },
    /// A connection has got what was held.
    Fetched {
        /// The mailbox that it was held in.
        #[serde(serialize_with = "as_text")]
        mailbox: Mailbox,
        /// How many messages it has got.
        count: usize,
        /// How much is left.
        left: u64,
    },
    /// A reply was among that.
    ReplyFetched {
        /// Which connection has got it.
        to: ConnectionId,
    },
    /// A revocation is in force, or refused.
    Revoked {
        /// What became of the revocation.
        #[serde(flatten)]
        outcome: &'a Outcome,
    },
}

impl Event<'_> {
    /// The stage of its subject's journey that it is; none if it is none.
    pub const fn stage(&self) -> Option<&'static str> {
        Some(match self {
            Self::Taken { .. } => "worker",
            Self::Judged { .. } => "verdict",
            Self::Granted { .. } => "granted",
            Self::GrantedEarly => "granted-early",
            Self::Resumed { .. } => "resume",
            Self::LoggedOut { .. } => "forgotten",
            Self::Announced { .. } => "announced",
            Self::ToldRevocations { .. } => "back",
            Self::SentBack => "again",
            Self::Held { .. } | Self::WriteHeld { .. } => "held",
            Self::Handled { .. } => "handler",
            Self::Refused { close: Some(_), .. } => "closing",
            Self::Replied { .. } => "return",
            Self::Cancelled => "cancel",
            Self::HoldEnded { how, .. } => how.as_str(),
            Self::Released { .. } => Released::Handled.as_str(),
            Self::Pushed { .. } => "push",
            Self::GivenUp { .. } => "given_up",
            Self::Fetched { .. } => "fetched",
            Self::Revoked { .. } => "revoke",
            Self::Authenticated { .. }
            | Self::Refused { close: None, .. }
            | Self::Closed { .. }
            | Self::ReplyHeld { .. }
            | Self::ReplyFetched { .. } => return None,
        })
    }
}

fn as_word<S: Serializer>(proved: &Proved, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(proved.as_str())
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_debug<S: Serializer>(value: &impl Debug, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:?}"))
}

fn as_micros<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    u64::try_from(time.as_micros())
        .unwrap_or(u64::MAX)
        .serialize(serializer)
}

fn as_code<S: Serializer>(close: &Option<CloseCode>, serializer: S) -> Result<S::Ok, S::Error> {
    close.map(CloseCode::code).serialize(serializer)
}
