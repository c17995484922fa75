//! The task that turns the wheel: it looks at each connection when its moment has come.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::expiries::PERIOD;
use super::wheel::TICK;
use crate::broker::phase::Phase;
use crate::connection::registry::Registry;
use crate::connection::relief::relieve;

/// After how many connections others have their turn.
const AT_A_TIME: usize = 256;

/// Looks at each connection when its moment has come.
pub(crate) async fn turn(registry: Arc<Registry>, phase: watch::Receiver<Phase>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let common = registry.common();
    let mut foreseen_at = None;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        common.around.clock.compare(now);
        if foreseen_at.is_none_or(|at| now >= at + PERIOD) {
            common.metrics.expiring(common.expiries.within(now));
            common.metrics.load(common.around.load.get());
            foreseen_at = Some(now);
        }
        relieve(&registry, now);
        let due = common.wheel.due(now);
        for some in due.chunks(AT_A_TIME) {
            let forwarding = *phase.borrow() == Phase::Forwarding;
            for (tick, connection) in some {
                if let Some(peer) = registry.numbered(*connection)
                    && peer.change(|session, now| session.fire(*tick, now.instant, forwarding))
                {
                    peer.wake.notify_one();
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
