//! What has been revoked.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::revocation::{Revocation, Target};
use shared::wire::tag::TokenIdTag;

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::{Call, Kept, RevocationStore};

impl RevocationStore for MemoryStore {
    fn revoke<'a>(&'a self, revocations: &'a [Revocation]) -> Call<'a, Kept> {
        self.step(move |state, now| state.revocations.add_all(revocations, now))
    }

    fn revocations(&self) -> Call<'_, Vec<Revocation>> {
        self.step(move |state, now| state.revocations.all(now))
    }

    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> Call<'_, bool> {
        self.step(move |state, now| state.events.know(event, keep, now))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Revocations {
    by_target: Expiring<Target, Revocation>,
    most: usize,
}

impl Revocations {
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_target: Expiring::default(),
            most,
        }
    }

    pub(super) fn add_all(&mut self, revocations: &[Revocation], now: Timestamp) -> Kept {
        let refused = revocations.iter().filter(|one| !self.add(one, now));
        Kept {
            refused: refused.map(|one| one.target).collect(),
            unreplicated: false,
        }
    }

    pub(super) fn all(&self, now: Timestamp) -> Vec<Revocation> {
        self.by_target.iter(now).map(|(_, revocation)| *revocation).collect()
    }

    /// Tells whether it is taken.
    fn add(&mut self, revocation: &Revocation, now: Timestamp) -> bool {
        if revocation.until <= now {
            return true;
        }
        if self.by_target.get(&revocation.target, now).is_none() {
            if self.by_target.len() >= self.most {
                self.by_target.drop_ended(now);
            }
            // That of all identities has a place whenever it comes.
            if self.by_target.len() >= self.most && revocation.target != Target::Everyone {
                return false;
            }
        }
        self.by_target
            .enter(revocation.target, now, revocation.until, || *revocation)
            .merge(revocation);
        true
    }
}
