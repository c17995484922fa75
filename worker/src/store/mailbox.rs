//! For whom something is held that is to be written.
//!
//! A push is for an identity: each of its connections may hear it, or its next one. An answer is for the one who asked: its
//! `id` means something on that connection alone, and another application of the same identity may not know what it says.
//! A push that others of the identity have got waits besides for each connection that has gone and may be resumed.

use std::fmt;
use std::str::FromStr;

use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, MalformedId};
use shared::wire::tag::IdentityTag;

use super::around::store_part;
use super::hold::{HeldWrite, HoldLimits, Holding};

store_part! {
    /// Holds what is to be written, by mailbox.
    pub trait WriteStore {
        /// Holds something to be written, once for each key of a mailbox. What was dropped may be held again. If it fails,
        /// it must be repeated: it may be held, and unknown to [`overdue`](Self::overdue).
        fn hold_write(mailbox: Mailbox, write: &'a HeldWrite, limits: &'a HoldLimits) -> Holding;

        /// What is held in a mailbox, in the order in which it was held, `most` at most.
        fn held_writes(mailbox: Mailbox, most: u64) -> Vec<HeldWrite>;

        /// Forgets held writes. Tells how many are left.
        fn drop_writes(mailbox: Mailbox, keys: &'a [String]) -> u64;

        /// So many that belong in a mailbox are not held there, or not any more, and were not written. It is remembered for a day.
        fn miss(mailbox: Mailbox, count: u64) -> ();

        /// How many those are, which are forgotten now.
        fn take_missed(mailbox: Mailbox) -> u64;

        /// Notes that a producer is told what became of something for an identity, by the key that was drawn for it: once and for
        /// all, or that it is `held`, before that. Tells whether that is new, as far as it is remembered.
        fn conclude(identity: IdentityTag, key: u64, held: bool) -> bool;

        /// Mailboxes in which something is held that was first given to us before `since`, `most` at most. It may name one
        /// in which nothing is held any more.
        fn overdue(since: Timestamp, most: u64) -> Vec<Mailbox>;
    }
}

/// What is held in one order, within bounds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mailbox {
    /// Pushes for an identity.
    Pushes(IdentityTag),
    /// Answers to what was asked on a connection, for it and anyone who takes over from it.
    Answers(ConnectionId),
    /// Pushes that a connection has missed that is gone, for anyone who takes over from it.
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
