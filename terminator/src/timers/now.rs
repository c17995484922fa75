//! One moment, on the clock that tokens are dated by and on the one that cannot be turned back.

use std::time::Duration;

use shared::service::clock::Timestamp;
use tokio::time::Instant;

/// The furthest moment that is told apart from never: beyond every token's life, and within what an `Instant` holds.
pub(crate) const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// One moment on both clocks: the one that tokens are dated by, and the one that no one can turn back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Timestamp,
}

impl Now {
    /// That moment, as seen from now, on the clock that no one can turn back. What is past is now.
    pub(crate) fn instant_of(self, moment: Timestamp) -> Instant {
        self.instant + moment.saturating_since(self.wall).min(FAR)
    }
}
