//! Which connections an identity has, and had.

use std::collections::BTreeMap;

use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence, TerminatorId};
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

use super::around::store_part;
use super::{EXPIRED_KEPT, LONGEST_KEPT};

store_part! {
    /// Knows which connections each identity has, and had.
    pub trait ConnectionStore {
        /// Enters a connection among those of an identity, or renews its entry, if no newer message has done so or taken it
        /// out. Tells how many pushes are held for the identity, as of after the entry; none if it is not entered.
        fn register(identity: IdentityTag, entry: Registered) -> Option<u64>;

        /// Takes a connection out of those of an identity, unless a message newer than `by` has entered it; what is not newer
        /// does not enter it any more. Without `by` no message says so: it is out for now, and anyone who is there may enter it.
        fn unregister(identity: IdentityTag, connection: ConnectionId, by: Option<Sequence>) -> ();

        /// The connections of an identity that were taken out of it since then and may be resumed, the first that left first, but no
        /// more than the last few, and when each left.
        fn departed(identity: IdentityTag, since: Timestamp) -> Vec<(ConnectionId, Timestamp)>;

        /// One of these is not to be told of any more: someone has taken over from it, or no one may.
        fn replace_departed(identity: IdentityTag, connection: ConnectionId) -> ();

        /// All connections of an identity, those that have expired within a day included, in no order.
        fn connections(identity: IdentityTag) -> Vec<Registered>;

        /// The connections that have left those of an identity lately, for as long as decisions about them are kept, in no order.
        fn closed_lately(identity: IdentityTag) -> Vec<ConnectionId>;

        /// One connection of an identity, likewise.
        fn registered(identity: IdentityTag, connection: ConnectionId) -> Option<Registered>;
    }
}

store_part! {
    /// Knows which connections terminators have open, where that is told.
    pub trait OpenStore {
        /// Remembers which connections a terminator has open, in the order of the calls.
        fn enter_open(terminator: TerminatorId, changes: &'a OpenChanges) -> ();

        /// Connections that a terminator has open, about `most` of them, with the last event of each; none only if there are none.
        fn open_connections(terminator: TerminatorId, most: u64) -> Vec<(u64, String)>;

        /// The terminators that have connections open and were looked at last at that moment or before, or began to have some. From now
        /// on they have been looked at.
        fn terminators_due(before: Timestamp) -> Vec<TerminatorId>;
    }
}

/// What is to be known of the connections of a terminator, by their numbers: the last event of each that is open, and nothing of
/// one that is not.
pub type OpenChanges = BTreeMap<u64, Option<String>>;

/// One connection of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The connection's id.
    pub connection: ConnectionId,
    /// The message that entered it last, by which entries are compared.
    pub by: Sequence,
    /// Until when it is authenticated, leeway included.
    pub until: Timestamp,
    /// When its token was issued, and by which `jti` it may be revoked.
    pub issued_at: Option<Timestamp>,
    /// The tag of its token's `jti`.
    pub token_id: Option<TokenIdTag>,
    /// The tag of its token's `sid`.
    pub session: Option<SessionTag>,
}

impl Registered {
    /// When it is no longer told of, as far as that is known now.
    pub(super) fn gone_at(&self, now: Timestamp) -> Timestamp {
        let longest = now.saturating_add(LONGEST_KEPT);
        self.until.saturating_add(EXPIRED_KEPT).min(longest)
    }
}
