//! The state of a broker, changed by one call at a time; the clock is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bus::delivery::{Settlement, Settler};
use crate::bus::topology::{ExchangeKind, Limits, Overflow, Queue, QueueKind, Topology};
use crate::bus::{
    DEATH_EXCHANGE, DEATH_QUEUE, DEATH_REASON, Delivery, Message, PublishError, Route, Value, set_expiration,
};
use crate::wire::topic;

type Settlements = mpsc::UnboundedSender<(u64, Settlement)>;

/// What a broker has and does, without a wait.
#[derive(Default)]
pub struct Broker {
    /// Exchange and key to the names of queues.
    bindings: HashMap<Route, Vec<String>>,
    /// The exchanges whose keys are patterns.
    topics: BTreeSet<Box<str>>,
    /// By name, so that whatever is done to all of them is done in the same order each time.
    queues: BTreeMap<String, Stored>,
    consumers: u64,
}

struct Stored {
    limits: Limits,
    ready: VecDeque<QueuedMessage>,
    /// What the bodies of those that are ready have in all.
    ready_bytes: u64,
    /// How many of those that come next are purged at once.
    purged_next: u32,
    consumers: VecDeque<Reader>,
    unused_since: Instant,
}

struct QueuedMessage {
    message: Message,
    route: Route,
    delivery_count: u32,
    published: Instant,
}

struct Reader {
    id: u64,
    prefetch: usize,
    next_tag: u64,
    unsettled: BTreeMap<u64, QueuedMessage>,
    /// Nothing once it was stopped: what it has must still be settled.
    deliveries: Option<mpsc::UnboundedSender<Delivery>>,
    settlements: Settlements,
}

impl Broker {
    pub(super) fn declare(&mut self, topology: &Topology) {
        let topics = topology.exchanges.iter().filter(|one| one.kind == ExchangeKind::Topic);
        self.topics.extend(topics.map(|one| one.name.as_str().into()));
        for queue in &topology.queues {
            self.declare_queue(queue);
        }
    }

    fn declare_queue(&mut self, queue: &Queue) {
        for (exchange, key) in &queue.former_bindings {
            if let Some(bound) = self.bindings.get_mut(&Route::new(exchange, key)) {
                bound.retain(|name| *name != queue.name);
            }
        }
        for (exchange, key) in &queue.bindings {
            let bound = self.bindings.entry(Route::new(exchange, key)).or_default();
            if !bound.contains(&queue.name) {
                bound.push(queue.name.clone());
            }
        }
        if self.queues.contains_key(&queue.name) {
            return;
        }
        let limits = match &queue.kind {
            QueueKind::Quorum(limits) => limits.clone(),
            QueueKind::Exclusive => Limits::default(),
        };
        let stored = Stored {
            limits,
            ready: VecDeque::new(),
            ready_bytes: 0,
            purged_next: 0,
            consumers: VecDeque::new(),
            unused_since: Instant::now(),
        };
        self.queues.insert(queue.name.clone(), stored);
    }

    fn route(&self, route: &Route) -> Vec<String> {
        if route.exchange.is_empty() {
            return self
                .queues
                .contains_key(&*route.key)
                .then(|| route.key.to_string())
                .into_iter()
                .collect();
        }
        if !self.topics.contains(&route.exchange as &str) {
            return self.bindings.get(route).cloned().unwrap_or_default();
        }
        let matching = self
            .bindings
            .iter()
            .filter(|(bound, _)| bound.exchange == route.exchange && topic::matches(&bound.key, &route.key));
        // Each queue once, and in the same order each time.
        let queues: BTreeSet<_> = matching.flat_map(|(_, queues)| queues).cloned().collect();
        queues.into_iter().collect()
    }

    /// Puts a message into every queue that the route leads to.
    ///
    /// # Errors
    /// Why it is in none, or not in all of them.
    pub fn publish(&mut self, route: &Route, message: Message, now: Instant) -> Result<(), PublishError> {
        let queues = self.route(route);
        if queues.is_empty() {
            return if route.optional {
                Ok(())
            } else {
                Err(PublishError::Unroutable)
            };
        }
        let mut outcome = Ok(());
        for name in queues {
            let entry = QueuedMessage {
                message: message.clone(),
                route: route.clone(),
                delivery_count: 0,
                published: now,
            };
            let Some(queue) = self.queues.get_mut(&name) else {
                continue;
            };
            if let Some((_, overflow)) = queue.limits.max_length
                && queue.is_full()
            {
                match overflow {
                    Overflow::RejectPublish => {
                        outcome = Err(PublishError::Refused);
                        continue;
                    }
                    Overflow::DropHead => drop(queue.next_ready()),
                }
            }
            if queue.purged_next > 0 {
                queue.purged_next -= 1;
                continue;
            }
            queue.ready_bytes += entry.size();
            queue.ready.push_back(entry);
            queue.dispatch();
        }
        outcome
    }

