//! What goes into a queue, and the duty to say whether it arrived.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Message;

/// How many publications may wait for the channel. One channel settles about a
/// thousand at a time, so as many again may wait; beyond that the caller does.
pub(super) const QUEUE_CAPACITY: usize = 1_024;

/// Where a message is published to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The exchange; empty for the default exchange.
    pub exchange: Arc<str>,
    /// The routing key; on the default exchange, the queue's name.
    pub key: Arc<str>,
}

impl Route {
    /// To `key` through `exchange`.
    pub fn new(exchange: &str, key: &str) -> Self {
        Self {
            exchange: exchange.into(),
            key: key.into(),
        }
    }

    /// Straight into the queue of this name.
    pub fn queue(name: &str) -> Self {
        Self::new("", name)
    }
}

/// Why a publication did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no queue where it should go (`basic.return`).
    #[error("there is no queue for it")]
    Unroutable,
    /// The queue is full, or could not store it (`basic.nack`).
    #[error("the queue refused it")]
    Refused,
    /// The broker did not confirm it in time. It may have arrived all the same.
    #[error("the broker is away")]
    Away,
    /// It cannot be expressed in AMQP: a property is longer than 255 bytes.
    #[error("a property is longer than 255 bytes")]
    Malformed,
    /// The bus has ended.
    #[error("the bus has ended")]
    Ended,
}

impl PublishError {
    /// A word for it, for metrics and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unroutable => "unroutable",
            Self::Refused => "queue_full",
            Self::Away => "broker_away",
            Self::Malformed => "malformed",
            Self::Ended => "ended",
        }
    }
}

/// Called once, with what became of the publication. It must not block.
pub type Receipt = Box<dyn FnOnce(Result<(), PublishError>) + Send>;

/// A message on its way.
pub struct Publication {
    /// Where to.
    pub route: Route,
    /// What.
    pub message: Message,
    /// Who wants to know.
    pub receipt: Receipt,
}

impl Publication {
    pub(super) fn settle(self, outcome: Result<(), PublishError>) {
        (self.receipt)(outcome);
    }
}

/// The sending end of one channel. Clones share it, and its order.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Publication>,
}

impl Publisher {
    pub(super) fn new() -> (Self, mpsc::Receiver<Publication>) {
        let (queue, home) = mpsc::channel(QUEUE_CAPACITY);
        (Self { queue }, home)
    }

    /// Publishes, and waits until the queue has confirmed it.
    ///
    /// # Errors
    /// Why it did not arrive; see [`PublishError`].
    pub async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        let (settle, settled) = oneshot::channel();
        let receipt: Receipt = Box::new(move |outcome| {
            // Whoever no longer waits does not want to know.
            let _ = settle.send(outcome);
        });
        let publication = Publication {
            route,
            message,
            receipt,
        };
        self.queue.send(publication).await.map_err(|_| PublishError::Ended)?;
        settled.await.unwrap_or(Err(PublishError::Ended))
    }

    /// Hands over a publication if there is room for it, and gives it back if there is none.
    ///
    /// # Errors
    /// The publication, when the queue before the channel is full.
    pub fn try_submit(&self, publication: Publication) -> Result<(), Box<Publication>> {
        match self.queue.try_send(publication) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(publication)) => Err(Box::new(publication)),
            Err(mpsc::error::TrySendError::Closed(publication)) => {
                publication.settle(Err(PublishError::Ended));
                Ok(())
            }
        }
    }

    /// Hands over a publication, waiting for room if need be. Cancel-safe only in that nothing is handed over by halves.
    pub async fn submit(&self, publication: Publication) {
        if let Err(mpsc::error::SendError(publication)) = self.queue.send(publication).await {
            publication.settle(Err(PublishError::Ended));
        }
    }

    /// Waits until there is room for a publication.
    pub async fn ready(&self) {
        // An ended bus has room for everything: it settles each at once.
        let _ = self.queue.reserve().await;
    }
}
