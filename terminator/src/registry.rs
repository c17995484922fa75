//! Which connections there are. One that is in here has a task; its entry ends with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use shared::id::{ConnectionId, TerminatorId};

use crate::peer::Peer;

/// All connections of one terminator.
pub(crate) struct Registry {
    terminator: TerminatorId,
    last: AtomicU64,
    peers: RwLock<HashMap<u64, Arc<Peer>>>,
}

/// A connection's place in the registry, given up when dropped.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    pub(crate) peer: Arc<Peer>,
}

impl Registry {
    pub(crate) fn new(terminator: TerminatorId) -> Self {
        Self {
            terminator,
            last: AtomicU64::new(0),
            peers: RwLock::default(),
        }
    }

    /// Admits a connection.
    pub(crate) fn admit(self: &Arc<Self>, most_in_flight: usize, most_bytes: usize) -> Entry {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let id = ConnectionId {
            terminator: self.terminator,
            number,
        };
        let peer = Arc::new(Peer::new(id, most_in_flight, most_bytes));
        self.peers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, peer.clone());
        Entry {
            registry: self.clone(),
            peer,
        }
    }

    /// The connection of this name, if it is one of this terminator's and still open.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Peer>> {
        if id.terminator != self.terminator {
            return None;
        }
        self.peers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id.number)
            .cloned()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut peers = self.registry.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.remove(&self.peer.id().number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_found_until_it_ends_and_only_by_its_own_name() {
        let registry = Arc::new(Registry::new(TerminatorId::random()));
        let entry = registry.admit(1, 1);
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
}