    /// Adds a reader to `queue`, and tells the name by which it settles.
    pub fn consume(
        &mut self,
        queue: &Queue,
        prefetch: u16,
        deliveries: Option<mpsc::UnboundedSender<Delivery>>,
        settlements: Settlements,
    ) -> u64 {
        self.declare_queue(queue);
        self.consumers += 1;
        let id = self.consumers;
        if let Some(stored) = self.queues.get_mut(&queue.name) {
            stored.consumers.push_back(Reader {
                id,
                prefetch: usize::from(prefetch),
                next_tag: 1,
                unsettled: BTreeMap::new(),
                deliveries,
                settlements,
            });
            stored.dispatch();
        }
        id
    }

    /// What became of a delivery, of that tag, to that reader.
    pub fn settle(&mut self, queue: &str, reader: u64, tag: u64, settlement: Settlement, now: Instant) {
        let Some(stored) = self.queues.get_mut(queue) else {
            return;
        };
        let Some(entry) = stored.reader(reader).and_then(|reader| reader.unsettled.remove(&tag)) else {
            return;
        };
        let dead = match settlement {
            Settlement::Ack => None,
            Settlement::Requeue | Settlement::Leave => stored.give_back(entry),
        };
        stored.dispatch();
        self.dead_letter(queue, dead, "delivery_limit", now);
    }

    /// The reader wants no more.
    pub fn stop(&mut self, queue: &str, reader: u64) {
        if let Some(reader) = self.queues.get_mut(queue).and_then(|stored| stored.reader(reader)) {
            reader.deliveries = None;
        }
    }

    /// The reader is gone: what it had not settled is given back, in its order.
    pub fn leave(&mut self, queue: &Queue, reader: u64, now: Instant) {
        if queue.kind == QueueKind::Exclusive {
            self.queues.remove(&queue.name);
            return;
        }
        let Some(stored) = self.queues.get_mut(&queue.name) else {
            return;
        };
        let Some(place) = stored.consumers.iter().position(|other| other.id == reader) else {
            return;
        };
        let unsettled = stored
            .consumers
            .remove(place)
            .map(|reader| reader.unsettled)
            .unwrap_or_default();
        stored.unused_since = now;
        let dead: Vec<_> = unsettled
            .into_values()
            .rev()
            .filter_map(|entry| stored.give_back(entry))
            .collect();
        stored.dispatch();
        self.dead_letter(&queue.name, dead, "delivery_limit", now);
    }

    /// Clears away messages and queues that are past their time.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.queues.retain(|_, stored| !stored.has_expired(now));
        let names: Vec<_> = self.queues.keys().cloned().collect();
        for name in names {
            let late = self
                .queues
                .get_mut(&name)
                .map(|stored| stored.take_late(now))
                .unwrap_or_default();
            self.dead_letter(&name, late, "expired", now);
        }
    }

    /// Whether a reader of `queue` wants more.
    pub(super) fn is_consumed(&self, queue: &str) -> bool {
        let wants = |reader: &Reader| reader.deliveries.as_ref().is_some_and(|sender| !sender.is_closed());
        self.queues
            .get(queue)
            .is_some_and(|stored| stored.consumers.iter().any(wants))
    }

    pub(super) fn purge_next(&mut self, queue: &str) {
        if let Some(stored) = self.queues.get_mut(queue) {
            stored.purged_next += 1;
        }
    }

    pub(super) fn is_there(&self, queue: &str) -> bool {
        self.queues.contains_key(queue)
    }

    pub(super) fn depth(&self, queue: &str) -> (usize, usize) {
        self.queues.get(queue).map_or((0, 0), |stored| {
            (
                stored.ready.len(),
                stored.consumers.iter().map(|reader| reader.unsettled.len()).sum(),
            )
        })
    }

    /// Dead-letters what a queue did not keep, if it says where to.
    fn dead_letter(&mut self, queue: &str, dead: impl IntoIterator<Item = QueuedMessage>, reason: &str, now: Instant) {
        let Some((exchange, key)) = self
            .queues
            .get(queue)
            .and_then(|stored| stored.limits.dead_letter.clone())
        else {
            return;
        };
        for entry in dead {
            let mut message = entry.message;
            let headers = &mut message.properties.headers;
            headers.retain(|(name, _)| ![DEATH_QUEUE, DEATH_REASON, DEATH_EXCHANGE].contains(&name.as_str()));
            for (name, text) in [
                ("x-first-death-reason", reason),
                ("x-first-death-queue", queue),
                (DEATH_QUEUE, queue),
                (DEATH_REASON, reason),
                (DEATH_EXCHANGE, &entry.route.exchange),
                ("x-first-death-exchange", &entry.route.exchange),
            ] {
                if message.properties.header(name).is_none() {
                    message
                        .properties
                        .headers
                        .push((name.to_owned(), Value::Text(text.to_owned())));
                }
            }
            // A dead letter that no one wants is gone, as it is with the broker.
            let _ = self.publish(&Route::new(&exchange, &key), message, now);
        }
    }
}

