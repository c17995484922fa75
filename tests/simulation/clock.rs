//! The time of a simulation: the runtime's own, which stands still while anything can still happen without it.

use shared::clock::{Clock, Timestamp};
use tokio::time::Instant;

/// When every simulation begins.
const EPOCH: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Follows the runtime's paused clock. Clones show the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock(Instant);

impl SimClock {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the beginning.
    pub(crate) fn ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).expect("a simulation is short")
    }

    /// What the clock shows so many milliseconds after the beginning.
    pub(crate) fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(EPOCH.as_millis() + ms)
    }

    /// How many milliseconds after the beginning the clock shows that.
    pub(crate) fn ms_of(at: Timestamp) -> u64 {
        at.as_millis().saturating_sub(EPOCH.as_millis())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        EPOCH.saturating_add(self.0.elapsed())
    }
}
