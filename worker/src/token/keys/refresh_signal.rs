//! What the verifier asks when it does not know a key: may it yet come?
//!
//! Issuers rotate their keys, so a `kid` that is unknown may be a minute old. To
//! call its token invalid would send its holder away for good; to ask the issuer
//! each time would let anyone have us ask. So the verifier only raises its hand, and
//! anyone who keeps the keys asks when it is time. Until a fetch that began after a `kid`
//! was first seen has gone well, it may yet come, whatever others have asked for before;
//! after that it is unknown for as long as no one asks again.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// So many kids are remembered, 16 bytes each. Of one that finds no room it is never said that it does not exist.
const MOST_ASKED: usize = 4_096;

/// Between the verifier, which must not wait, and the refresher of its keys.
#[derive(Debug)]
pub(in crate::token) struct RefreshSignal {
    /// Holds one request at most, however many ask.
    wanted: Notify,
    /// No one asks for keys: those that are unknown stay so.
    settled: AtomicBool,
    /// The last fetch that went well; they are numbered from 1.
    answered: AtomicU64,
    asked: Mutex<Asked>,
}

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    /// The last fetch that has begun.
    begun: u64,
    /// Until then no one is asked.
    next: Option<Instant>,
    /// By the hash of a `kid`, whose seed no one knows: the fetch that tells whether there is one.
    tells: HashMap<u64, u64>,
    hasher: RandomState,
}

/// Which keys are among those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::token) enum Answered {
    /// All that there will be.
    All,
    /// Those that were found by that fetch.
    UpTo(u64),
}

impl RefreshSignal {
    /// No one could answer: keys that are unknown stay so.
    pub(in crate::token) fn settled() -> Self {
        Self {
            wanted: Notify::new(),
            settled: AtomicBool::new(true),
            answered: AtomicU64::new(0),
            asked: Mutex::default(),
        }
    }

    /// What has been asked for by now. To be asked *before* the keys are looked at.
    pub(in crate::token) fn answered(&self) -> Answered {
        match self.settled.load(Ordering::Acquire) {
            true => Answered::All,
            false => Answered::UpTo(self.answered.load(Ordering::Acquire)),
        }
    }

    /// Wants a key that is not among those of which that is known. Tells how long it takes until it may be there; none if
    /// it will not.
    pub(in crate::token) fn ask(&self, kid: &str, answered: Answered, now: Instant) -> Option<Duration> {
        let Answered::UpTo(fetch) = answered else { return None };
        let mut asked = self.asked();
        let kid = asked.hasher.hash_one(kid);
        match asked.tells.get(&kid) {
            Some(tells) if *tells <= fetch => return None,
            Some(_) => {}
            None => {
                if asked.tells.len() < MOST_ASKED {
                    // One that is under way may have looked before the key was there.
                    let tells = asked.begun + 1;
                    asked.tells.insert(kid, tells);
                }
                self.wanted.notify_one();
            }
        }
        let wait = asked.next.map(|next| next.saturating_duration_since(now));
        Some(wait.unwrap_or_default())
    }

    /// Waits until someone has asked. Safe to be cancelled.
    pub(in crate::token) async fn asked_for(&self) {
        self.wanted.notified().await;
    }

    /// A fetch begins.
    pub(in crate::token) fn begin(&self) {
        self.asked().begun += 1;
    }

    /// The last fetch has gone well, and the keys that were found are in place already.
    pub(in crate::token) fn answer(&self) {
        self.answered.store(self.asked().begun, Ordering::Release);
    }

    /// The fetch that is under way has not found these any more.
    pub(in crate::token) fn gone<'k>(&self, kids: impl IntoIterator<Item = &'k str>) {
        let mut asked = self.asked();
        for kid in kids {
            if asked.tells.len() < MOST_ASKED {
                let (kid, begun) = (asked.hasher.hash_one(kid), asked.begun);
                asked.tells.insert(kid, begun);
            }
        }
    }

    /// What is wanted is fetched at that moment, or else as soon as someone asks.
    pub(in crate::token) fn next(&self, next: Option<Instant>) {
        self.asked().next = next;
    }

    /// What was found not to exist may be asked for again.
    pub(in crate::token) fn forget(&self) {
        let answered = self.answered.load(Ordering::Acquire);
        self.asked().tells.retain(|_, tells| *tells > answered);
    }

    /// Says whether keys that are unknown stay so.
    pub(in crate::token) fn settle(&self, settled: bool) {
        self.settled.store(settled, Ordering::Release);
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking() -> (RefreshSignal, Instant) {
        let signal = RefreshSignal::settled();
        assert_eq!(
            signal.ask("a", signal.answered(), Instant::now()),
            None,
            "nobody fetches"
        );
        signal.settle(false);
        (signal, Instant::now())
    }

    #[test]
    fn a_kid_may_come_until_a_fetch_that_began_after_it_has_gone_well() {
        let (signal, now) = asking();
        let may_come = |kid| signal.ask(kid, signal.answered(), now).is_some();
        signal.begin();
        assert!(may_come("a"));
        // This one had begun, and the next fails.
        signal.answer();
        assert!(may_come("a") && may_come("b"));
        signal.begin();
        assert!(may_come("a"));
        signal.begin();
        assert!(may_come("c"));
        // The one who looked before the keys were there knows nothing of them.
        let before = signal.answered();
        signal.answer();
        assert!(signal.ask("a", before, now).is_some());
        assert!(!may_come("a") && !may_come("b") && may_come("c") && may_come("d"));
        signal.forget();
        assert!(may_come("a"));
        // What was there before a fetch, and is not any more, was told by that one.
        signal.begin();
        signal.gone(["e"]);
        assert!(may_come("e"));
        signal.answer();
        assert!(!may_come("e"));
    }

    #[test]
    fn it_is_told_when_to_come_again() {
        let (signal, now) = asking();
        let wait = |kid| signal.ask(kid, signal.answered(), now);
        assert_eq!(wait("a"), Some(Duration::ZERO));
        let later = Duration::from_secs(7);
        signal.next(Some(now + later));
        assert_eq!((wait("a"), wait("b")), (Some(later), Some(later)));
    }

    #[test]
    fn however_many_are_asked_for_few_are_remembered_and_none_is_called_unknown_for_it() {
        let (signal, now) = asking();
        for kid in 0..2 * MOST_ASKED {
            assert!(signal.ask(&kid.to_string(), signal.answered(), now).is_some());
        }
        assert_eq!(signal.asked().tells.len(), MOST_ASKED);
        signal.begin();
        signal.answer();
        let kid = |number: usize| signal.ask(&number.to_string(), signal.answered(), now);
        assert_eq!(kid(0), None);
        assert!(kid(2 * MOST_ASKED).is_some());
    }
}
