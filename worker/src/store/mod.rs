//! What is known of each connection's authentication, shared by all workers.
//!
//! Competing workers finish out of order, so no clock can tell which of two
//! writes is the newer. The terminator's [`Sequence`] can: each write carries
//! the one of the message that caused it, and the store applies it only if it
//! is newer than what is there. An old success never undoes what came after it,
//! in whatever order the two arrive.
//!
//! The store holds identities and times, never a token. It is an interface in parts, each beside
//! what it keeps, with two implementations that one suite holds to the same behaviour (`testkit`): Redis or
//! Valkey, and this process's own memory.

mod around;
mod authentication;
pub mod claim;
mod connection;
pub mod decision;
mod epoch;
pub mod hold;
pub mod limits;
pub(crate) mod losses;
pub mod mailbox;
mod memory;
mod recorded_state;
mod redis;
mod revocation;
mod traced;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::service::clock::Clock;
use shared::wire::id::{ConnectionId, Sequence};

pub use self::around::Around;
pub use self::authentication::{Authentication, AuthenticationStore, Recorded, ResumeDigest};
pub use self::claim::{Begun, Claim, ClaimStore, MessageKey, Run, Sha256Digest};
pub use self::connection::{ConnectionStore, OpenChanges, OpenStore, Registered};
pub use self::decision::{Decision, DecisionStore};
pub use self::epoch::{Epoch, Server};
pub use self::hold::{
    HeldMessage, HeldWrite, HoldLimits, Holding, MessageStore, Reservation, ReservationStore, UnauthenticatedLimits,
};
pub use self::limits::{Admission, ConnectionLimit, ConnectionSlot, LimitStore, OnConnectionLimit};
pub use self::mailbox::{Mailbox, WriteStore};
pub use self::memory::{MemoryStore, Snapshot};
pub use self::recorded_state::{Proved, RecordedState};
pub use self::redis::{Access, COMMANDS, RedisStore};
pub use self::revocation::{Kept, RevocationStore};
pub use self::traced::Traced;

/// For how long what is known of a connection outlives its use.
///
/// After an expiry, and after a close, a write of an older message may still be
/// on its way. It must find what overtook it for as long as that message can sit
/// in the queue behind a busy or restarting pool of workers. And what is held of a
/// closed connection, for an hour at most, can be resumed for as long as it waits.
pub const AFTERLIFE: Duration = Duration::from_secs(65 * 60);

/// For how long what is held can be read after its time is over, so that anyone who waits for it can be told.
pub const HOLD_GRACE: Duration = Duration::from_secs(60);

/// For how long it is remembered that a closed connection was no one's, and what was decided about it. What of it comes
/// later is held for as short as everything that no one's connections send.
const DESERTED_KEPT: Duration = Duration::from_secs(10 * 60);

/// For how long a connection stays among those of its identity after its authentication has expired. Its socket may
/// be open all the while: then it is asked for a fresh token when something comes, or, under `ignore`, written to.
pub const EXPIRED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How many connections that one connection took over are remembered; the oldest are forgotten. A terminator lets it have
/// as many.
pub const PREDECESSORS_KEPT: usize = 16;

/// The most connections that one identity can have at a time and be pushed to; the one that expires first gives way.
pub const MOST_CONNECTIONS: usize = 10_000;

/// How many dropped messages of a connection are remembered, and how many connections that left their identity; the
/// oldest are forgotten. One may come once more if the
/// worker that held it died before it had said so, and a terminator has far fewer of one connection unanswered.
pub const DROPPED_KEPT: usize = 1_024;

/// How many connections that left their identity and may be resumed are remembered; the oldest are forgotten. Each push is
/// kept for each of them.
pub const MOST_DEPARTED: usize = 16;

/// Of so many pushes of an identity it is known that their producers were told what became of them.
const MOST_CONCLUDED: usize = 1_024;
/// For how long that is known: longer than one is held.
pub const CONCLUDED_KEPT: Duration = Duration::from_secs(2 * 60 * 60);

/// For how long it is remembered how many pushes no one will get: anyone who comes back the next day is told.
pub const MISSED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long decisions about a connection are kept after the last one.
pub const DECISIONS_TTL: Duration = Duration::from_secs(60 * 60);

/// How many messages of one identity are known to have been handled; those that would be forgotten first give way.
/// At some 300 bytes each that is 3 MB.
pub const MOST_CLAIMS: usize = 10_000;

/// How many bytes of answers are kept for one identity, in all: 4 MiB. Those that would be forgotten first give way, and
/// only that the message was handled stays known.
pub const MOST_ANSWER_BYTES: usize = 4 * 1_024 * 1_024;

/// The longest that anything is kept, so that a token without a sensible end does not stay for ever.
const LONGEST_KEPT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What a call comes to.
pub type Call<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Why the store could not be asked. Nothing follows from it about anyone's authentication.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away, too slow, or refuses. A write may have been applied nevertheless; it may be repeated.
    #[error("the store is unavailable: {0}")]
    Unavailable(Box<dyn Error + Send + Sync>),
    /// The store holds something that this version did not write.
    #[error("the store has an entry that this version cannot read")]
    Unreadable(#[source] Box<dyn Error + Send + Sync>),
    /// The store's URL is not one.
    #[error("store-url: {0}")]
    BadUrl(&'static str),
}

/// All that workers share. Every call ends within the store's timeout.
///
/// # Errors
///
/// Each call fails with [`StoreError::Unavailable`] while the store cannot be
/// reached, and works again by itself once it can.
pub trait Store:
    AuthenticationStore
    + ConnectionStore
    + LimitStore
    + OpenStore
    + MessageStore
    + ReservationStore
    + WriteStore
    + RevocationStore
    + DecisionStore
    + ClaimStore
    + Server
{
    /// Remembers for a while that the connection is closed, so that no late and
    /// older write brings it back. `by` is newer than every message of the connection.
    fn close(&self, connection: ConnectionId, by: Sequence) -> Call<'_, Recorded> {
        Box::pin(async move { self.record(connection, &Authentication::Closed { by }).await })
    }
}

impl<S> Store for S where
    S: AuthenticationStore
        + ConnectionStore
        + LimitStore
        + OpenStore
        + MessageStore
        + ReservationStore
        + WriteStore
        + RevocationStore
        + DecisionStore
        + ClaimStore
        + Server
{
}

/// Which store, and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// `memory:`, `redis://…`, `rediss://…` (TLS), or `redis-cluster://…` or `rediss-cluster://…` with one
    /// or several nodes, comma separated. It may hold a password, hence no `Debug`.
    pub url: String,
    /// The prefix of every key.
    pub namespace: String,
    /// The longest that a call may take.
    pub timeout: Duration,
    /// How long after its expiry a token still counts.
    pub leeway: Duration,
    /// The most revocations that are kept at a time.
    pub max_revocations: usize,
}

/// Opens the store of `settings`, from within a Tokio runtime.
///
/// It does not wait for Redis: a store that is away is found by [`Server::ping`].
///
/// # Errors
///
/// [`StoreError::BadUrl`] if the URL is of no known form.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    if settings.url == "memory:" {
        return Ok(Arc::new(memory::MemoryStore::new(settings, clock)));
    }
    Ok(Arc::new(redis::RedisStore::open(settings, clock)?))
}

/// The same, where who we are there may change: whatever the URL of `settings` says.
///
/// # Errors
///
/// As [`open`].
pub fn open_by(access: Access, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(redis::RedisStore::open_by(access, settings, clock)?))
}
