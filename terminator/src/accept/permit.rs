//! A connection's right to be here.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::addresses::Place;
use crate::admin::metrics::Metrics;

/// Given up when dropped.
pub(crate) struct ConnectionPermit {
    /// One of `max-connections`.
    pub(super) _permit: OwnedSemaphorePermit,
    /// One of `max-connections-per-ip`.
    pub(super) _place: Place,
    /// Whether its client has offered the subprotocol by which it learns its limits.
    pub(super) asks_limits: bool,
}

/// Counts a connection as open, and has its permit, until dropped.
pub(crate) struct Open {
    metrics: Arc<Metrics>,
    _permit: ConnectionPermit,
}

impl Open {
    pub(super) fn new(metrics: Arc<Metrics>, permit: ConnectionPermit) -> Self {
        metrics.connections.increment(1.0);
        Self {
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.decrement(1.0);
    }
}
