//! What goes into a queue, and the duty to say whether it arrived.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

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
    /// Whether it is well if no queue is bound there: then nothing is told, and no one gets it.
    pub optional: bool,
    /// Whether it leads to a queue of someone else's. If that refuses, it is full: nothing of ours waits to see whether it only lacks
    /// a leader.
    pub foreign: bool,
}

impl Route {
    /// To `key` through `exchange`.
    pub fn new(exchange: &str, key: &str) -> Self {
        Self {
            exchange: exchange.into(),
            key: key.into(),
            optional: false,
            foreign: false,
        }
    }

    /// The same for anyone who has bound a queue there, if someone has: what no queue takes has arrived, too.
    #[must_use]
    pub fn optional(self) -> Self {
        Self {
            optional: true,
            ..self.foreign()
        }
    }

    /// The same into a queue that is someone else's.
    #[must_use]
    pub fn foreign(self) -> Self {
        Self { foreign: true, ..self }
    }

    /// Straight into the queue of this name.
    pub fn queue(name: &str) -> Self {
        static DEFAULT_EXCHANGE: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
        Self {
            exchange: DEFAULT_EXCHANGE.clone(),
            key: name.into(),
            optional: false,
            foreign: false,
        }
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
    /// It cannot be expressed in AMQP (a property is longer than 255 bytes, the headers than a frame), or the broker closes
    /// whatever brings it.
    #[error("it is more than AMQP carries, or what the broker rejects")]
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
    /// The exchange and routing key, and what happens if no queue is bound.
    pub route: Route,
    /// What is published.
    pub message: Message,
    /// Who wants to know.
    pub receipt: Receipt,
}

impl Publication {
    /// Tells what became of it.
    pub fn settle(self, outcome: Result<(), PublishError>) {
        (self.receipt)(outcome);
    }
}

/// The sending end of one channel. Clones share it, and its order.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Publication>,
    room: Arc<AtomicUsize>,
}

impl Publisher {
    /// One, and where what it publishes comes out, in its order.
    pub fn new() -> (Self, mpsc::Receiver<Publication>) {
        let (queue, backend) = mpsc::channel(QUEUE_CAPACITY);
        let room = Arc::new(AtomicUsize::new(usize::MAX));
        (Self { queue, room }, backend)
    }

    /// How many bytes of properties and headers a message may have: they must fit into one frame (AMQP 0-9-1 §4.2.6), whose
    /// size is agreed upon with the broker. Until there is one, any number.
    pub fn room_for_headers(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Where that is noted.
    pub(super) fn room(&self) -> Arc<AtomicUsize> {
        self.room.clone()
    }

    /// Publishes, and waits until the queue has confirmed it. It is handed over by the call, as [`begin`](Self::begin) does it.
    ///
    /// # Errors
    /// Why it did not arrive; see [`PublishError`].
    pub fn publish(
        &self,
        route: Route,
        message: Message,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let begun = self.begin(route, message);
        async move { begun.await.outcome().await }
    }

    /// Hands a message over, waiting for room if need be, and leaves it to the caller when to wait for the confirm. Those that one
    /// caller hands over one after the other stay in that order.
    ///
    /// If there is room, the call itself hands it over. The future that is left is small then, and cheap to move: it does not
    /// contain the message.
    pub fn begin(&self, route: Route, message: Message) -> impl Future<Output = Confirm> + Send + use<> {
        let (settle, settled) = oneshot::channel();
        let receipt: Receipt = Box::new(move |outcome| {
            // Anyone who no longer waits does not want to know.
            let _ = settle.send(outcome);
        });
        let publication = Publication {
            route,
            message,
            receipt,
        };
        let waiting = self.try_submit(publication).err();
        async move {
            if let Some(mut waiting) = waiting {
                waiting.submitted().await;
            }
            Confirm(settled)
        }
    }

    /// Hands over a publication if there is room for it; otherwise it waits in line for room.
    ///
    /// # Errors
    /// The publication with its place in the line, when the queue before the channel is full.
    pub fn try_submit(&self, publication: Publication) -> Result<(), Box<Waiting>> {
        match self.queue.try_send(publication) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(publication)) => Err(Box::new(Waiting {
                publication: Some(publication),
                room: Box::pin(self.queue.clone().reserve_owned()),
            })),
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
}

/// What becomes of a message that was handed over. Dropped, no one wants to know.
#[derive(Debug)]
pub struct Confirm(oneshot::Receiver<Result<(), PublishError>>);

impl Confirm {
    /// Waits until the queue has confirmed it.
    ///
    /// # Errors
    /// Why it did not arrive; see [`PublishError`].
    pub async fn outcome(self) -> Result<(), PublishError> {
        self.0.await.unwrap_or(Err(PublishError::Ended))
    }
}

type Room = dyn Future<Output = Result<mpsc::OwnedPermit<Publication>, mpsc::error::SendError<()>>> + Send + Sync;

/// A publication that waits for room, with its place in the line: first come, first served.
///
/// The room that it waited for is its own. A place that were given up and asked for again would go to the end of the line
/// each time, and with more who wait than there is room no one would ever get any.
pub struct Waiting {
    /// Until it is handed over.
    publication: Option<Publication>,
    room: Pin<Box<Room>>,
}

impl Waiting {
    /// Hands the publication over as soon as there is room. Cancel-safe: the place in the line is kept. Once it has
    /// ended there is nothing left to wait for.
    pub async fn submitted(&mut self) {
        poll_fn(|context| self.poll_submitted(context)).await;
    }

