//! How a terminator that is asked to stop lets its clients go.
//!
//! Anyone who routes to it (a load balancer, Kubernetes' endpoints) learns from `/readyz` that it is about to end, and needs a while to
//! act on that: until then it accepts clients as before, for `drain-delay`. Then it takes no one new, and closes what it has bit
//! by bit, so that they do not all come back elsewhere at the same moment.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::broker::phase::{self, Phase};
use crate::config::TerminatorConfig;

/// How long the last words to the broker may take: acknowledgements, and which connections are gone.
pub(crate) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// What an operator says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    delay: Duration,
    per_second: NonZeroU32,
    deadline: Duration,
}

impl Drain {
    pub(crate) fn of(config: &TerminatorConfig) -> Self {
        Self {
            delay: config.drain_delay,
            per_second: NonZeroU32::new(config.drain_connections_per_second).unwrap_or(NonZeroU32::MIN),
            deadline: config.drain_timeout,
        }
    }

    /// Waits until no one is sent here any more.
    pub(crate) async fn until_routing_has_moved(&self) {
        if !self.delay.is_zero() {
            info!(delay = ?self.delay, "draining soon; clients are accepted until `drain-delay` is over");
            sleep(self.delay).await;
        }
    }

    /// Lets every connection go in its turn, or at the deadline. Tells whether all went in time.
    pub(crate) async fn run(&self, connections: &TaskTracker, phase: &watch::Sender<Phase>) -> bool {
        let (spread, deadline) = (self.spread(connections.len()), self.deadline);
        info!(connections = connections.len(), ?spread, ?deadline, "draining");
        connections.close();
        phase::set(phase, Phase::Draining { spread });
        let in_time = timeout(deadline, connections.wait()).await.is_ok();
        if !in_time {
            warn!(
                connections = connections.len(),
                "the deadline has passed; closing the remaining connections"
            );
            phase::set(phase, Phase::Terminated);
            // Each says good-bye within its own limits.
            let _ = timeout(FAREWELL_TIMEOUT, connections.wait()).await;
        }
        in_time
    }

    /// Over which time to spread the closing: so many a second, but three quarters of the deadline at most, since the last have
    /// to be answered, too.
    fn spread(&self, connections: usize) -> Duration {
        let at_full_rate = Duration::from_millis(connections as u64 * 1_000 / u64::from(self.per_second.get()));
        at_full_rate.min(self.deadline * 3 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(per_second: u32, deadline_s: u64) -> Drain {
        Drain {
            delay: Duration::ZERO,
            per_second: NonZeroU32::new(per_second).unwrap(),
            deadline: Duration::from_secs(deadline_s),
        }
    }

    #[test]
    fn a_few_connections_go_at_once_and_many_at_the_rate_that_is_set() {
        assert!(drain(1_000, 20).spread(10) <= Duration::from_millis(10));
        assert_eq!(drain(1_000, 20).spread(5_000), Duration::from_secs(5));
        assert_eq!(drain(100, 600).spread(30_000), Duration::from_secs(300));
        // Faster than that rather than not at all.
        assert_eq!(drain(1_000, 20).spread(1_000_000), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_accepted_for_as_long_as_routing_takes() {
        let delay = Duration::from_secs(7);
        let began = tokio::time::Instant::now();
        Drain { delay, ..drain(1, 1) }.until_routing_has_moved().await;
        assert_eq!(began.elapsed(), delay);
    }
}
