//! Events on their way to the broker.
//!
//! A socket never waits for them: they gather here, and leave in order as fast as the broker confirms them. What it has
//! not confirmed when it is lost is published again, so each comes at least once. While the broker is away, only so many are kept:
//! more are dropped and counted. A connection is told of from its beginning or not at all, and of one that is, the end is always
//! kept: anyone who counts who is there is never left with someone who is not.
//!
//! Before the event itself, a copy goes to the workers (`<ns>.open`), who remember which connections are open and tell the
//! end of those of a terminator that cannot. They forget a connection only when the broker has the event of its end.
//!
//! What happens within [`GATHER`] leaves together: a burst costs little more than one event, for this process and the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics::Gauge;
use shared::bus::topology::{Names, keys};
use shared::bus::{Message, Properties, Publication, PublishError, Publisher, Receipt, Route};
use shared::service::clock::Timestamp;
use shared::service::config::EventForm;
use shared::wire::connection_event::EventKind;
use shared::wire::event_messages::{self, EventMessage};
use shared::wire::id::ConnectionId;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Event, Happening};
use crate::admin::metrics::Metrics;

/// How many events are kept while the broker does not confirm them, at some 500 bytes each: 32 MiB. Besides those, the ends of the
/// connections that are told of.
const MOST_WAITING: usize = 65_536;
/// How many leave together.
const BURST: usize = 256;
/// For how long others are waited for: no one who looks at presence sees it, and at 1,000 events a second 20 leave together.
const GATHER: Duration = Duration::from_millis(20);

/// An event that waits to leave.
struct Waiting {
    connection: ConnectionId,
    event: Event,
    at: Timestamp,
}

/// The way out for what happens to connections.
pub(crate) struct EventSender {
    queue: mpsc::UnboundedSender<Waiting>,
    unconfirmed: Arc<Unconfirmed>,
    metrics: Arc<Metrics>,
}

/// What the broker has not confirmed.
struct Unconfirmed {
    count: AtomicUsize,
    gauge: Gauge,
}

/// The other end of it.
pub(crate) struct EventPublisher {
    queue: mpsc::UnboundedReceiver<Waiting>,
    unconfirmed: Arc<Unconfirmed>,
    metrics: Arc<Metrics>,
    names: Names,
    form: EventForm,
}

/// Both ends, for the exchange under these names.
pub(crate) fn channel(names: &Names, form: EventForm, metrics: &Arc<Metrics>) -> (EventSender, EventPublisher) {
    let (sender, queue) = mpsc::unbounded_channel();
    let unconfirmed = Arc::new(Unconfirmed {
        count: AtomicUsize::new(0),
        gauge: metrics.events_waiting.clone(),
    });
    let sender = EventSender {
        queue: sender,
        unconfirmed: unconfirmed.clone(),
        metrics: metrics.clone(),
    };
    let publisher = EventPublisher {
        queue,
        unconfirmed,
        metrics: metrics.clone(),
        names: names.clone(),
        form,
    };
    (sender, publisher)
}

impl EventSender {
    /// Has an event told. Tells whether it will be: while too many wait, none is but an end.
    pub(crate) fn tell(&self, connection: ConnectionId, event: Event, at: Timestamp) -> bool {
        let is_end = matches!(event.what, Happening::Closed(_));
        if !is_end && self.unconfirmed.count.load(Ordering::Relaxed) >= MOST_WAITING {
            self.metrics.events_dropped.increment(1);
            return false;
        }
        self.unconfirmed.add();
        let waiting = Waiting { connection, event, at };
        // Without a publisher, the terminator is over.
        self.queue.send(waiting).is_ok()
    }
}

impl Unconfirmed {
    fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.gauge.increment(1);
    }

    fn remove(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
        self.gauge.decrement(count as f64);
    }
}

impl EventPublisher {
    /// Publishes what is told until no one can tell any more, and all of it is settled.
    pub(crate) async fn run(mut self, publisher: Publisher) {
        let (over, mut ended) = mpsc::unbounded_channel();
        let routes = Routes::new(&self.names);
        let (mut burst, mut ends) = (Vec::with_capacity(BURST), Vec::new());
        loop {
            tokio::select! {
                Some(end) = ended.recv() => ends.push(end),
                count = self.queue.recv_many(&mut burst, BURST) => if count == 0 {
                    break;
                },
            }
            if burst.len() < BURST {
                sleep(GATHER).await;
            }
            while burst.len() < BURST
                && let Ok(one) = self.queue.try_recv()
            {
                burst.push(one);
            }
            ends.extend(std::iter::from_fn(|| ended.try_recv().ok()));
            for text in ends.drain(..).flatten() {
                publisher.submit(self.copy(&routes, text)).await;
            }
            let told: Vec<_> = burst
                .drain(..)
                .map(|one| one.event.told(one.connection, one.at))
                .collect();
            let messages = event_messages::pack(&told, self.form);
            // One after the other, so that they leave as one AMQP message.
            for message in messages.iter().filter(|message| message.kind() != EventKind::Closed) {
                for text in message.texts() {
                    publisher.submit(self.copy(&routes, text.clone())).await;
                }
            }
            for message in messages {
                publisher.submit(self.publication(&routes, &message, &over)).await;
            }
        }
        // What is still to be confirmed has the others of these.
        drop(over);
        while let Some(end) = ended.recv().await {
            for text in end {
                publisher.submit(self.copy(&routes, text)).await;
            }
        }
    }

    /// What the workers are to know of an event.
    fn copy(&self, routes: &Routes, text: Bytes) -> Publication {
        let metrics = self.metrics.clone();
        Publication {
            route: routes.open.clone(),
            message: Message {
                body: text,
                properties: Properties::default(),
            },
            receipt: Box::new(move |outcome| {
                if matches!(outcome, Err(PublishError::Refused | PublishError::Unroutable)) {
                    metrics.events_unregistered.increment(1);
                }
            }),
        }
    }

