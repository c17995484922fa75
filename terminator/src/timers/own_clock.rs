//! The machine's clock, as if no one turned it back.
//!
//! What has been given until a moment would last longer if the clock were turned back before that. So it is compared with the
//! clock that cannot be turned, and what it has lost against that is added from then on. What it has gained counts: it may have
//! been turned forward, but as well the machine may have slept, while which the other one stands still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::service::clock::{Clock, Timestamp};
use tokio::time::Instant;

/// By how much it may differ from what has passed on the other clock and not have been turned.
pub(crate) const TURNED: Duration = Duration::from_secs(1);
/// How long what is compared with is used: clocks drift.
const COMPARED: Duration = Duration::from_secs(60);

/// The machine's clock.
pub(crate) struct OwnClock {
    machine: Arc<dyn Clock>,
    /// By how many milliseconds it was turned back.
    lost_ms: AtomicU64,
    /// One moment on both clocks.
    seen: Mutex<(Instant, Timestamp)>,
}

impl OwnClock {
    pub(crate) fn new(machine: Arc<dyn Clock>) -> Self {
        Self {
            lost_ms: AtomicU64::new(0),
            seen: Mutex::new((Instant::now(), machine.now())),
            machine,
        }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        self.machine.now().saturating_add(self.lost())
    }

    /// By how much the machine's clock is behind this one.
    pub(crate) fn lost(&self) -> Duration {
        Duration::from_millis(self.lost_ms.load(Ordering::Relaxed))
    }

    /// Compares the clocks. To be called often, and before something is given until a moment.
    pub(crate) fn compare(&self, instant: Instant) {
        // Nothing under this lock panics half-way through a change.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = self.machine.now();
        let passed = instant.saturating_duration_since(seen.0);
        let expected = seen.1.saturating_add(passed);
        let (lost, gained) = (expected.saturating_since(shown), shown.saturating_since(expected));
        if lost >= TURNED {
            let lost_ms = expected.as_millis().saturating_sub(shown.as_millis());
            self.lost_ms.fetch_add(lost_ms, Ordering::Relaxed);
        }
        if lost >= TURNED || gained >= TURNED || passed >= COMPARED {
            *seen = (instant, shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    /// The clock of the tests, turned by so many seconds.
    struct Turned(Instant, AtomicI64);

    impl Clock for Turned {
        fn now(&self) -> Timestamp {
            let right_s = i64::try_from(self.0.elapsed().as_secs()).unwrap() + 10_000;
            Timestamp::from_secs(u64::try_from(right_s + self.1.load(Ordering::Relaxed)).unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_has_lost_is_added_and_what_it_has_gained_counts() {
        let machine = Arc::new(Turned(Instant::now(), AtomicI64::new(0)));
        let clock = OwnClock::new(machine.clone());
        for (turned_by, expected) in [
            (0, 10_010),
            (-300, 10_020),
            (-300, 10_030),
            (-600, 10_040),
            (600, 11_250),
        ] {
            tokio::time::sleep(Duration::from_secs(10)).await;
            machine.1.store(turned_by, Ordering::Relaxed);
            clock.compare(Instant::now());
            assert_eq!(clock.now(), Timestamp::from_secs(expected), "{turned_by}");
            assert_eq!(
                clock.lost(),
                Duration::from_secs(u64::from(turned_by != 0) * 300 * (1 + u64::from(turned_by.abs() == 600)))
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_runs_a_little_slow_was_not_turned() {
        let machine = Arc::new(Turned(Instant::now(), AtomicI64::new(0)));
        let clock = OwnClock::new(machine.clone());
        for minute in 1..=10 {
            tokio::time::sleep(COMPARED).await;
            // By more than the bound in the end, but never at once.
            machine.1.store(-(minute / 4), Ordering::Relaxed);
            clock.compare(Instant::now());
        }
        assert!(clock.lost() <= Duration::from_secs(2));
    }
}
