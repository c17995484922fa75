//! What is known of each connection's authentication, shared by all workers.
//!
//! Competing workers finish out of order, so no clock can tell which of two
//! writes is the newer. The terminator's [`Sequence`] can: each write carries
//! the one of the message that caused it, and the store applies it only if it
//! is newer than what is there. An old success never undoes what came after it,
//! in whatever order the two arrive.
//!
//! The store holds identities and times, never a token. It is an interface with two
//! implementations that `conformance` holds to the same behaviour: Redis or Valkey, and
//! this process's own memory.

pub mod claim;
#[doc(hidden)]
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod decision;
mod epoch;
pub mod hold;
pub(crate) mod losses;
pub mod mailbox;
mod memory;
mod redis;
mod traced;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::service::clock::{Clock, Timestamp};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::{Revocation, Target};
use shared::wire::tag::{IdentityTag, TokenIdTag};

pub use self::claim::{Begun, Claim, MessageKey, Run, Sha256Digest};
pub use self::decision::Decision;
pub use self::epoch::Epoch;
pub use self::hold::{HeldMessage, HeldWrite, HoldLimits, Holding, Reservation, UnauthenticatedLimits};
pub use self::mailbox::Mailbox;
pub use self::redis::{Access, StoreFiles};
pub(crate) use self::traced::Traced;
use crate::auth::identity::Identity;

/// For how long what is known of a connection outlives its use.
///
/// After an expiry, and after a close, a write of an older message may still be
/// on its way. It must find what overtook it for as long as that message can sit
/// in the queue behind a busy or restarting pool of workers. And what is held of a
/// closed connection, for an hour at most, can be resumed for as long as it waits.
const AFTERLIFE: Duration = Duration::from_secs(65 * 60);

/// For how long what is held can be read after its time is over, so that whoever waits for it can be told.
pub(crate) const HOLD_GRACE: Duration = Duration::from_secs(60);

/// For how long it is remembered that a closed connection was nobody's, and what was decided about it. What of it comes
/// later is held for as short as everything that nobody's connections send.
const DESERTED_KEPT: Duration = Duration::from_secs(10 * 60);

/// For how long a connection stays among those of its identity after its authentication has expired. Its socket may
/// be open all the while: then it is asked for a fresh token when something comes, or, under `ignore`, written to.
const EXPIRED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How many connections that one connection took over are remembered; the oldest are forgotten. A terminator lets it have
/// as many.
const PREDECESSORS_KEPT: usize = 16;

/// The most connections that one identity can have at a time and be pushed to; the one that expires first gives way.
const MOST_CONNECTIONS: usize = 10_000;

/// How many dropped messages of a connection are remembered, and how many connections that left their identity; the
/// oldest are forgotten. One may come once more if the
/// worker that held it died before it had said so, and a terminator has far fewer of one connection unanswered.
const DROPPED_KEPT: usize = 1_024;

/// How many connections that left their identity and may be resumed are remembered; the oldest are forgotten. Each push is
/// kept for each of them.
const MOST_DEPARTED: usize = 16;

/// Of so many pushes of an identity it is known that their producers were told what became of them, and for how long: longer
/// than one is held.
const MOST_CONCLUDED: usize = 1_024;
const CONCLUDED_KEPT: Duration = Duration::from_secs(2 * 60 * 60);

/// For how long it is remembered how many pushes nobody will get: whoever comes back the next day is told.
const MISSED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long decisions about a connection are kept after the last one.
const DECISIONS_TTL: Duration = Duration::from_secs(60 * 60);

/// How many messages of one identity are known to have been handled; those that would be forgotten first give way.
/// At some 300 bytes each that is 3 MB.
const MOST_CLAIMS: usize = 10_000;

/// How many bytes of answers are kept for one identity, in all: 4 MiB. Those that would be forgotten first give way, and
/// only that the message was handled stays known.
const MOST_ANSWER_BYTES: usize = 4 * 1_024 * 1_024;

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
        /// What a connection that resumes this one must show: a digest of its secret.
        resume: ResumeDigest,
    },
    /// The client has logged out: the socket is there, and nobody's.
    Forgotten {
        /// The message that said so.
        by: Sequence,
    },
    /// The socket is closed: nobody is there any more. Whoever it was can still be resumed.
    Closed {
        /// Newer than every message of the connection.
        by: Sequence,
    },
}

