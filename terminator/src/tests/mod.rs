//! The terminator as a whole, in this process: real sockets' frames over streams in memory, a test in the place of the
//! workers, and a clock that stands still while no one waits.

mod acknowledging;
mod announcing;
mod clocks;
mod closing;
mod counting;
mod events;
mod fixture;
mod inbound;
mod ordering;
mod outbound;
mod reading;
mod revoking;
mod spreading;
mod timing;

use std::sync::Arc;

use shared::service::clock::ManualClock;

use crate::admin::metrics::Metrics;
use crate::context::{ConnectionLimits, TerminatorContext};
use crate::session::auth_state::tests::now;

/// What connections have in common, where a test needs no terminator.
pub(crate) fn common() -> Arc<TerminatorContext> {
    let shares = ConnectionLimits {
        max_in_flight: 8,
        unauthenticated_in_flight: 8,
        send_queue_bytes: 1_024,
        send_queue_bytes_total: 1 << 20,
        auth_timeout: None,
        answer_timeout: None,
        run: None,
    };
    let (clock, metrics) = (Arc::new(ManualClock::at(now().wall)), Arc::new(Metrics::new()));
    Arc::new(TerminatorContext::new(
        clock,
        metrics,
        shares,
        shared::service::trace::Tracer::OFF,
    ))
}
