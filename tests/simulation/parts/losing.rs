//! The store that all share, which may lose what it has acknowledged: the last of it, as in a failover, or all.
//!
//! Every so often, what it has is kept, so that it can be had again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use shared::service::clock::{Clock, Timestamp};
use worker::store::{Around, Call, MemoryStore, Settings, Snapshot, Store};

use super::clock::SimClock;

/// What a store loses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// What it was given last, for no longer than [`LONGEST`].
    Last(Duration),
    /// Everything.
    All,
}

/// How long before now a loss begins at most.
pub(crate) const LONGEST: Duration = Duration::from_secs(3);

/// For how long what it is given is not kept apart.
const STEP: Duration = Duration::from_millis(50);

/// The store in memory, and what it takes to lose something.
pub(crate) struct LosingStore {
    store: MemoryStore,
    clock: SimClock,
    empty: Snapshot,
    /// What it had, the latest last.
    had: Mutex<VecDeque<(Timestamp, Snapshot)>>,
}

impl LosingStore {
    pub(crate) fn new(settings: &Settings, clock: SimClock) -> Self {
        let store = MemoryStore::new(settings, Arc::new(clock.clone()));
        Self {
            clock,
            empty: store.snapshot(),
            had: Mutex::default(),
            store,
        }
    }

    pub(crate) fn lose(&self, loss: Loss) {
        let mut had = self.had();
        if let Loss::Last(time) = loss {
            let now = self.clock.now();
            had.retain(|(at, _)| now.saturating_since(*at) >= time);
        } else {
            had.clear();
        }
        let left = had.back().map_or(&self.empty, |(_, snapshot)| snapshot);
        self.store.restore(left.clone());
    }

    /// Keeps what it has before it is asked.
    fn remember(&self) {
        let now = self.clock.now();
        let mut had = self.had();
        let is_new = |(at, _): &(Timestamp, Snapshot)| now.saturating_since(*at) < STEP;
        if had.back().is_some_and(is_new) {
            return;
        }
        had.push_back((now, self.store.snapshot()));
        let is_old = |(at, _): &(Timestamp, Snapshot)| now.saturating_since(*at) > LONGEST + STEP;
        // The one after it must do for every loss.
        while had.get(1).is_some_and(is_old) {
            had.pop_front();
        }
    }

    fn had(&self) -> MutexGuard<'_, VecDeque<(Timestamp, Snapshot)>> {
        self.had.lock().expect("no holder panics")
    }
}

impl Around for LosingStore {
    fn inner(&self) -> &dyn Store {
        &self.store
    }

    fn around<'a, T: Send + 'a>(&'a self, _: &'static str, call: Call<'a, T>) -> Call<'a, T> {
        Box::pin(async move {
            self.remember();
            call.await
        })
    }
}
