//! What events are about.

use std::fmt::{self, Debug, Display};

use serde::{Serialize, Serializer};
use shared::wire::id::{ConnectionId, MessageId};

use crate::dead_letter::redact;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A message of a connection.
    Message(MessageId),
    /// A message that came by the queue alone: it has no connection, and so no name.
    Injected,
    /// A connection.
    Connection(ConnectionId),
    /// A push, by its producer's name for it.
    Push(&'a str),
    /// Something held that is no reply, by its key.
    Key(&'a str),
    /// Nothing of these.
    Other,
}

impl<'a> Subject<'a> {
    /// What is held under this key: a reply's is the name of its message and a further part.
    pub(crate) fn of_key(key: &'a str) -> Self {
        let message = key.rsplit_once('.').and_then(|(message_id, _)| message_id.parse().ok());
        message.map_or(Self::Key(key), Self::Message)
    }

    pub(in crate::admin) const fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Message(MessageId { connection, .. }) | Self::Connection(connection) => Some(connection),
            _ => None,
        }
    }
}

impl From<MessageId> for Subject<'_> {
    fn from(message_id: MessageId) -> Self {
        Self::Message(message_id)
    }
}

impl From<Option<MessageId>> for Subject<'_> {
    fn from(message_id: Option<MessageId>) -> Self {
        message_id.map_or(Self::Injected, Self::Message)
    }
}

impl From<ConnectionId> for Subject<'_> {
    fn from(connection: ConnectionId) -> Self {
        Self::Connection(connection)
    }
}

impl Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message_id) => Display::fmt(message_id, f),
            Self::Injected => f.write_str("injected"),
            Self::Connection(connection) => Display::fmt(connection, f),
            // A producer may write anything there.
            Self::Push(id) => write!(f, "p:{}", redact::text(id)),
            Self::Key(key) => f.write_str(&redact::text(key)),
            Self::Other => f.write_str("-"),
        }
    }
}

/// What someone else has written, without anything of a token's shape.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Redacted<'a>(pub(crate) &'a str);

impl Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::text(self.0))
    }
}

impl Serialize for Redacted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&redact::text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::id::{Sequence, TerminatorId};

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZy1lbm91Z2gtdG8tY291bnQ";

    #[test]
    fn what_is_held_of_a_reply_is_about_its_message_and_all_else_about_its_key() {
        let message_id = MessageId {
            connection: ConnectionId {
                terminator: TerminatorId::random(),
                number: 0x1f,
            },
            sequence: Sequence::new(3),
        };
        assert_eq!(
            Subject::of_key(&format!("{message_id}.0")),
            Subject::Message(message_id)
        );
        for key in ["p:order-7", "p:a.1.2.0", ""] {
            assert_eq!(Subject::of_key(key), Subject::Key(key));
        }
        assert_eq!(
            Subject::Push("order-7").to_string(),
            Subject::Key("p:order-7").to_string()
        );
    }

    #[test]
    fn no_subject_shows_a_token_that_a_producer_has_written_there() {
        for subject in [Subject::Push(TOKEN), Subject::Key(TOKEN)] {
            assert!(!subject.to_string().contains(TOKEN), "{subject}");
        }
        let key = Redacted(TOKEN);
        assert!(!format!("{key:?}").contains(TOKEN));
        assert!(!serde_json::to_string(&key).unwrap().contains(TOKEN));
    }
}
