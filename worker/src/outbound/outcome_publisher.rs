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

    /// Tells it, and waits until it has arrived. A producer who is gone, whose queue is full, or who has
    /// named one that may not be answered, has lost it, which is counted: anyone who pushes
    /// must not be able to hold up the pushes of others.
    ///
    /// # Errors
    /// If the broker could not be told.
    pub(crate) async fn tell(&self, producer: &Producer, outcome: &Outcome) -> Result<(), PublishError> {
        // A queue of ours is no one's: what came there would be taken for something else.
        if !self.names.may_be_answered(&producer.reply_to) {
            self.counters.outcome_lost();
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
