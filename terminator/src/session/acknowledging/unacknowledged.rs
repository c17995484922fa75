//! Pushes that were written to a client that acknowledges them, and that it has not acknowledged yet: pure.
//!
//! What was written into a socket that turns out dead is not lost: as long as its client has not said that it has it, the broker
//! is not told either, and it goes back to the workers when the connection ends.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::load::Load;
use crate::session::recent::Key;

/// How long a client may take to acknowledge a push. One that takes longer does not read, or its socket is dead.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(60);

/// The most pushes that one client may leave unacknowledged: an eighth of what the broker gives out to all.
const MOST_PUSHES: usize = crate::broker::PREFETCH as usize / 8;

/// The pushes of one connection, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct Unacknowledged<T> {
    written: BTreeMap<u64, Written<T>>,
    /// By their `id`.
    places: HashMap<Key, u64>,
    next: u64,
    bytes: usize,
    /// When to see whether the first of them was acknowledged.
    pub(crate) due: Option<Instant>,
    reading: Reading,
}

/// Whether an acknowledgement would be read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Always,
    NotNow,
    Since(Instant),
}

#[derive(Debug)]
struct Written<T> {
    at: Instant,
    bytes: usize,
    /// It, and what came again of it.
    items: Vec<T>,
}

impl<T> Default for Unacknowledged<T> {
    fn default() -> Self {
        Self {
            written: BTreeMap::new(),
            places: HashMap::new(),
            next: 0,
            bytes: 0,
            due: None,
            reading: Reading::Always,
        }
    }
}

impl<T> Unacknowledged<T> {
    /// A push of so many bytes was written.
    pub(crate) fn wrote(&mut self, key: Key, item: T, bytes: usize, now: Instant) {
        let place = *self.places.entry(key).or_insert(self.next);
        self.next = self.next.max(place + 1);
        self.bytes += bytes;
        let written = self.written.entry(place).or_insert_with(|| Written {
            at: now,
            bytes: 0,
            items: Vec::with_capacity(1),
        });
        written.bytes += bytes;
        written.items.push(item);
    }

    /// Whether that push was written and is not acknowledged.
    pub(crate) fn contains(&self, key: Key) -> bool {
        self.places.contains_key(&key)
    }

    /// The client has got it. None if it was not written, or was acknowledged before.
    pub(crate) fn acknowledge(&mut self, key: Key) -> Option<Vec<T>> {
        let written = self.written.remove(&self.places.remove(&key)?)?;
        self.bytes -= written.bytes;
        Some(written.items)
    }

    /// All of them, in the order in which they were written.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.places.clear();
        self.bytes = 0;
        let written = std::mem::take(&mut self.written);
        written.into_values().flat_map(|written| written.items)
    }

    /// Whether the client's socket is read from now on. While it is not, no acknowledgement can come.
    pub(crate) fn is_read(&mut self, reads: bool, now: Instant) {
        self.reading = match (self.reading, reads) {
            (Reading::NotNow, true) => Reading::Since(now),
            (_, false) => Reading::NotNow,
            (reading, true) => reading,
        };
    }

    /// When the first of them must be acknowledged, or is to be looked at again.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        (!self.written.is_empty()).then(|| self.awaited_since().unwrap_or(now) + ACK_TIMEOUT)
    }

    /// Since when the client could have acknowledged the first of them.
    pub(crate) fn awaited_since(&self) -> Option<Instant> {
        let (_, oldest) = self.written.first_key_value()?;
        match self.reading {
            Reading::Always => Some(oldest.at),
            Reading::Since(since) => Some(oldest.at.max(since)),
            Reading::NotNow => None,
        }
    }

    /// What is kept of them.
    pub(crate) fn load(&self) -> Load {
        Load {
            texts: self.written.len(),
            bytes: self.bytes,
        }
    }

    /// Whether there are more than a client may leave unacknowledged, of so many bytes.
    pub(crate) fn is_too_much(&self, most_bytes: usize) -> bool {
        self.written.len() > 1 && (self.written.len() > MOST_PUSHES || self.bytes > most_bytes)
    }

    /// Whether what is held should wait until some of them are acknowledged.
    pub(crate) fn is_half_full(&self, most_bytes: usize) -> bool {
        self.written.len() > MOST_PUSHES / 2 || self.bytes > most_bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::recent::Keys;

    fn of(names: &[&str]) -> (Keys, Unacknowledged<String>) {
        let (keys, mut all) = (Keys::default(), Unacknowledged::default());
        for name in names {
            all.wrote(keys.of(name), (*name).to_owned(), 10, Instant::now());
        }
        (keys, all)
    }

    #[test]
    fn what_is_not_acknowledged_comes_back_in_the_order_in_which_it_was_written() {
        let (keys, mut all) = of(&["a", "b", "c", "d"]);
        assert_eq!(all.acknowledge(keys.of("b")), Some(vec!["b".to_owned()]));
        assert_eq!(all.acknowledge(keys.of("b")), None, "once");
        assert_eq!(all.acknowledge(keys.of("x")), None, "nobody has written it");
        assert_eq!(all.load(), Load { texts: 3, bytes: 30 });
        assert_eq!(all.take_all().collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!((all.load(), all.awaited_since()), (Load::default(), None));
    }

    #[test]
    fn what_comes_again_is_acknowledged_with_it() {
        let (keys, mut all) = of(&["a", "b", "a"]);
        assert!(all.contains(keys.of("a")));
        assert_eq!(all.acknowledge(keys.of("a")).map(|items| items.len()), Some(2));
        assert!(!all.contains(keys.of("a")));
        assert_eq!(all.load(), Load { texts: 1, bytes: 10 });
    }

    #[test]
    fn one_push_may_be_as_large_as_it_is_and_many_may_not_be_too_many() {
        let (_, all) = of(&["a"]);
        assert!(!all.is_too_much(5) && all.is_half_full(5));
        let (_, all) = of(&["a", "b"]);
        assert!(all.is_too_much(15) && !all.is_too_much(20));
        let names: Vec<_> = (0..=MOST_PUSHES).map(|number| number.to_string()).collect();
        let (_, all) = of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(all.is_too_much(usize::MAX));
    }
}
