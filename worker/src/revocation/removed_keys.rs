//! A key that is removed ends what it has proved.
//!
//! The one who has stolen a key has had tokens of its own, and connections by them: that it verifies nothing more is not enough.
//! Each worker sees by itself that a key is gone, and says so to all that run, as of any other revocation. What the key proves
//! when it is there again was proved later, and is not meant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::revocation::{MOST_AT_A_TIME, Revocation, Target};
use shared::wire::tag::KeyTag;
use tokio::sync::watch;
use tracing::warn;

use super::RevocationRules;
use super::revoker::Revoker;
use crate::token::Verifier;

/// Compares the keys that are in force with those that were.
pub(crate) struct RemovedKeys {
    verifier: Arc<Verifier>,
    replaced: watch::Receiver<()>,
    revoker: Arc<Revoker>,
    known: RevocationRules,
    /// How long what is ended may go on meanwhile.
    grace: Duration,
    before: BTreeSet<KeyTag>,
}

impl RemovedKeys {
    /// From the keys that are in force now.
    pub(crate) fn new(verifier: Arc<Verifier>, revoker: Arc<Revoker>, known: RevocationRules, grace: Duration) -> Self {
        let replaced = verifier.replaced();
        Self {
            before: verifier.keys().tags(),
            verifier,
            replaced,
            revoker,
            known,
            grace,
        }
    }

    /// Runs for as long as there is a verifier.
    pub(crate) async fn run(mut self) {
        while self.replaced.changed().await.is_ok() {
            let now = self.revoker.outbound.clock.now();
            let removed = self.removed(now);
            if !removed.is_empty() {
                self.end(&removed).await;
            }
        }
    }

    /// What ends what was proved by the keys that are not there any more.
    fn removed(&mut self, now: Timestamp) -> Vec<Revocation> {
        let present = self.verifier.keys().tags();
        let before = std::mem::replace(&mut self.before, present);
        let removed = before.difference(&self.before);
        removed
            .map(|key| revocation(*key, &self.known, self.grace, now))
            .collect()
    }

    /// Whatever the store says, those that run are told; it gets what it lacks when it is there.
    async fn end(&self, removed: &[Revocation]) {
        let grace_s = self.grace.as_secs();
        let count = removed.len();
        warn!(
            count,
            grace_s, "keys are removed; what they have authenticated ends after the grace period"
        );
        for some in removed.chunks(MOST_AT_A_TIME) {
            if let Err(reason) = self.revoker.keep(some).await {
                warn!(%reason, "the store cannot take a revocation; running processes are told of it anyway");
            }
            self.revoker.broadcast(some).await;
        }
        removed.iter().for_each(|one| self.revoker.leave_a_line(one));
    }
}

fn revocation(key: KeyTag, known: &RevocationRules, grace: Duration, now: Timestamp) -> Revocation {
    Revocation {
        target: Target::Key(key),
        // Another worker's clock may be ahead.
        issued_before: now.saturating_add(known.leeway),
        effective: now.saturating_add(grace),
        until: now.saturating_add(known.longest_life),
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::proof::{Proof, Proven};

    use super::*;

    #[test]
    fn what_a_key_proved_before_it_was_removed_is_meant_by_whatever_clock_within_the_leeway() {
        let at = Timestamp::from_secs;
        let (key, now, grace) = (KeyTag::of(&[1; 32]), at(1_000), Duration::from_secs(30));
        let known = RevocationRules {
            issuers: Vec::new(),
            longest_life: Duration::from_secs(3_600),
            leeway: Duration::from_secs(5),
        };
        let revocation = revocation(key, &known, grace, now);
        assert_eq!((revocation.effective, revocation.until), (at(1_030), at(4_600)));
        let is_meant = |at_s, until_s| {
            let proof = Proof { key, at: at(at_s) };
            let until = Some(at(until_s));
            Proven { proof, until }.is_by(key, revocation.issued_before, revocation.effective)
        };
        assert!(is_meant(999, 2_000) && is_meant(1_004, 2_000));
        assert!(!is_meant(1_005, 2_000), "the key is there again");
        assert!(!is_meant(999, 1_030), "it ends by itself");
    }
}
