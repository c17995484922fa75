//! What is known of who is on the other end of a connection, and who may take over what it leaves.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};

use super::around::store_part;
use super::{AFTERLIFE, LONGEST_KEPT};
use crate::auth::identity::Identity;

store_part! {
    /// Knows of each connection's authentication.
    pub trait AuthenticationStore {
        /// Writes `authentication`, if it is by a newer message than what is there.
        fn record(connection: ConnectionId, authentication: &'a Authentication) -> Recorded;

        /// Reads what was last written, if that was not too long ago.
        ///
        /// The state is told as it was written: whether its time is over is for the caller to say.
        fn authentication(connection: ConnectionId) -> Option<Authentication>;

        /// Lets `successor` take over what is held of `connection`, if it shows the secret that was told to `identity` there.
        /// Tells whether it may. From then on [`hold_message`](super::MessageStore::hold_message) of `connection` names the successor.
        ///
        /// It can be done for as long as anything is held, also when the connection is closed; but not when it was
        /// forgotten after that identity, in whatever order that was recorded. Who forgets or is another has no successor either.
        fn resume(connection: ConnectionId, secret: &'a ResumeDigest, identity: &'a Identity, successor: ConnectionId) -> bool;

        /// The connection that took over what is held of this one, if one did.
        fn successor(connection: ConnectionId) -> Option<ConnectionId>;

        /// The connections that this one took over, the first one first, for as long as anything may be held of the last.
        fn predecessors(connection: ConnectionId) -> Vec<ConnectionId>;
    }
}

/// What the store knows of who is on the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// A verified token proved who it is.
    Live {
        /// The identity that was proved.
        identity: Identity,
        /// The token's expiry, without leeway.
        until: Timestamp,
        /// The message that brought the token.
        by: Sequence,
        /// What a connection that resumes this one must show: a digest of its secret.
        resume: ResumeDigest,
    },
    /// The client has logged out: the socket is there, and no one's.
    Forgotten {
        /// The message that said so.
        by: Sequence,
    },
    /// The socket is closed: no one is there any more. Anyone who it was can still be resumed.
    Closed {
        /// Newer than every message of the connection.
        by: Sequence,
    },
}

impl Authentication {
    /// What the state is the work of, and by which it is compared.
    pub const fn by(&self) -> Sequence {
        match self {
            Self::Live { by, .. } | Self::Forgotten { by } | Self::Closed { by } => *by,
        }
    }

    /// For how long to keep the state from `now`, where tokens count for `leeway` after their expiry.
    pub(super) fn kept_for(&self, now: Timestamp, leeway: Duration) -> Duration {
        let useful = match self {
            Self::Live { until, .. } => until.saturating_add(leeway).saturating_since(now),
            Self::Forgotten { .. } | Self::Closed { .. } => Duration::ZERO,
        };
        useful.saturating_add(AFTERLIFE).min(LONGEST_KEPT)
    }

    /// Whether both say the same, whichever message said it.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Live {
                    identity,
                    until,
                    by: _,
                    resume,
                },
                Self::Live {
                    identity: of_other,
                    until: until_of_other,
                    by: _,
                    resume: resume_of_other,
                },
            ) => identity == of_other && until == until_of_other && resume == resume_of_other,
            (Self::Forgotten { by: _ }, Self::Forgotten { by: _ })
            | (Self::Closed { by: _ }, Self::Closed { by: _ }) => true,
            _ => false,
        }
    }
}

/// The SHA-256 of a connection's resume secret, as it is written.
pub type ResumeDigest = [u8; 32];

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The connection's state is now what was written, and was another before.
    ///
    /// The very same write once more is told this again: its first answer may have
    /// died with the worker that waited for it.
    Changed,
    /// The state stays what it was, now by a newer message.
    Unchanged,
    /// Not applied: a newer message has written already.
    Stale,
}
