//! What was last recorded of each connection, so that it is recorded once.
//!
//! A client sends the same token with every message until it has a fresh one, and
//! its terminator says with each by which token the connection lives. Only while the
//! terminator does not know of it yet is anything to be done, and of that only the first
//! time costs the store anything. What is forgotten here is merely written again.
//!
//! What the store has lost since is to be recorded again: each loss is counted, and what
//! was recorded before it counts for nothing.
//!
//! What was recorded here counts only if it is newer than what the terminator knows:
//! another worker may have logged the connection out since.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, MessageId, Sequence};
use shared::wire::tag::{IdentityTag, ResumeSecret};

use crate::admin::metrics::Metrics;
use crate::store::losses::Losses;
use crate::store::{
    Admission, Authentication, ConnectionLimit, ConnectionSlot, Recorded, Registered, ResumeDigest, Store, StoreError,
};
use crate::token::{Digest, Verified};

/// How long after its token has expired a connection counts, if its close was never heard of: it may be open, and be renewed.
const COUNTS_AFTER_EXPIRY: Duration = Duration::from_secs(3_600);

/// How many connections are remembered: at about 100 bytes each, 10 MB. A worker may hear from all of them.
const CAPACITY: usize = 100_000;

/// That a message proved who its connection is.
pub(crate) struct Proven<'a> {
    /// Which message of which connection.
    pub(crate) message_id: MessageId,
    /// What it proved.
    pub(crate) verified: &'a Verified,
    /// As other connections of the identity are told it.
    pub(crate) entry: Registered,
    /// Whose it is.
    pub(crate) identity: IdentityTag,
    /// By which the connection can be resumed.
    pub(crate) resume: &'a ResumeSecret,
    /// The client of its token: no other can resume it.
    pub(crate) client: Option<&'a str>,
    /// The message that last changed the connection, as far as its terminator knew.
    pub(crate) known: Option<Sequence>,
    /// The connection that this one takes over.
    pub(crate) resumes: Option<ConnectionId>,
    /// Whether it is authenticated as that identity already, as far as its terminator knows, be that expired or not.
    pub(crate) is_renewal: bool,
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recording {
    /// What the store said; none if it was not asked.
    pub(crate) recorded: Option<Recorded>,
    /// How much is held for the identity.
    pub(crate) waiting: u64,
    /// Connections that are to be closed, because they are more than the identity may have.
    pub(crate) oldest: Vec<ConnectionId>,
}

/// Why nothing was recorded.
#[derive(Debug)]
pub(crate) enum Unrecorded {
    /// The store did not take it.
    Store(StoreError),
    /// The identity has as many connections as it may have, and these are some of them.
    OverLimit(Vec<ConnectionId>),
}

impl From<StoreError> for Unrecorded {
    fn from(reason: StoreError) -> Self {
        Self::Store(reason)
    }
}

impl Recording {
    /// A newer message has overtaken this one.
    const STALE: Self = Self {
        recorded: Some(Recorded::Stale),
        waiting: 0,
        oldest: Vec::new(),
    };

    /// Whether a newer message has overtaken this one.
    pub(crate) fn is_stale(&self) -> bool {
        self.recorded == Some(Recorded::Stale)
    }
}

/// By which token a connection was last recorded, from here.
#[derive(Clone, Copy)]
struct Last {
    by: Sequence,
    token: Digest,
    waiting: u64,
    /// How many losses of the store there had been by then.
    losses: u64,
}

pub(crate) struct AuthStateRecorder {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    last: Cache<ConnectionId, Last>,
    losses: Losses,
    /// How many connections an identity may have at a time; none if any number.
    limit: Option<ConnectionLimit>,
}

/// What the store knows of a connection's secret: in the hands of another client it is another one.
pub(crate) fn digest_of(secret: &ResumeSecret, client: Option<&str>) -> ResumeDigest {
    let digest = Sha256::new_with_prefix(secret.to_string());
    // A secret has no NUL.
    let digest = match client {
        Some(client) => digest.chain_update([0]).chain_update(client),
        None => digest,
    };
    digest.finalize().into()
}

