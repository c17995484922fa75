//! Whether the store still has what it was given.
//!
//! A server that comes up empty, or a replica that takes over, has lost something, and
//! no one says so. Each such life of the store is an epoch. Anyone who sees a new one
//! brings back what it knows itself: workers their revocations, terminators their
//! connections.

use super::around::store_part;

store_part! {
    /// Is asked about itself.
    pub trait Server {
        /// From when on the store has kept all that it was given, as far as can be known: it begins anew when the store is
        /// empty, and when another server than before answers for it, which may lack the last writes.
        fn epoch() -> Epoch;

        /// All who must know have been told of the epoch.
        fn announced(epoch: Epoch) -> ();

        /// Asks the store whether it is there, for readiness.
        fn ping() -> ();

        /// Whether it takes writes, and if not, the cause as exactly as it can be found out; for that it may take some seconds
        /// longer than other calls.
        fn writable() -> ();
    }
}

/// One life of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Drawn at random when it begins.
    pub id: u64,
    /// Whether terminators have been told of it.
    pub announced: bool,
}
