//! The time of a simulation: the runtime's own, which stands still while anything can still happen without it, and what
//! clocks make of it.
//!
//! `Instant` is the clock that no one can turn, and the same for all. It stands still while the machines sleep; the time does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use shared::service::clock::{Clock, Timestamp};
use tokio::time::Instant;

/// What the clock shows when a simulation's milliseconds are 0.
const EPOCH: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Every simulation begins here: there are tokens from before.
const BEGIN: Duration = Duration::from_secs(1_000);

/// Follows the runtime's paused clock. Clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    began: Instant,
    /// For how many milliseconds all machines have slept.
    slept_ms: Arc<AtomicU64>,
    /// By how many seconds it is wrong.
    ahead_s: Arc<AtomicI64>,
}

impl SimClock {
    /// Begins now, and is right.
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            slept_ms: Arc::default(),
            ahead_s: Arc::default(),
        }
    }

    /// Another of the same time, wrong by so many seconds.
    pub(crate) fn another(&self, ahead_s: i64) -> Self {
        Self {
            ahead_s: Arc::new(AtomicI64::new(ahead_s)),
            ..self.clone()
        }
    }

    /// Turns it, so that it is wrong by so many seconds.
    pub(crate) fn turn(&self, ahead_s: i64) {
        self.ahead_s.store(ahead_s, Ordering::Relaxed);
    }

    /// All machines have slept for so long.
    pub(crate) fn slept(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("it is short");
        self.slept_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// The present moment in milliseconds of the simulation.
    pub(crate) fn ms(&self) -> u64 {
        Self::ms_of(self.now())
    }

    /// That moment in milliseconds of the simulation.
    pub(crate) fn ms_of(at: Timestamp) -> u64 {
        at.as_millis().saturating_sub(EPOCH.as_millis())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let slept = Duration::from_millis(self.slept_ms.load(Ordering::Relaxed));
        let right = EPOCH.saturating_add(BEGIN + self.began.elapsed() + slept);
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        let wrong = Duration::from_secs(ahead_s.unsigned_abs());
        if ahead_s < 0 {
            right.saturating_sub(wrong)
        } else {
            right.saturating_add(wrong)
        }
    }
}
