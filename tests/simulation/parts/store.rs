//! The store as one worker sees it, in bad weather: slow, now and then away, and for a dead worker silent.
//!
//! An operation that fails may have been carried out or not, as with a store that
//! is reached over a network.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::bus::memory::chaos::LatencyModel;
use shared::service::clock::Timestamp;
use shared::service::rng::Rng;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::Revocation;
use shared::wire::tag::{IdentityTag, TokenIdTag};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use worker::auth::identity::Identity;
use worker::store::{
    Authentication, Begun, Claim, Decision, Epoch, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, Mailbox,
    Recorded, Registered, Reservation, ResumeDigest, Store, StoreError,
};

/// One worker's way to the store that all share.
pub(crate) struct ChaosStore {
    pub(crate) shared: Arc<dyn Store>,
    pub(crate) weather: LatencyModel,
    /// How many operations in a hundred fail, shared by all so that it can be ended.
    pub(crate) failing: Arc<AtomicU64>,
    /// The worker is dead.
    pub(crate) gone: CancellationToken,
    pub(crate) dice: Mutex<Rng>,
}

impl ChaosStore {
    async fn through<T>(&self, operation: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        let (there, back, fails_before, fails_after) = {
            let mut dice = self.dice.lock().expect("no holder panics");
            let failing = self.failing.load(Ordering::Relaxed);
            (
                self.weather.delay(&mut dice),
                self.weather.delay(&mut dice),
                dice.chance(failing),
                dice.chance(failing),
            )
        };
        sleep(there).await;
        self.alive().await;
        if fails_before {
            return Err(away());
        }
        let result = operation.await;
        sleep(back).await;
        self.alive().await;
        if fails_after { Err(away()) } else { result }
    }

    /// For ever, if the worker is dead: it does nothing any more, and learns nothing.
    async fn alive(&self) {
        if self.gone.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("bad weather".into())
}

/// Each operation of the store, through the weather.
macro_rules! through {
    ($($name:ident $(<$life:lifetime>)? ($($argument:ident: $kind:ty),*) -> $result:ty;)+) => {$(
        fn $name $(<$life>)? (&$($life)? self, $($argument: $kind),*) -> through!(@ $($life)?, $result) {
            Box::pin(self.through(self.shared.$name($($argument),*)))
        }
    )+};
    (@ $life:lifetime, $result:ty) => { BoxFuture<$life, Result<$result, StoreError>> };
    (@ , $result:ty) => { BoxFuture<'_, Result<$result, StoreError>> };
}

impl Store for ChaosStore {
    through! {
        record<'a>(connection: ConnectionId, authentication: &'a Authentication) -> Recorded;
        authentication(connection: ConnectionId) -> Option<Authentication>;
        resume<'a>(connection: ConnectionId, secret: &'a ResumeDigest, identity: &'a Identity, successor: ConnectionId) -> bool;
        successor(connection: ConnectionId) -> Option<ConnectionId>;
        predecessors(connection: ConnectionId) -> Vec<ConnectionId>;
        register(identity: IdentityTag, entry: Registered) -> Option<u64>;
        unregister(identity: IdentityTag, connection: ConnectionId, by: Option<Sequence>) -> ();
        departed(identity: IdentityTag, since: Timestamp) -> Vec<(ConnectionId, Timestamp)>;
        replace_departed(identity: IdentityTag, connection: ConnectionId) -> ();
        conclude(identity: IdentityTag, key: u64, held: bool) -> bool;
        miss(mailbox: Mailbox, count: u64) -> ();
        take_missed(mailbox: Mailbox) -> u64;
        hold_message<'a>(connection: ConnectionId, message: &'a HeldMessage, limits: &'a HoldLimits) -> Holding;
        held_messages(connection: ConnectionId) -> Vec<HeldMessage>;
        drop_messages<'a>(connection: ConnectionId, sequences: &'a [Sequence]) -> u64;
        registered(identity: IdentityTag, connection: ConnectionId) -> Option<Registered>;
        keep_messages(connection: ConnectionId, keep: Duration) -> ();
        discard_messages(connection: ConnectionId) -> u64;
        reserve<'a>(connection: ConnectionId, reservation: &'a Reservation) -> bool;
        unreserve(connection: ConnectionId) -> ();
        reserved() -> u64;
        hold_write<'a>(mailbox: Mailbox, write: &'a HeldWrite, limits: &'a HoldLimits) -> Holding;
        held_writes(mailbox: Mailbox, most: u64) -> Vec<HeldWrite>;
        drop_writes<'a>(mailbox: Mailbox, keys: &'a [String]) -> u64;
        revoke<'a>(revocations: &'a [Revocation]) -> Kept;
        dropped_messages(connection: ConnectionId) -> Vec<Sequence>;
        epoch() -> Epoch;
        announced(epoch: Epoch) -> ();
        revocations() -> Vec<Revocation>;
        know_event(event: TokenIdTag, keep: Option<Duration>) -> bool;
        note<'a>(connection: ConnectionId, decision: &'a Decision) -> ();
        decisions(connection: ConnectionId) -> Vec<Decision>;
        begin<'a>(claim: &'a Claim) -> Begun;
        finish<'a>(claim: &'a Claim, answer: Option<&'a str>) -> Option<String>;
        abandon<'a>(claim: &'a Claim) -> ();
        ping() -> ();
    }

    /// Only people read them.
    fn closed_lately(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>> {
        Box::pin(self.through(self.shared.closed_lately(identity)))
    }

    /// In a fixed order: it promises none, and chance would make of it another run each time.
    fn connections(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<Registered>, StoreError>> {
        Box::pin(async move {
            let mut connections = self.through(self.shared.connections(identity)).await?;
            connections.sort_by_key(|entry| entry.connection);
            Ok(connections)
        })
    }

    /// The same.
    fn overdue(&self, since: Timestamp, most: u64) -> BoxFuture<'_, Result<Vec<Mailbox>, StoreError>> {
        Box::pin(async move {
            let mut mailboxes = self.through(self.shared.overdue(since, most)).await?;
            mailboxes.sort();
            Ok(mailboxes)
        })
    }
}