impl Authentication {
    /// What the state is the work of, and by which it is compared.
    pub const fn by(&self) -> Sequence {
        match self {
            Self::Live { by, .. } | Self::Forgotten { by } | Self::Closed { by } => *by,
        }
    }

    /// For how long to keep the state from `now`, where tokens count for `leeway` after their expiry.
    fn kept_for(&self, now: Timestamp, leeway: Duration) -> Duration {
        let useful = match self {
            Self::Live { until, .. } => until.saturating_add(leeway).saturating_since(now),
            Self::Forgotten { .. } | Self::Closed { .. } => Duration::ZERO,
        };
        useful.saturating_add(AFTERLIFE).min(LONGEST_KEPT)
    }

    /// Whether both say the same, whichever message said it.
    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Live {
                    identity,
                    until,
                    by: _,
                    resume,
                },
                Self::Live {
                    identity: of_other,
                    until: until_of_other,
                    by: _,
                    resume: resume_of_other,
                },
            ) => identity == of_other && until == until_of_other && resume == resume_of_other,
            (Self::Forgotten { by: _ }, Self::Forgotten { by: _ })
            | (Self::Closed { by: _ }, Self::Closed { by: _ }) => true,
            _ => false,
        }
    }
}

/// The SHA-256 of a connection's resume secret, as it is written.
pub type ResumeDigest = [u8; 32];

/// One connection of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Which.
    pub connection: ConnectionId,
    /// The message that entered it last, by which entries are compared.
    pub by: Sequence,
    /// Until when it is authenticated, leeway included.
    pub until: Timestamp,
    /// When its token was issued, and by which `jti` it may be revoked.
    pub issued_at: Option<Timestamp>,
    /// The tag of its token's `jti`.
    pub token_id: Option<shared::wire::tag::TokenIdTag>,
    /// The tag of its token's `sid`.
    pub session: Option<shared::wire::tag::SessionTag>,
}

impl Registered {
    /// When it is no longer told of, as far as that is known now.
    fn gone_at(&self, now: Timestamp) -> Timestamp {
        let longest = now.saturating_add(LONGEST_KEPT);
        self.until.saturating_add(EXPIRED_KEPT).min(longest)
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

/// What became of revocations that the store was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that are too many: the store has not taken them.
    pub refused: Vec<Target>,
    /// Whether there is a replica that should have them too, and none has confirmed that in time.
    pub unreplicated: bool,
}

/// Why the store could not be asked. Nothing follows from it about anybody's authentication.
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

