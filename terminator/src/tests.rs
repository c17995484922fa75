//! The terminator as a whole, in this process: real sockets' frames over streams in memory, a test in the place of the
//! workers, and a clock that stands still while nobody waits.

mod announcing;
mod bench;
mod closing;
mod counting;
mod inbound;
mod ordering;
mod outbound;
mod reading;
mod revoking;
mod timing;

use std::sync::Arc;

use shared::clock::ManualClock;

use crate::binding::tests::now;
use crate::common::{Common, Shares};
use crate::metrics::Metrics;

/// What connections have in common, where a test needs no terminator.
pub(crate) fn common() -> Arc<Common> {
    let shares = Shares {
        max_in_flight: 8,
        unauthenticated_in_flight: 8,
        send_queue_bytes: 1_024,
        send_queue_bytes_total: 1 << 20,
        auth_timeout: None,
        answer_timeout: None,
        run: None,
    };
    let (clock, metrics) = (Arc::new(ManualClock::at(now().wall)), Arc::new(Metrics::new()));
    Arc::new(Common::new(clock, metrics, shares, shared::trace::Tracer::OFF))
}
