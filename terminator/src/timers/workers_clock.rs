//! What time it is for the workers, as far as a terminator can tell.
//!
//! Tokens are dated by their issuers and judged by the workers' clocks. Whatever a terminator does by the time (the end of
//! a grant or of a revocation, when a message was received) it does by theirs: its own may be minutes off.
//!
//! Workers tell with some answers when the request was received, by this clock, and when it was answered, by theirs. It
//! was answered after the one and before it came back, so that the difference lies between two bounds, as close as the answer was
//! quick. While there may be none, there is none; else it is the bound by which a grant ends sooner. One that contradicts those
//! before it counts alone: a clock was turned, or workers have different ones.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Gauge, gauge};
use shared::service::clock::{Clock, Timestamp};
use shared::service::repetition::Repetitions;
use shared::wire::envelope::Clocks;
use tokio::time::Instant;
use tracing::warn;

use super::own_clock::{OwnClock, TURNED};

/// For how long bounds are believed, at least, and at most twice: clocks drift.
const BELIEVED: Duration = Duration::from_secs(60);

/// The workers' clock.
pub(crate) struct WorkersClock {
    own: OwnClock,
    /// By how many milliseconds theirs is ahead of this one.
    ahead_ms: AtomicI64,
    estimate: Mutex<Estimate>,
    shown: Gauge,
    told: Repetitions,
}

/// Between what it is by how many milliseconds they are ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    least: i64,
    most: i64,
}

/// What the last answers say.
#[derive(Debug, Default)]
struct Estimate {
    /// Since when the present bounds gather.
    since: Option<Instant>,
    before: Option<Bounds>,
    present: Option<Bounds>,
    /// When the last answer came, on both clocks.
    last: Option<(Instant, Timestamp)>,
}

impl Bounds {
    /// Of an answer to a request that was received at `asked`; both by the own clock. None if that cannot be.
    fn of(asked: Timestamp, answered: Timestamp, now: Timestamp) -> Option<Self> {
        let ms = |moment: Timestamp| i64::try_from(moment.as_millis()).unwrap_or(i64::MAX);
        // Each is told in whole milliseconds.
        let least = ms(answered).saturating_sub(ms(now)).saturating_sub(1);
        let most = ms(answered).saturating_sub(ms(asked)).saturating_add(1);
        (least < most).then_some(Self { least, most })
    }

    fn and(self, other: Self) -> Option<Self> {
        let (least, most) = (self.least.max(other.least), self.most.min(other.most));
        (least <= most).then_some(Self { least, most })
    }

    const fn ahead_ms(self) -> i64 {
        if self.least <= 0 && self.most >= 0 {
            0
        } else {
            self.most
        }
    }
}

impl Estimate {
    /// By how much they are ahead, with what this answer says.
    fn hear(&mut self, bounds: Bounds, now: Instant, own: Timestamp) -> i64 {
        self.last = Some((now, own));
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= BELIEVED)
        {
            self.since = Some(now);
            self.before = self.present.take();
        }
        let known = self.present.map_or(Some(bounds), |present| present.and(bounds));
        if known.is_none() {
            self.before = None;
        }
        let present = known.unwrap_or(bounds);
        self.present = Some(present);
        self.before
            .and_then(|before| before.and(present))
            .unwrap_or(present)
            .ahead_ms()
    }

    /// Whether an answer has come, and the own clock was not turned since.
    fn is_known(&self, now: Instant, own: Timestamp) -> bool {
        self.last.is_some_and(|(instant, then)| {
            let passed = now.saturating_duration_since(instant);
            let expected = then.saturating_add(passed);
            expected.saturating_since(own).max(own.saturating_since(expected)) < TURNED
        })
    }
}

