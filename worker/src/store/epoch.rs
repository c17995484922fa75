//! Whether the store still has what it was given.
//!
//! A server that comes up empty, or a replica that takes over, has lost something, and
//! nobody says so. Each such life of the store is an epoch. Whoever sees a new one
//! brings back what it knows itself: workers their revocations, terminators their
//! connections.

/// One life of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Drawn at random when it begins.
    pub id: u64,
    /// Whether terminators have been told of it.
    pub announced: bool,
}
