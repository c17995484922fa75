//! Tells the producer of a push, or of a revocation, its outcome.

use std::sync::Arc;

use shared::bus::topology::Names;
use shared::bus::{PublishError, Replier, Route};
use shared::wire::envelope::command::Producer;

use super::metrics::Counters;
use super::outcome::{Of, Outcome};

/// Tells outcomes.
pub(crate) struct PushOutcomePublisher {
    replier: Replier,
    names: Names,
    counters: Arc<Counters>,
}

impl PushOutcomePublisher {
    pub(crate) fn new(replier: Replier, names: Names, counters: Arc<Counters>) -> Self {
        Self {
            replier,
            names,
            counters,
        }
    }

    /// Tells it, and waits until it has arrived. A producer who is gone, or whose queue is full, has lost it: anyone who pushes
    /// must not be able to hold up the pushes of others.
    ///
    /// # Errors
    /// If the broker could not be told.
    pub(crate) async fn tell(&self, producer: &Producer, outcome: &Outcome) -> Result<(), PublishError> {
        // It was asked when it came, but has been through other hands since.
        if !self.names.may_be_answered(&producer.reply_to) {
            return Ok(());
        }
        let told = Of {
            subject: producer.subject.clone(),
            outcome: outcome.clone(),
        };
        let message = told.to_message(producer.correlation_id.clone());
        match self
            .replier
            .to(&producer.reply_to)
            .publish(Route::queue(&producer.reply_to).foreign(), message)
            .await
        {
            Err(PublishError::Unroutable | PublishError::Malformed | PublishError::Refused) => {
                self.counters.outcome_lost();
                Ok(())
            }
            outcome => outcome,
        }
    }
}
