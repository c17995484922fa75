//! The way back: answers out of the return queue, each to the connection that asked.

use std::sync::Arc;

use shared::bus::{Consumer, Delivery};
use shared::envelope::Return;
use tracing::debug;

use crate::in_flight::Verdict;
use crate::metrics::Metrics;
use crate::registry::Registry;

/// How many answers the broker gives out that are not yet written to their sockets.
pub(crate) const PREFETCH: u16 = 8_192;

/// Runs until the consumer has no more.
pub(crate) async fn run(mut answers: Consumer, registry: Arc<Registry>, metrics: Arc<Metrics>) {
    while let Some(delivery) = answers.recv().await {
        bring(delivery, &registry, &metrics);
    }
}

fn bring(delivery: Delivery, registry: &Registry, metrics: &Metrics) {
    if delivery.is_redelivered() {
        metrics.redeliveries.increment(1);
    }
    let Some(Return::Answer(stamp, answer)) = Return::read(&delivery.message) else {
        metrics.answers_malformed.increment(1);
        return delivery.ack();
    };
    debug!(target: "countersign::journey", stage = "return", %stamp, "an answer came");
    let Some(peer) = registry.find(stamp.connection) else {
        metrics.answers_orphaned.increment(1);
        return delivery.ack();
    };
    match peer.deliver(stamp.sequence, answer.part, delivery) {
        Verdict::Deliver { settled } => {
            metrics.answers_delivered.increment(1);
            metrics.in_flight.decrement(if settled { 1.0 } else { 0.0 });
        }
        Verdict::Duplicate => metrics.answers_duplicate.increment(1),
    }
}
