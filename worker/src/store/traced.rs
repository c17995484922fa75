//! A store whose calls are seen in the trace of whoever makes them.
//!
//! It stands before the real one only where traces are exported, and passes on
//! whatever is not part of one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::service::clock::Timestamp;
use shared::service::trace::{self, KeyValue, SpanKind, words};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::Revocation;
use shared::wire::tag::{IdentityTag, TokenIdTag};

use super::{
    Authentication, Begun, Claim, Decision, Epoch, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, Mailbox,
    Recorded, Registered, Reservation, ResumeDigest, Store, StoreError,
};
use crate::auth::identity::Identity;

pub(crate) struct Traced(pub(crate) Arc<dyn Store>);

type Call<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

fn traced<'a, T: Send + 'a>(operation: &'static str, call: Call<'a, T>) -> Call<'a, T> {
    let span = trace::child("store", SpanKind::Client);
    if span.context().is_none() {
        return call;
    }
    span.describe(|| [KeyValue::new(words::STORE_OPERATION, operation)]);
    Box::pin(async move {
        let result = call.await;
        if result.is_err() {
            span.fail("store_failed");
        }
        result
    })
}

impl Store for Traced {
    fn record<'a>(&'a self, connection: ConnectionId, authentication: &'a Authentication) -> Call<'a, Recorded> {
        traced("record", self.0.record(connection, authentication))
    }

