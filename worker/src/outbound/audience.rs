//! Who of an identity can be reached.
//!
//! The store knows the connections of each identity, and until when each is
//! authenticated; whether a terminator still listens for them, only the broker knows.
//! Dead terminators are found by that within seconds; their connections count for
//! nothing from then on, and leave the store when their queue is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::bus::Bus;
use shared::bus::topology::Names;
use shared::service::clock::{Clock, Timestamp};
use shared::wire::grant::Policy;
use shared::wire::id::{ConnectionId, TerminatorId};
use shared::wire::revocation::Subject;
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;

use crate::revocation::known::{Judgement, Revoked};
use crate::store::{Registered, Store, StoreError};

/// How long the answer to whether a terminator listens is believed.
const LOOK_KEPT: Duration = Duration::from_secs(2);
/// How many terminators are remembered: far more than there are at a time. Beyond it all are asked again.
const LOOKS_KEPT: usize = 1_024;

/// A connection that something for its identity is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// The connection's id.
    pub(crate) connection: ConnectionId,
    /// Whether it may be written now, as far as its authentication goes.
    pub(crate) in_force: bool,
    /// Whether its terminator listens now.
    pub(crate) listening: bool,
}

impl Recipient {
    /// Whether what is sent now is written now.
    pub(crate) const fn is_live(&self) -> bool {
        self.in_force && self.listening
    }
}

pub(crate) struct Audience {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) names: Names,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) revoked: Arc<Revoked>,
    /// What terminators do for connections that have expired.
    pub(crate) on_expired_push: Policy,
    pub(crate) looks: Mutex<HashMap<TerminatorId, (Instant, bool)>>,
}

impl Audience {
    /// All recipients of an identity, the expired ones too, but for those that a revocation in force means.
    ///
    /// # Errors
    /// If the store does not tell.
    pub(crate) async fn of(&self, identity: IdentityTag) -> Result<Vec<Recipient>, StoreError> {
        let mut entries = self.store.connections(identity).await?;
        entries.sort_by_key(|entry| entry.connection);
        self.recipients(identity, entries).await
    }

    /// One connection of an identity, if it is one; as [`of`](Self::of).
    ///
    /// # Errors
    /// If the store does not tell.
    pub(crate) async fn one(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> Result<Vec<Recipient>, StoreError> {
        let entry = self.store.registered(identity, connection).await?;
        self.recipients(identity, entry.into_iter().collect()).await
    }

    async fn recipients(&self, identity: IdentityTag, entries: Vec<Registered>) -> Result<Vec<Recipient>, StoreError> {
        let now = self.clock.now();
        let mut recipients = Vec::with_capacity(entries.len());
        for entry in entries {
            if !self.is_forbidden(identity, &entry, now) {
                recipients.push(Recipient {
                    connection: entry.connection,
                    in_force: now < entry.until || self.on_expired_push == Policy::Ignore,
                    listening: self.is_listening(entry.connection.terminator).await,
                });
            }
        }
        Ok(recipients)
    }

    fn is_forbidden(&self, identity: IdentityTag, entry: &Registered, now: Timestamp) -> bool {
        let subject = Subject {
            identity,
            token_id: entry.token_id,
            session: entry.session,
            issued_at: entry.issued_at,
            proven: None,
            connection: Some(entry.connection),
        };
        // What is not known yet is for the terminator to say, which has the last word in any case.
        self.revoked.judge(&subject, now) == Judgement::Revoked
    }

    async fn is_listening(&self, terminator: TerminatorId) -> bool {
        let known = self.looks().get(&terminator).copied();
        if let Some((at, listening)) = known
            && at.elapsed() < LOOK_KEPT
        {
            return listening;
        }
        let queue = self.names.return_queue(terminator).name;
        let listening = self.bus.is_consumed(&queue).await;
        let mut looks = self.looks();
        if looks.len() >= LOOKS_KEPT {
            looks.clear();
        }
        looks.insert(terminator, (Instant::now(), listening));
        listening
    }

    fn looks(&self) -> std::sync::MutexGuard<'_, HashMap<TerminatorId, (Instant, bool)>> {
        // Nothing under this lock panics half-way through a change.
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
