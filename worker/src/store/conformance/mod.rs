//! What every home of the store promises, as one suite for all of them.
//!
//! A claim takes a [`Home`], draws connections and identities of its own, and
//! panics where the home breaks it. Time is the home's, and what is stored under its
//! namespace is as old as it says; so a home is for one suite at a time, on a Redis
//! that others use too.

// A claim is a test, wherever it is called from: to panic is how it speaks.
#![allow(clippy::expect_used)]

mod authentications;
mod claims;
mod connections;
mod decisions;
mod epochs;
mod events;
mod messages;
mod overdue;
mod resuming;
mod revocations;
mod strangers;
mod writes;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all, join3};
use shared::service::clock::{Clock, ManualClock, Timestamp};
use shared::wire::envelope::command::Producer;
use shared::wire::id::{ConnectionId, MessageId, Sequence, TerminatorId};
use shared::wire::request_id::RequestId;
use shared::wire::revocation::{Revocation, Target};
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

use super::memory::MemoryStore;
pub use super::redis::COMMANDS;
use super::redis::RedisStore;
use super::{
    AFTERLIFE, Authentication, Begun, CONCLUDED_KEPT, Claim, DECISIONS_TTL, DROPPED_KEPT, Decision, EXPIRED_KEPT,
    Epoch, HOLD_GRACE, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, MISSED_KEPT, MOST_ANSWER_BYTES, MOST_CLAIMS,
    MOST_CONNECTIONS, MOST_DEPARTED, Mailbox, MessageKey, PREDECESSORS_KEPT, Recorded, Registered, Reservation,
    ResumeDigest, Run, Settings, Store, StoreError,
};
use crate::auth::identity::{Identity, Issuer, Subject};

/// When the suite begins. Any time would do.
pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(super) const LEEWAY: Duration = Duration::from_secs(5);
const TOKEN_LIFE: Duration = Duration::from_secs(300);
const RESUME: ResumeDigest = [7; 32];
const MAX_REVOCATIONS: usize = 50;

const LIMITS: HoldLimits = HoldLimits {
    messages: 3,
    bytes: 100,
    of_sender: 3,
    ttl: Duration::from_secs(300),
};

/// A store under test, with a hold on its time.
pub trait Home: Send + Sync {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// The clock that the store was given.
    fn clock(&self) -> &ManualClock;

    /// Makes all that is stored older, where the store has a clock that is not the given one.
    fn age(&self, by: Duration) -> BoxFuture<'_, ()>;

    /// Loses all that is stored, as a server does that comes up empty.
    fn lose(&self) -> BoxFuture<'_, ()>;

    /// Does what a look for what is overdue does when it has found nothing in the mailbox, where looking is
    /// more than one step.
    fn end_a_look_in_vain(&self, mailbox: Mailbox) -> BoxFuture<'_, ()>;
}

struct MemoryHome {
    store: MemoryStore,
    clock: Arc<ManualClock>,
}

struct RedisHome {
    store: RedisStore,
    clock: Arc<ManualClock>,
}

pub(super) fn settings(url: &str, namespace: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        namespace: namespace.to_owned(),
        timeout: Duration::from_secs(5),
        leeway: LEEWAY,
        max_revocations: MAX_REVOCATIONS,
    }
}

/// The store in memory.
pub fn memory() -> impl Home {
    let clock = Arc::new(ManualClock::at(START));
    let store = MemoryStore::new(&settings("memory:", ""), Arc::<ManualClock>::clone(&clock));
    MemoryHome { store, clock }
}

/// The store at `url`, its keys under `namespace`, with `timeout` for each call.
///
/// # Errors
///
/// [`StoreError::BadUrl`], as [`super::open`] has it.
pub fn redis(url: &str, namespace: &str, timeout: Duration) -> Result<impl Home + use<>, StoreError> {
    let clock = Arc::new(ManualClock::at(START));
    let settings = Settings {
        timeout,
        ..settings(url, namespace)
    };
    let store = RedisStore::open(&settings, Arc::<ManualClock>::clone(&clock))?;
    Ok(RedisHome { store, clock })
}

