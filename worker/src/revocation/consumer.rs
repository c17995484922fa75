//! Revocations, from `<ns>.revocations` to everyone whom they concern.
//!
//! First the store, so that anyone who starts later knows of them; then the broadcast, so
//! that anyone who runs already does; and only then are they said to be in force. A store
//! that is away does not keep them from those who run: they are told at once, and once
//! more when the store has them, for the one who started in between. What has come
//! meanwhile is taken together: one call of the store and one broadcast for many.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use shared::bus::{Delivery, UNREADABLE};
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::revocation::{MOST_AT_A_TIME, Revocation, Target};
use tokio_util::sync::CancellationToken;

use super::RevocationRules;
use super::reach::reached;
use super::revoker::Revoker;
use crate::admin::event::{Event, Subject};
use crate::app::queue_consumer::QueueConsumer;
use crate::message::NOT_AMQP;
use crate::outbound::outcome::Outcome;
use crate::outbound::pushes::push;
use crate::outbound::{Outbound, OutboundError};
use crate::store::Kept;

pub(crate) struct RevocationConsumer {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) revoker: Arc<Revoker>,
    pub(crate) known: RevocationRules,
}

impl RevocationConsumer {
    /// Runs until the worker stops and all that it had taken is done.
    pub(crate) async fn run(self, mut intake: QueueConsumer, kill: CancellationToken) {
        while let Some(batch) = next_batch(&mut intake).await {
            let mut taken = pin!(self.take(batch));
            if kill.run_until_cancelled(taken.as_mut()).await.is_none() {
                // Before `taken`: what is given back must not come here once more.
                drop(intake);
                return;
            }
        }
    }

    /// Brings deliveries to their end.
    async fn take(&self, batch: Vec<Delivery>) {
        let now = self.outbound.clock.now();
        let read = |delivery: &Delivery| match delivery.message.properties.header(UNREADABLE) {
            Some(_) => Err(NOT_AMQP.to_owned()),
            None => self
                .known
                .read(&delivery.message.body, now)
                .map_err(|fault| fault.to_string()),
        };
        let read: Vec<_> = batch.iter().map(read).collect();
        let good: Vec<_> = read.iter().filter_map(|one| one.as_ref().ok().copied()).collect();
        let (reached, kept) = if good.is_empty() {
            Default::default()
        } else {
            // Counted beside it, and asked first: those that are closed leave the index.
            join(reached(&self.outbound, &good), self.revoker.persist(&good)).await
        };
        let ends = batch
            .into_iter()
            .zip(read)
            .map(|(delivery, read)| self.end(delivery, read, &kept, &reached));
        join_all(ends).await;
    }

    async fn end(
        &self,
        delivery: Delivery,
        read: Result<Revocation, String>,
        kept: &Kept,
        reached: &HashMap<Target, usize>,
    ) {
        let outcome = match read {
            Ok(revocation) if kept.refused.contains(&revocation.target) => Outcome::Refused { error: full() },
            Ok(revocation) => {
                self.revoker.leave_a_line(&revocation);
                Outcome::Revoked {
                    connections: reached.get(&revocation.target).copied(),
                    replicated: kept.unreplicated.then_some(false),
                }
            }
            Err(fault) => Outcome::Refused {
                error: ErrorBody::new(ErrorCode::BadRequest, fault),
            },
        };
        let revoked = Event::Revoked { outcome: &outcome };
        self.outbound.observer.tell(Subject::Other, revoked);
        self.outbound.persist(|| self.tell(&delivery, &outcome)).await;
        delivery.ack();
    }

    async fn tell(&self, delivery: &Delivery, outcome: &Outcome) -> Result<(), OutboundError> {
        let Outbound {
            outcomes_publisher,
            outsiders,
            names,
            ..
        } = &*self.outbound;
        let properties = &delivery.message.properties;
        let producer = match outcome {
            Outcome::Refused { .. } => push::reachable_producer(properties, names),
            _ => push::producer(properties),
        };
        match (producer, outcome) {
            (Some(producer), _) => outcomes_publisher.tell(&producer, outcome).await?,
            (None, Outcome::Refused { error }) => {
                let queue = names.revocations().name;
                outsiders.dead_letter_unheard(delivery, error.code, queue).await?;
            }
            (None, _) => {}
        }
        Ok(())
    }
}

/// The next delivery, with those that are there already; nothing when the worker stops.
async fn next_batch(intake: &mut QueueConsumer) -> Option<Vec<Delivery>> {
    let mut batch = vec![intake.next().await?];
    while batch.len() < MOST_AT_A_TIME
        && let Some(Some(delivery)) = intake.next().now_or_never()
    {
        batch.push(delivery);
    }
    Some(batch)
}

fn full() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Busy,
        "as many revocations as `max-revocations` are in force, and none gives way to another; \
         revoke by `subject`, or raise that setting",
    )
}
