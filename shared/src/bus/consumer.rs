//! The receiving end of one queue, and what an implementation has of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::batch::Unpacking;
use super::delivery::{Delivery, Settlement};

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