    /// The same, a poll at a time.
    pub fn poll_submitted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.publication.is_none() {
            return Poll::Ready(());
        }
        let room = ready!(self.room.as_mut().poll(context));
        if let Some(publication) = self.publication.take() {
            match room {
                Ok(permit) => drop(permit.send(publication)),
                // An ended bus has room for everything: it settles each at once.
                Err(_) => publication.settle(Err(PublishError::Ended)),
            }
        }
        Poll::Ready(())
    }

    /// Gives up waiting.
    pub fn give_up(mut self, reason: PublishError) {
        if let Some(publication) = self.publication.take() {
            publication.settle(Err(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;
    use futures_util::poll;

    use super::*;
    use crate::bus::Properties;

    fn publication(number: usize, settled: &Arc<Mutex<Vec<usize>>>) -> Publication {
        let settled = settled.clone();
        Publication {
            route: Route::queue("q"),
            message: Message {
                body: Bytes::from(number.to_string()),
                properties: Properties::default(),
            },
            receipt: Box::new(move |_| settled.lock().unwrap().push(number)),
        }
    }

    /// Everyone who waits is polled in rounds, as a task is that waits for other things besides, and gives the waiting up
    /// each time: the order of arrival is the order of being served, and the room of one is never lost.
    #[tokio::test]
    async fn more_who_wait_than_there_is_room_are_all_served_in_their_order() {
        const WAITING: usize = 5 * QUEUE_CAPACITY;
        let (publisher, mut queue) = Publisher::new();
        let settled = Arc::default();
        let mut waiting = Vec::new();
        for number in 0..QUEUE_CAPACITY + WAITING {
            match publisher.try_submit(publication(number, &settled)) {
                Ok(()) => assert!(number < QUEUE_CAPACITY),
                Err(waits) => waiting.push(waits),
            }
        }
        for waits in &mut waiting {
            assert!(poll!(std::pin::pin!(waits.submitted())).is_pending());
        }
        let mut served = 0;
        while served < QUEUE_CAPACITY + WAITING {
            // Room for two at a time, for thousands that wait.
            for _ in 0..2 {
                let publication = queue.recv().await.unwrap();
                let number: usize = str::from_utf8(&publication.message.body).unwrap().parse().unwrap();
                // Room comes in the order of the line; who has it sends when he is asked next.
                assert!(number.abs_diff(served) <= 2, "{number} after {served}");
                publication.settle(Ok(()));
                served += 1;
            }
            // The last in the line ask first.
            for waits in waiting.iter_mut().take(4).rev() {
                let _still = poll!(std::pin::pin!(waits.submitted()));
            }
            waiting.retain(|waits| waits.publication.is_some());
        }
        let mut settled = settled.lock().unwrap();
        settled.sort_unstable();
        assert!(settled.iter().copied().eq(0..QUEUE_CAPACITY + WAITING), "each once");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_takes_no_room_with_him_and_is_told() {
        let (publisher, mut queue) = Publisher::new();
        let settled = Arc::default();
        for number in 0..QUEUE_CAPACITY {
            assert!(publisher.try_submit(publication(number, &settled)).is_ok());
        }
        let [mut first, mut second] =
            [1, 2].map(|number| publisher.try_submit(publication(number, &settled)).err().unwrap());
        for waits in [&mut first, &mut second] {
            assert!(poll!(std::pin::pin!(waits.submitted())).is_pending());
        }
        drop(queue.recv().await);
        // The room is the first one's, who leaves without it.
        assert!(poll!(std::pin::pin!(second.submitted())).is_pending());
        first.give_up(PublishError::Ended);
        assert_eq!(*settled.lock().unwrap(), [1]);
        assert_eq!(poll!(std::pin::pin!(second.submitted())), Poll::Ready(()));
        drop(queue);
        let late = publisher.try_submit(publication(3, &settled));
        assert!(
            late.is_ok() && settled.lock().unwrap().contains(&3),
            "an ended bus settles at once"
        );
    }
}
