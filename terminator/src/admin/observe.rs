//! What operators see of a connection's events: metrics, the log, and the journeys of its messages.

use shared::wire::id::ConnectionId;
use tracing::{debug, warn};

use super::metrics::Metrics;
use crate::session::effect::Event;

/// Counts an event, and logs it where that says more than a count.
pub(crate) fn observe(event: Event, connection: ConnectionId, metrics: &Metrics) {
    match event {
        Event::Returned(sequence) => {
            debug!(target: "countersign::journey", stage = "again", %connection, %sequence, "waits for what was sent before it");
        }
        Event::Resent => metrics.sent_again.increment(1),
        Event::Held(sequence, reason) => {
            debug!(target: "countersign::journey", stage = "held", %connection, %sequence, ?reason, "waits for a fresh token");
        }
        Event::HeldLost(message_id) => {
            metrics.held_lost.increment(1);
            warn!(%message_id, "a message that was held is lost, and is refused");
        }
        Event::ReleaseRequested => metrics.releases.increment(1),
        Event::RepliesLost { open } => {
            metrics.answers_lost.increment(1);
            warn!(%connection, open, "no message of a connection was answered for `answer-timeout`; it is closed, so that its client asks again");
        }
        Event::AuthRequired(reason) => metrics.asked(reason),
        Event::Expired => metrics.auth_expirations.increment(1),
    }
}
