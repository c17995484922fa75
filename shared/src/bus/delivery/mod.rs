//! What comes out of a queue, and the duty to say what became of it.

pub(crate) mod whole;

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Message;
use super::delivery::whole::Part;

/// One message out of a queue. It is settled by [`ack`](Self::ack), or given back when it is dropped.
pub struct Delivery {
    /// What was published.
    pub message: Message,
    /// The exchange that it came through; empty for the default exchange.
    pub exchange: Arc<str>,
    /// The routing key that it was published with.
    pub routing_key: Arc<str>,
    /// How often it was delivered before.
    pub delivery_count: u32,
    settler: Option<Settler>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is done, and may be forgotten.
    Ack,
    /// It is to be delivered again.
    Requeue,
    /// The same, and this time does not count. Only what came in a batch can be left.
    Leave,
}

/// The way back to the queue, valid as long as the channel that made the delivery.
pub(super) enum Settler {
    /// Of an AMQP message.
    Channel {
        /// The delivery's tag (AMQP 0-9-1 §1.8.3.13).
        tag: u64,
        /// Anyone who settles on the channel. Bounded by the consumer's prefetch.
        settlements: mpsc::UnboundedSender<(u64, Settlement)>,
    },
    /// Of one entry of a batch.
    Entry {
        /// The batch.
        batch: Arc<dyn Entries>,
        /// Where in it the entry is.
        place: u32,
    },
    /// Of what is for one of many.
    Part(Part),
}

/// What came in one AMQP message and is settled one by one.
pub(super) trait Entries: Send + Sync {
    /// Settles the entry at that place.
    fn settle(self: Arc<Self>, place: u32, settlement: Settlement);

    /// Whether the broker will deliver all of it again.
    fn is_stale(&self) -> bool;
}

impl Settler {
    fn settle(self, settlement: Settlement) {
        match self {
            // If the channel is gone, the broker has already given the message back.
            Self::Channel { tag, settlements } => drop(settlements.send((tag, settlement))),
            Self::Entry { batch, place } => batch.settle(place, settlement),
            Self::Part(part) => part.settle(settlement),
        }
    }

    fn is_stale(&self) -> bool {
        match self {
            Self::Channel { settlements, .. } => settlements.is_closed(),
            Self::Entry { batch, .. } => batch.is_stale(),
            Self::Part(part) => part.is_stale(),
        }
    }
}

impl Delivery {
    pub(super) fn new(
        message: Message,
        exchange: Arc<str>,
        routing_key: Arc<str>,
        delivery_count: u32,
        settler: Settler,
    ) -> Self {
        Self {
            message,
            exchange,
            routing_key,
            delivery_count,
            settler: Some(settler),
        }
    }

    /// A message that came within this one, and is settled with it.
    pub fn part(&self, message: Message) -> Self {
        Self {
            message,
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            delivery_count: self.delivery_count,
            settler: None,
        }
    }

    /// Whether it was delivered before, to anyone.
    pub fn is_redelivered(&self) -> bool {
        self.delivery_count > 0
    }

    /// It is done. If the broker was lost since, this does nothing, and the message will come again.
    pub fn ack(mut self) {
        self.settle(Settlement::Ack);
    }

    /// Separates the message from the duty to settle it.
    pub fn take_message(&mut self) -> Message {
        std::mem::take(&mut self.message)
    }

    /// A delivery whose channel is gone will come again; this copy is void.
    pub(super) fn is_stale(&self) -> bool {
        self.settler.as_ref().is_none_or(Settler::is_stale)
    }

    pub(super) fn settle(&mut self, settlement: Settlement) {
        if let Some(settler) = self.settler.take() {
            settler.settle(settlement);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settlement::Requeue);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("delivery_count", &self.delivery_count)
            .finish()
    }
}
