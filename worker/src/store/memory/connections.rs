//! Which connections an identity has.

use std::collections::BTreeMap;

use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::tag::IdentityTag;

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::{AFTERLIFE, Call, ConnectionStore, DROPPED_KEPT, MOST_CONNECTIONS, MOST_DEPARTED, Registered};

impl ConnectionStore for MemoryStore {
    fn register(&self, identity: IdentityTag, entry: Registered) -> Call<'_, Option<u64>> {
        self.step(move |state, now| {
            let entered = state.connections.enter(identity, entry, now);
            entered.then(|| state.writes.count(identity.into(), now))
        })
    }

    fn unregister(&self, identity: IdentityTag, connection: ConnectionId, by: Option<Sequence>) -> Call<'_, ()> {
        self.step(move |state, now| {
            if state.connections.leave(identity, connection, by, now) {
                state.limits.leave(identity, connection, now);
            }
        })
    }

    fn departed(&self, identity: IdentityTag, since: Timestamp) -> Call<'_, Vec<(ConnectionId, Timestamp)>> {
        self.step(move |state, now| state.connections.departed(identity, since, now))
    }

    fn replace_departed(&self, identity: IdentityTag, connection: ConnectionId) -> Call<'_, ()> {
        self.step(move |state, now| state.connections.replace_departed(identity, connection, now))
    }

    fn connections(&self, identity: IdentityTag) -> Call<'_, Vec<Registered>> {
        self.step(move |state, now| state.connections.of(identity, now))
    }

    fn closed_lately(&self, identity: IdentityTag) -> Call<'_, Vec<ConnectionId>> {
        self.step(move |state, now| state.connections.closed_lately(identity, now))
    }

    fn registered(&self, identity: IdentityTag, connection: ConnectionId) -> Call<'_, Option<Registered>> {
        self.step(move |state, now| state.connections.one(identity, connection, now))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    by_identity: Expiring<IdentityTag, BTreeMap<ConnectionId, Registered>>,
    /// Which have left, by which message and when.
    left: Expiring<IdentityTag, BTreeMap<ConnectionId, (Sequence, Timestamp)>>,
    /// Those of them that may be resumed, and when each left.
    departed: Expiring<IdentityTag, BTreeMap<ConnectionId, Timestamp>>,
}

impl Connections {
    /// Tells whether it is entered, because no newer message has done that or taken it out.
    pub(super) fn enter(&mut self, identity: IdentityTag, entry: Registered, now: Timestamp) -> bool {
        let left = self
            .left
            .get(&identity, now)
            .and_then(|left| left.get(&entry.connection));
        let present = self
            .by_identity
            .get(&identity, now)
            .and_then(|entries| entries.get(&entry.connection));
        if left.is_some_and(|(by, _)| *by >= entry.by) || present.is_some_and(|present| present.by > entry.by) {
            return false;
        }
        self.replace_departed(identity, entry.connection, now);
        let entries = self.by_identity.enter(identity, now, entry.gone_at(now), BTreeMap::new);
        entries.insert(entry.connection, entry);
        if entries.len() > MOST_CONNECTIONS
            && let Some(stalest) = entries
                .values()
                .min_by_key(|other| other.until)
                .map(|other| other.connection)
        {
            entries.remove(&stalest);
        }
        true
    }

    /// Tells whether it is out, because no newer message has entered it.
    pub(super) fn leave(
        &mut self,
        identity: IdentityTag,
        connection: ConnectionId,
        by: Option<Sequence>,
        now: Timestamp,
    ) -> bool {
        if let Some(entries) = self.by_identity.get_mut(&identity, now) {
            let present = entries.get(&connection);
            if present.is_some_and(|present| by.is_some_and(|by| present.by > by)) {
                return false;
            }
            let was_there = entries.remove(&connection).is_some();
            if entries.is_empty() {
                self.by_identity.remove(&identity);
            }
            if was_there {
                self.depart(identity, connection, now);
            }
        }
        // Where no message says so, any may enter it again.
        self.remember(identity, connection, by.unwrap_or(Sequence::new(0)), now);
        true
    }

    fn depart(&mut self, identity: IdentityTag, connection: ConnectionId, now: Timestamp) {
        let departed = self
            .departed
            .enter(identity, now, now.saturating_add(AFTERLIFE), BTreeMap::new);
        departed.insert(connection, now);
        if departed.len() > MOST_DEPARTED
            && let Some(oldest) = departed
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(connection, _)| *connection)
        {
            departed.remove(&oldest);
        }
    }

    pub(super) fn departed(
        &self,
        identity: IdentityTag,
        since: Timestamp,
        now: Timestamp,
    ) -> Vec<(ConnectionId, Timestamp)> {
        let departed = self.departed.get(&identity, now).into_iter().flatten();
        let mut since: Vec<_> = departed
            .filter(|(_, at)| **at >= since)
            .map(|(connection, at)| (*connection, *at))
            .collect();
        since.sort_by_key(|(_, at)| *at);
        since
    }

    pub(super) fn replace_departed(&mut self, identity: IdentityTag, connection: ConnectionId, now: Timestamp) {
        if let Some(departed) = self.departed.get_mut(&identity, now) {
            departed.remove(&connection);
        }
    }

    fn remember(&mut self, identity: IdentityTag, connection: ConnectionId, by: Sequence, now: Timestamp) {
        let left = self
            .left
            .enter(identity, now, now.saturating_add(AFTERLIFE), BTreeMap::new);
        let newest = left.get(&connection).is_none_or(|(before, _)| *before <= by);
        if newest {
            left.insert(connection, (by, now));
        }
        if left.len() > DROPPED_KEPT
            && let Some(oldest) = left
                .iter()
                .min_by_key(|(_, (_, at))| *at)
                .map(|(connection, _)| *connection)
        {
            left.remove(&oldest);
        }
    }

    pub(super) fn closed_lately(&self, identity: IdentityTag, now: Timestamp) -> Vec<ConnectionId> {
        let left = self.left.get(&identity, now);
        left.map(|left| left.keys().copied().collect()).unwrap_or_default()
    }

    pub(super) fn one(&self, identity: IdentityTag, connection: ConnectionId, now: Timestamp) -> Option<Registered> {
        let entry = self.by_identity.get(&identity, now)?.get(&connection)?;
        (now < entry.gone_at(now)).then_some(*entry)
    }

    pub(super) fn of(&self, identity: IdentityTag, now: Timestamp) -> Vec<Registered> {
        let entries = self
            .by_identity
            .get(&identity, now)
            .into_iter()
            .flat_map(BTreeMap::values);
        entries.filter(|entry| now < entry.gone_at(now)).copied().collect()
    }
}
