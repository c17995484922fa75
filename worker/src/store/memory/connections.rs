//! Which connections an identity has.

use std::collections::BTreeMap;

use shared::clock::Timestamp;
use shared::id::ConnectionId;
use shared::tag::IdentityTag;

use super::expiring::Expiring;
use crate::store::{MOST_CONNECTIONS, Registered};

#[derive(Default)]
pub(super) struct Connections {
    by_identity: Expiring<IdentityTag, BTreeMap<ConnectionId, Registered>>,
}

impl Connections {
    pub(super) fn enter(&mut self, identity: IdentityTag, entry: Registered, now: Timestamp) {
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
    }

    pub(super) fn leave(&mut self, identity: IdentityTag, connection: ConnectionId, now: Timestamp) {
        let Some(entries) = self.by_identity.get_mut(&identity, now) else {
            return;
        };
        entries.remove(&connection);
        if entries.is_empty() {
            self.by_identity.remove(&identity);
        }
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
