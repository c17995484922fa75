//! The store in this process's memory, for `dev` and for tests: gone when the process ends.
//!
//! One state under one lock, so that each call is one step. The rooms are those
//! of the seam: `authentications`, `connections`, `messages`, `writes`, and here
//! what is small.

mod authentications;
mod connections;
mod messages;
mod writes;

use std::collections::{HashMap, VecDeque};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::clock::{Clock, Timestamp};
use shared::id::{ConnectionId, Sequence};
use shared::revocation::{Revocation, Target};
use shared::tag::IdentityTag;

use self::authentications::Authentications;
use self::connections::Connections;
use self::messages::Messages;
use self::writes::Writes;
use super::decision::DECISIONS_KEPT;
use super::{
    Authentication, Decision, HeldMessage, HeldWrite, HoldLimits, Holding, Recorded, Registered, ResumeDigest, Store,
    StoreError,
};
use crate::identity::Identity;

/// How long decisions about a connection are kept after the last one.
const DECISIONS_TTL: Duration = Duration::from_secs(3_600);

pub(super) struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    authentications: Authentications,
    connections: Connections,
    messages: Messages,
    writes: Writes,
    revocations: HashMap<Target, Revocation>,
    decisions: Expiring<ConnectionId, VecDeque<Decision>>,
}

impl MemoryStore {
    pub(super) fn new(leeway: Duration, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            authentications: Authentications::new(leeway),
            connections: Connections::default(),
            messages: Messages::default(),
            writes: Writes::default(),
            revocations: HashMap::new(),
            decisions: Expiring::default(),
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// Carries out one step.
    fn step<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State, Timestamp) -> T,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let now = self.clock.now();
        Box::pin(ready(Ok(act(&mut self.state(), now))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave an entry half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A map whose entries end.
pub(super) struct Expiring<K, V> {
    entries: HashMap<K, (V, Timestamp)>,
    /// How many entries there may be before the expired ones are looked for.
    sweep_at: usize,
}

/// The fewest entries at which a sweep is worth its while.
const SMALLEST_SWEEP: usize = 1_024;

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            sweep_at: SMALLEST_SWEEP,
        }
    }
}

impl<K: Eq + std::hash::Hash, V> Expiring<K, V> {
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
        self.entries.retain(|_, (_, gone_at)| *gone_at > now);
        self.sweep_at = self.entries.len().saturating_mul(2).max(SMALLEST_SWEEP);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Store for MemoryStore {
    fn record<'a>(
        &'a self,
        connection: ConnectionId,
        authentication: &'a Authentication,
    ) -> BoxFuture<'a, Result<Recorded, StoreError>> {
        self.step(|state, now| state.authentications.record(connection, authentication, now))
    }

    fn authentication(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<Authentication>, StoreError>> {
        self.step(|state, now| state.authentications.get(connection, now))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        heir: ConnectionId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.step(|state, now| state.authentications.resume(connection, secret, identity, heir, now))
    }

    fn heir(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<ConnectionId>, StoreError>> {
        self.step(|state, now| state.authentications.heir(connection, now))
    }

    fn register(&self, identity: IdentityTag, entry: Registered) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.step(|state, now| {
            state.connections.enter(identity, entry, now);
            state.writes.count(identity, now)
        })
    }

    fn unregister(&self, identity: IdentityTag, connection: ConnectionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(|state, now| state.connections.leave(identity, connection, now))
    }

    fn connections(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<Registered>, StoreError>> {
        self.step(|state, now| state.connections.of(identity, now))
    }

    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>> {
        self.step(|state, now| {
            let heir = state.authentications.heir(connection, now);
            state.messages.hold(connection, message, limits, heir, now)
        })
    }

    fn held_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<HeldMessage>, StoreError>> {
        self.step(|state, now| state.messages.of(connection, now))
    }

    fn drop_messages<'a>(
        &'a self,
        connection: ConnectionId,
        sequences: &'a [Sequence],
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.step(|state, now| state.messages.drop(connection, sequences, now))
    }

    fn hold_write<'a>(
        &'a self,
        identity: IdentityTag,
        write: &'a HeldWrite,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>> {
        self.step(|state, now| state.writes.hold(identity, write, limits, now))
    }

    fn held_writes(&self, identity: IdentityTag, most: u64) -> BoxFuture<'_, Result<Vec<HeldWrite>, StoreError>> {
        self.step(|state, now| state.writes.of(identity, most, now))
    }

    fn drop_writes<'a>(&'a self, identity: IdentityTag, keys: &'a [String]) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.step(|state, now| state.writes.drop(identity, keys, now))
    }

    fn overdue(&self, since: Timestamp, most: u64) -> BoxFuture<'_, Result<Vec<IdentityTag>, StoreError>> {
        self.step(|state, now| state.writes.overdue(since, most, now))
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), StoreError>> {
        self.step(|state, now| {
            let all = &mut state.revocations;
            all.retain(|_, one| now < one.until);
            all.entry(revocation.target)
                .and_modify(|present| present.merge(revocation))
                .or_insert(*revocation);
        })
    }

    fn revocations(&self) -> BoxFuture<'_, Result<Vec<Revocation>, StoreError>> {
        self.step(|state, now| {
            let all = state.revocations.values();
            all.filter(|one| now < one.until).copied().collect()
        })
    }

    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> BoxFuture<'a, Result<(), StoreError>> {
        self.step(|state, now| {
            let gone_at = now.saturating_add(DECISIONS_TTL);
            let kept = state.decisions.enter(connection, now, gone_at, VecDeque::new);
            kept.push_back(decision.clone());
            if kept.len() > DECISIONS_KEPT {
                kept.pop_front();
            }
        })
    }

    fn decisions(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Decision>, StoreError>> {
        self.step(|state, now| {
            let kept = state.decisions.get(&connection, now);
            kept.map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::ManualClock;
    use shared::id::TerminatorId;

    use super::*;
    use crate::store::{AFTERLIFE, conformance};

    #[tokio::test]
    async fn memory_keeps_every_promise_of_the_store() {
        conformance::every_claim(&conformance::memory()).await;
    }

    #[tokio::test]
    async fn connections_that_came_and_went_do_not_fill_the_memory() {
        let clock = Arc::new(ManualClock::default());
        let store = MemoryStore::new(Duration::ZERO, Arc::<ManualClock>::clone(&clock));
        let closed = Authentication::Closed { by: Sequence::FIRST };
        let terminator = TerminatorId::random();
        for number in 0..20 * SMALLEST_SWEEP as u64 {
            store
                .record(ConnectionId { terminator, number }, &closed)
                .await
                .unwrap();
            clock.advance(AFTERLIFE / SMALLEST_SWEEP as u32);
        }
        assert!(store.state().authentications.len() <= 3 * SMALLEST_SWEEP);
    }
}
