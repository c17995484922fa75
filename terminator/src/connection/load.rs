//! What all connections together keep in memory for clients that do not read it, and who gives way when that is too much.
//!
//! Each connection has a bound of its own (`send-queue-bytes`), but ten thousand times that is more than a machine has. And
//! what is not written is not acknowledged, of which the broker gives out only so many: anyone who reads nothing takes that
//! away from everyone. So there is a budget for all, of bytes and of texts. Above three quarters of it those give way
//! that hold most, and more than their part, and whose sockets have taken nothing for a second, as slow readers do, until half
//! of it is free: what was theirs goes back to the workers. At the whole of it a connection that holds more than a sixteenth of its own bound
//! gives way when it is to hold more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::PREFETCH;

/// A socket that has not taken what it was given for so long is a slow reader's, if someone has to give way.
pub(crate) const STALLED: Duration = Duration::from_secs(1);
/// The most texts that wait, all connections together: of what the broker gives out, half is for what is kept behind fetches.
const MOST_TEXTS: usize = PREFETCH as usize / 2;
/// The most texts that are kept before a text for many waits: as many as there could be if each had come by itself.
const MOST_COPIES: usize = PREFETCH as usize;
/// The part of its own bound that a connection may hold when all is used up.
const SHARE_WHEN_FULL: usize = 16;

/// What is kept for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) texts: usize,
    pub(crate) bytes: usize,
}

/// What is kept for all.
pub(crate) struct TotalLoad {
    most_bytes: usize,
    texts: AtomicUsize,
    bytes: AtomicUsize,
    /// There is room again for texts that came as one.
    room: Notify,
}

impl TotalLoad {
    pub(crate) const fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            texts: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            room: Notify::const_new(),
        }
    }

    /// Waits while as many texts are kept as the broker gives out: a text for many comes as one, and would be kept for each. One
    /// task waits.
    pub(crate) async fn until_room(&self) {
        while self.texts.load(Ordering::Relaxed) >= MOST_COPIES {
            self.room.notified().await;
        }
    }

    /// What is kept for one has changed.
    pub(crate) fn moved(&self, before: Load, after: Load) {
        if before == after {
            return;
        }
        self.texts.fetch_add(after.texts, Ordering::Relaxed);
        self.bytes.fetch_add(after.bytes, Ordering::Relaxed);
        let texts = self.texts.fetch_sub(before.texts, Ordering::Relaxed);
        if texts >= MOST_COPIES && texts - before.texts.min(texts) < MOST_COPIES {
            self.room.notify_one();
        }
        self.bytes.fetch_sub(before.bytes, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Load {
        Load {
            texts: self.texts.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// How many bytes a connection may have waiting to be sent, that may have `most` while there is room.
    pub(crate) fn bound(&self, most: usize) -> usize {
        if self.is_full() { most / SHARE_WHEN_FULL } else { most }
    }

    /// Whether all is used up.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.most_bytes
    }

    /// Whether more than so many quarters are used up.
    pub(crate) fn is_above(&self, quarters: usize) -> bool {
        let Load { texts, bytes } = self.get();
        bytes / quarters > self.most_bytes / 4 || texts / quarters > MOST_TEXTS / 4
    }

    /// How much of all that is, in millionths.
    pub(crate) fn share(&self, load: Load) -> usize {
        let of = |part: usize, whole: usize| part.saturating_mul(1_000_000) / whole.max(1);
        of(load.bytes, self.most_bytes).max(of(load.texts, MOST_TEXTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_known_whoever_it_is_for() {
        let total = TotalLoad::new(1_000);
        let (none, some) = (Load::default(), Load { texts: 2, bytes: 700 });
        total.moved(none, some);
        assert!(!total.is_above(3));
        total.moved(none, Load { texts: 1, bytes: 300 });
        assert!(total.is_above(3) && total.is_full());
        assert_eq!(total.bound(160), 10);
        total.moved(some, none);
        assert_eq!(total.get(), Load { texts: 1, bytes: 300 });
        assert!(!total.is_above(2) && total.bound(160) == 160);
    }

    #[tokio::test(start_paused = true)]
    async fn copies_wait_for_room_and_no_longer() {
        let total = TotalLoad::new(usize::MAX);
        let of = |texts| Load { texts, bytes: 1 };
        total.moved(of(0), of(MOST_COPIES - 1));
        total.until_room().await;
        total.moved(of(0), of(2));
        let waited = tokio::time::timeout(STALLED, total.until_room()).await;
        assert!(waited.is_err(), "there is no room");
        total.moved(of(1), of(0));
        let waited = tokio::time::timeout(STALLED, total.until_room()).await;
        assert!(waited.is_err(), "nor now");
        let (waited, ()) = tokio::join!(tokio::time::timeout(STALLED, total.until_room()), async {
            tokio::task::yield_now().await;
            total.moved(of(1), of(0));
        });
        waited.expect("now there is");
    }

    #[test]
    fn many_small_texts_are_too_much_as_a_few_large_ones_are() {
        let total = TotalLoad::new(usize::MAX);
        let many = Load {
            texts: MOST_TEXTS,
            bytes: 1,
        };
        total.moved(Load::default(), many);
        assert!(total.is_above(3));
        assert!(
            total.share(many)
                > total.share(Load {
                    texts: 1,
                    bytes: 1 << 30
                })
        );
    }
}
