//! The ends of the connections of terminators that are lost.
//!
//! A terminator is lost when its return queue is: the broker keeps that for three minutes after its last consumer. One that was away
//! for nearly as long and is alive tells all its connections again, with larger numbers than what is told here.
//!
//! All workers look, each at moments of its own, and each terminator is looked at by one of them at a time. Two that tell the
//! same end tell it under the same number.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use shared::bus::{PublishError, Route};
use shared::service::chance;
use shared::wire::connection_event::ConnectionEvent;
use shared::wire::event_messages;
use shared::wire::id::TerminatorId;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::OpenConnections;
use crate::outbound::OutboundError;
use crate::store::OpenChanges;

/// How often a worker looks, give or take a half.
const PERIOD: Duration = Duration::from_secs(4);
/// For how long a terminator that was looked at is not looked at again, nor one that is new: it may not have its queue yet.
const LOOK_KEPT: Duration = Duration::from_secs(5);
/// A queue that is not there is looked for once more: a broker that has just come up may not know of it yet.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How many ends are told at a time.
const MOST_AT_A_TIME: u64 = 256;
/// How often in a row, for one terminator: a million connections. The rest comes next time.
const MOST_GOES: usize = 4_096;

impl OpenConnections {
    /// Runs for ever.
    pub(crate) async fn look_for_lost(self: Arc<Self>) {
        loop {
            sleep(PERIOD.mul_f64(0.5 + chance::share())).await;
            if let Err(reason) = self.look_once().await {
                self.outbound.counters.retried();
                debug!(%reason, "lost terminators could not be looked for; will try again");
            }
        }
    }

    async fn look_once(&self) -> Result<(), OutboundError> {
        let before = self.outbound.clock.now().saturating_sub(LOOK_KEPT);
        for terminator in self.outbound.store.terminators_due(before).await? {
            if self.is_lost(terminator).await {
                self.close_all(terminator).await?;
            }
        }
        Ok(())
    }

    async fn is_lost(&self, terminator: TerminatorId) -> bool {
        let queue = self.outbound.names.return_queue(terminator).name;
        if !self.bus.is_gone(&queue).await {
            return false;
        }
        sleep(SECOND_LOOK).await;
        self.bus.is_gone(&queue).await
    }

    /// Tells the end of each of its connections, and forgets it when the broker has that.
    async fn close_all(&self, terminator: TerminatorId) -> Result<(), OutboundError> {
        let (store, mut closed) = (&self.outbound.store, 0);
        let exchange = self.outbound.names.events_exchange().name;
        for _ in 0..MOST_GOES {
            let open = store.open_connections(terminator, MOST_AT_A_TIME).await?;
            if open.is_empty() {
                break;
            }
            let ends: Vec<_> = open.iter().filter_map(|(_, last)| self.end_of(last)).collect();
            let messages = event_messages::pack(&ends, self.form);
            let telling = messages.iter().map(|end| {
                let route = Route::new(&exchange, end.kind().key()).optional();
                self.outbound.publisher.publish(route, end.message())
            });
            let told = join_all(telling).await;
            // One that a full queue of a consumer has refused has been told, too.
            let failed = told.into_iter().find_map(|outcome| match outcome {
                Err(reason @ (PublishError::Away | PublishError::Ended)) => Some(reason),
                _ => None,
            });
            if let Some(reason) = failed {
                return Err(reason.into());
            }
            closed += open.len();
            self.lost.increment(open.len() as u64);
            let told: OpenChanges = open.into_iter().map(|(number, _)| (number, None)).collect();
            store.enter_open(terminator, &told).await?;
        }
        warn!(%terminator, connections = closed, "a terminator is lost; its connections are reported as closed");
        Ok(())
    }

    /// The end of a connection with that last event.
    fn end_of(&self, last: &str) -> Option<ConnectionEvent> {
        Some(ConnectionEvent::from_json(last.as_bytes())?.lost(self.outbound.clock.now()))
    }
}
