//! A revocation, from `<ns>.revocations` to everybody whom it concerns.
//!
//! First the store, so that whoever starts later knows of it; then the broadcast, so
//! that whoever runs already does; and only then is it said to be in force. A store
//! that is away does not keep it from those who run: they are told at once, and once
//! more when the store has it, for whoever started in between.

use std::sync::Arc;

use shared::audit::{self, Audit};
use shared::bus::topology::keys;
use shared::bus::{Delivery, PublishError, Route, UNREADABLE};
use shared::envelope;
use shared::protocol::{ErrorBody, ErrorCode};
use shared::revocation::Revocation;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Known;
use crate::message::NOT_AMQP;
use crate::outbound::outcome::Outcome;
use crate::outbound::{Outbound, Trouble, push};
use crate::pipeline::JOURNEY;
use crate::revoked::Revoked;

pub(crate) struct Revoking {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) known: Known,
}

impl Revoking {
    /// Brings a delivery to its end.
    pub(crate) async fn take(&self, delivery: Delivery) {
        let now = self.outbound.clock.now();
        let read = match delivery.message.properties.header(UNREADABLE) {
            Some(_) => Err(NOT_AMQP.to_owned()),
            None => self
                .known
                .read(&delivery.message.body, now)
                .map_err(|fault| fault.to_string()),
        };
        let outcome = match read {
            Ok(revocation) => {
                self.revoke(&revocation).await;
                self.leave_a_line(&revocation);
                Outcome::Revoked
            }
            Err(fault) => Outcome::Refused {
                error: ErrorBody::new(ErrorCode::BadRequest, fault),
            },
        };
        debug!(target: JOURNEY, stage = "revoke", outcome = outcome.as_str());
        self.outbound.counters.revocation(&outcome);
        self.outbound.persist(|| self.tell(&delivery, &outcome)).await;
        delivery.ack();
    }

    fn leave_a_line(&self, revocation: &Revocation) {
        if let Some(unwritten) = self.audit.admit("revoked", Instant::now()) {
            let Revocation {
                target,
                issued_before,
                effective,
                ..
            } = revocation;
            let (issued_before, effective) = (issued_before.as_millis(), effective.as_millis());
            info!(target: audit::TARGET, revoked = ?target, issued_before, effective, unwritten, "revoked");
        }
    }

    async fn revoke(&self, revocation: &Revocation) {
        // Here it is in force at once.
        self.revoked.add(*revocation, self.outbound.clock.now());
        if let Err(reason) = self.outbound.store.revoke(revocation).await {
            warn!(%reason, "the store does not take a revocation; those who run are told of it all the same");
            self.outbound.persist(|| self.broadcast(revocation)).await;
            self.outbound
                .persist(|| async { Ok(self.outbound.store.revoke(revocation).await?) })
                .await;
        }
        self.outbound.persist(|| self.broadcast(revocation)).await;
    }

    async fn broadcast(&self, revocation: &Revocation) -> Result<(), Trouble> {
        let route = Route::new(&self.outbound.names.internal_exchange().name, keys::REVOKED);
        match self
            .outbound
            .publisher
            .publish(route, envelope::revoked(revocation))
            .await
        {
            // Nobody listens, so there is nobody whom it could concern.
            Err(PublishError::Unroutable) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    async fn tell(&self, delivery: &Delivery, outcome: &Outcome) -> Result<(), Trouble> {
        let Outbound {
            teller,
            outsiders,
            names,
            ..
        } = &*self.outbound;
        match (push::producer(&delivery.message.properties, names), outcome) {
            (Some(producer), _) => teller.tell(&producer, outcome).await?,
            (None, Outcome::Refused { error }) => {
                let queue = names.revocations().name;
                outsiders.bury_unheard(delivery, error.code, queue).await?;
            }
            (None, _) => {}
        }
        Ok(())
    }
}
