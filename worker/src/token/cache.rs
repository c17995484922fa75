//! Who has been verified already.
//!
//! The same token comes with every message of a connection, and verifying it
//! again would cost a hundred times the look-up. The key is the digest of the
//! whole token, signature included, so nothing but that very text can hit. Only
//! successes are kept: anyone who sends garbage evicts no one. An entry proves the
//! signature and the shape, under the keys of its epoch; the verifier looks at
//! the clock each time.

use std::sync::Arc;

use quick_cache::sync::Cache as Shards;

use super::{Digest, Verified};

/// Counts the sets of keys that a verifier has had.
pub(super) type Epoch = u64;

/// Bounded; safe to share between threads.
pub(super) struct Cache(Shards<Digest, (Epoch, Arc<Verified>)>);

impl Cache {
    /// Holds about `capacity` tokens, and the least useful give way.
    pub(super) fn new(capacity: usize) -> Self {
        Self(Shards::new(capacity))
    }

    /// What that token proved, if it did under the keys of that epoch.
    pub(super) fn get(&self, digest: &Digest, epoch: Epoch) -> Option<Arc<Verified>> {
        self.0
            .get(digest)
            .filter(|(of, _)| *of == epoch)
            .map(|(_, verified)| verified)
    }

    pub(super) fn insert(&self, verified: &Arc<Verified>, epoch: Epoch) {
        self.0.insert(verified.digest, (epoch, verified.clone()));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
