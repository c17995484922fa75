//! What has been revoked, and by which events.

use std::time::Duration;

use shared::wire::revocation::{Revocation, Target};
use shared::wire::tag::TokenIdTag;

use super::around::store_part;

store_part! {
    /// Keeps revocations, and which events of issuers were told.
    pub trait RevocationStore {
        /// Records revocations, each until its last token has expired; of two for one target, the stricter of each of their
        /// times. None is dropped for another: one that is too many is refused. Waits a moment for a replica, if there is one.
        fn revoke(revocations: &'a [Revocation]) -> Kept;

        /// All revocations that are recorded.
        fn revocations() -> Vec<Revocation>;

        /// Whether an event of an issuer, by its `jti`, was told before. If it was not, and `keep` says for how long, it is known
        /// from now on.
        fn know_event(event: TokenIdTag, keep: Option<Duration>) -> bool;
    }
}

/// What became of revocations that the store was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that are too many: the store has not taken them.
    pub refused: Vec<Target>,
    /// Whether there is a replica that should have them too, and none has confirmed that in time.
    pub unreplicated: bool,
}
