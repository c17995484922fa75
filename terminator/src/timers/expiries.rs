//! When the grants of this terminator's connections end: how many, and how soon.
//!
//! Tokens that were issued together end together, and then many clients ask for
//! fresh ones at once: of the issuer, of its key server, of the workers. Anyone who
//! sees that an hour or a minute before can make room. So the ends are counted by
//! the second, when a connection is granted anew or ends, and not for each message;
//! to foresee is to add up a part of them, some thousands at the most.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far ahead is looked, in seconds: each is a gauge of its own, and counts what the shorter ones count too.
pub(crate) const WITHIN_S: [u64; 5] = [10, 60, 5 * 60, 15 * 60, 60 * 60];

/// How often the gauges are set.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// The ends of all grants.
pub(crate) struct Expiries {
    origin: Instant,
    /// How many end in each second, counted from the origin. No more than there are connections. Two changes of one
    /// connection may come here in the other order, and then one second has less than none for a moment.
    ends: Mutex<BTreeMap<u64, i64>>,
}

impl Expiries {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            ends: Mutex::default(),
        }
    }

    /// A connection's grant ends at another time than before; nothing stands for no grant.
    pub(crate) fn moved(&self, before: Option<Instant>, after: Option<Instant>) {
        let (before, after) = (before.map(|end| self.second(end)), after.map(|end| self.second(end)));
        if before == after {
            return;
        }
        let mut ends = self.lock();
        for (second, change) in [(before, -1), (after, 1)] {
            let Some(second) = second else { continue };
            let count = ends.entry(second).or_default();
            *count += change;
            if *count == 0 {
                ends.remove(&second);
            }
        }
    }

    /// How many end within each of [`WITHIN_S`] from now. What has ended is not among them.
    pub(crate) fn within(&self, now: Instant) -> [u64; WITHIN_S.len()] {
        let now = now.saturating_duration_since(self.origin).as_secs();
        let ends = self.lock();
        let mut counts = [0; WITHIN_S.len()];
        let mut from = now;
        let mut sum = 0_i64;
        for (count, within) in counts.iter_mut().zip(WITHIN_S) {
            let to = now.saturating_add(within);
            sum += ends.range(from + 1..=to).map(|(_, count)| count).sum::<i64>();
            (*count, from) = (u64::try_from(sum).unwrap_or_default(), to);
        }
        counts
    }

    /// The second in which something has ended.
    fn second(&self, end: Instant) -> u64 {
        let since = end.saturating_duration_since(self.origin);
        since.as_secs() + u64::from(since.subsec_nanos() > 0)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, i64>> {
        // Nothing under this lock panics half-way through a change.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_end_is_counted_by_all_that_look_so_far_ahead() {
        let now = Instant::now();
        let expiries = Expiries::new(now);
        for seconds in [0, 5, 10, 11, 61, 299, 3_600, 3_601] {
            expiries.moved(None, Some(now + Duration::from_secs(seconds)));
        }
        assert_eq!(expiries.within(now), [2, 3, 5, 5, 6]);
        assert_eq!(expiries.within(now + Duration::from_secs(61)), [0, 0, 1, 1, 3]);
        assert_eq!(expiries.within(now + Duration::from_secs(9_999)), [0; 5]);
    }

    #[test]
    fn a_grant_that_is_renewed_is_counted_where_it_ends_now_and_one_that_is_over_nowhere() {
        let now = Instant::now();
        let expiries = Expiries::new(now);
        let (soon, late) = (now + Duration::from_millis(4_500), now + Duration::from_secs(600));
        expiries.moved(None, Some(soon));
        expiries.moved(None, Some(soon));
        expiries.moved(Some(soon), Some(late));
        assert_eq!(expiries.within(now), [1, 1, 1, 2, 2]);
        expiries.moved(Some(soon), None);
        expiries.moved(Some(late), None);
        assert_eq!(expiries.within(now), [0; 5]);
        assert!(expiries.lock().is_empty(), "nothing is left of nobody");
    }

    #[test]
    fn two_changes_of_one_grant_may_come_in_either_order() {
        let now = Instant::now();
        let expiries = Expiries::new(now);
        let [first, second, third] = [5, 50, 500].map(|seconds| Some(now + Duration::from_secs(seconds)));
        expiries.moved(None, first);
        expiries.moved(second, third);
        expiries.moved(first, second);
        assert_eq!(expiries.within(now), [0, 0, 0, 1, 1]);
        assert_eq!(expiries.lock().len(), 1);
    }

    /// What foreseeing costs when 100,000 connections end at as many times.
    #[test]
    fn to_foresee_costs_no_more_than_a_millisecond_or_two() {
        let now = Instant::now();
        let expiries = Expiries::new(now);
        for number in 0..100_000_u64 {
            expiries.moved(None, Some(now + Duration::from_secs(number)));
        }
        let started = std::time::Instant::now();
        for _ in 0..100 {
            assert_eq!(expiries.within(now)[4], 3_600);
        }
        let each = started.elapsed() / 100;
        assert!(each < Duration::from_millis(2), "{each:?}");
    }

    proptest! {
        #[test]
        fn it_is_as_if_each_were_looked_at(
            ends in proptest::collection::vec(0_u64..5_000, 0..50),
            at in 0_u64..5_000,
        ) {
            let origin = Instant::now();
            let expiries = Expiries::new(origin);
            for end in &ends {
                expiries.moved(None, Some(origin + Duration::from_secs(*end)));
            }
            let expected = WITHIN_S.map(|within| ends.iter().filter(|end| **end > at && **end <= at + within).count() as u64);
            prop_assert_eq!(expiries.within(origin + Duration::from_secs(at)), expected);
        }
    }
}
