//! What all connections of one terminator have in common.

use std::sync::Arc;
use std::time::Duration;

use shared::clock::Clock;
use tokio::time::Instant;

use crate::binding::Now;
use crate::metrics::Metrics;
use crate::recent::Keys;
use crate::wheel::Wheel;

/// What all connections of one terminator have in common.
pub(crate) struct Common {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wheel: Wheel,
    pub(crate) keys: Keys,
    pub(crate) shares: Shares,
}

/// How much one connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// How many messages may be on their way.
    pub(crate) max_in_flight: usize,
    /// How many bytes may wait to be written.
    pub(crate) send_queue_bytes: usize,
    /// How long it may be nobody's, from the beginning.
    pub(crate) auth_timeout: Option<Duration>,
}

impl Common {
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, shares: Shares) -> Self {
        Self {
            metrics,
            clock,
            wheel: Wheel::new(Instant::now()),
            keys: Keys::default(),
            shares,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            wall: self.clock.now(),
        }
    }
}