    fn authentication(&self, connection: ConnectionId) -> Call<'_, Option<Authentication>> {
        traced("authentication", self.0.authentication(connection))
    }

    fn close(&self, connection: ConnectionId, by: Sequence) -> Call<'_, Recorded> {
        traced("close", self.0.close(connection, by))
    }

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> Call<'a, bool> {
        traced("resume", self.0.resume(connection, secret, identity, successor))
    }

    fn successor(&self, connection: ConnectionId) -> Call<'_, Option<ConnectionId>> {
        traced("successor", self.0.successor(connection))
    }

    fn predecessors(&self, connection: ConnectionId) -> Call<'_, Vec<ConnectionId>> {
        traced("predecessors", self.0.predecessors(connection))
    }

    fn register(&self, identity: IdentityTag, entry: Registered) -> Call<'_, Option<u64>> {
        traced("register", self.0.register(identity, entry))
    }

    fn unregister(&self, identity: IdentityTag, connection: ConnectionId, by: Option<Sequence>) -> Call<'_, ()> {
        traced("unregister", self.0.unregister(identity, connection, by))
    }

    fn departed(&self, identity: IdentityTag, since: Timestamp) -> Call<'_, Vec<(ConnectionId, Timestamp)>> {
        traced("departed", self.0.departed(identity, since))
    }

    fn replace_departed(&self, identity: IdentityTag, connection: ConnectionId) -> Call<'_, ()> {
        traced("replace_departed", self.0.replace_departed(identity, connection))
    }

    fn conclude(&self, identity: IdentityTag, key: u64, held: bool) -> Call<'_, bool> {
        traced("conclude", self.0.conclude(identity, key, held))
    }

    fn miss(&self, mailbox: Mailbox, count: u64) -> Call<'_, ()> {
        traced("miss", self.0.miss(mailbox, count))
    }

    fn take_missed(&self, mailbox: Mailbox) -> Call<'_, u64> {
        traced("take_missed", self.0.take_missed(mailbox))
    }

    fn connections(&self, identity: IdentityTag) -> Call<'_, Vec<Registered>> {
        traced("connections", self.0.connections(identity))
    }

    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> Call<'a, Holding> {
        traced("hold_message", self.0.hold_message(connection, message, limits))
    }

    fn held_messages(&self, connection: ConnectionId) -> Call<'_, Vec<HeldMessage>> {
        traced("held_messages", self.0.held_messages(connection))
    }

    fn dropped_messages(&self, connection: ConnectionId) -> Call<'_, Vec<Sequence>> {
        traced("dropped_messages", self.0.dropped_messages(connection))
    }

    fn drop_messages<'a>(&'a self, connection: ConnectionId, sequences: &'a [Sequence]) -> Call<'a, u64> {
        traced("drop_messages", self.0.drop_messages(connection, sequences))
    }

    fn closed_lately(&self, identity: IdentityTag) -> Call<'_, Vec<ConnectionId>> {
        traced("closed_lately", self.0.closed_lately(identity))
    }

    fn registered(&self, identity: IdentityTag, connection: ConnectionId) -> Call<'_, Option<Registered>> {
        traced("registered", self.0.registered(identity, connection))
    }

    fn keep_messages(&self, connection: ConnectionId, keep: Duration) -> Call<'_, ()> {
        traced("keep_messages", self.0.keep_messages(connection, keep))
    }

    fn discard_messages(&self, connection: ConnectionId) -> Call<'_, u64> {
        traced("discard_messages", self.0.discard_messages(connection))
    }

    fn reserve<'a>(&'a self, connection: ConnectionId, reservation: &'a Reservation) -> Call<'a, bool> {
        traced("reserve", self.0.reserve(connection, reservation))
    }

    fn unreserve(&self, connection: ConnectionId) -> Call<'_, ()> {
        traced("unreserve", self.0.unreserve(connection))
    }

    fn reserved(&self) -> Call<'_, u64> {
        traced("reserved", self.0.reserved())
    }

    fn hold_write<'a>(&'a self, mailbox: Mailbox, write: &'a HeldWrite, limits: &'a HoldLimits) -> Call<'a, Holding> {
        traced("hold_write", self.0.hold_write(mailbox, write, limits))
    }

    fn held_writes(&self, mailbox: Mailbox, most: u64) -> Call<'_, Vec<HeldWrite>> {
        traced("held_writes", self.0.held_writes(mailbox, most))
    }

    fn drop_writes<'a>(&'a self, mailbox: Mailbox, keys: &'a [String]) -> Call<'a, u64> {
        traced("drop_writes", self.0.drop_writes(mailbox, keys))
    }

    fn overdue(&self, since: Timestamp, most: u64) -> Call<'_, Vec<Mailbox>> {
        traced("overdue", self.0.overdue(since, most))
    }

    fn revoke<'a>(&'a self, revocations: &'a [Revocation]) -> Call<'a, Kept> {
        traced("revoke", self.0.revoke(revocations))
    }

    fn revocations(&self) -> Call<'_, Vec<Revocation>> {
        traced("revocations", self.0.revocations())
    }

    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> Call<'_, bool> {
        traced("know_event", self.0.know_event(event, keep))
    }

    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> Call<'a, ()> {
        traced("note", self.0.note(connection, decision))
    }

    fn decisions(&self, connection: ConnectionId) -> Call<'_, Vec<Decision>> {
        traced("decisions", self.0.decisions(connection))
    }

    fn begin<'a>(&'a self, claim: &'a Claim) -> Call<'a, Begun> {
        traced("begin", self.0.begin(claim))
    }

    fn finish<'a>(&'a self, claim: &'a Claim, answer: Option<&'a str>) -> Call<'a, Option<String>> {
        traced("finish", self.0.finish(claim, answer))
    }

    fn abandon<'a>(&'a self, claim: &'a Claim) -> Call<'a, ()> {
        traced("abandon", self.0.abandon(claim))
    }

    fn epoch(&self) -> Call<'_, Epoch> {
        self.0.epoch()
    }

    fn announced(&self, epoch: Epoch) -> Call<'_, ()> {
        self.0.announced(epoch)
    }

    fn ping(&self) -> Call<'_, ()> {
        traced("ping", self.0.ping())
    }

    fn writable(&self) -> Call<'_, ()> {
        traced("writable", self.0.writable())
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;

    use shared::service::clock::ManualClock;
    use shared::service::config::{Config, OtlpUrl, Share, TraceConfig, Value};
    use shared::service::trace::Tracer;

    use super::super::conformance::{self, Home, START};
    use super::super::memory::MemoryStore;
    use super::*;
    use crate::config::WorkerConfig;

    struct TracedHome {
        store: Traced,
        memory: Arc<MemoryStore>,
        clock: Arc<ManualClock>,
    }

    impl Home for TracedHome {
        fn store(&self) -> &dyn Store {
            &self.store
        }

        fn clock(&self) -> &ManualClock {
            &self.clock
        }

        fn age(&self, _: Duration) -> BoxFuture<'_, ()> {
            Box::pin(ready(()))
        }

        fn lose(&self) -> BoxFuture<'_, ()> {
            self.memory.lose(&conformance::settings("memory:", ""));
            Box::pin(ready(()))
        }

        fn end_a_look_in_vain(&self, _: Mailbox) -> BoxFuture<'_, ()> {
            Box::pin(ready(()))
        }
    }

    #[tokio::test]
    async fn a_store_that_is_traced_keeps_every_promise_of_the_one_behind_it() {
        let config = TraceConfig {
            // Nobody is there, and nobody waits for it.
            otlp_endpoint: Some(OtlpUrl::parse("http://127.0.0.1:9").unwrap()),
            trace_sample_ratio: Share::parse("1").unwrap(),
        };
        let traced = Tracer::start(&config, &WorkerConfig::PROGRAM, "test").unwrap();
        for tracer in [Tracer::OFF, traced] {
            let clock = Arc::new(ManualClock::at(START));
            let settings = conformance::settings("memory:", "");
            let memory = Arc::new(MemoryStore::new(&settings, Arc::<ManualClock>::clone(&clock)));
            let store = Traced(Arc::<MemoryStore>::clone(&memory));
            let home = TracedHome { store, memory, clock };
            let span = tracer.draw("process", SpanKind::Consumer);
            span.scope(pin!(conformance::every_claim(&home))).await;
        }
    }
}
