//! Giving back what could not be written, and asking for it again.
//!
//! Both leave by one publisher, so that a request for what is held never overtakes
//! what was given back before it. No one waits here: what is given back while the
//! broker is away waits in a queue that is bounded by what the broker has given
//! out, and each is acknowledged only when the workers have it.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::topology::{Names, keys};
use shared::bus::{Delivery, Message, Publication, PublishError, Publisher, Receipt, Route};
use shared::wire::envelope::{Bounced, Fetch, undelivered};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::error;

use crate::admin::message_event::{MessageEvent, Observer};

/// What the queue does not take comes again from where it was only after this, or it would be back at once.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// What a connection does not write but leave to the workers, in this order.
pub(crate) enum Back {
    /// This was not written.
    Undelivered(Delivery, Bounced),
    /// This was, and the one who pushed it wants to know.
    Written(Delivery),
    /// What is held is wanted.
    Fetch(Fetch),
}

/// The way back to the workers. Clones share it, and its order.
#[derive(Clone)]
pub(crate) struct UndeliveredPublisher {
    queue: mpsc::UnboundedSender<Publication>,
    route: Route,
    observer: Arc<Observer>,
}

impl UndeliveredPublisher {
    /// A way back, and what [`run`] needs to walk it.
    pub(crate) fn new(names: &Names, observer: Arc<Observer>) -> (Self, mpsc::UnboundedReceiver<Publication>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let route = Route::new(&names.internal_exchange().name, keys::UNDELIVERED);
        (Self { queue, route, observer }, waiting)
    }

    pub(crate) fn send(&self, back: Back) {
        match back {
            Back::Undelivered(delivery, why) => self.send_undelivered(delivery, why),
            Back::Written(mut delivery) => {
                let message = undelivered::written(delivery.take_message());
                self.publish(message, receipt(delivery));
            }
            Back::Fetch(fetch) => {
                self.observer.tell(&fetch.connection, MessageEvent::FetchRequested);
                // If it is lost, it is asked for again.
                self.publish(fetch.to_message(), Box::new(|_| {}));
            }
        }
    }

    fn send_undelivered(&self, mut delivery: Delivery, why: Bounced) {
        let message = delivery.take_message();
        let message_id = message.properties.correlation_id.as_deref().unwrap_or_default();
        self.observer.tell(&message_id, MessageEvent::Bounced { why });
        self.publish(why.to_message(message), receipt(delivery));
    }

    fn publish(&self, message: Message, receipt: Receipt) {
        let publication = Publication {
            route: self.route.clone(),
            message,
            receipt,
        };
        if let Err(mpsc::error::SendError(publication)) = self.queue.send(publication) {
            (publication.receipt)(Err(PublishError::Ended));
        }
    }
}

/// It is acknowledged when workers have what is told of it.
fn receipt(delivery: Delivery) -> Receipt {
    Box::new(move |outcome| match outcome {
        Ok(()) => delivery.ack(),
        // The bus has ended, and the broker finds the way for us when the return queue has.
        Err(PublishError::Ended) => {}
        Err(error) => {
            error!(%error, "undelivered messages cannot be returned; will try again: is the queue `undelivered` missing, or full?");
            tokio::spawn(async move {
                sleep(OFFER_AGAIN).await;
                drop(delivery);
            });
        }
    })
}

/// Publishes what is given back, in order, until no one can give back any more.
pub(crate) async fn run(mut waiting: mpsc::UnboundedReceiver<Publication>, publisher: Publisher) {
    while let Some(publication) = waiting.recv().await {
        publisher.submit(publication).await;
    }
}
