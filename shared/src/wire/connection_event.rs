//! What is told outside of a connection: that it was opened, whose it has become, how it was closed.
//!
//! Terminators publish it through the exchange `<ns>.events`, and workers in the place of a terminator that was lost. It names
//! an identity, and never holds a token.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{ConnectionId, MalformedId, TerminatorId};
use crate::service::clock::Timestamp;

/// Why a connection is closed if its terminator is lost.
pub const TERMINATOR_LOST: &str = "terminator lost";

/// The media type of an event.
pub const CONTENT_TYPE: &str = "application/json";

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Its handshake is done: it is there, and has no identity yet.
    Opened,
    /// A token has authenticated it.
    Authenticated,
    /// A token has renewed its authentication: it has the same identity for longer.
    Renewed,
    /// Its authentication has expired. It may still be renewed.
    Expired,
    /// Its client has logged out. It has no identity any more, and may have another later.
    LoggedOut,
    /// Its authentication was revoked; it is about to be closed.
    Revoked,
    /// It is gone: its last event.
    Closed,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Opened,
        Self::Authenticated,
        Self::Renewed,
        Self::Expired,
        Self::LoggedOut,
        Self::Revoked,
        Self::Closed,
    ];

    /// Its routing key, which is its name everywhere else, too.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Opened => "connection.opened",
            Self::Authenticated => "connection.authenticated",
            Self::Renewed => "connection.renewed",
            Self::Expired => "connection.expired",
            Self::LoggedOut => "connection.logged-out",
            Self::Revoked => "connection.revoked",
            Self::Closed => "connection.closed",
        }
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let named = Self::ALL.into_iter().find(|kind| kind.key() == key);
        named.ok_or_else(|| serde::de::Error::custom("no event has that name"))
    }
}

/// An identity, as its tokens name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityNames {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The subject: their `sub`, or what another claim says, if the workers are set up so.
    pub subject: String,
}

/// One thing that has happened to one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionEvent {
    /// The kind of event.
    pub event: EventKind,
    /// To which connection.
    pub connection: ConnectionId,
    /// The terminator that has it: one run of one process.
    #[serde(with = "terminator_id")]
    pub terminator: TerminatorId,
    /// Its place among the events of the connection: each is larger than those before it, if not always by one.
    pub sequence: u64,
    /// When it happened.
    pub at_ms: Timestamp,
    /// Who is on the connection, or was until this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityNames>,
    /// The `jti` of the token by which that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Its `sid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Until when the connection is authenticated, leeway included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<Timestamp>,
    /// With which code it was closed, if that was not done by its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Why it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it tells how a connection is that was told of before, because that may have been lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl ConnectionEvent {
    /// As it is published.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What a text says; none if it is no event.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The end of the connection of which this was the last event, as its terminator is lost.
    #[must_use]
    pub fn lost(self, now: Timestamp) -> Self {
        // Who has logged out is not on it any more.
        let is_there = self.event != EventKind::LoggedOut;
        Self {
            event: EventKind::Closed,
            sequence: self.sequence.saturating_add(1),
            at_ms: now,
            identity: self.identity.filter(|_| is_there),
            jti: self.jti.filter(|_| is_there),
            sid: self.sid.filter(|_| is_there),
            expires_at_ms: None,
            code: None,
            reason: Some(TERMINATOR_LOST.to_owned()),
            again: false,
            ..self
        }
    }

    /// A name that no other event has.
    pub fn name(&self) -> String {
        format!("{}/{}", self.connection, self.sequence)
    }
}

mod terminator_id {
    use super::{Deserialize, Deserializer, MalformedId, Serializer, TerminatorId};

    pub(super) fn serialize<S: Serializer>(id: &TerminatorId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TerminatorId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse()
            .map_err(|error: MalformedId| serde::de::Error::custom(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticated() -> ConnectionEvent {
        let terminator = TerminatorId::random();
        ConnectionEvent {
            event: EventKind::Authenticated,
            connection: ConnectionId { terminator, number: 7 },
            terminator,
            sequence: 2,
            at_ms: Timestamp::from_secs(1_000),
            identity: Some(IdentityNames {
                issuer: "https://issuer.example".to_owned(),
                subject: "alice".to_owned(),
            }),
            jti: Some("j".to_owned()),
            sid: None,
            expires_at_ms: Some(Timestamp::from_secs(1_300)),
            code: None,
            reason: None,
            again: false,
        }
    }

    #[test]
    fn an_event_reads_back_as_it_was_written_and_says_nothing_that_is_not_so() {
        for event in EventKind::ALL {
            let event = ConnectionEvent {
                event,
                ..authenticated()
            };
            let text = event.to_json();
            assert_eq!(ConnectionEvent::from_json(&text), Some(event));
            let text = String::from_utf8(text).unwrap();
            assert!(
                !text.contains("null") && !text.contains("again") && !text.contains("sid"),
                "{text}"
            );
        }
        assert_eq!(ConnectionEvent::from_json(b"{}"), None);
    }

    #[test]
    fn the_end_of_a_lost_connection_comes_after_its_last_event_and_names_who_was_there() {
        let (last, now) = (authenticated(), Timestamp::from_secs(2_000));
        let lost = last.clone().lost(now);
        assert_eq!((lost.event, lost.sequence, lost.at_ms), (EventKind::Closed, 3, now));
        assert_eq!((&lost.identity, &lost.jti), (&last.identity, &last.jti));
        assert_eq!((lost.code, lost.reason.as_deref()), (None, Some(TERMINATOR_LOST)));
        let logged_out = ConnectionEvent {
            event: EventKind::LoggedOut,
            ..last
        };
        let lost = logged_out.lost(now);
        assert_eq!((lost.identity, lost.jti), (None, None));
    }
}
