//! Which messages their senders have given up: they are not begun, and what is under way is stopped.
//!
//! A client says so with `{"cancel": ID}`. It may reach another worker than the message did, and sooner than that; so
//! anyone who gets it tells all workers, unless the message is under way right there, and it is remembered for a while. It
//! means messages that its connection sent before it, so that an `id` can be used again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter};
use shared::wire::envelope::Cancel;
use shared::wire::id::{ConnectionId, MessageId, Sequence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// For how long it is remembered. A message that takes longer to get here is handled, unless it has a deadline.
const KEPT: Duration = Duration::from_secs(60);

/// Of so many at most, the newest.
const MOST_KEPT: usize = 4_096;

/// Messages by their connection and its name for them.
type Key = (ConnectionId, Arc<str>);

/// Messages that are under way here, and those that were given up.
pub(crate) struct GivenUp {
    all: Mutex<All>,
    stopped: Counter,
    told: Counter,
}

#[derive(Default)]
struct All {
    under_way: HashMap<Key, Vec<UnderWay>>,
    given_up: HashMap<Key, Sequence>,
    /// The same, oldest first.
    order: VecDeque<(Key, Instant)>,
    numbers: u64,
}

struct UnderWay {
    number: u64,
    sequence: Sequence,
    stop: CancellationToken,
}

/// A message that is under way. Dropped, it is not any more.
pub(crate) struct Watched {
    of: Arc<GivenUp>,
    key: Key,
    number: u64,
    stop: CancellationToken,
}

impl All {
    fn forget_old(&mut self, now: Instant) {
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= KEPT;
        while self.order.len() > MOST_KEPT || self.order.front().is_some_and(|(_, since)| is_old(since)) {
            if let Some((key, _)) = self.order.pop_front() {
                self.given_up.remove(&key);
            }
        }
    }
}

impl GivenUp {
    pub(crate) fn new() -> Self {
        let count = |event: &'static str| counter!("countersign_worker_cancels_total", "event" => event);
        Self {
            all: Mutex::default(),
            stopped: count("stopped"),
            told: count("told"),
        }
    }

    /// A message is under way, if it has a name by which it can be given up.
    pub(crate) fn watch(
        self: &Arc<Self>,
        message_id: Option<MessageId>,
        id: Option<&str>,
        now: Instant,
    ) -> Option<Watched> {
        let MessageId { connection, sequence } = message_id?;
        let key = (connection, Arc::from(id?));
        let stop = CancellationToken::new();
        let mut all = self.lock();
        all.forget_old(now);
        if all.given_up.get(&key).is_some_and(|before| sequence < *before) {
            self.stopped.increment(1);
            stop.cancel();
        }
        all.numbers += 1;
        let number = all.numbers;
        all.under_way.entry(key.clone()).or_default().push(UnderWay {
            number,
            sequence,
            stop: stop.clone(),
        });
        Some(Watched {
            of: self.clone(),
            key,
            number,
            stop,
        })
    }

    /// A client has given something up. Tells whether that is under way here.
    pub(crate) fn give_up(&self, cancel: &Cancel, now: Instant) -> bool {
        let Cancel { connection, id, before } = cancel;
        let key = (*connection, Arc::from(id.as_str()));
        let mut all = self.lock();
        let mut found = false;
        for message in all.under_way.get(&key).into_iter().flatten() {
            if message.sequence < *before && !message.stop.is_cancelled() {
                self.stopped.increment(1);
                message.stop.cancel();
                found = true;
            }
        }
        // What is stopped may come again.
        if all.given_up.insert(key.clone(), *before).is_some() {
            all.order.retain(|(other, _)| *other != key);
        }
        all.order.push_back((key, now));
        all.forget_old(now);
        found
    }

    /// All workers are told of one.
    pub(crate) fn told(&self) {
        self.told.increment(1);
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Nothing under this lock panics half-way through a change.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Is cancelled when it is given up.
    pub(crate) const fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = self.of.lock();
        if let Some(same) = all.under_way.get_mut(&self.key) {
            same.retain(|message| message.number != self.number);
            if same.is_empty() {
                all.under_way.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_id(text: &str) -> MessageId {
        text.parse().unwrap()
    }

    fn cancel(text: &str, id: &str) -> Cancel {
        let MessageId { connection, sequence } = message_id(text);
        Cancel {
            connection,
            id: id.to_owned(),
            before: sequence,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_it_on_its_connection_by_its_name_is_stopped_and_nothing_else() {
        let (all, now) = (Arc::new(GivenUp::new()), Instant::now());
        let watch = |text: &str, id: &str| all.watch(Some(message_id(text)), Some(id), now).unwrap();
        let meant = watch("33e39da4c14fa57c.1.5", "a");
        let others = [
            watch("33e39da4c14fa57c.1.5", "b"),
            watch("33e39da4c14fa57c.2.5", "a"),
            watch("33e39da4c14fa57c.1.8", "a"),
        ];
        assert!(all.give_up(&cancel("33e39da4c14fa57c.1.7", "a"), now));
        assert!(meant.stop().is_cancelled());
        assert!(others.iter().all(|other| !other.stop().is_cancelled()));
        assert!(!all.give_up(&cancel("33e39da4c14fa57c.1.7", "a"), now), "it is stopped");
        assert!(
            all.watch(None, Some("a"), now).is_none()
                && all.watch(Some(message_id("33e39da4c14fa57c.1.5")), None, now).is_none()
        );
        drop((meant, others));
        assert!(all.lock().under_way.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_later_is_not_begun_for_a_while_and_so_much_is_remembered() {
        let (all, now) = (Arc::new(GivenUp::new()), Instant::now());
        let comes = |text: &str, now| {
            let watched = all.watch(Some(message_id(text)), Some("a"), now);
            watched.unwrap().stop().is_cancelled()
        };
        assert!(!all.give_up(&cancel("33e39da4c14fa57c.1.7", "a"), now));
        assert!(comes("33e39da4c14fa57c.1.5", now) && !comes("33e39da4c14fa57c.1.8", now));
        assert!(!comes("33e39da4c14fa57c.1.5", now + KEPT));
        for number in 0..MOST_KEPT * 2 {
            all.give_up(&cancel("33e39da4c14fa57c.1.7", &number.to_string()), now);
            all.give_up(&cancel("33e39da4c14fa57c.1.7", "the same"), now);
        }
        let all = all.lock();
        assert_eq!((all.order.len(), all.given_up.len()), (MOST_KEPT, MOST_KEPT));
    }
}
