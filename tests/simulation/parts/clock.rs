//! The time of a simulation: the runtime's own, which stands still while anything can still happen without it.

use std::time::Duration;

use shared::service::clock::{Clock, Timestamp};
use tokio::time::Instant;

/// What the clock shows when a simulation's milliseconds are 0.
const EPOCH: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Every simulation begins here: there are tokens from before.
const BEGIN: Duration = Duration::from_secs(1_000);

/// Follows the runtime's paused clock. Clones show the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock(Instant);

impl SimClock {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The present moment in milliseconds of the simulation.
    pub(crate) fn ms(self) -> u64 {
        Self::ms_of(self.now())
    }

    /// That moment in milliseconds of the simulation.
    pub(crate) fn ms_of(at: Timestamp) -> u64 {
        at.as_millis().saturating_sub(EPOCH.as_millis())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        EPOCH.saturating_add(BEGIN + self.0.elapsed())
    }
}