    fn publication(
        &self,
        routes: &Routes,
        message: &EventMessage,
        over: &mpsc::UnboundedSender<Vec<Bytes>>,
    ) -> Publication {
        let (unconfirmed, metrics) = (self.unconfirmed.clone(), self.metrics.clone());
        let count = message.texts().len();
        let end = (message.kind() == EventKind::Closed).then(|| (over.clone(), message.texts().to_vec()));
        let receipt: Receipt = Box::new(move |outcome| {
            unconfirmed.remove(count);
            match outcome {
                Ok(()) => metrics.events_confirmed.increment(count as u64),
                Err(_) => metrics.events_refused.increment(count as u64),
            }
            // What a full queue of a consumer has refused has been told, too; what did not leave any more was not.
            if let Some((over, texts)) = end
                && outcome != Err(PublishError::Ended)
            {
                let _ = over.send(texts);
            }
        });
        Publication {
            route: Route::new(&routes.events, message.kind().key()).optional(),
            message: message.message(),
            receipt,
        }
    }
}

/// The routes by which events are published.
struct Routes {
    open: Route,
    events: Arc<str>,
}

impl Routes {
    fn new(names: &Names) -> Self {
        Self {
            open: Route::new(&names.internal_exchange().name, keys::OPEN),
            events: names.events_exchange().name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::bus::memory::MemoryBus;
    use shared::bus::topology::Queue;
    use shared::bus::{Bus, PublishTimeout};
    use shared::wire::connection_event::ConnectionEvent;
    use shared::wire::id::TerminatorId;

    use super::*;
    use crate::connection::close_reason::CloseReason;
    use crate::events::News;

    fn connection(number: u64) -> ConnectionId {
        ConnectionId {
            terminator: TerminatorId::random(),
            number,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_limit_only_ends_are_kept_and_the_rest_is_counted() {
        let (sender, _publisher) = channel(&Names::new("n"), EventForm::On, &Arc::new(Metrics::new()));
        let (connection, now) = (connection(1), Timestamp::from_secs(1));
        let opened = || News::begin().take().pop().unwrap();
        let closed = || {
            let mut news = News::default();
            news.note(Happening::Closed(CloseReason::Left), None);
            news.take().pop().unwrap()
        };
        for _ in 0..MOST_WAITING {
            assert!(sender.tell(connection, opened(), now));
        }
        assert!(!sender.tell(connection, opened(), now));
        assert!(sender.tell(connection, closed(), now));
        assert_eq!(sender.unconfirmed.count.load(Ordering::Relaxed), MOST_WAITING + 1);
    }

    /// What leaves for one connection that is opened and closed, and for another that is opened: under each key, and for the workers.
    async fn leaving(form: EventForm) -> (Vec<(EventKind, String)>, Vec<EventKind>) {
        let names = Names::new("n");
        let mut topology = names.common();
        topology.extend(names.events());
        let bus = MemoryBus::new(&topology).with_batches(names.clone());
        let (sender, publisher) = channel(&names, form, &Arc::new(Metrics::new()));
        let mut open = bus.consumer(names.open_connections(), 100);
        let queue = Queue {
            name: "audience".to_owned(),
            bindings: vec![(names.events_exchange().name, "connection.#".to_owned())],
            ..names.inject_queue(1)
        };
        let mut audience = bus.consumer(queue, 100);
        let running = tokio::spawn(publisher.run(bus.publisher(PublishTimeout::Endless)));
        let mut news = News::begin();
        news.note(Happening::Closed(CloseReason::Left), None);
        for (number, events) in [(1, news.take()), (2, News::begin().take())] {
            let connection = connection(number);
            for event in events {
                assert!(sender.tell(connection, event, Timestamp::from_secs(1)));
            }
        }
        drop(sender);
        running.await.unwrap();
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        let soon = Duration::from_secs(1);
        while let Ok(Some(delivery)) = tokio::time::timeout(soon, audience.recv()).await {
            let kind = delivery.message.properties.kind.clone().unwrap();
            let kind = EventKind::ALL.into_iter().find(|one| one.key() == kind).unwrap();
            outside.push((kind, str::from_utf8(&delivery.message.body).unwrap().to_owned()));
            delivery.ack();
        }
        while let Ok(Some(delivery)) = tokio::time::timeout(soon, open.recv()).await {
            inside.push(ConnectionEvent::from_json(&delivery.message.body).unwrap().event);
            delivery.ack();
        }
        (outside, inside)
    }

    #[tokio::test(start_paused = true)]
    async fn workers_hear_of_an_end_only_when_the_broker_has_its_event() {
        for form in [EventForm::On, EventForm::Batched] {
            let (_, inside) = leaving(form).await;
            assert_eq!(
                inside,
                [EventKind::Opened, EventKind::Opened, EventKind::Closed],
                "{form:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_event_is_a_message_unless_those_of_a_kind_are_one() {
        let (alone, _) = leaving(EventForm::On).await;
        let kinds: Vec<_> = alone.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [EventKind::Opened, EventKind::Closed, EventKind::Opened]);
        assert!(
            alone
                .iter()
                .all(|(_, text)| ConnectionEvent::from_json(text.as_bytes()).is_some())
        );
        let (together, _) = leaving(EventForm::Batched).await;
        let read = |text: &str| serde_json::from_str::<Vec<ConnectionEvent>>(text).unwrap().len();
        let read: Vec<_> = together.iter().map(|(kind, text)| (*kind, read(text))).collect();
        assert_eq!(read, [(EventKind::Opened, 2), (EventKind::Closed, 1)]);
    }
}
