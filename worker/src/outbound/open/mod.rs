//! Which connections are open, as terminators tell it, so that the end of those of a terminator that is lost is told as well.
//!
//! ```text
//! <ns>.open ───────── by one worker, in order ─▶ the store: the last event of each open connection, by terminator
//! every few seconds ─ one worker ──────────────▶ `lost`: the ends of those of terminators that are gone
//! ```

mod lost;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use metrics::{Counter, counter};
use shared::bus::{Bus, Delivery};
use shared::service::config::EventForm;
use shared::wire::connection_event::{ConnectionEvent, EventKind};
use shared::wire::id::TerminatorId;
use tracing::debug;

use super::{Outbound, OutboundError};
use crate::app::queue_consumer::QueueConsumer;
use crate::store::OpenChanges;

/// How many events are entered at a time.
const MOST_AT_A_TIME: usize = 256;

/// What is needed to remember which connections are open.
pub(crate) struct OpenConnections {
    outbound: Arc<Outbound>,
    bus: Arc<dyn Bus>,
    /// In which form ends are told.
    form: EventForm,
    entered: Counter,
    unreadable: Counter,
    lost: Counter,
}

impl OpenConnections {
    pub(crate) fn new(outbound: Arc<Outbound>, bus: Arc<dyn Bus>, form: EventForm) -> Self {
        let events = |outcome: &'static str| counter!("countersign_worker_open_events_total", "outcome" => outcome);
        Self {
            outbound,
            bus,
            form,
            entered: events("entered"),
            unreadable: events("unreadable"),
            lost: counter!("countersign_worker_lost_connections_total"),
        }
    }

    /// Enters what terminators tell into the store, until the worker stops.
    pub(crate) async fn run(self: Arc<Self>, mut intake: QueueConsumer) {
        while let Some(first) = intake.next().await {
            let mut taken = vec![first];
            while taken.len() < MOST_AT_A_TIME
                && let Some(Some(next)) = intake.next().now_or_never()
            {
                taken.push(next);
            }
            self.enter(taken).await;
        }
    }

    async fn enter(&self, taken: Vec<Delivery>) {
        for (terminator, changes) in &self.changes(&taken) {
            let entering = || async {
                let entered = self.outbound.store.enter_open(*terminator, changes).await;
                entered.map_err(OutboundError::from)
            };
            self.outbound.persist(entering).await;
        }
        taken.into_iter().for_each(Delivery::ack);
    }

    /// What they come to: of each connection its last event counts.
    fn changes(&self, taken: &[Delivery]) -> BTreeMap<TerminatorId, OpenChanges> {
        let mut changes: BTreeMap<TerminatorId, OpenChanges> = BTreeMap::new();
        for delivery in taken {
            let body = &delivery.message.body;
            let text = str::from_utf8(body).ok();
            let Some((event, text)) = ConnectionEvent::from_json(body).zip(text) else {
                debug!("something that is no event came as one");
                self.unreadable.increment(1);
                continue;
            };
            self.entered.increment(1);
            let last = (event.event != EventKind::Closed).then(|| text.to_owned());
            let connection = event.connection;
            let of_terminator = changes.entry(connection.terminator).or_default();
            of_terminator.insert(connection.number, last);
        }
        changes
    }
}