    /// Lets `successor` take over what is held of `connection`, if it shows the secret that was told to `identity` there.
    /// Tells whether it may. From then on [`hold_message`](Self::hold_message) of `connection` names the successor.
    ///
    /// It can be done for as long as anything is held, also when the connection is closed; but not when it was
    /// forgotten after that identity, in whatever order that was recorded. Who forgets or is another has no successor either.
    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// The connection that took over what is held of this one, if one did.
    fn successor(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<ConnectionId>, StoreError>>;

    /// The connections that this one took over, the first one first, for as long as anything may be held of the last.
    fn predecessors(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>>;

    /// Enters a connection among those of an identity, or renews its entry, if no newer message has done so or taken it
    /// out. Tells how many pushes are held for the identity, as of after the entry; nothing if it is not entered.
    fn register(&self, identity: IdentityTag, entry: Registered) -> BoxFuture<'_, Result<Option<u64>, StoreError>>;

    /// Takes a connection out of those of an identity, unless a message newer than `by` has entered it; what is not newer
    /// does not enter it any more. Without `by` no message says so: it is out for now, and whoever is there may enter it.
    fn unregister(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
        by: Option<Sequence>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The connections of an identity that were taken out of it since then and may be resumed, the first that left first, but no
    /// more than the last few, and when each left.
    fn departed(
        &self,
        identity: IdentityTag,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(ConnectionId, Timestamp)>, StoreError>>;

    /// One of these is not to be told of any more: somebody has taken over from it, or nobody may.
    fn replace_departed(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// All connections of an identity, those that have expired within a day included, in no order.
    fn connections(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<Registered>, StoreError>>;

    /// The connections that have left those of an identity lately, for as long as decisions about them are kept, in no order.
    fn closed_lately(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>>;

    /// One connection of an identity, likewise.
    fn registered(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<Registered>, StoreError>>;

    /// Holds a message of a connection, once for each sequence: one that was held and dropped is not held again, as it
    /// has had its answer. It is told to be held, since that is what its first holder may not have said.
    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>>;

    /// What is held of a connection, in its order. What is past its time is still there, for a while.
    fn held_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<HeldMessage>, StoreError>>;

    /// Those of the messages that were held of a connection that are dropped, as far as that is remembered.
    fn dropped_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Sequence>, StoreError>>;

    /// Forgets held messages. Tells how many are left.
    fn drop_messages<'a>(
        &'a self,
        connection: ConnectionId,
        sequences: &'a [Sequence],
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Keeps what is held of a connection, if anything is, for so long from now at least.
    fn keep_messages(&self, connection: ConnectionId, keep: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets what is held of a closed connection, and holds nothing more of it, unless somebody was proved to be on it
    /// who has not logged out: nobody could ever ask for it. Tells how many messages that were.
    fn discard_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Counts what is to be held of a connection that is nobody's yet. Tells whether that is not too much; if it is, nothing
    /// is counted.
    fn reserve<'a>(
        &'a self,
        connection: ConnectionId,
        reservation: &'a Reservation,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Gives back all that was counted of a connection.
    fn unreserve(&self, connection: ConnectionId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many bytes are counted of all connections together.
    fn reserved(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Holds something to be written, once for each key of a mailbox. What was dropped may be held again. If it fails,
    /// it must be repeated: it may be held, and unknown to [`overdue`](Self::overdue).
    fn hold_write<'a>(
        &'a self,
        mailbox: Mailbox,
        write: &'a HeldWrite,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>>;

    /// What is held in a mailbox, in the order in which it was held, `most` at most.
    fn held_writes(&self, mailbox: Mailbox, most: u64) -> BoxFuture<'_, Result<Vec<HeldWrite>, StoreError>>;

    /// Forgets held writes. Tells how many are left.
    fn drop_writes<'a>(&'a self, mailbox: Mailbox, keys: &'a [String]) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// So many that belong in a mailbox are not held there, or not any more, and were not written. It is remembered for a day.
    fn miss(&self, mailbox: Mailbox, count: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many those are, which are forgotten now.
    fn take_missed(&self, mailbox: Mailbox) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Notes that a producer is told what became of something for an identity, by the key that was drawn for it: once and for
    /// all, or that it is `held`, before that. Tells whether that is new, as far as it is remembered.
    fn conclude(&self, identity: IdentityTag, key: u64, held: bool) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Mailboxes in which something is held that was first given to us before `since`, `most` at most. It may name one
    /// in which nothing is held any more.
    fn overdue(&self, since: Timestamp, most: u64) -> BoxFuture<'_, Result<Vec<Mailbox>, StoreError>>;

    /// Records revocations, each until its last token has expired; of two for one target, the stricter of each of their
    /// times. None is dropped for another: one that is too many is refused. Waits a moment for a replica, if there is one.
    fn revoke<'a>(&'a self, revocations: &'a [Revocation]) -> BoxFuture<'a, Result<Kept, StoreError>>;

    /// All revocations that are recorded.
    fn revocations(&self) -> BoxFuture<'_, Result<Vec<Revocation>, StoreError>>;

    /// Whether an event of an issuer, by its `jti`, was told before. If it was not, and `keep` says for how long, it is known
    /// from now on.
    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Keeps a decision about a connection, for an hour.
    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The decisions about a connection that are kept, oldest first.
    fn decisions(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Decision>, StoreError>>;

    /// Begins a run of a message that is to have its effect once, if none has ended or lasts. The very same run may begin
    /// again, and so may one with the same stamp if it was redelivered: whoever was given the message before has lost it.
    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, StoreError>>;

    /// Ends a run with what it came to, or with nothing if that is not kept: from then on that is told, for the window.
    /// Of several runs of one message the first that ends counts; tells what that came to, if it was not this one.
    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        answer: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, StoreError>>;

    /// Ends a run that has had no effect: the message may begin anew. What another run has taken over stays.
    fn abandon<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>>;

    /// From when on the store has kept all that it was given, as far as can be known: it begins anew when the store is
    /// empty, and when another server than before answers for it, which may lack the last writes.
    fn epoch(&self) -> BoxFuture<'_, Result<Epoch, StoreError>>;

    /// All who must know have been told of the epoch.
    fn announced(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Asks the store whether it is there, for readiness.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether it takes writes, and if not, the cause as exactly as it can be found out; for that it may take some seconds
    /// longer than other calls.
    fn writable(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ping()
    }
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
/// It does not wait for Redis: a store that is away is found by [`Store::ping`].
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
