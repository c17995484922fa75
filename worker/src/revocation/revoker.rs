//! Puts revocations in force: in the store, here, and everywhere else.

use std::sync::Arc;

use shared::service::audit::{self, Audit};
use shared::wire::revocation::Revocation;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::known::Revoked;
use crate::outbound::Outbound;
use crate::store::{Kept, StoreError};

/// Anyone who is asked to take something back has one.
pub(crate) struct Revoker {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) audit: Arc<Audit>,
}

impl Revoker {
    /// Puts them into the store and in force, however long that takes.
    pub(crate) async fn persist(&self, all: &[Revocation]) -> Kept {
        let kept = match self.outbound.store.revoke(all).await {
            Ok(kept) => kept,
            Err(reason) => {
                warn!(%reason, "the store cannot take a revocation; running processes are told of it anyway");
                self.enforce(all).await;
                let store = &self.outbound.store;
                self.outbound.persist(|| async { Ok(store.revoke(all).await?) }).await
            }
        };
        let taken = Self::taken(all, &kept);
        if !taken.is_empty() {
            self.enforce(&taken).await;
        }
        kept
    }

    /// Puts them into the store, once, and in force in this worker. Anyone else who runs is still to be told of them.
    ///
    /// # Errors
    /// If the store did not answer. They are in force here all the same, and written back to the store when it is there.
    pub(crate) async fn keep(&self, all: &[Revocation]) -> Result<Kept, StoreError> {
        let kept = self.outbound.store.revoke(all).await;
        let taken = match &kept {
            Ok(kept) => Self::taken(all, kept),
            Err(_) => all.to_vec(),
        };
        self.revoked.add(&taken, self.outbound.clock.now());
        kept
    }

    /// Tells anyone who runs elsewhere, at most as many as travel in one message.
    pub(crate) async fn broadcast(&self, all: &[Revocation]) {
        self.outbound.persist(|| self.outbound.broadcast_revocations(all)).await;
    }

    /// Says in the audit log what was revoked.
    pub(crate) fn leave_a_line(&self, revocation: &Revocation) {
        if let Some(unwritten) = self.audit.admit("revoked", Instant::now()) {
            let Revocation {
                target,
                issued_before,
                effective,
                ..
            } = revocation;
            let (issued_before, effective) = (issued_before.as_millis(), effective.as_millis());
            info!(target: audit::TARGET, revoked = ?target, issued_before, effective, unwritten, "revoked");
        }
    }

    /// Here they are in force at once, and elsewhere when they are heard of.
    async fn enforce(&self, all: &[Revocation]) {
        self.revoked.add(all, self.outbound.clock.now());
        self.broadcast(all).await;
    }

    /// Those that the store has; and says what is wrong with it.
    fn taken(all: &[Revocation], kept: &Kept) -> Vec<Revocation> {
        if !kept.refused.is_empty() {
            error!(
                count = kept.refused.len(),
                "revocations are refused: max-revocations are in force"
            );
        }
        if kept.unreplicated {
            warn!("no replica of the store has confirmed a revocation; workers write it back if the store loses it");
        }
        let taken = all.iter().filter(|one| !kept.refused.contains(&one.target));
        taken.copied().collect()
    }
}