impl WorkersClock {
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        let shown = gauge!("countersign_terminator_clock_difference_seconds");
        shown.set(0.0);
        Self {
            own: OwnClock::new(own),
            ahead_ms: AtomicI64::new(0),
            estimate: Mutex::default(),
            shown,
            told: Repetitions::default(),
        }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        self.of_own(self.own.now())
    }

    /// What time it is by the own clock.
    pub(crate) fn own_now(&self) -> Timestamp {
        self.own.now()
    }

    /// A moment on the own clock, as workers call it.
    pub(crate) fn of_own(&self, moment: Timestamp) -> Timestamp {
        Timestamp::from_millis(moment.as_millis().saturating_add_signed(self.ahead_ms()))
    }

    /// A moment as workers call it, on the own clock.
    pub(crate) fn to_own(&self, moment: Timestamp) -> Timestamp {
        Timestamp::from_millis(
            moment
                .as_millis()
                .saturating_add_signed(self.ahead_ms().saturating_neg()),
        )
    }

    /// Whether it is known what time it is for workers. If not, it is taken for the own time.
    pub(crate) fn is_known(&self) -> bool {
        self.estimate().is_known(Instant::now(), self.own.now())
    }

    /// Sees whether the own clock was turned. To be called every now and then.
    pub(crate) fn compare(&self, now: Instant) {
        self.own.compare(now);
    }

    /// An answer came that tells the worker's time.
    pub(crate) fn hear(&self, clocks: Clocks) {
        let now = Instant::now();
        self.own.compare(now);
        let own = self.own.now();
        let asked = clocks
            .asked
            .as_millis()
            .saturating_add_signed(self.ahead_ms().saturating_neg());
        let Some(bounds) = Bounds::of(Timestamp::from_millis(asked), clocks.answered, own) else {
            return;
        };
        let ahead_ms = self.estimate().hear(bounds, now, own);
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        // What the machine's clock shows is what an operator can set right.
        let lost_ms = i64::try_from(self.own.lost().as_millis()).unwrap_or(i64::MAX);
        let difference_ms = ahead_ms.saturating_add(lost_ms);
        self.shown.set(difference_ms as f64 / 1_000.0);
        if Duration::from_millis(difference_ms.unsigned_abs()) > clocks.leeway
            && let Some(untold) = self.told.admit("clock", now)
        {
            warn!(
                difference_ms,
                untold,
                "a worker's clock differs from this terminator's by more than `jwt-leeway`: this terminator uses the worker's; synchronise both"
            );
        }
    }

    fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    fn estimate(&self) -> MutexGuard<'_, Estimate> {
        // Nothing under this lock panics half-way through a change.
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use shared::service::clock::ManualClock;

    use super::*;

    const LEEWAY: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    /// The difference that is taken where the workers are so many milliseconds ahead and answers take so long on both ways.
    fn taken(ahead: i64, ways: &[(u64, u64)]) -> i64 {
        let mut estimate = Estimate::default();
        let now = Instant::now();
        let mut taken = 0;
        for (there, back) in ways {
            let answered = at(*there).as_millis().saturating_add_signed(ahead);
            let bounds = Bounds::of(at(0), Timestamp::from_millis(answered), at(there + back)).unwrap();
            taken = estimate.hear(bounds, now, at(0));
        }
        taken
    }

    #[tokio::test]
    async fn as_long_as_there_may_be_no_difference_there_is_none() {
        for ahead in [-40, 0, 40] {
            assert_eq!(taken(ahead, &[(50, 50), (5_000, 60_000)]), 0, "{ahead}");
        }
    }

    #[tokio::test]
    async fn a_difference_is_as_exact_as_the_quickest_answer_and_never_too_small() {
        for ahead in [-120_000, 120_000] {
            let taken = taken(ahead, &[(900, 900), (2, 3), (60_000, 10)]);
            assert!((ahead..=ahead + 3).contains(&taken), "{ahead}: {taken}");
        }
    }

    #[tokio::test]
    async fn what_contradicts_all_before_it_counts_alone_and_what_is_old_is_forgotten() {
        let mut estimate = Estimate::default();
        let now = Instant::now();
        let bounds = |ahead: i64| Bounds {
            least: ahead - 5,
            most: ahead + 5,
        };
        assert_eq!(estimate.hear(bounds(120_000), now, at(0)), 120_005);
        assert_eq!(estimate.hear(bounds(0), now, at(0)), 0);
        assert_eq!(estimate.hear(bounds(7), now, at(0)), 5, "both may be");
        assert_eq!(
            estimate.hear(bounds(9), now + BELIEVED, at(0)),
            5,
            "what was before still counts"
        );
        let wide = Bounds { least: -50, most: 50 };
        assert_eq!(estimate.hear(wide, now + BELIEVED * 2, at(0)), 14);
        assert_eq!(estimate.hear(wide, now + BELIEVED * 3, at(0)), 0, "and then no more");
    }

    #[test]
    fn what_cannot_be_says_nothing() {
        assert_eq!(Bounds::of(at(10), at(5), at(5)), None);
        assert!(Bounds::of(Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX), at(0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_by_the_workers_and_knows_when_it_does_not_know() {
        let own = Arc::new(ManualClock::at(at(0)));
        let clock = WorkersClock::new(own.clone());
        assert!(!clock.is_known());
        assert_eq!(clock.now(), at(0));
        let hear = |ahead: u64| {
            clock.hear(Clocks {
                asked: clock.now(),
                answered: at(ahead),
                leeway: LEEWAY,
            });
        };
        hear(120_000);
        assert!(clock.is_known());
        assert_eq!((clock.now(), clock.own_now()), (at(120_001), at(0)));
        assert_eq!(clock.to_own(clock.of_own(at(7))), at(7));
        // The own clock is set right, and nothing says so before the next answer.
        own.advance(Duration::from_secs(120));
        assert!(!clock.is_known());
        hear(120_000);
        assert!(clock.is_known());
        assert_eq!(clock.now(), at(120_000));
    }
}
