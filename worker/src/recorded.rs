//! What was last recorded of each connection, so that it is recorded once.
//!
//! A client sends the same token with every message until it has a fresh one.
//! Only the first such message changes anything, so the steady state causes no
//! traffic to the store. What is forgotten here is merely written again.

use std::sync::Arc;

use quick_cache::sync::Cache;
use shared::id::{ConnectionId, Sequence, Stamp};

use crate::metrics::Metrics;
use crate::store::{Authentication, Recorded, Store, StoreError};
use crate::token::{Digest, Verified};

/// How many connections are remembered: at about 100 bytes each, 10 MB. A worker may hear from all of them.
const CAPACITY: usize = 100_000;

pub(crate) struct Recorder {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// By which token each connection was last recorded, from here.
    last: Cache<ConnectionId, (Sequence, Digest)>,
}

impl Recorder {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            metrics,
            last: Cache::new(CAPACITY),
        }
    }

    /// Records that the message `stamp` proved who its connection is.
    ///
    /// The answer is nothing if that was recorded before.
    ///
    /// # Errors
    /// If the store did not take it; the message may then not be processed.
    pub(crate) async fn record(&self, stamp: Stamp, verified: &Verified) -> Result<Option<Recorded>, StoreError> {
        let Stamp { connection, sequence } = stamp;
        let last = self.last.get(&connection);
        if last.is_some_and(|(_, digest)| digest == verified.digest) {
            return Ok(None);
        }
        let authentication = Authentication::Live {
            identity: verified.identity.clone(),
            until: verified.expires_at,
            by: sequence,
            resume: [0; 32],
        };
        let result = self.store.record(connection, &authentication).await;
        self.metrics.store_write(&result);
        let recorded = result?;
        // Of two that were written at the same time, the newer is the one that counts.
        let is_newer = self.last.get(&connection).is_none_or(|(by, _)| by < sequence);
        if recorded != Recorded::Stale && is_newer {
            self.last.insert(connection, (sequence, verified.digest));
        }
        Ok(Some(recorded))
    }

    /// The connection is closed. A store that is away forgets it by itself, when its token has expired.
    pub(crate) async fn forget(&self, stamp: Stamp) {
        self.last.remove(&stamp.connection);
        let result = self.store.close(stamp.connection, stamp.sequence).await;
        self.metrics.store_write(&result);
    }
}