impl QueuedMessage {
    fn size(&self) -> u64 {
        self.message.body.len() as u64
    }
}

impl Stored {
    fn reader(&mut self, id: u64) -> Option<&mut Reader> {
        self.consumers.iter_mut().find(|reader| reader.id == id)
    }

    /// Whether nothing more may wait in it.
    fn is_full(&self) -> bool {
        let most = self.limits.max_length.map_or(usize::MAX, |(most, _)| most as usize);
        let bytes_are_most = self
            .limits
            .max_length_bytes
            .is_some_and(|most| self.ready_bytes >= most);
        self.ready.len() >= most || bytes_are_most
    }

    fn next_ready(&mut self) -> Option<QueuedMessage> {
        let entry = self.ready.pop_front()?;
        self.ready_bytes -= entry.size();
        Some(entry)
    }

    /// Puts a message back in front, or gives it out as dead if that was once too often.
    fn give_back(&mut self, mut entry: QueuedMessage) -> Option<QueuedMessage> {
        entry.delivery_count += 1;
        if self
            .limits
            .delivery_limit
            .is_some_and(|limit| entry.delivery_count > limit)
        {
            return Some(entry);
        }
        self.ready_bytes += entry.size();
        self.ready.push_front(entry);
        None
    }

    /// Gives what is ready to anyone who has room, in turn.
    fn dispatch(&mut self) {
        while !self.ready.is_empty() {
            let single = self.limits.single_active_consumer;
            let wanted = |reader: &Reader| if single { reader.is_active() } else { reader.has_room() };
            let Some(place) = self.consumers.iter().position(wanted) else {
                return;
            };
            if single && !self.consumers.get(place).is_some_and(Reader::has_room) {
                return;
            }
            let (Some(entry), Some(mut reader)) = (self.next_ready(), self.consumers.remove(place)) else {
                return;
            };
            reader.take(entry);
            // The active one stays it.
            let place = if single { place } else { self.consumers.len() };
            self.consumers.insert(place, reader);
        }
    }

    fn has_expired(&self, now: Instant) -> bool {
        let unused = self
            .consumers
            .is_empty()
            .then(|| now.saturating_duration_since(self.unused_since));
        matches!((unused, self.limits.expires), (Some(unused), Some(limit)) if unused >= limit)
    }

    fn take_late(&mut self, now: Instant) -> Vec<QueuedMessage> {
        let ttl = self.limits.message_ttl;
        let is_late = |entry: &QueuedMessage| {
            let own = entry.message.properties.expiration;
            let least: Option<Duration> = ttl.into_iter().chain(own).min();
            least.is_some_and(|ttl| now.duration_since(entry.published) >= ttl)
        };
        if !self.ready.iter().any(is_late) {
            return Vec::new();
        }
        let (late, ready) = self.ready.drain(..).partition::<VecDeque<_>, _>(is_late);
        self.ready = ready;
        self.ready_bytes = self.ready.iter().map(QueuedMessage::size).sum();
        late.into()
    }
}

impl Reader {
    /// Whether it is the one, among others, that is given messages: it has not stopped, or has not settled all it had.
    fn is_active(&self) -> bool {
        self.deliveries.is_some() || !self.unsettled.is_empty()
    }

    /// A consumer that is dropped at this moment has none: what it gives back must not come to it again, and be counted again.
    fn has_room(&self) -> bool {
        self.deliveries
            .as_ref()
            .is_some_and(|deliveries| !deliveries.is_closed())
            && self.unsettled.len() < self.prefetch
    }

    fn take(&mut self, entry: QueuedMessage) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let settler = Settler::Channel {
            tag,
            settlements: self.settlements.clone(),
        };
        let (exchange, key) = (entry.route.exchange.clone(), entry.route.key.clone());
        let mut message = entry.message.clone();
        if let Some(expiration) = message.properties.expiration.take() {
            let expiration_ms = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
            set_expiration(&mut message.properties.headers, expiration_ms);
        }
        let delivery = Delivery::new(message, exchange, key, entry.delivery_count, settler);
        self.unsettled.insert(tag, entry);
        if let Some(deliveries) = &self.deliveries {
            // If its consumer is gone at this moment, `leave` is about to give it back.
            let _ = deliveries.send(delivery);
        }
    }
}
