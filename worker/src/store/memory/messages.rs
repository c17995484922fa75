//! What is held of each connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::{AFTERLIFE, Call, DROPPED_KEPT, HeldMessage, HoldLimits, Holding, MessageStore};

impl MessageStore for MemoryStore {
    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> Call<'a, Holding> {
        self.step(move |state, now| {
            state
                .authentications
                .keep(connection, limits.gone_at(message.since, now), now);
            if state.authentications.is_deserted(connection, now) {
                return Holding::Deserted;
            }
            let successor = state.authentications.successor(connection, now);
            state.messages.hold(connection, message, limits, successor, now)
        })
    }

    fn held_messages(&self, connection: ConnectionId) -> Call<'_, Vec<HeldMessage>> {
        self.step(move |state, now| state.messages.of(connection, now))
    }

    fn dropped_messages(&self, connection: ConnectionId) -> Call<'_, Vec<Sequence>> {
        self.step(move |state, now| state.messages.dropped(connection, now))
    }

    fn drop_messages<'a>(&'a self, connection: ConnectionId, sequences: &'a [Sequence]) -> Call<'a, u64> {
        self.step(move |state, now| state.messages.drop(connection, sequences, now))
    }

    fn keep_messages(&self, connection: ConnectionId, keep: Duration) -> Call<'_, ()> {
        self.step(move |state, now| state.messages.keep(connection, now.saturating_add(keep), now))
    }

    fn discard_messages(&self, connection: ConnectionId) -> Call<'_, u64> {
        self.step(move |state, now| {
            if state.authentications.desert(connection, now) {
                state.messages.discard(connection, now)
            } else {
                0
            }
        })
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    by_connection: Expiring<ConnectionId, BTreeMap<Sequence, HeldMessage>>,
    /// What was held and is not any more.
    dropped: Expiring<ConnectionId, BTreeSet<Sequence>>,
}

impl Messages {
    pub(super) fn hold(
        &mut self,
        connection: ConnectionId,
        message: &HeldMessage,
        limits: &HoldLimits,
        successor: Option<ConnectionId>,
        now: Timestamp,
    ) -> Holding {
        let was_held = self
            .dropped
            .get(&connection, now)
            .is_some_and(|dropped| dropped.contains(&message.sequence));
        if was_held {
            let count = self.by_connection.get(&connection, now).map_or(0, BTreeMap::len) as u64;
            return Holding::Held { count, successor };
        }
        let held = self.by_connection.get(&connection, now);
        if held.is_none_or(|held| !held.contains_key(&message.sequence)) {
            let count = held.map_or(0, BTreeMap::len) as u64;
            let bytes: u64 = held.into_iter().flatten().map(|(_, one)| one.bytes()).sum();
            if count >= limits.messages || bytes + message.bytes() > limits.bytes {
                return Holding::Overflow;
            }
        }
        let gone_at = limits.gone_at(message.since, now);
        let held = self.by_connection.enter(connection, now, gone_at, BTreeMap::new);
        held.entry(message.sequence).or_insert_with(|| message.clone());
        Holding::Held {
            count: held.len() as u64,
            successor,
        }
    }

    pub(super) fn keep(&mut self, connection: ConnectionId, until: Timestamp, now: Timestamp) {
        self.by_connection.extend(&connection, now, until);
    }

    /// Forgets all that is held of a connection. Tells how many that were.
    pub(super) fn discard(&mut self, connection: ConnectionId, now: Timestamp) -> u64 {
        let count = self.by_connection.get(&connection, now).map_or(0, BTreeMap::len) as u64;
        self.by_connection.remove(&connection);
        self.dropped.remove(&connection);
        count
    }

    pub(super) fn of(&self, connection: ConnectionId, now: Timestamp) -> Vec<HeldMessage> {
        let held = self.by_connection.get(&connection, now);
        held.map(|held| held.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn dropped(&self, connection: ConnectionId, now: Timestamp) -> Vec<Sequence> {
        let dropped = self.dropped.get(&connection, now);
        dropped
            .map(|dropped| dropped.iter().copied().collect())
            .unwrap_or_default()
    }

    pub(super) fn drop(&mut self, connection: ConnectionId, sequences: &[Sequence], now: Timestamp) -> u64 {
        let Some(held) = self.by_connection.get_mut(&connection, now) else {
            return 0;
        };
        let gone: Vec<_> = sequences
            .iter()
            .filter(|sequence| held.remove(sequence).is_some())
            .collect();
        if !gone.is_empty() {
            let until = now.saturating_add(AFTERLIFE);
            let dropped = self.dropped.enter(connection, now, until, BTreeSet::new);
            dropped.extend(gone);
            while dropped.len() > DROPPED_KEPT {
                dropped.pop_first();
            }
        }
        let left = held.len() as u64;
        if left == 0 {
            self.by_connection.remove(&connection);
        }
        left
    }
}
