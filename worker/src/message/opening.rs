//! Opening what terminators have sealed.

use std::sync::Arc;

use bytes::Bytes;
use metrics::{Counter, counter};
use shared::service::repetition::Repetitions;
use shared::wire::id::MessageId;
use shared::wire::seal::{Sealer, Unsealable, is_sealed};
use tokio::time::Instant;
use tracing::warn;

/// What a worker goes by.
#[derive(Clone)]
pub struct Sealing {
    /// The keys.
    pub sealer: Sealer,
    /// Whether what terminators forward must be sealed.
    pub required: bool,
}

impl Sealing {
    /// Nothing is sealed.
    pub const OFF: Self = Self {
        sealer: Sealer::NONE,
        required: false,
    };
}

/// Opens messages, and tells of those that cannot be opened.
pub(crate) struct Opening {
    sealing: Sealing,
    unsealable: Counter,
    told: Repetitions,
}

impl Opening {
    pub(crate) fn new(sealing: Sealing) -> Arc<Self> {
        Arc::new(Self {
            sealing,
            unsealable: counter!("countersign_worker_messages_unsealable_total"),
            told: Repetitions::default(),
        })
    }

    /// What a terminator forwarded under that message id. What anyone else sent has none, and is taken as it is.
    ///
    /// # Errors
    /// Why it cannot be opened, or may not be open.
    pub(crate) fn open(&self, message_id: Option<MessageId>, body: &Bytes) -> Result<Bytes, Unsealable> {
        let Some(message_id) = message_id else {
            return Ok(body.clone());
        };
        if self.sealing.required && !is_sealed(body) {
            return Err(Unsealable::Open);
        }
        self.sealing.sealer.open(message_id, body)
    }

    /// Once a minute for each cause.
    pub(crate) fn tell(&self, message_id: Option<MessageId>, why: Unsealable) {
        self.unsealable.increment(1);
        if let Some(untold) = self.told.admit(&why.to_string(), Instant::now()) {
            let message_id = message_id.map(tracing::field::display);
            warn!(message_id, %why, untold, "a message cannot be opened, and is dead-lettered");
        }
    }
}
