//! The store that all share, which may lose what it has acknowledged: the last of it, as in a failover, or all.
//!
//! Each write is noted with its time, so that those that are not lost can be done again
//! on a store that is empty.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::service::clock::{Clock, Timestamp};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::Revocation;
use shared::wire::tag::{IdentityTag, TokenIdTag};
use worker::auth::identity::Identity;
use worker::store::{
    self, Authentication, Begun, Claim, Decision, Epoch, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, Mailbox,
    Recorded, Registered, Reservation, ResumeDigest, Store, StoreError,
};

use super::clock::SimClock;

/// What a store loses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// What it was given last.
    Last(Duration),
    /// Everything.
    All,
}

/// The store in memory, and what it takes to lose something.
pub(crate) struct LosingStore {
    settings: store::Settings,
    clock: SimClock,
    state: Mutex<State>,
}

struct State {
    store: Arc<dyn Store>,
    epoch: Epoch,
    writes: Vec<(Timestamp, Write)>,
}

/// Does a write again.
type Write = Box<dyn Fn(&dyn Store) + Send>;

impl LosingStore {
    pub(crate) fn new(settings: store::Settings, clock: SimClock) -> Self {
        let state = State {
            store: open(&settings, clock),
            epoch: Epoch { id: 0, announced: true },
            writes: Vec::new(),
        };
        Self {
            settings,
            clock,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn lose(&self, loss: Loss) {
        let mut state = self.state();
        let store = open(&self.settings, self.clock);
        match loss {
            Loss::All => state.writes.clear(),
            Loss::Last(time) => {
                let now = self.clock.now();
                state.writes.retain(|(at, _)| now.saturating_since(*at) > time);
            }
        }
        state.writes.iter().for_each(|(_, write)| write(&*store));
        state.store = store;
        state.epoch = Epoch {
            id: state.epoch.id + 1,
            announced: false,
        };
    }

    fn store(&self) -> Arc<dyn Store> {
        self.state().store.clone()
    }

    /// The store, for a write that could be done again like that.
    fn writing(&self, again: impl Fn(&dyn Store) + Send + 'static) -> Arc<dyn Store> {
        let mut state = self.state();
        state.writes.push((self.clock.now(), Box::new(again)));
        state.store.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

fn open(settings: &store::Settings, clock: SimClock) -> Arc<dyn Store> {
    store::open(settings, Arc::new(clock)).expect("the store is in memory")
}

/// The store in memory waits for nothing.
fn done<T>(call: BoxFuture<'_, Result<T, StoreError>>) {
    drop(call.now_or_never().expect("it is done at once"));
}

/// Calls that only read.
macro_rules! reads {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)+) => {$(
        fn $name(&self, $($argument: $kind),*) -> BoxFuture<'_, Result<$result, StoreError>> {
            Box::pin(async move { self.store().$name($($argument),*).await })
        }
    )+};
}

/// Calls that write; what they borrow is copied, to be written again.
macro_rules! writes {
    ($(fn $name:ident<'a>($($argument:ident: $kind:ty),*; $($borrowed:ident: $borrowed_kind:ty),*) -> $result:ty;)+) => {$(
        fn $name<'a>(
            &'a self, $($argument: $kind,)* $($borrowed: &'a $borrowed_kind),*
        ) -> BoxFuture<'a, Result<$result, StoreError>> {
            Box::pin(async move {
                let store = {
                    $(let $borrowed = $borrowed.to_owned();)*
                    self.writing(move |store| done(store.$name($($argument,)* $(&$borrowed),*)))
                };
                store.$name($($argument,)* $($borrowed),*).await
            })
        }
    )+};
}

impl Store for LosingStore {
    reads! {
        fn authentication(connection: ConnectionId) -> Option<Authentication>;
        fn successor(connection: ConnectionId) -> Option<ConnectionId>;
        fn predecessors(connection: ConnectionId) -> Vec<ConnectionId>;
        fn connections(identity: IdentityTag) -> Vec<Registered>;
        fn departed(identity: IdentityTag, since: Timestamp) -> Vec<(ConnectionId, Timestamp)>;
        fn closed_lately(identity: IdentityTag) -> Vec<ConnectionId>;
        fn registered(identity: IdentityTag, connection: ConnectionId) -> Option<Registered>;
        fn held_messages(connection: ConnectionId) -> Vec<HeldMessage>;
        fn reserved() -> u64;
        fn dropped_messages(connection: ConnectionId) -> Vec<Sequence>;
        fn held_writes(mailbox: Mailbox, most: u64) -> Vec<HeldWrite>;
        fn overdue(since: Timestamp, most: u64) -> Vec<Mailbox>;
        fn revocations() -> Vec<Revocation>;
        fn decisions(connection: ConnectionId) -> Vec<Decision>;
        fn ping() -> ();
    }

    writes! {
        fn record<'a>(connection: ConnectionId; authentication: Authentication) -> Recorded;
        fn hold_message<'a>(connection: ConnectionId; message: HeldMessage, limits: HoldLimits) -> Holding;
        fn keep_messages<'a>(connection: ConnectionId, keep: Duration;) -> ();
        fn discard_messages<'a>(connection: ConnectionId;) -> u64;
        fn reserve<'a>(connection: ConnectionId; reservation: Reservation) -> bool;
        fn unreserve<'a>(connection: ConnectionId;) -> ();
        fn drop_messages<'a>(connection: ConnectionId; sequences: [Sequence]) -> u64;
        fn hold_write<'a>(mailbox: Mailbox; write: HeldWrite, limits: HoldLimits) -> Holding;
        fn drop_writes<'a>(mailbox: Mailbox; keys: [String]) -> u64;
        fn replace_departed<'a>(identity: IdentityTag, connection: ConnectionId;) -> ();
        fn conclude<'a>(identity: IdentityTag, key: u64, held: bool;) -> bool;
        fn miss<'a>(mailbox: Mailbox, count: u64;) -> ();
        fn take_missed<'a>(mailbox: Mailbox;) -> u64;
        fn revoke<'a>(; revocations: [Revocation]) -> Kept;
    }

    fn register(&self, identity: IdentityTag, entry: Registered) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            let store = self.writing(move |store| done(store.register(identity, entry)));
            store.register(identity, entry).await
        })
    }

    fn unregister(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
        by: Option<Sequence>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let store = self.writing(move |store| done(store.unregister(identity, connection, by)));
            store.unregister(identity, connection, by).await
        })
    }

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let (secret_again, identity_again) = (*secret, identity.clone());
            let store =
                self.writing(move |store| done(store.resume(connection, &secret_again, &identity_again, successor)));
            store.resume(connection, secret, identity, successor).await
        })
    }

    /// Nobody tells any here.
    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move { self.store().know_event(event, keep).await })
    }

    /// Only people read them.
    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.store().note(connection, decision).await })
    }

    // Idempotency is off here.
    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, StoreError>> {
        Box::pin(async move { self.store().begin(claim).await })
    }

    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        answer: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(async move { self.store().finish(claim, answer).await })
    }

    fn abandon<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.store().abandon(claim).await })
    }

    fn epoch(&self) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        Box::pin(async move { Ok(self.state().epoch) })
    }

    fn announced(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.epoch.announced |= state.epoch.id == epoch.id;
            Ok(())
        })
    }
}
