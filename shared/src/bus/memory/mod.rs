//! The bus within one process: for `dev`, and for simulation.
//!
//! It keeps what the broker would: prefetch, redelivery with a count, delivery
//! limits, dead-lettering, time limits, unroutable returns, and refusal when full.
//! All of it is one state under one lock; nothing in here waits while it holds it.

mod broker;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use self::broker::Broker;
use super::batch::{Packer, Returning, Unpacking};
use super::consumer::ConsumerBackend;
use super::delivery::Settlement;
use super::topology::{Names, Queue, Topology};
use super::{Bus, Consumer, Link, PublishTimeout, Publisher};

/// How often messages and queues past their time are cleared away.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);
/// How many publications are taken over at a time.
const BURST: usize = 1_024;

/// A broker of this process alone. Clones are the same broker.
#[derive(Clone)]
pub struct MemoryBus {
    broker: Shared,
    link: Arc<watch::Sender<Link>>,
    /// As for RabbitMQ: under which names what is published at the same time leaves in one.
    batches: Option<Names>,
    returning: Returning,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Broker>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Broker> {
        // Nothing under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl MemoryBus {
    /// A broker with `topology` on it.
    pub fn new(topology: &Topology) -> Self {
        let broker = Shared(Arc::default());
        broker.lock().declare(topology);
        tokio::spawn(sweep(Arc::downgrade(&broker.0)));
        let returning = {
            let broker = broker.clone();
            Returning::new(move || publisher_on(broker, Packer::new(None)))
        };
        Self {
            broker,
            link: Arc::new(watch::Sender::new(Link::Up)),
            batches: None,
            returning,
        }
    }

    /// The same, where what is published at the same time for one of the queues under `names` leaves in one message.
    #[must_use]
    pub fn with_batches(self, names: Names) -> Self {
        Self {
            batches: Some(names),
            ..self
        }
    }

    /// The broker itself, for what stands between it and a program: each call is one step.
    pub fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock()
    }

    /// What a publisher on it packs by.
    pub fn packer(&self) -> Packer {
        Packer::new(self.batches.clone())
    }

    /// Tells anyone who watches the link that it is so now, as a broker elsewhere may be at any time.
    pub fn set_link(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Forgets the next message that comes to the queue of this name, as soon as it is there: as if it had been purged then.
    pub fn purge_next(&self, queue: &str) {
        self.broker.lock().purge_next(queue);
    }

    /// How many messages are in the queue of this name: ready, and delivered but not settled.
    pub fn depth(&self, queue: &str) -> (usize, usize) {
        self.broker.lock().depth(queue)
    }
}

impl Bus for MemoryBus {
    fn publisher(&self, _: PublishTimeout) -> Publisher {
        publisher_on(self.broker.clone(), self.packer())
    }

    fn consumer(&self, queue: Queue, prefetch: u16) -> Consumer {
        let (consumer, backend) = Consumer::new(Unpacking::of(&queue, &self.returning));
        let ConsumerBackend {
            deliveries, stop, end, ..
        } = backend;
        let (settlements, mut settled) = mpsc::unbounded_channel();
        let id = self.broker.lock().consume(&queue, prefetch, deliveries, settlements);
        let broker = self.broker.clone();
        tokio::spawn(async move {
            let mut stopped = false;
            loop {
                tokio::select! {
                    biased;
                    Some((tag, settlement)) = settled.recv() => {
                        // What a consumer that is gone gives back goes with it below, in its order.
                        if settlement == Settlement::Ack || !end.is_cancelled() {
                            broker.lock().settle(&queue.name, id, tag, settlement, Instant::now());
                        }
                    }
                    () = end.cancelled() => break,
                    () = stop.cancelled(), if !stopped => {
                        stopped = true;
                        broker.lock().stop(&queue.name, id);
                    }
                }
            }
            broker.lock().leave(&queue, id, Instant::now());
        });
        consumer
    }

    fn is_consumed<'a>(&'a self, queue: &'a str) -> super::Looking<'a> {
        Box::pin(std::future::ready(self.broker.lock().is_consumed(queue)))
    }

    fn is_there<'a>(&'a self, queue: &'a str) -> super::Looking<'a> {
        Box::pin(std::future::ready(self.broker.lock().is_there(queue)))
    }

    fn is_gone<'a>(&'a self, queue: &'a str) -> super::Looking<'a> {
        Box::pin(std::future::ready(!self.broker.lock().is_there(queue)))
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn close(&self) -> super::Closing<'_> {
        Box::pin(std::future::ready(()))
    }
}

fn publisher_on(broker: Shared, packer: Packer) -> Publisher {
    let (publisher, mut queue) = Publisher::new();
    tokio::spawn(async move {
        let mut burst = Vec::new();
        while queue.recv_many(&mut burst, BURST).await > 0 {
            packer.pack(&mut burst, |publication| {
                let message = publication.message.clone();
                let outcome = broker.lock().publish(&publication.route, message, Instant::now());
                publication.settle(outcome);
            });
        }
    });
    publisher
}

async fn sweep(broker: std::sync::Weak<Mutex<Broker>>) {
    let mut period = tokio::time::interval(SWEEP_PERIOD);
    loop {
        period.tick().await;
        let Some(broker) = broker.upgrade() else { return };
        Shared(broker).lock().sweep(Instant::now());
    }
}
