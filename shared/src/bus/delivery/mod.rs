//! What comes out of a queue, and the duty to say what became of it.

pub(crate) mod whole;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Message;
use super::batch::{self, Unpacking};
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
    Entry(batch::Entry),
    /// Of what is for one of many.
    Part(Part),
}

impl Settler {
    fn settle(self, settlement: Settlement) {
        match self {
            // If the channel is gone, the broker has already given the message back.
            Self::Channel { tag, settlements } => drop(settlements.send((tag, settlement))),
            Self::Entry(entry) => entry.settle(settlement),
            Self::Part(part) => part.settle(settlement),
        }
    }

    fn is_stale(&self) -> bool {
        match self {
            Self::Channel { settlements, .. } => settlements.is_closed(),
            Self::Entry(entry) => entry.is_stale(),
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

    fn settle(&mut self, settlement: Settlement) {
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

/// The receiving end of one queue.
///
/// It outlives lost connections. Dropping it ends the consumption, and gives back what is unsettled.
pub struct Consumer {
    /// Dropped first: what is in `deliveries` then goes back with the consumer, in its order, and not one by one.
    end: Option<Arc<DropGuard>>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    /// What is left of the last batch.
    unpacked: VecDeque<Delivery>,
    unpacking: Option<Unpacking>,
    stop: CancellationToken,
    renewals: watch::Receiver<u64>,
}

/// The implementation's end of a [`Consumer`].
pub struct ConsumerBackend {
    /// Where deliveries go, until the last one that a stopped consumer gets. Bounded by the consumer's prefetch.
    pub deliveries: Option<mpsc::UnboundedSender<Delivery>>,
    /// No new deliveries are wanted; what was delivered will still be settled.
    pub stop: CancellationToken,
    /// The consumer is gone.
    pub end: CancellationToken,
    /// How often its queue was gone and was declared anew.
    pub renewals: watch::Sender<u64>,
}

impl Consumer {
    /// One that takes batches apart by `unpacking`, and the other end of it.
    pub fn new(unpacking: Option<Unpacking>) -> (Self, ConsumerBackend) {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let (counted, renewals) = watch::channel(0);
        let backend = ConsumerBackend {
            deliveries: Some(sender),
            stop: stop.clone(),
            end: end.clone(),
            renewals: counted,
        };
        (
            Self {
                deliveries,
                unpacked: VecDeque::new(),
                unpacking,
                stop,
                renewals,
                end: Some(Arc::new(end.drop_guard())),
            },
            backend,
        )
    }

    /// The next delivery; nothing once the consumer was stopped and all that had been delivered is received.
    pub async fn recv(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Changes whenever its queue was gone and is there again: what was in it is lost, and what was for it meanwhile.
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.clone()
    }

    /// Asks for no new deliveries. What was delivered must still be received and settled.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Leaves what came together with the last delivery to others, as if it had not come. It goes behind what is in the
    /// queue.
    pub fn leave_the_rest(&mut self) {
        for mut entry in self.unpacked.drain(..) {
            entry.settle(Settlement::Leave);
        }
    }

    /// Whether the next delivery came together with the last one.
    pub fn is_amid_batch(&self) -> bool {
        !self.unpacked.is_empty()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let next = match self.unpacked.pop_front() {
                Some(entry) => entry,
                None => match ready!(self.deliveries.poll_recv(cx)) {
                    Some(delivery) => delivery,
                    None => return Poll::Ready(None),
                },
            };
            match &mut self.unpacking {
                _ if next.is_stale() => drop(next),
                Some(unpacking) if next.message.is_batch() => {
                    unpacking.unpack(next, |entry| self.unpacked.push_back(entry))
                }
                _ => return Poll::Ready(Some(next)),
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let (Some(end), Some(unpacking)) = (self.end.take(), &mut self.unpacking) {
            unpacking.leave(&end);
            if Arc::strong_count(&end) > 1 {
                // Until what is published again has arrived.
                self.stop.cancel();
            }
        }
    }
}
