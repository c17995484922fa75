//! What this worker knows to be revoked.
//!
//! The store has every revocation, and each is also broadcast. A worker first
//! listens and then reads the store, so that none is missed in between; until it has
//! read it, it does not know, and says so: what cannot be judged is neither let in
//! nor logged out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
use shared::wire::revocation::{Revocation, Revocations, Subject, TRUSTED_WITHOUT_BROKER};
use tokio::sync::{Notify, watch};
use tracing::error;

/// What the revocations say of a token or a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// None in force means it.
    Good,
    /// One in force means it.
    Revoked,
    /// Not all are known yet.
    Unknown,
}

/// How much of what the store has is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was not asked yet.
    NotAsked,
    /// It was asked and did not answer, or some may have been said meanwhile.
    Away,
    /// All of it.
    All,
}

/// The revocations in force, shared by all who judge.
pub(crate) struct Revoked {
    set: RwLock<Revocations>,
    /// How much of what the store has is in the set.
    known: watch::Sender<Known>,
    /// Grows when more is forbidden, or less is known, than before.
    changes: AtomicU64,
    /// When it was last seen that this process runs, in milliseconds; 0 before the first time.
    ran_ms: AtomicU64,
    /// Something may have been said that did not come here.
    doubted: Notify,
}

impl Revoked {
    /// Nothing is known yet.
    pub(crate) fn unloaded() -> Self {
        Self {
            set: RwLock::default(),
            known: watch::Sender::new(Known::NotAsked),
            changes: AtomicU64::new(0),
            ran_ms: AtomicU64::new(0),
            doubted: Notify::new(),
        }
    }

    /// These are all.
    #[cfg(test)]
    pub(crate) fn loaded(revocations: Revocations) -> Self {
        Self {
            set: RwLock::new(revocations),
            known: watch::Sender::new(Known::All),
            changes: AtomicU64::new(0),
            ran_ms: AtomicU64::new(0),
            doubted: Notify::new(),
        }
    }

    /// What is to be said of `subject` at this moment. One that is known to be revoked is, whatever else is not known.
    pub(crate) fn judge(&self, subject: &Subject, now: Timestamp) -> Judgement {
        // Asked first: what is loaded between the two requests is then in the set.
        let all = *self.known.borrow() == Known::All;
        if self.read().forbid(subject, now) {
            Judgement::Revoked
        } else if all {
            Judgement::Good
        } else {
            Judgement::Unknown
        }
    }

    /// Whether something that was held of `connection` may not be done any more, `subject` being what it was accepted by.
    pub(crate) fn forbids_held(&self, connection: ConnectionId, subject: Option<&Subject>, now: Timestamp) -> bool {
        let set = self.read();
        set.forbid_connection(connection, now) || subject.is_some_and(|subject| set.forbid(subject, now))
    }

    /// These were said.
    pub(crate) fn add(&self, revocations: &[Revocation], now: Timestamp) {
        let mut set = self.write();
        let kept = revocations.iter().filter(|one| set.add(**one, now)).count();
        drop(set);
        self.changed();
        if kept < revocations.len() {
            error!("there are more revocations than a process keeps: some are not in force here");
        }
    }

    /// All that are in force.
    pub(crate) fn in_force(&self, now: Timestamp) -> Vec<Revocation> {
        self.read().in_force(now).copied().collect()
    }

    /// The store has these: with what was said since, they are all.
    pub(crate) fn load(&self, all: &[Revocation], now: Timestamp) {
        self.add(all, now);
        self.known.send_replace(Known::All);
    }

    /// The store did not answer. What was known is known still.
    pub(crate) fn missed(&self) {
        self.known.send_if_modified(|known| {
            let first = *known == Known::NotAsked;
            if first {
                *known = Known::Away;
            }
            first
        });
    }

    /// Some may have been said that did not come here.
    pub(crate) fn unload(&self) {
        self.known.send_replace(Known::Away);
        self.changed();
    }

    /// Whether the store is being asked for all of them.
    pub(crate) fn is_being_asked(&self) -> bool {
        *self.known.borrow() == Known::NotAsked
    }

    /// This process runs. If the time has leapt since it was last seen to, it has slept, or stood still, for longer than its queue
    /// keeps what is said: then all is to be read again. Tells whether that is so. No other clock says it: that of the timers stands still, too.
    pub(crate) fn runs(&self, now: Timestamp) -> bool {
        let last = self.ran_ms.swap(now.as_millis(), Ordering::AcqRel);
        let has_leapt = last != 0 && now.saturating_since(Timestamp::from_millis(last)) >= TRUSTED_WITHOUT_BROKER;
        if has_leapt {
            // The store is asked again; `missed` says if it does not answer.
            self.known.send_replace(Known::NotAsked);
            self.changed();
            self.doubted.notify_one();
        }
        has_leapt
    }

