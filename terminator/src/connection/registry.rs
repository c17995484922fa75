//! Which connections there are. One that is in here has a task; its entry ends with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use shared::wire::envelope::Part;
use shared::wire::id::{ConnectionId, MessageId, TerminatorId};
use shared::wire::revocation::Target;
use tokio::time::Instant;

use super::handle::ConnectionHandle;
use super::recently_closed::RecentlyClosed;
use crate::context::TerminatorContext;

/// All connections of one terminator.
pub(crate) struct Registry {
    terminator: TerminatorId,
    common: Arc<TerminatorContext>,
    last: AtomicU64,
    peers: RwLock<HashMap<u64, Arc<ConnectionHandle>>>,
    departed: Mutex<RecentlyClosed>,
}

/// A connection's place in the registry, given up when dropped.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    pub(crate) peer: Arc<ConnectionHandle>,
}

impl Registry {
    pub(crate) fn new(terminator: TerminatorId, common: Arc<TerminatorContext>) -> Self {
        Self {
            terminator,
            common,
            last: AtomicU64::new(0),
            peers: RwLock::default(),
            departed: Mutex::default(),
        }
    }

    pub(crate) const fn common(&self) -> &Arc<TerminatorContext> {
        &self.common
    }

    /// The name of no connection, which is never given to one.
    pub(crate) const fn nobody(&self) -> ConnectionId {
        ConnectionId {
            terminator: self.terminator,
            number: 0,
        }
    }

    /// Admits a connection.
    pub(crate) fn admit(self: &Arc<Self>) -> Entry {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let id = ConnectionId {
            terminator: self.terminator,
            number,
        };
        let peer = Arc::new(ConnectionHandle::new(id, self.common.clone()));
        self.peers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, peer.clone());
        // From its beginning it is armed for what it waits for.
        peer.change(|_, _| ());
        Entry {
            registry: self.clone(),
            peer,
        }
    }

    /// The connection of this name, if it is one of this terminator's and still open.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<ConnectionHandle>> {
        if id.terminator != self.terminator {
            return None;
        }
        self.numbered(id.number)
    }

    /// The connection of this number, if it is still open.
    pub(crate) fn numbered(&self, number: u64) -> Option<Arc<ConnectionHandle>> {
        self.peers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .cloned()
    }

    /// The open ones that a revocation may mean.
    pub(crate) fn meant_by(&self, target: Target) -> Vec<Arc<ConnectionHandle>> {
        let numbers = match target {
            // Keys are removed rarely, and most have proved many.
            Target::Key(_) | Target::Everyone => return self.all(),
            Target::Connection(connection) => return self.find(connection).into_iter().collect(),
            Target::Identity(identity) | Target::OutsideSessions(identity) => self.common.index.of_identity(identity),
            Target::Token(token) => self.common.index.of_token(token),
            Target::Session(session) => self.common.index.of_session(session),
        };
        numbers.into_iter().filter_map(|number| self.numbered(number)).collect()
    }

    /// Whether an answer for a connection that is not open any more has come before.
    pub(crate) fn has_come(&self, message_id: MessageId, part: Part, second: bool) -> bool {
        let MessageId { connection, sequence } = message_id;
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        connection.terminator == self.terminator && departed.is_duplicate(connection.number, sequence, part, second)
    }

    /// All that are open, in the order in which they were opened.
    pub(crate) fn all(&self) -> Vec<Arc<ConnectionHandle>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = peers.values().cloned().collect();
        drop(peers);
        all.sort_unstable_by_key(|peer| peer.id().number);
        all
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let number = self.peer.id().number;
        // First remembered, then gone: no one finds it in neither.
        if let Some(in_flight) = self.peer.change(|session, _| session.take_in_flight()) {
            let mut departed = self.registry.departed.lock().unwrap_or_else(PoisonError::into_inner);
            departed.remember(number, in_flight, Instant::now());
        }
        let mut peers = self.registry.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::common;

    #[tokio::test]
    async fn a_connection_is_found_until_it_ends_and_only_by_its_own_name() {
        let registry = Arc::new(Registry::new(TerminatorId::random(), common()));
        let entry = registry.admit();
        let id = entry.peer.id();
        assert!(registry.find(id).is_some());
        assert!(
            registry
                .find(ConnectionId {
                    terminator: TerminatorId::random(),
                    ..id
                })
                .is_none()
        );
        drop(entry);
        assert!(registry.find(id).is_none());
    }

    #[tokio::test]
    async fn all_are_told_in_the_same_order_every_time() {
        let registry = Arc::new(Registry::new(TerminatorId::random(), common()));
        let entries: Vec<_> = (0..100).map(|_| registry.admit()).collect();
        let numbers: Vec<_> = registry.all().iter().map(|peer| peer.id().number).collect();
        assert!(numbers.is_sorted() && numbers.len() == entries.len());
    }
}
