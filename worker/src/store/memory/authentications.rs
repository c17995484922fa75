//! Who is on which connection, and who may take over what it leaves.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};

use super::MemoryStore;
use super::expiring::Expiring;
use crate::auth::identity::Identity;
use crate::store::{
    AFTERLIFE, Authentication, AuthenticationStore, Call, DESERTED_KEPT, PREDECESSORS_KEPT, Recorded, ResumeDigest,
};

impl AuthenticationStore for MemoryStore {
    fn record<'a>(&'a self, connection: ConnectionId, authentication: &'a Authentication) -> Call<'a, Recorded> {
        self.step(move |state, now| state.authentications.record(connection, authentication, now))
    }

    fn authentication(&self, connection: ConnectionId) -> Call<'_, Option<Authentication>> {
        self.step(move |state, now| state.authentications.get(connection, now))
    }

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> Call<'a, bool> {
        self.step(move |state, now| {
            state
                .authentications
                .resume(connection, secret, identity, successor, now)
        })
    }

    fn successor(&self, connection: ConnectionId) -> Call<'_, Option<ConnectionId>> {
        self.step(move |state, now| state.authentications.successor(connection, now))
    }

    fn predecessors(&self, connection: ConnectionId) -> Call<'_, Vec<ConnectionId>> {
        self.step(move |state, now| state.authentications.predecessors(connection, now))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Authentications {
    leeway: Duration,
    by_connection: Expiring<ConnectionId, ConnectionEntry>,
    /// Whom a connection took over, the last one last.
    predecessors: Expiring<ConnectionId, Vec<ConnectionId>>,
}

#[derive(Clone, Debug)]
struct ConnectionEntry {
    authentication: Authentication,
    /// A close hides who was there before it, so the owner has an order of its own: a log-out that comes after the
    /// close still takes the right to resume away.
    owned_by: Option<Sequence>,
    /// Who it is, or was before it closed, and what proves it; no one if it was forgotten.
    owner: Option<(Identity, ResumeDigest)>,
    successor: Option<ConnectionId>,
    /// It has closed and was no one's: nothing of it is held any more.
    deserted: bool,
}

impl ConnectionEntry {
    fn new(authentication: Authentication) -> Self {
        Self {
            authentication,
            owned_by: None,
            owner: None,
            successor: None,
            deserted: false,
        }
    }

    /// Takes notice of whose the connection is by that message.
    fn own(&mut self, by: Sequence, owner: Option<(Identity, ResumeDigest)>) {
        if self.owned_by.is_some_and(|present| by <= present) {
            return;
        }
        if self.owner != owner {
            self.successor = None;
        }
        self.deserted &= owner.is_none();
        self.owned_by = Some(by);
        self.owner = owner;
    }
}

impl Authentications {
    pub(super) fn new(leeway: Duration) -> Self {
        Self {
            leeway,
            by_connection: Expiring::default(),
            predecessors: Expiring::default(),
        }
    }

    pub(super) fn record(&mut self, connection: ConnectionId, next: &Authentication, now: Timestamp) -> Recorded {
        let gone_at = now.saturating_add(next.kept_for(now, self.leeway));
        let (mut entry, until, recorded) = match self.by_connection.take(&connection, now) {
            Some((entry, until)) => {
                let recorded = judge(&entry.authentication, next);
                (entry, until, recorded)
            }
            None => (ConnectionEntry::new(next.clone()), gone_at, Recorded::Changed),
        };
        match next {
            Authentication::Live {
                identity, resume, by, ..
            } => entry.own(*by, Some((identity.clone(), *resume))),
            Authentication::Forgotten { by } => entry.own(*by, None),
            Authentication::Closed { .. } => {}
        }
        let until = if recorded == Recorded::Stale {
            until
        } else {
            entry.authentication = next.clone();
            gone_at
        };
        self.by_connection.put(connection, entry, now, until);
        recorded
    }

    /// Keeps what is known of the connection, if anything is, until then at least.
    pub(super) fn keep(&mut self, connection: ConnectionId, until: Timestamp, now: Timestamp) {
        self.by_connection.extend(&connection, now, until);
    }

    pub(super) fn get(&self, connection: ConnectionId, now: Timestamp) -> Option<Authentication> {
        let entry = self.by_connection.get(&connection, now)?;
        Some(entry.authentication.clone())
    }

    /// Has nothing more held of a connection, unless it was someone's. Tells whether so.
    pub(super) fn desert(&mut self, connection: ConnectionId, now: Timestamp) -> bool {
        let Some((mut entry, until)) = self.by_connection.take(&connection, now) else {
            return true;
        };
        entry.deserted = entry.owner.is_none();
        let deserted = entry.deserted;
        let until = if deserted {
            now.saturating_add(DESERTED_KEPT)
        } else {
            until
        };
        self.by_connection.put(connection, entry, now, until);
        deserted
    }

    pub(super) fn is_deserted(&self, connection: ConnectionId, now: Timestamp) -> bool {
        self.by_connection
            .get(&connection, now)
            .is_some_and(|entry| entry.deserted)
    }

    pub(super) fn resume(
        &mut self,
        connection: ConnectionId,
        secret: &ResumeDigest,
        identity: &Identity,
        successor: ConnectionId,
        now: Timestamp,
    ) -> bool {
        let Some(entry) = self.by_connection.get_mut(&connection, now) else {
            return false;
        };
        let proved = entry
            .owner
            .as_ref()
            .is_some_and(|(owner, proof)| owner == identity && proof == secret);
        if !proved || successor == connection {
            return false;
        }
        entry.successor = Some(successor);
        let gone_at = now.saturating_add(AFTERLIFE);
        self.keep(connection, gone_at, now);
        let predecessors = self.predecessors.enter(successor, now, gone_at, Vec::new);
        predecessors.retain(|earlier| *earlier != connection);
        if predecessors.len() >= PREDECESSORS_KEPT {
            predecessors.remove(0);
        }
        predecessors.push(connection);
        true
    }

    pub(super) fn predecessors(&self, connection: ConnectionId, now: Timestamp) -> Vec<ConnectionId> {
        self.predecessors.get(&connection, now).cloned().unwrap_or_default()
    }

    pub(super) fn successor(&self, connection: ConnectionId, now: Timestamp) -> Option<ConnectionId> {
        self.by_connection.get(&connection, now)?.successor
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_connection.len()
    }
}

/// What becomes of the write `next` where `present` is. Redis decides the same in `record.lua`.
fn judge(present: &Authentication, next: &Authentication) -> Recorded {
    if next == present {
        Recorded::Changed
    } else if next.by() <= present.by() {
        Recorded::Stale
    } else if next.agrees_with(present) {
        Recorded::Unchanged
    } else {
        Recorded::Changed
    }
}
