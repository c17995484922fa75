//! The store in this process's memory, for `dev` and for tests: gone when the process ends.
//!
//! One state under one lock, so that each call is one step. Each concern of the
//! interface has a module of its own, and all of them keep things in maps whose entries end.

mod authentications;
mod claims;
mod connections;
mod decisions;
mod events;
mod expiring;
mod limits;
mod messages;
mod open;
mod reservations;
mod revocations;
mod writes;

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::service::clock::{Clock, Timestamp};

use self::authentications::Authentications;
use self::claims::Claims;
use self::connections::Connections;
use self::decisions::Decisions;
use self::events::Events;
use self::limits::Limits;
use self::messages::Messages;
use self::open::Open;
use self::reservations::Reservations;
use self::revocations::Revocations;
use self::writes::Writes;
use super::{Call, Epoch, Server, Settings};

/// A store that is gone when its process ends.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    authentications: Authentications,
    connections: Connections,
    messages: Messages,
    reservations: Reservations,
    writes: Writes,
    revocations: Revocations,
    decisions: Decisions,
    events: Events,
    limits: Limits,
    open: Open,
    claims: Claims,
    epoch: Epoch,
}

impl State {
    fn new(leeway: Duration, max_revocations: usize, epoch: Epoch) -> Self {
        Self {
            authentications: Authentications::new(leeway),
            connections: Connections::default(),
            messages: Messages::default(),
            reservations: Reservations::default(),
            writes: Writes::default(),
            revocations: Revocations::new(max_revocations),
            decisions: Decisions::default(),
            events: Events::default(),
            limits: Limits::default(),
            open: Open::default(),
            claims: Claims::default(),
            epoch,
        }
    }
}

/// What a store in memory had at some moment.
#[derive(Clone, Debug)]
pub struct Snapshot(State);

impl MemoryStore {
    /// An empty one. Of the settings it has the leeway and the most revocations.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        // Anyone who has a store that lives as long as its process has nothing to bring back into it.
        let first = Epoch { id: 0, announced: true };
        let state = State::new(settings.leeway, settings.max_revocations, first);
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// All that it has.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state().clone())
    }

    /// Has what it had, and nothing else, as a server does that lost its last writes.
    pub fn restore(&self, Snapshot(had): Snapshot) {
        let mut state = self.state();
        let epoch = Epoch {
            id: state.epoch.id + 1,
            announced: false,
        };
        *state = State { epoch, ..had };
    }

    /// Carries out one step, once it is waited for.
    fn step<'a, T>(&'a self, act: impl FnOnce(&mut State, Timestamp) -> T + Send + 'a) -> Call<'a, T> {
        Box::pin(async move { Ok(act(&mut self.state(), self.clock.now())) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave an entry half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server for MemoryStore {
    fn epoch(&self) -> Call<'_, Epoch> {
        self.step(move |state, _| state.epoch)
    }

    fn announced(&self, epoch: Epoch) -> Call<'_, ()> {
        self.step(move |state, _| state.epoch.announced |= state.epoch.id == epoch.id)
    }

    fn ping(&self) -> Call<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn writable(&self) -> Call<'_, ()> {
        self.ping()
    }
}

#[cfg(test)]
mod tests {
    use shared::service::clock::ManualClock;
    use shared::wire::id::{ConnectionId, Sequence, TerminatorId};

    use super::expiring::SMALLEST_SWEEP;
    use super::*;
    use crate::store::{AFTERLIFE, Authentication, AuthenticationStore as _};

    #[tokio::test]
    async fn connections_that_came_and_went_do_not_fill_the_memory() {
        let clock = Arc::new(ManualClock::default());
        let settings = Settings {
            url: "memory:".to_owned(),
            namespace: String::new(),
            timeout: Duration::ZERO,
            leeway: Duration::ZERO,
            max_revocations: 1,
        };
        let store = MemoryStore::new(&settings, Arc::<ManualClock>::clone(&clock));
        let closed = Authentication::Closed { by: Sequence::FIRST };
        let terminator = TerminatorId::random();
        for number in 0..20 * SMALLEST_SWEEP as u64 {
            store
                .record(ConnectionId { terminator, number }, &closed)
                .await
                .unwrap();
            clock.advance(AFTERLIFE / SMALLEST_SWEEP as u32);
        }
        assert!(store.state().authentications.len() <= 3 * SMALLEST_SWEEP);
    }
}