/// Holds `home` to every claim.
///
/// # Panics
///
/// At the first claim that does not hold, and if the store is unavailable.
pub async fn every_claim(home: &dyn Home) {
    the_store_is_there(home).await;
    authentications::every_claim(home).await;
    resuming::every_claim(home).await;
    messages::every_claim(home).await;
    strangers::every_claim(home).await;
    writes::every_claim(home).await;
    overdue::every_claim(home).await;
    connections::every_claim(home).await;
    revocations::every_claim(home).await;
    epochs::every_claim(home).await;
    decisions::every_claim(home).await;
    events::every_claim(home).await;
    claims::every_claim(home).await;
}

async fn the_store_is_there(home: &dyn Home) {
    home.store().ping().await.expect("the store answers");
}

async fn record(home: &dyn Home, connection: ConnectionId, state: &Authentication) -> Recorded {
    home.store().record(connection, state).await.expect("the store answers")
}

async fn read(home: &dyn Home, connection: ConnectionId) -> Option<Authentication> {
    home.store()
        .authentication(connection)
        .await
        .expect("the store answers")
}

async fn pass(home: &dyn Home, time: Duration) {
    home.clock().advance(time);
    home.age(time).await;
}

fn a_connection() -> ConnectionId {
    ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    }
}

fn someone(subject: &str) -> Identity {
    Identity::new(Issuer::new("https://issuer.example"), Subject::new(subject))
}

fn live(subject: &str, by: u64) -> Authentication {
    live_as(someone(subject), TOKEN_LIFE, by)
}

fn live_as(identity: Identity, until: Duration, by: u64) -> Authentication {
    Authentication::Live {
        identity,
        until: START.saturating_add(until),
        by: Sequence::new(by),
        resume: RESUME,
    }
}

fn closed(by: u64) -> Authentication {
    Authentication::Closed { by: Sequence::new(by) }
}

/// An identity that nobody else uses.
fn an_identity() -> IdentityTag {
    someone(&a_connection().to_string()).tag()
}

const fn counted(count: u64) -> Holding {
    Holding::Held { count, successor: None }
}

fn message(home: &dyn Home, sequence: u64, payload: &str) -> HeldMessage {
    HeldMessage {
        sequence: Sequence::new(sequence),
        id: RequestId::integer("7").ok(),
        kind: "k".to_owned(),
        payload: Some(payload.to_owned()),
        token_id: None,
        session: None,
        issued_at: None,
        allowed: None,
        client: None,
        owner: Some(IdentityTag::of(&[1; 32])),
        since: home.clock().now(),
        unauthenticated: false,
        deadline: None,
        trace: None,
    }
}

async fn hold(home: &dyn Home, connection: ConnectionId, message: &HeldMessage) -> Holding {
    let held = home.store().hold_message(connection, message, &LIMITS).await;
    held.expect("the store answers")
}

async fn messages(home: &dyn Home, connection: ConnectionId) -> Vec<HeldMessage> {
    home.store().held_messages(connection).await.expect("the store answers")
}

fn write(home: &dyn Home, key: &str, body: &str) -> HeldWrite {
    HeldWrite {
        key: key.to_owned(),
        body: body.to_owned(),
        asker: Some(IdentityTag::of(&[1; 32])),
        producer: Some(Producer {
            reply_to: "q".to_owned(),
            correlation_id: None,
            subject: Some("alice".to_owned()),
            key: 7,
        }),
        until: Some(START),
        since: home.clock().now(),
    }
}

async fn hold_write(home: &dyn Home, mailbox: impl Into<Mailbox>, write: &HeldWrite) -> Holding {
    let held = home.store().hold_write(mailbox.into(), write, &LIMITS).await;
    held.expect("the store answers")
}

fn permutations(of: &[Authentication]) -> Vec<Vec<Authentication>> {
    let Some((first, rest)) = of.split_first() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for shorter in permutations(rest) {
        for place in 0..of.len() {
            let mut one = shorter.clone();
            one.insert(place, first.clone());
            all.push(one);
        }
    }
    all
}

impl Home for MemoryHome {
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
        self.store.lose(&settings("memory:", ""));
        Box::pin(ready(()))
    }

    fn end_a_look_in_vain(&self, _: Mailbox) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}

impl Home for RedisHome {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn age(&self, by: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.store.age(by).await.expect("the store answers") })
    }

    fn lose(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.store.lose().await.expect("the store answers") })
    }

    fn end_a_look_in_vain(&self, mailbox: Mailbox) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let ended = self.store.mend_overdue(mailbox, None).await;
            ended.expect("the store answers");
        })
    }
}
