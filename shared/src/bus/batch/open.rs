//! A batch that a consumer has: its entries go out one by one, and are settled one by one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::DropGuard;
use tracing::error;

use super::UNREADABLE_BATCH;
use super::codec;
use super::packer::batch_of;
use crate::bus::delivery::{Delivery, Entries, Settlement, Settler};
use crate::bus::topology::{FilledBy, Queue, QueueKind};
use crate::bus::{DEATH_EXCHANGE, DEATH_QUEUE, DEATH_REASON, Publication, PublishError, Publisher, Route, Value};
use crate::service::repetition::Repetitions;

/// What cannot be published again at the moment is tried again so much later.
const AGAIN: Duration = Duration::from_secs(1);

/// How the consumer of a queue takes batches apart.
pub struct Unpacking {
    returning: Returning,
    /// What is not finished stays in its place: there is one consumer at a time, for the sake of the order.
    in_order: bool,
    open: Vec<Weak<Open>>,
    /// When so many are noted, those that are done are forgotten.
    sweep_at: usize,
}

/// Few enough to be looked through, and many enough for that to be rare.
const SWEEP_LEAST: usize = 64;

/// The way back to their queues, for entries that are given back.
#[derive(Clone)]
pub struct Returning {
    queue: mpsc::UnboundedSender<Publication>,
    /// What cannot be published fails each second, for each entry.
    failures: Arc<Repetitions>,
}

/// One batch.
pub(in crate::bus) struct Open {
    state: Mutex<State>,
    batch: Bytes,
    route: Route,
    /// A bit for each entry.
    all: u64,
    /// What the broker says of the batch holds for each of its entries.
    of_broker: Vec<(String, Value)>,
    delivery_count: u32,
    in_order: bool,
    returning: Returning,
}

struct State {
    /// Until all is settled.
    delivery: Option<Delivery>,
    /// A bit for each entry that is not finished.
    unsettled: u64,
    /// A bit for each of those that is not on its way back.
    out: u64,
    /// It has to come again.
    spoiled: bool,
    /// So has its consumer: what is given back now is the broker's, as it is.
    gone: bool,
    /// Keeps the channel of a consumer that has gone until all is settled.
    end: Option<Arc<DropGuard>>,
}

/// How an entry comes again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// As one that was delivered.
    Counted,
    /// As one that was not.
    Untouched,
}

impl Returning {
    /// With a publisher of its own, as soon as it is needed. It runs until no consumer has it any more.
    pub fn new(publisher: impl FnOnce() -> Publisher + Send + 'static) -> Self {
        let (queue, mut waiting) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let Some(first) = waiting.recv().await else { return };
            let publisher = publisher();
            let mut next = Some(first);
            while let Some(publication) = next {
                publisher.submit(publication).await;
                next = waiting.recv().await;
            }
        });
        Self {
            queue,
            failures: Arc::default(),
        }
    }

    fn send(&self, publication: Publication) {
        if let Err(mpsc::error::SendError(publication)) = self.queue.send(publication) {
            publication.settle(Err(PublishError::Ended));
        }
    }
}

impl Unpacking {
    /// Of `queue`, if batches come there.
    pub fn of(queue: &Queue, returning: &Returning) -> Option<Self> {
        let QueueKind::Quorum(limits) = &queue.kind else {
            return None;
        };
        (queue.filled_by == FilledBy::Us).then(|| Self {
            returning: returning.clone(),
            // One that goes with its consumer has no other, which may not even be allowed to write there.
            in_order: limits.single_active_consumer || limits.expires.is_some(),
            open: Vec::new(),
            sweep_at: SWEEP_LEAST,
        })
    }

    /// The entries of a batch, or the batch as it came, if it cannot be read.
    pub(in crate::bus) fn unpack(&mut self, mut delivery: Delivery, mut each: impl FnMut(Delivery)) {
        let entries = match codec::decode(&delivery.message.body) {
            Ok(entries) => entries,
            Err(broken) => {
                let told = (UNREADABLE_BATCH.to_owned(), Value::Text(broken.to_string()));
                delivery.message.properties.headers.push(told);
                return each(delivery);
            }
        };
        if self.open.len() >= self.sweep_at {
            self.open.retain(|open| open.strong_count() > 0);
            self.sweep_at = SWEEP_LEAST.max(2 * self.open.len());
        }
        let all = u64::MAX >> (u64::BITS - u32::try_from(entries.len()).unwrap_or(u64::BITS));
        let open = Arc::new(Open {
            batch: std::mem::take(&mut delivery.message.body),
            of_broker: std::mem::take(&mut delivery.message.properties.headers),
            route: Route {
                exchange: delivery.exchange.clone(),
                key: delivery.routing_key.clone(),
                optional: false,
                foreign: false,
            },
            all,
            delivery_count: delivery.delivery_count,
            in_order: self.in_order,
            returning: self.returning.clone(),
            state: Mutex::new(State {
                delivery: Some(delivery),
                unsettled: all,
                out: all,
                spoiled: false,
                gone: false,
                end: None,
            }),
        });
        self.open.push(Arc::downgrade(&open));
        for (place, entry) in (0..).zip(entries) {
            each(open.entry(place, entry));
        }
    }

