//! A map whose entries end.

use std::collections::HashMap;
use std::hash::Hash;

use shared::service::clock::Timestamp;

/// The fewest entries at which a sweep is worth its while.
pub(super) const SMALLEST_SWEEP: usize = 1_024;

/// A map whose entries end.
#[derive(Clone, Debug)]
pub(super) struct Expiring<K, V> {
    entries: HashMap<K, (V, Timestamp)>,
    /// How many entries there may be before the expired ones are looked for.
    sweep_at: usize,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            sweep_at: SMALLEST_SWEEP,
        }
    }
}

impl<K: Eq + Hash, V> Expiring<K, V> {
    pub(super) fn get(&self, key: &K, now: Timestamp) -> Option<&V> {
        let (value, gone_at) = self.entries.get(key)?;
        (*gone_at > now).then_some(value)
    }

    /// The entry, made if there is none, which now lives until `gone_at` at least.
    pub(super) fn enter(&mut self, key: K, now: Timestamp, gone_at: Timestamp, fresh: impl Fn() -> V) -> &mut V {
        self.sweep(now);
        let (value, present) = self.entries.entry(key).or_insert_with(|| (fresh(), gone_at));
        if *present <= now {
            *value = fresh();
            *present = gone_at;
        }
        *present = (*present).max(gone_at);
        value
    }

    /// Lets an entry that is there live until `gone_at` at least.
    pub(super) fn extend(&mut self, key: &K, now: Timestamp, gone_at: Timestamp) {
        if let Some((_, present)) = self.entries.get_mut(key)
            && *present > now
        {
            *present = (*present).max(gone_at);
        }
    }

    /// Takes the entry out, and tells until when it would have lived.
    pub(super) fn take(&mut self, key: &K, now: Timestamp) -> Option<(V, Timestamp)> {
        self.entries.remove(key).filter(|(_, gone_at)| *gone_at > now)
    }

    pub(super) fn put(&mut self, key: K, value: V, now: Timestamp, gone_at: Timestamp) {
        self.sweep(now);
        self.entries.insert(key, (value, gone_at));
    }

    pub(super) fn get_mut(&mut self, key: &K, now: Timestamp) -> Option<&mut V> {
        let (value, gone_at) = self.entries.get_mut(key)?;
        (*gone_at > now).then_some(value)
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    pub(super) fn iter(&self, now: Timestamp) -> impl Iterator<Item = (&K, &V)> {
        self.entries
            .iter()
            .filter(move |(_, (_, gone_at))| *gone_at > now)
            .map(|(key, (value, _))| (key, value))
    }

    /// Drops what is expired whenever the number of entries has doubled, which costs each write a constant on average.
    fn sweep(&mut self, now: Timestamp) {
        if self.entries.len() <= self.sweep_at {
            return;
        }
        self.drop_ended(now);
        self.sweep_at = self.entries.len().saturating_mul(2).max(SMALLEST_SWEEP);
    }

    pub(super) fn drop_ended(&mut self, now: Timestamp) {
        self.entries.retain(|_, (_, gone_at)| *gone_at > now);
    }

    /// How many there are, with some that have ended.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
