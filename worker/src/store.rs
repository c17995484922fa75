//! What is known of each connection's authentication, shared by all workers.
//!
//! Competing workers finish out of order, so no clock can tell which of two
//! writes is the newer. The terminator's [`Sequence`] can: each write carries
//! the one of the message that caused it, and the store applies it only if it
//! is newer than what is there. An old success never undoes what came after it,
//! in whatever order the two arrive.
//!
//! The store holds identities and times, never a token. It is a seam with two
//! homes that `conformance` holds to the same behaviour: Redis or Valkey, and
//! this process's own memory.

#[doc(hidden)]
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
mod redis;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::clock::{Clock, Timestamp};
use shared::id::{ConnectionId, Sequence};

use crate::identity::Identity;

/// For how long what is known of a connection outlives its use.
///
/// After an expiry, and after a close, a write of an older message may still be
/// on its way. It must find what overtook it for as long as that message can sit
/// in the queue behind a busy or restarting pool of workers.
const AFTERLIFE: Duration = Duration::from_secs(10 * 60);

/// The longest that anything is kept, so that a token without a sensible end does not stay for ever.
const LONGEST_KEPT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What the store knows of who is on the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// A verified token proved who it is.
    Live {
        /// Who.
        identity: Identity,
        /// The token's expiry, without leeway.
        until: Timestamp,
        /// The message that brought the token.
        by: Sequence,
    },
    /// The socket is closed: nobody is there any more.
    Closed {
        /// Newer than every message of the connection.
        by: Sequence,
    },
}

impl Authentication {
    /// What the state is the work of, and by which it is compared.
    pub const fn by(&self) -> Sequence {
        match self {
            Self::Live { by, .. } | Self::Closed { by } => *by,
        }
    }

    /// For how long to keep the state from `now`, where tokens count for `leeway` after their expiry.
    fn kept_for(&self, now: Timestamp, leeway: Duration) -> Duration {
        let useful = match self {
            Self::Live { until, .. } => until.saturating_add(leeway).saturating_since(now),
            Self::Closed { .. } => Duration::ZERO,
        };
        useful.saturating_add(AFTERLIFE).min(LONGEST_KEPT)
    }

    /// Whether both say the same, whichever message said it.
    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Live { identity, until, by: _ },
                Self::Live {
                    identity: of_other,
                    until: until_of_other,
                    by: _,
                },
            ) => identity == of_other && until == until_of_other,
            (Self::Closed { by: _ }, Self::Closed { by: _ }) => true,
            (Self::Live { .. }, Self::Closed { .. }) | (Self::Closed { .. }, Self::Live { .. }) => false,
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The connection's state is now what was written, and was another before.
    ///
    /// The very same write once more is told this again: its first answer may have
    /// died with the worker that waited for it.
    Changed,
    /// The state stays what it was, now by a newer message.
    Unchanged,
    /// Not applied: a newer message has written already.
    Stale,
}

/// Why the store could not be asked. Nothing follows from it about anybody's authentication.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away, too slow, or refuses. A write may have been applied nevertheless; it may be repeated.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The store holds something that this version did not write.
    #[error("the store holds what this version cannot read")]
    Unreadable(#[source] Box<dyn Error + Send + Sync>),
    /// The store's URL is not one.
    #[error("store-url: {0}")]
    BadUrl(&'static str),
}

/// Knows of each connection's authentication. Every call ends within the store's timeout.
///
/// # Errors
///
/// Each call fails with [`StoreError::Unavailable`] while the store cannot be
/// reached, and works again by itself once it can.
pub trait Store: Send + Sync + 'static {
    /// Writes `authentication`, if it is by a newer message than what is there.
    fn record<'a>(
        &'a self,
        connection: ConnectionId,
        authentication: &'a Authentication,
    ) -> BoxFuture<'a, Result<Recorded, StoreError>>;

    /// Reads what was last written, if that was not too long ago.
    ///
    /// The state is told as it was written: whether its time is over is for the caller to say.
    fn authentication(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<Authentication>, StoreError>>;

    /// Remembers for a while that the connection is closed, so that no late and
    /// older write brings it back. `by` is newer than every message of the connection.
    fn close(&self, connection: ConnectionId, by: Sequence) -> BoxFuture<'_, Result<Recorded, StoreError>> {
        Box::pin(async move { self.record(connection, &Authentication::Closed { by }).await })
    }

    /// Asks the store whether it is there, for readiness.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Which store, and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// `memory:`, `redis://…`, `rediss://…` (TLS), or `redis-cluster://…` with one
    /// or several nodes, comma separated. It may hold a password, hence no `Debug`.
    pub url: String,
    /// The prefix of every key.
    pub namespace: String,
    /// The longest that a call may take.
    pub timeout: Duration,
    /// How long after its expiry a token still counts.
    pub leeway: Duration,
}

/// Opens the store of `settings`, from within a Tokio runtime.
///
/// It does not wait for Redis: a store that is away is found by [`Store::ping`].
///
/// # Errors
///
/// [`StoreError::BadUrl`] if the URL is of no known form.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    if settings.url == "memory:" {
        return Ok(Arc::new(memory::MemoryStore::new(settings.leeway, clock)));
    }
    Ok(Arc::new(redis::RedisStore::open(settings, clock)?))
}
