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
pub(crate) struct SimClock {
    began: Instant,
    /// By how many seconds it is wrong.
    ahead_s: i64,
}

impl SimClock {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            ahead_s: 0,
        }
    }

    /// The same, set wrong by so many seconds.
    pub(crate) fn set_wrong(self, ahead_s: i64) -> Self {
        Self { ahead_s, ..self }
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
        let wrong = Duration::from_secs(self.ahead_s.unsigned_abs());
        let right = EPOCH.saturating_add(BEGIN + self.began.elapsed());
        if self.ahead_s < 0 {
            right.saturating_sub(wrong)
        } else {
            right.saturating_add(wrong)
        }
    }
}