    /// Waits until there is doubt that all are known.
    pub(crate) async fn until_doubted(&self) {
        self.doubted.notified().await;
    }

    /// How often something has changed: as long as that is the same, no one can be judged otherwise but for the time.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// After the change: anyone who sees the number judges by what it counts.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until all are known.
    pub(crate) async fn until_loaded(&self) {
        // The sender is `self`, so it is there.
        let _ = self.known.subscribe().wait_for(|known| *known == Known::All).await;
    }

    /// Waits until the store was asked, whether it answered or not.
    pub(crate) async fn until_asked(&self) {
        // The sender is `self`, so it is there.
        let _ = self.known.subscribe().wait_for(|known| *known != Known::NotAsked).await;
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> RwLockReadGuard<'_, Revocations> {
        // Nothing under this lock leaves the set half changed.
        self.set.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Revocations> {
        self.set.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of `known` that are not among `stored`, or are stricter than there.
pub(crate) fn lacking(mut known: Vec<Revocation>, stored: &[Revocation]) -> Vec<Revocation> {
    let stored: HashMap<_, _> = stored.iter().map(|one| (one.target, one)).collect();
    known.retain(|one| stored.get(&one.target).is_none_or(|stored| !stored.covers(one)));
    known
}

#[cfg(test)]
mod tests {
    use shared::wire::revocation::Target;
    use shared::wire::tag::IdentityTag;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn subject(who: u8) -> Subject {
        Subject {
            identity: IdentityTag::of(&[who; 32]),
            token_id: None,
            session: None,
            issued_at: Some(Timestamp::from_secs(900)),
            proven: None,
            connection: None,
        }
    }

    fn revocation(who: u8) -> Revocation {
        Revocation {
            target: Target::Identity(IdentityTag::of(&[who; 32])),
            issued_before: NOW,
            effective: NOW,
            until: Timestamp::from_secs(5_000),
        }
    }

    #[test]
    fn nothing_is_good_until_all_is_known_but_what_is_known_is_in_force() {
        let revoked = Revoked::unloaded();
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Unknown);
        revoked.add(&[revocation(2)], NOW);
        assert_eq!(revoked.judge(&subject(2), NOW), Judgement::Revoked);
        revoked.load(&[revocation(3)], NOW);
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Good);
        assert_eq!(
            revoked.judge(&subject(2), NOW),
            Judgement::Revoked,
            "said before the load"
        );
        assert_eq!(revoked.judge(&subject(3), NOW), Judgement::Revoked);
        assert_eq!(revoked.len(), 2);
    }

    #[test]
    fn what_the_store_has_lost_is_known_by_comparing() {
        let revoked = Revoked::unloaded();
        let weaker = Revocation {
            until: Timestamp::from_secs(4_000),
            ..revocation(2)
        };
        let over = Revocation {
            until: NOW,
            ..revocation(4)
        };
        revoked.add(&[revocation(1), revocation(2), revocation(3), over], NOW);
        let mut lacking = lacking(revoked.in_force(NOW), &[revocation(1), weaker, revocation(5)]);
        lacking.sort_by_key(|one| format!("{:?}", one.target));
        assert_eq!(lacking, [revocation(2), revocation(3)]);
    }

    #[test]
    fn a_process_that_has_slept_knows_nothing_until_it_has_read_all_again() {
        let revoked = Revoked::loaded(Revocations::default());
        let after = |ms: u64| Timestamp::from_millis(NOW.as_millis() + ms);
        let longest = u64::try_from(TRUSTED_WITHOUT_BROKER.as_millis()).unwrap();
        assert!(!revoked.runs(NOW) && !revoked.runs(after(longest - 1)) && !revoked.runs(NOW));
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Good);
        assert!(revoked.runs(after(longest)));
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Unknown);
        assert!(revoked.is_being_asked(), "every message waits for that");
        assert!(!revoked.runs(after(longest)), "it is told once");
        revoked.load(&[], after(longest));
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Good);
    }

    #[test]
    fn what_may_have_been_missed_makes_all_unknown_again() {
        let revoked = Revoked::loaded(Revocations::default());
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Good);
        revoked.unload();
        assert_eq!(revoked.judge(&subject(1), NOW), Judgement::Unknown);
    }
}
