//! For whom something is held that is to be written.
//!
//! A push is for an identity: each of its connections may hear it, or its next one. An answer is for whoever asked: its
//! `id` means something on that connection alone, and another application of the same identity may not know what it says.
//! A push that others of the identity have got waits besides for each connection that has gone and may be resumed.

use std::fmt;
use std::str::FromStr;

use shared::wire::id::{ConnectionId, MalformedId};
use shared::wire::tag::IdentityTag;

/// What is held in one order, within bounds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mailbox {
    /// Pushes for an identity.
    Pushes(IdentityTag),
    /// Answers to what was asked on a connection, for it and whoever takes over from it.
    Answers(ConnectionId),
    /// Pushes that a connection has missed that is gone, for whoever takes over from it.
    Missed(ConnectionId),
}

/// Stands before the connection whose missed pushes are meant.
const MISSED: &str = "m:";

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pushes(identity) => identity.fmt(f),
            Self::Answers(connection) => connection.fmt(f),
            Self::Missed(connection) => write!(f, "{MISSED}{connection}"),
        }
    }
}

impl FromStr for Mailbox {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        if let Some(connection) = text.strip_prefix(MISSED) {
            return connection.parse().map(Self::Missed);
        }
        let pushes = || text.parse().map(Self::Pushes);
        text.parse().map(Self::Answers).or_else(|_| pushes())
    }
}

impl From<IdentityTag> for Mailbox {
    fn from(identity: IdentityTag) -> Self {
        Self::Pushes(identity)
    }
}

impl From<ConnectionId> for Mailbox {
    fn from(connection: ConnectionId) -> Self {
        Self::Answers(connection)
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::id::TerminatorId;

    use super::*;

    #[test]
    fn a_mailbox_reads_back_and_one_kind_is_never_taken_for_the_other() {
        let connection = ConnectionId {
            terminator: TerminatorId::random(),
            number: 7,
        };
        for mailbox in [
            connection.into(),
            IdentityTag::of(&[1; 32]).into(),
            Mailbox::Missed(connection),
        ] {
            let mailbox: Mailbox = mailbox;
            assert_eq!(mailbox.to_string().parse(), Ok(mailbox));
        }
        for text in ["", ".", "0123", "p:1"] {
            assert_eq!(text.parse::<Mailbox>(), Err(MalformedId), "{text:?}");
        }
    }
}
