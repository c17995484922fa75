//! How much one identity has and does.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::limits::{self, BURST_US, MOST_NAMED};
use crate::store::{Admission, Call, ConnectionSlot, LimitStore, MOST_CONNECTIONS, OnConnectionLimit};

impl LimitStore for MemoryStore {
    fn admit(&self, identity: IdentityTag, place: ConnectionSlot) -> Call<'_, Admission> {
        self.step(move |state, now| state.limits.admit(identity, place, now))
    }

    fn pace(&self, identity: IdentityTag, per_second: u32) -> Call<'_, Option<Duration>> {
        self.step(move |state, now| state.limits.pace(identity, per_second, now))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    places: Expiring<IdentityTag, BTreeMap<ConnectionId, Taken>>,
    /// By when all messages of an identity are paid for, in microseconds since the epoch.
    paid_us: Expiring<IdentityTag, u64>,
}

#[derive(Clone, Debug)]
struct Taken {
    since: Timestamp,
    until: Timestamp,
}

impl Limits {
    pub(super) fn admit(&mut self, identity: IdentityTag, place: ConnectionSlot, now: Timestamp) -> Admission {
        let ConnectionSlot { connection, until, .. } = place;
        let places = self.places.enter(identity, now, until, BTreeMap::new);
        places.retain(|other, taken| taken.until > now && Some(*other) != place.replaces);
        let most = usize::try_from(place.limit.most).unwrap_or(MOST_CONNECTIONS);
        let closes_oldest = place.limit.on_more == OnConnectionLimit::CloseOldest;
        let is_new = !places.contains_key(&connection);
        if is_new && !closes_oldest && !place.is_renewal && places.len() >= most {
            return Admission::Refused(some_of(by_age(places), now));
        }
        places.entry(connection).or_insert(Taken { since: now, until }).until = until;
        if !closes_oldest {
            return Admission::Admitted(Vec::new());
        }
        let mut oldest = by_age(places);
        oldest.truncate(oldest.len().saturating_sub(most).min(MOST_NAMED));
        oldest.retain(|oldest| *oldest != connection);
        Admission::Admitted(oldest)
    }

    pub(super) fn leave(&mut self, identity: IdentityTag, connection: ConnectionId, now: Timestamp) {
        if let Some(places) = self.places.get_mut(&identity, now) {
            places.remove(&connection);
        }
    }

    pub(super) fn pace(&mut self, identity: IdentityTag, per_second: u32, now: Timestamp) -> Option<Duration> {
        let gone_at = now.saturating_add(Duration::from_micros(BURST_US));
        let paid_us = self.paid_us.get(&identity, now).copied().unwrap_or_default();
        match limits::pace(paid_us, now, per_second) {
            Ok(paid_us) => {
                self.paid_us.put(identity, paid_us, now, gone_at);
                None
            }
            Err(wait) => Some(wait),
        }
    }
}

fn by_age(places: &BTreeMap<ConnectionId, Taken>) -> Vec<ConnectionId> {
    let mut by_age: Vec<_> = places
        .iter()
        .map(|(connection, taken)| (taken.since, connection.to_string(), *connection))
        .collect();
    by_age.sort();
    by_age.into_iter().map(|(.., connection)| connection).collect()
}

/// So many as are named at a time; others each time, so that each comes to be named.
fn some_of(connections: Vec<ConnectionId>, now: Timestamp) -> Vec<ConnectionId> {
    let parts = connections.len().div_ceil(MOST_NAMED).max(1);
    let part = usize::try_from(now.as_millis()).unwrap_or_default() % parts;
    let named = connections.into_iter().skip(part * MOST_NAMED).take(MOST_NAMED);
    named.collect()
}