impl AuthStateRecorder {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>, losses: Losses) -> Self {
        Self {
            store,
            metrics,
            losses,
            last: Cache::new(CAPACITY),
            limit: None,
        }
    }

    /// The same, where an identity may have so many connections.
    pub(crate) fn limited_to(self, limit: Option<ConnectionLimit>) -> Self {
        Self { limit, ..self }
    }

    /// Records who its connection is, and enters it among those of the identity.
    ///
    /// # Errors
    /// If the store did not take it, or the identity has too many connections; the message may then not be processed.
    pub(crate) async fn record(&self, proven: &Proven<'_>) -> Result<Recording, Unrecorded> {
        let MessageId { connection, sequence } = proven.message_id;
        let losses = self.losses.count();
        let is_current =
            |last: &Last| last.token == proven.verified.digest && Some(last.by) > proven.known && last.losses == losses;
        if let Some(last) = self.last.get(&connection).filter(is_current) {
            return Ok(Recording {
                recorded: None,
                waiting: last.waiting,
                oldest: Vec::new(),
            });
        }
        let authentication = Authentication::Live {
            identity: proven.verified.identity.clone(),
            until: proven.verified.expires_at,
            by: sequence,
            resume: digest_of(proven.resume, proven.client),
        };
        let oldest = self.admit(proven).await?;
        let recording = Recording {
            oldest,
            ..self.enter(proven.identity, proven.entry, &authentication).await?
        };
        if recording.is_stale() {
            self.give_up_place(proven.identity, proven.message_id).await?;
        } else {
            let last = Last {
                by: sequence,
                token: proven.verified.digest,
                waiting: recording.waiting,
                losses,
            };
            self.remember(connection, last);
        }
        Ok(recording)
    }

    /// Takes a place among the connections of the identity. Tells which are too many.
    async fn admit(&self, proven: &Proven<'_>) -> Result<Vec<ConnectionId>, Unrecorded> {
        let Some(limit) = self.limit else { return Ok(Vec::new()) };
        let place = ConnectionSlot {
            connection: proven.message_id.connection,
            until: proven.entry.until.saturating_add(COUNTS_AFTER_EXPIRY),
            is_renewal: proven.is_renewal,
            replaces: proven.resumes,
            limit,
        };
        match self.store.admit(proven.identity, place).await? {
            Admission::Admitted(oldest) => Ok(oldest),
            Admission::Refused(holders) => Err(Unrecorded::OverLimit(holders)),
        }
    }

    /// What was closed meanwhile needs no place.
    async fn give_up_place(&self, identity: IdentityTag, message_id: MessageId) -> Result<(), StoreError> {
        if self.limit.is_some()
            && let Some(by) = self.is_over(message_id).await?
        {
            self.store.unregister(identity, message_id.connection, Some(by)).await?;
        }
        Ok(())
    }

    /// Writes again what the store may have lost of a connection that is there: who it is, and its place.
    ///
    /// # Errors
    /// If the store did not take it.
    pub(crate) async fn restore(
        &self,
        identity: IdentityTag,
        entry: Registered,
        authentication: &Authentication,
    ) -> Result<Recording, StoreError> {
        if let Some(limit) = self.limit {
            let place = ConnectionSlot {
                connection: entry.connection,
                until: entry.until.saturating_add(COUNTS_AFTER_EXPIRY),
                is_renewal: true,
                replaces: None,
                limit,
            };
            self.store.admit(identity, place).await?;
        }
        let message_id = MessageId {
            connection: entry.connection,
            sequence: entry.by,
        };
        let recording = self.enter(identity, entry, authentication).await?;
        if recording.is_stale() {
            self.give_up_place(identity, message_id).await?;
        }
        Ok(recording)
    }

    /// Writes who a connection is, and enters it among those of the identity.
    ///
    /// # Errors
    /// If the store did not take it.
    async fn enter(
        &self,
        identity: IdentityTag,
        entry: Registered,
        authentication: &Authentication,
    ) -> Result<Recording, StoreError> {
        let connection = entry.connection;
        let recorded = self.write(connection, authentication).await?;
        if recorded == Recorded::Stale {
            return Ok(Recording::STALE);
        }
        let Some(waiting) = self.store.register(identity, entry).await? else {
            return Ok(Recording::STALE);
        };
        let message_id = MessageId {
            connection,
            sequence: entry.by,
        };
        if let Some(by) = self.is_over(message_id).await? {
            // It closed while it was entered, and the one who closed it may have looked before.
            self.store.unregister(identity, connection, Some(by)).await?;
            return Ok(Recording::STALE);
        }
        Ok(Recording {
            recorded: Some(recorded),
            waiting,
            oldest: Vec::new(),
        })
    }

    /// The client has logged out. Tells whether a newer message has overtaken that.
    ///
    /// # Errors
    /// If the store did not take it: the client is logged in as it was.
    pub(crate) async fn forget(&self, message_id: MessageId) -> Result<Recorded, StoreError> {
        let MessageId { connection, sequence } = message_id;
        self.last.remove(&connection);
        self.write(connection, &Authentication::Forgotten { by: sequence })
            .await
    }

    /// Takes a connection that has logged out out of those of its identity, when nothing else can go wrong: a client that
    /// is told that it could not log out is to get its pushes. If the store does not take it, what is written to the
    /// connection comes back, and the entry ends with its token.
    pub(crate) async fn leave(&self, message_id: MessageId, identity: IdentityTag) {
        let MessageId { connection, sequence } = message_id;
        let left = async {
            self.store.unregister(identity, connection, Some(sequence)).await?;
            // No one may resume it.
            self.store.replace_departed(identity, connection).await
        };
        if let Err(reason) = left.await {
            self.metrics.store_failed();
            tracing::debug!(%connection, %reason, "a logout was not written to the store");
        }
    }

    /// The connection is closed. A store that is away forgets it by itself, when its token has expired.
    pub(crate) async fn close(&self, message_id: MessageId, identity: Option<IdentityTag>) {
        self.last.remove(&message_id.connection);
        if let Err(reason) = self.try_close(message_id, identity).await {
            self.metrics.store_failed();
            tracing::debug!(connection = %message_id.connection, %reason, "a close was not written to the store");
        }
    }

    async fn try_close(&self, message_id: MessageId, identity: Option<IdentityTag>) -> Result<(), StoreError> {
        let MessageId { connection, sequence } = message_id;
        let identity = match identity {
            Some(identity) => Some(identity),
            // The answer that would have told the terminator may not have reached it any more.
            None => match self.store.authentication(connection).await? {
                Some(Authentication::Live { identity, .. }) => Some(identity.tag()),
                _ => None,
            },
        };
        self.write(connection, &Authentication::Closed { by: sequence }).await?;
        match identity {
            Some(identity) => self.store.unregister(identity, connection, Some(sequence)).await,
            None => Ok(()),
        }
    }

    async fn write(&self, connection: ConnectionId, state: &Authentication) -> Result<Recorded, StoreError> {
        let result = self.store.record(connection, state).await;
        self.metrics.store_write(&result);
        result
    }

    /// By what the connection is closed, or logged out, if that is newer than that message.
    async fn is_over(&self, message_id: MessageId) -> Result<Option<Sequence>, StoreError> {
        let state = self.store.authentication(message_id.connection).await?;
        Ok(match state {
            Some(Authentication::Closed { by } | Authentication::Forgotten { by }) => Some(by),
            Some(Authentication::Live { .. }) | None => None,
        }
        .filter(|by| *by > message_id.sequence))
    }

    fn remember(&self, connection: ConnectionId, last: Last) {
        // Of two that were written at the same time, the newer is the one that counts.
        let is_newer = |before: Last| before.by < last.by || before.losses < last.losses;
        if self.last.get(&connection).is_none_or(is_newer) {
            self.last.insert(connection, last);
        }
    }
}

impl Proven<'_> {
    /// As the identity's index has it.
    pub(crate) fn entry(
        message_id: MessageId,
        until: Timestamp,
        subject: &shared::wire::revocation::Subject,
    ) -> Registered {
        Registered {
            connection: message_id.connection,
            by: message_id.sequence,
            until,
            issued_at: subject.issued_at,
            token_id: subject.token_id,
            session: subject.session,
        }
    }
}
