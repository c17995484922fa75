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
mod messages;
mod reservations;
mod revocations;
mod writes;

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::service::clock::{Clock, Timestamp};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::Revocation;
use shared::wire::tag::{IdentityTag, TokenIdTag};

use self::authentications::Authentications;
use self::claims::Claims;
use self::connections::Connections;
use self::decisions::Decisions;
use self::events::Events;
use self::messages::Messages;
use self::reservations::Reservations;
use self::revocations::Revocations;
use self::writes::Writes;
use super::{
    Authentication, Begun, Claim, Decision, Epoch, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, Mailbox,
    Recorded, Registered, Reservation, ResumeDigest, Settings, Store, StoreError,
};
use crate::auth::identity::Identity;

pub(super) struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    authentications: Authentications,
    connections: Connections,
    messages: Messages,
    reservations: Reservations,
    writes: Writes,
    revocations: Revocations,
    decisions: Decisions,
    events: Events,
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
            claims: Claims::default(),
            epoch,
        }
    }
}

impl MemoryStore {
    pub(super) fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        // Whoever has a store that lives as long as its process has nothing to bring back into it.
        let first = Epoch { id: 0, announced: true };
        let state = State::new(settings.leeway, settings.max_revocations, first);
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// Loses everything, as a server does that comes up empty. Only a test may want that.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) fn lose(&self, settings: &Settings) {
        let mut state = self.state();
        let next = Epoch {
            id: state.epoch.id + 1,
            announced: false,
        };
        *state = State::new(settings.leeway, settings.max_revocations, next);
    }

    /// Carries out one step, once it is waited for.
    fn step<'a, T>(
        &'a self,
        act: impl FnOnce(&mut State, Timestamp) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move { Ok(act(&mut self.state(), self.clock.now())) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave an entry half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn record<'a>(
        &'a self,
        connection: ConnectionId,
        authentication: &'a Authentication,
    ) -> BoxFuture<'a, Result<Recorded, StoreError>> {
        self.step(move |state, now| state.authentications.record(connection, authentication, now))
    }

    fn authentication(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<Authentication>, StoreError>> {
        self.step(move |state, now| state.authentications.get(connection, now))
    }

    fn epoch(&self) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        self.step(move |state, _| state.epoch)
    }

    fn announced(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(move |state, _| state.epoch.announced |= state.epoch.id == epoch.id)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.step(move |state, now| {
            state
                .authentications
                .resume(connection, secret, identity, successor, now)
        })
    }

    fn successor(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<ConnectionId>, StoreError>> {
        self.step(move |state, now| state.authentications.successor(connection, now))
    }

    fn predecessors(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>> {
        self.step(move |state, now| state.authentications.predecessors(connection, now))
    }

    fn register(&self, identity: IdentityTag, entry: Registered) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.step(move |state, now| {
            let entered = state.connections.enter(identity, entry, now);
            entered.then(|| state.writes.count(identity.into(), now))
        })
    }

    fn unregister(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
        by: Option<Sequence>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(move |state, now| state.connections.leave(identity, connection, by, now))
    }

    fn departed(
        &self,
        identity: IdentityTag,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(ConnectionId, Timestamp)>, StoreError>> {
        self.step(move |state, now| state.connections.departed(identity, since, now))
    }

    fn replace_departed(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(move |state, now| state.connections.replace_departed(identity, connection, now))
    }

    fn connections(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<Registered>, StoreError>> {
        self.step(move |state, now| state.connections.of(identity, now))
    }

    fn closed_lately(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>> {
        self.step(move |state, now| state.connections.closed_lately(identity, now))
    }

    fn registered(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<Registered>, StoreError>> {
        self.step(move |state, now| state.connections.one(identity, connection, now))
    }

    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>> {
        self.step(move |state, now| {
            state
                .authentications
                .keep(connection, limits.gone_at(message.since, now), now);
            if state.authentications.is_deserted(connection, now) {
                return Holding::Deserted;
            }
            let successor = state.authentications.successor(connection, now);
            state.messages.hold(connection, message, limits, successor, now)
        })
    }

    fn held_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<HeldMessage>, StoreError>> {
        self.step(move |state, now| state.messages.of(connection, now))
    }

    fn dropped_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Sequence>, StoreError>> {
        self.step(move |state, now| state.messages.dropped(connection, now))
    }

    fn drop_messages<'a>(
        &'a self,
        connection: ConnectionId,
        sequences: &'a [Sequence],
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.step(move |state, now| state.messages.drop(connection, sequences, now))
    }

    fn keep_messages(&self, connection: ConnectionId, keep: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(move |state, now| state.messages.keep(connection, now.saturating_add(keep), now))
    }

    fn discard_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.step(move |state, now| {
            if state.authentications.desert(connection, now) {
                state.messages.discard(connection, now)
            } else {
                0
            }
        })
    }

    fn reserve<'a>(
        &'a self,
        connection: ConnectionId,
        reservation: &'a Reservation,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.step(move |state, now| state.reservations.reserve(connection, reservation, now))
    }

    fn unreserve(&self, connection: ConnectionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(move |state, _| state.reservations.unreserve(connection))
    }

    fn reserved(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.step(|state, now| state.reservations.reserved(now))
    }

    fn hold_write<'a>(
        &'a self,
        mailbox: Mailbox,
        write: &'a HeldWrite,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>> {
        self.step(move |state, now| state.writes.hold(mailbox, write, limits, now))
    }

    fn held_writes(&self, mailbox: Mailbox, most: u64) -> BoxFuture<'_, Result<Vec<HeldWrite>, StoreError>> {
        self.step(move |state, now| state.writes.of(mailbox, most, now))
    }

    fn drop_writes<'a>(&'a self, mailbox: Mailbox, keys: &'a [String]) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.step(move |state, now| state.writes.drop(mailbox, keys, now))
    }

    fn conclude(&self, identity: IdentityTag, key: u64, held: bool) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.step(move |state, now| state.writes.conclude(identity, key, held, now))
    }

    fn miss(&self, mailbox: Mailbox, count: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.step(move |state, now| state.writes.miss(mailbox, count, now))
    }

    fn take_missed(&self, mailbox: Mailbox) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.step(move |state, now| state.writes.take_missed(mailbox, now))
    }

    fn overdue(&self, since: Timestamp, most: u64) -> BoxFuture<'_, Result<Vec<Mailbox>, StoreError>> {
        self.step(move |state, now| state.writes.overdue(since, most, now))
    }

    fn revoke<'a>(&'a self, revocations: &'a [Revocation]) -> BoxFuture<'a, Result<Kept, StoreError>> {
        self.step(move |state, now| state.revocations.add_all(revocations, now))
    }

    fn revocations(&self) -> BoxFuture<'_, Result<Vec<Revocation>, StoreError>> {
        self.step(move |state, now| state.revocations.all(now))
    }

    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.step(move |state, now| state.events.know(event, keep, now))
    }

    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> BoxFuture<'a, Result<(), StoreError>> {
        self.step(move |state, now| state.decisions.note(connection, decision, now))
    }

    fn decisions(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Decision>, StoreError>> {
        self.step(move |state, now| state.decisions.of(connection, now))
    }

    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, StoreError>> {
        self.step(move |state, now| state.claims.begin(claim, now))
    }

    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        answer: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        self.step(move |state, now| state.claims.finish(claim, answer, now))
    }

    fn abandon<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        self.step(move |state, now| state.claims.abandon(claim, now))
    }
}

#[cfg(test)]
mod tests {
    use shared::service::clock::ManualClock;
    use shared::wire::id::TerminatorId;

    use super::expiring::SMALLEST_SWEEP;
    use super::*;
    use crate::store::{AFTERLIFE, conformance};

    #[tokio::test]
    async fn memory_keeps_every_promise_of_the_store() {
        conformance::every_claim(&conformance::memory()).await;
    }

    #[tokio::test]
    async fn connections_that_came_and_went_do_not_fill_the_memory() {
        let clock = Arc::new(ManualClock::default());
        let settings = Settings {
            leeway: Duration::ZERO,
            ..conformance::settings("memory:", "")
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
