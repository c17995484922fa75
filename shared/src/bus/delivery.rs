//! What comes out of a queue, and the duty to say what became of it.

use std::fmt;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Message;

/// One message out of a queue. It is settled by [`ack`](Self::ack), or given back when it is dropped.
pub struct Delivery {
    /// What was published.
    pub message: Message,
    /// The exchange that it came through; empty for the default exchange.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// How often it was delivered before.
    pub delivery_count: u32,
    settler: Option<Settler>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// It is done, and may be forgotten.
    Ack,
    /// It is to be delivered again.
    Requeue,
}

/// The way back to the queue, valid as long as the channel that made the delivery.
#[derive(Clone)]
pub(super) struct Settler {
    /// The delivery's tag (AMQP 0-9-1 §1.8.3.13).
    pub(super) tag: u64,
    /// Whoever settles on the channel. Bounded by the consumer's prefetch.
    pub(super) settlements: mpsc::UnboundedSender<(u64, Settlement)>,
}

impl Delivery {
    pub(super) fn new(
        message: Message,
        exchange: String,
        routing_key: String,
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

    /// Whether it was delivered before, to anybody.
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
    fn is_stale(&self) -> bool {
        self.settler
            .as_ref()
            .is_none_or(|settler| settler.settlements.is_closed())
    }

    fn settle(&mut self, settlement: Settlement) {
        if let Some(settler) = self.settler.take() {
            // If the channel is gone, the broker has already given the message back.
            let _ = settler.settlements.send((settler.tag, settlement));
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
    _end: DropGuard,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    stop: CancellationToken,
}

/// The home's end of a [`Consumer`].
pub(super) struct ConsumerHome {
    /// Where deliveries go, until the last one that a stopped consumer gets. Bounded by the consumer's prefetch.
    pub(super) deliveries: Option<mpsc::UnboundedSender<Delivery>>,
    /// No new deliveries are wanted; what was delivered will still be settled.
    pub(super) stop: CancellationToken,
    /// The consumer is gone.
    pub(super) end: CancellationToken,
}

impl Consumer {
    pub(super) fn new() -> (Self, ConsumerHome) {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let home = ConsumerHome {
            deliveries: Some(sender),
            stop: stop.clone(),
            end: end.clone(),
        };
        (
            Self {
                deliveries,
                stop,
                _end: end.drop_guard(),
            },
            home,
        )
    }

    /// The next delivery; nothing once the consumer was stopped and all that had been delivered is received.
    pub async fn recv(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Asks for no new deliveries. What was delivered must still be received and settled.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            match self.deliveries.poll_recv(cx) {
                Poll::Ready(Some(delivery)) if delivery.is_stale() => drop(delivery),
                other => return other,
            }
        }
    }
}
