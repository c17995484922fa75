//! The store in this process's memory, for `dev` and for tests: gone when the process ends.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::clock::{Clock, Timestamp};
use shared::id::ConnectionId;

use super::{Authentication, Recorded, Store, StoreError};

/// The fewest entries at which a sweep is worth its while.
const SMALLEST_SWEEP: usize = 1_024;

pub(super) struct MemoryStore {
    leeway: Duration,
    clock: Arc<dyn Clock>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_connection: HashMap<ConnectionId, Entry>,
    /// How many entries there may be before the expired ones are looked for.
    sweep_at: usize,
}

struct Entry {
    authentication: Authentication,
    gone_at: Timestamp,
}

impl MemoryStore {
    pub(super) fn new(leeway: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            leeway,
            clock,
            entries: Mutex::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code that holds the lock can leave an entry half written.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, connection: ConnectionId, authentication: &Authentication) -> Recorded {
        let now = self.clock.now();
        let mut entries = self.entries();
        let recorded = judge(entries.get(connection, now), authentication);
        if recorded != Recorded::Stale {
            let entry = Entry {
                authentication: authentication.clone(),
                gone_at: now.saturating_add(authentication.kept_for(now, self.leeway)),
            };
            entries.by_connection.insert(connection, entry);
            entries.sweep(now);
        }
        recorded
    }
}

impl Entries {
    fn get(&self, connection: ConnectionId, now: Timestamp) -> Option<&Authentication> {
        let entry = self.by_connection.get(&connection)?;
        (entry.gone_at > now).then_some(&entry.authentication)
    }

    /// Drops what is expired whenever the number of entries has doubled, which costs each write a constant on average.
    fn sweep(&mut self, now: Timestamp) {
        if self.by_connection.len() <= self.sweep_at.max(SMALLEST_SWEEP) {
            return;
        }
        self.by_connection.retain(|_, entry| entry.gone_at > now);
        self.sweep_at = self.by_connection.len().saturating_mul(2);
    }
}

/// What becomes of the write `next` where `present` is. Redis decides the same in `record.lua`.
fn judge(present: Option<&Authentication>, next: &Authentication) -> Recorded {
    let Some(present) = present else {
        return Recorded::Changed;
    };
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

impl Store for MemoryStore {
    fn record<'a>(
        &'a self,
        connection: ConnectionId,
        authentication: &'a Authentication,
    ) -> BoxFuture<'a, Result<Recorded, StoreError>> {
        Box::pin(async move { Ok(self.write(connection, authentication)) })
    }

    fn authentication(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<Authentication>, StoreError>> {
        Box::pin(async move { Ok(self.entries().get(connection, self.clock.now()).cloned()) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::ManualClock;
    use shared::id::{Sequence, TerminatorId};

    use super::*;
    use crate::store::{AFTERLIFE, conformance};

    #[tokio::test]
    async fn memory_keeps_every_promise_of_the_store() {
        conformance::every_claim(&conformance::memory()).await;
    }

    #[test]
    fn connections_that_came_and_went_do_not_fill_the_memory() {
        let clock = Arc::new(ManualClock::default());
        let store = MemoryStore::new(Duration::ZERO, Arc::<ManualClock>::clone(&clock));
        let closed = Authentication::Closed { by: Sequence::FIRST };
        let terminator = TerminatorId::random();
        for number in 0..20 * SMALLEST_SWEEP as u64 {
            store.write(ConnectionId { terminator, number }, &closed);
            clock.advance(AFTERLIFE / SMALLEST_SWEEP as u32);
        }
        assert!(store.entries().by_connection.len() <= 3 * SMALLEST_SWEEP);
    }
}