    /// The consumer goes. Of what is finished in part, the rest is published again before the channel ends, for which `end`
    /// waits, as for what is on its way back already; what is not begun stays where it is.
    pub(in crate::bus) fn leave(&mut self, end: &Arc<DropGuard>) {
        for open in self.open.drain(..).filter_map(|open| open.upgrade()) {
            open.leave(end);
        }
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(self: &Arc<Self>, place: u32, mut entry: codec::BatchEntry) -> Delivery {
        self.tell(&mut entry);
        Delivery::new(
            entry.message,
            self.route.exchange.clone(),
            self.route.key.clone(),
            self.delivery_count.saturating_add(entry.deliveries),
            Settler::Entry {
                batch: self.clone(),
                place,
            },
        )
    }

    /// Has the entry say what the broker says of its batch, and nothing else in the broker's name but what it said of an
    /// earlier one.
    fn tell(&self, entry: &mut codec::BatchEntry) {
        let headers = &mut entry.message.properties.headers;
        if entry.deliveries == 0 {
            headers.retain(|(name, _)| ![DEATH_QUEUE, DEATH_REASON, DEATH_EXCHANGE].contains(&name.as_str()));
        }
        if !self.of_broker.is_empty() {
            headers.retain(|(name, _)| self.of_broker.iter().all(|(other, _)| other != name));
            headers.extend(self.of_broker.iter().cloned());
        }
    }

    fn settle_entry(self: &Arc<Self>, place: u32, settlement: Settlement) {
        let mut state = self.lock();
        let bit = 1 << place;
        if state.out & bit == 0 || !state.is_held() {
            return;
        }
        state.out &= !bit;
        match settlement {
            Settlement::Ack => state.finish(bit),
            Settlement::Requeue | Settlement::Leave if self.in_order || state.gone => {
                state.spoiled = true;
                state.finish(bit);
            }
            Settlement::Requeue => {
                drop(state);
                self.give_back(place, Again::Counted);
            }
            Settlement::Leave => {
                drop(state);
                self.give_back(place, Again::Untouched);
            }
        }
    }

    fn leave(self: &Arc<Self>, end: &Arc<DropGuard>) {
        let unfinished = {
            let mut state = self.lock();
            state.gone = true;
            if self.in_order || state.out == self.all || !state.is_held() {
                return;
            }
            state.end = Some(end.clone());
            std::mem::take(&mut state.out)
        };
        for place in (0..u64::BITS).filter(|place| unfinished & (1 << place) != 0) {
            self.give_back(place, Again::Counted);
        }
    }

    /// Publishes an entry again, alone; only then is it finished here.
    fn give_back(self: &Arc<Self>, place: u32, again: Again) {
        let entries = codec::decode(&self.batch).unwrap_or_default();
        let Some(mut entry) = entries.into_iter().nth(place as usize) else {
            return;
        };
        self.tell(&mut entry);
        let before = entry.deliveries.saturating_add(self.delivery_count);
        let deliveries = before.saturating_add(u32::from(again == Again::Counted));
        let message = if deliveries == 0 && self.of_broker.is_empty() {
            entry.message
        } else {
            let bytes = codec::size(&entry.message).unwrap_or_default();
            batch_of(std::iter::once((&entry.message, deliveries)), bytes)
        };
        let open = self.clone();
        let receipt = Box::new(move |outcome| match outcome {
            Ok(()) => open.lock().finish(1 << place),
            // The broker gives the batch back itself.
            Err(PublishError::Ended) => open.lock().end = None,
            Err(error) => {
                let queue = &open.route.key;
                let kind = format!("{queue}: {error}");
                if let Some(untold) = open.returning.failures.admit(&kind, Instant::now()) {
                    error!(%error, %queue, untold, "requeued messages cannot be published; will try again");
                }
                tokio::spawn(async move {
                    sleep(AGAIN).await;
                    open.give_back(place, again);
                });
            }
        });
        self.returning.send(Publication {
            route: self.route.clone(),
            message,
            receipt,
        });
    }
}

impl State {
    /// Whether the broker still waits to hear of it from us.
    fn is_held(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| !delivery.is_stale())
    }

    fn finish(&mut self, bit: u64) {
        self.unsettled &= !bit;
        if self.unsettled == 0
            && let Some(delivery) = self.delivery.take()
            && !self.spoiled
        {
            delivery.ack();
        }
        if self.unsettled == 0 {
            self.end = None;
        }
    }
}

impl Entries for Open {
    fn settle(self: Arc<Self>, place: u32, settlement: Settlement) {
        self.settle_entry(place, settlement);
    }

    fn is_stale(&self) -> bool {
        self.lock().delivery.as_ref().is_none_or(Delivery::is_stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::topology::Names;
    use crate::bus::{Consumer, Message};

    #[tokio::test]
    async fn a_consumer_that_goes_waits_for_what_it_has_given_back() {
        let (publisher, mut published) = Publisher::new();
        let returning = Returning::new(move || publisher);
        let queue = Names::new("test").messages();
        let (mut consumer, backend) = Consumer::new(Unpacking::of(&queue, &returning));
        let message = |text: &str| Message {
            body: Bytes::copy_from_slice(text.as_bytes()),
            ..Message::default()
        };
        let both = [message("finished"), message("given back")];
        let (settlements, mut settled) = mpsc::unbounded_channel();
        let tag = 7;
        let batch = Delivery::new(
            batch_of(both.iter().map(|message| (message, 0)), 100),
            "".into(),
            "".into(),
            0,
            Settler::Channel { tag, settlements },
        );
        backend.deliveries.as_ref().unwrap().send(batch).unwrap();
        consumer.recv().await.unwrap().ack();
        drop(consumer.recv().await.unwrap());
        let on_its_way = published.recv().await.unwrap();
        drop(consumer);
        assert!(backend.stop.is_cancelled() && !backend.end.is_cancelled());
        on_its_way.settle(Ok(()));
        assert!(backend.end.is_cancelled());
        assert_eq!(settled.try_recv(), Ok((tag, Settlement::Ack)));
    }
}
