//! What every store promises, as one suite for all implementations.
//!
//! A claim takes a [`Implementation`], draws connections and identities of its own, and
//! panics where the implementation breaks it. Time is the implementation's, and what is stored under its
//! namespace is as old as it says; so a implementation is for one suite at a time, on a Redis
//! that others use too.

mod authentications;
mod claims;
mod connections;
mod decisions;
mod epochs;
mod events;
mod implementations;
mod limits;
mod messages;
mod open;
mod overdue;
mod resuming;
mod revocations;
mod strangers;
mod writes;

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join, join_all, join3};
use serde_json::json;
use shared::service::clock::{Clock, ManualClock, Timestamp};
use shared::wire::envelope::command::Producer;
use shared::wire::id::{ConnectionId, MessageId, Sequence, TerminatorId};
use shared::wire::request_id::RequestId;
use shared::wire::revocation::{Revocation, Target};
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};
use worker::auth::identity::{self, Identity, Issuer};
use worker::store::{
    AFTERLIFE, Authentication, Begun, CONCLUDED_KEPT, Claim, DECISIONS_TTL, DROPPED_KEPT, Decision, EXPIRED_KEPT,
    Epoch, HOLD_GRACE, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, MISSED_KEPT, MOST_ANSWER_BYTES, MOST_CLAIMS,
    MOST_CONNECTIONS, MOST_DEPARTED, Mailbox, MessageKey, OpenChanges, PREDECESSORS_KEPT, Recorded, Registered,
    Reservation, ResumeDigest, Run, Settings, Store,
};
use worker::token::{KeySource, Keys, Rules, Verifier};

pub use self::implementations::{memory, redis, traced};

/// When the suite begins. Any time would do.
const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const LEEWAY: Duration = Duration::from_secs(5);
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "the suite";
const SECRET: &[u8] = b"known-to-everybody-and-a-key-of-nothing";
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
pub trait Implementation: Send + Sync {
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

fn settings(url: &str, namespace: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        namespace: namespace.to_owned(),
        timeout: Duration::from_secs(5),
        leeway: LEEWAY,
        max_revocations: MAX_REVOCATIONS,
    }
}

/// Holds `tested` to every claim.
///
/// # Panics
///
/// At the first claim that does not hold, and if the store is unavailable.
pub async fn every_claim(tested: &dyn Implementation) {
    the_store_is_there(tested).await;
    authentications::every_claim(tested).await;
    resuming::every_claim(tested).await;
    messages::every_claim(tested).await;
    strangers::every_claim(tested).await;
    writes::every_claim(tested).await;
    overdue::every_claim(tested).await;
    connections::every_claim(tested).await;
    revocations::every_claim(tested).await;
    epochs::every_claim(tested).await;
    decisions::every_claim(tested).await;
    events::every_claim(tested).await;
    limits::every_claim(tested).await;
    open::every_claim(tested).await;
    claims::every_claim(tested).await;
}

async fn the_store_is_there(tested: &dyn Implementation) {
    tested.store().ping().await.expect("the store answers");
}

async fn record(tested: &dyn Implementation, connection: ConnectionId, state: &Authentication) -> Recorded {
    tested
        .store()
        .record(connection, state)
        .await
        .expect("the store answers")
}

async fn read(tested: &dyn Implementation, connection: ConnectionId) -> Option<Authentication> {
    tested
        .store()
        .authentication(connection)
        .await
        .expect("the store answers")
}

/// How long before its end something is looked at once more. A real Redis counts its own time meanwhile, and a busy machine takes seconds.
const BRINK: Duration = Duration::from_secs(20);

async fn pass(tested: &dyn Implementation, time: Duration) {
    tested.clock().advance(time);
    tested.age(time).await;
}

fn a_connection() -> ConnectionId {
    ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    }
}

fn someone(subject: &str) -> Identity {
    proved(ISSUER, subject)
}

/// The identity that a good token proves: nothing but a verifier makes one.
fn proved(issuer: &str, subject: &str) -> Identity {
    let claims =
        json!({"iss": issuer, "aud": AUDIENCE, "sub": subject, "exp": START.saturating_add(TOKEN_LIFE).as_secs()});
    let [header, claims] = [json!({"alg": "HS256"}), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));

    let source: KeySource = "hmac:of-this-suite".parse().expect("it names a secret");
    let keys = Keys::of_content(&source, Bytes::from_static(SECRET), &Issuer::new(issuer)).expect("it is long enough");
    let verifier = Verifier::new(keys, Rules::new(vec![AUDIENCE.to_owned()]), 1);
    let verified = verifier.verify(&token, START).result.expect("the token is good");
    verified.identity.clone()
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

/// An identity that no one else uses.
fn an_identity() -> IdentityTag {
    identity::tag_of(&Issuer::new(ISSUER), &a_connection().to_string())
}

const fn counted(count: u64) -> Holding {
    Holding::Held { count, successor: None }
}

fn message(tested: &dyn Implementation, sequence: u64, payload: &str) -> HeldMessage {
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
        since: tested.clock().now(),
        unauthenticated: false,
        deadline: None,
        trace: None,
    }
}

async fn hold(tested: &dyn Implementation, connection: ConnectionId, message: &HeldMessage) -> Holding {
    let held = tested.store().hold_message(connection, message, &LIMITS).await;
    held.expect("the store answers")
}

async fn messages(tested: &dyn Implementation, connection: ConnectionId) -> Vec<HeldMessage> {
    tested
        .store()
        .held_messages(connection)
        .await
        .expect("the store answers")
}

fn write(tested: &dyn Implementation, key: &str, body: &str) -> HeldWrite {
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
        since: tested.clock().now(),
    }
}

async fn hold_write(tested: &dyn Implementation, mailbox: impl Into<Mailbox>, write: &HeldWrite) -> Holding {
    let held = tested.store().hold_write(mailbox.into(), write, &LIMITS).await;
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
