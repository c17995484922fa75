//! When connections want to be looked at: one timer for all of them.
//!
//! A connection waits for the end of its grant, of a hold, of a grace. A timer of
//! its own for each would cost memory and a lock at every renewal. So there is one
//! ring of coarse buckets, and one task that empties them. A connection has one
//! entry in force: what it waits for first. If that moves away, the entry stays
//! where it is, and the connection is looked at once for nothing; if it comes
//! nearer, a second entry is made, and the first is void.
//!
//! Nothing is armed further ahead than [`HORIZON`]: a void entry is gone after that
//! at the latest, so their number is bounded by what happens within it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The width of a bucket. Notices may be so late; no write depends on it.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// How far ahead a connection is armed. Anyone who waits longer is looked at meanwhile: of 100,000 connections, some 1,700 a
/// second.
const HORIZON: u64 = 600;
/// More than the horizon, so that a bucket never holds entries of two turns.
const BUCKETS: usize = 1_024;

/// A bucket's number, counted from the wheel's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

/// The ring.
pub(crate) struct Wheel {
    origin: Instant,
    ring: Mutex<Ring>,
}

struct Ring {
    /// The first bucket that was not emptied.
    next: u64,
    /// Connections, by their numbers.
    buckets: Vec<Vec<u64>>,
}

impl Wheel {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            ring: Mutex::new(Ring {
                next: 0,
                buckets: vec![Vec::new(); BUCKETS],
            }),
        }
    }

    /// Has the connection of that number looked at as soon as `moment` has come, or at the horizon, unless it is `armed`
    /// for no later already. Tells for when it is armed now.
    pub(crate) fn arm(&self, connection: u64, moment: Instant, armed: Option<Tick>) -> Tick {
        let wanted = self.tick_at(moment);
        if let Some(armed) = armed
            && armed <= Tick(wanted)
        {
            return armed;
        }
        let mut ring = self.lock();
        let tick = wanted.clamp(ring.next, ring.next + HORIZON);
        match armed {
            Some(armed) if armed <= Tick(tick) => armed,
            _ => {
                ring.bucket(tick).push(connection);
                Tick(tick)
            }
        }
    }

    /// Takes out the connections whose moment has come, each with what it was armed for.
    pub(crate) fn due(&self, now: Instant) -> Vec<(Tick, u64)> {
        // What begins now has not passed.
        let passed = now.saturating_duration_since(self.origin).as_millis() / TICK.as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        let mut ring = self.lock();
        while ring.next <= passed {
            let tick = ring.next;
            let connections = std::mem::take(ring.bucket(tick));
            due.extend(connections.into_iter().map(|connection| (Tick(tick), connection)));
            ring.next += 1;
        }
        due
    }

    /// The first bucket that is emptied no earlier than `moment`.
    fn tick_at(&self, moment: Instant) -> u64 {
        let from_origin = moment.saturating_duration_since(self.origin).as_micros();
        u64::try_from(from_origin.div_ceil(TICK.as_micros())).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing under this lock panics half-way through a change.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn bucket(&mut self, tick: u64) -> &mut Vec<u64> {
        let place = tick as usize % BUCKETS;
        &mut self.buckets[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn connections(due: Vec<(Tick, u64)>) -> Vec<u64> {
        due.into_iter().map(|(_, connection)| connection).collect()
    }

    #[test]
    fn nobody_is_looked_at_before_the_moment_has_come() {
        let origin = Instant::now();
        let wheel = Wheel::new(origin);
        wheel.arm(1, origin + Duration::from_millis(101), None);
        assert!(wheel.due(origin + Duration::from_millis(199)).is_empty());
        assert_eq!(connections(wheel.due(origin + Duration::from_millis(200))), [1]);
        assert!(wheel.due(origin + Duration::from_secs(600)).is_empty());
    }

    #[test]
    fn whoever_waits_longer_makes_no_second_entry() {
        let origin = Instant::now();
        let wheel = Wheel::new(origin);
        let armed = wheel.arm(1, origin + Duration::from_secs(5), None);
        assert_eq!(wheel.arm(1, origin + Duration::from_secs(9), Some(armed)), armed);
        assert_eq!(connections(wheel.due(origin + Duration::from_secs(60))), [1]);
    }

    #[test]
    fn an_earlier_moment_makes_the_first_entry_void() {
        let origin = Instant::now();
        let wheel = Wheel::new(origin);
        let late = wheel.arm(1, origin + Duration::from_secs(5), None);
        let early = wheel.arm(1, origin + Duration::from_secs(1), Some(late));
        assert!(early < late);
        let due = wheel.due(origin + Duration::from_secs(60));
        assert_eq!(due, [(early, 1), (late, 1)]);
    }

    #[test]
    fn a_moment_beyond_the_horizon_or_in_the_past_is_brought_within_reach() {
        let origin = Instant::now();
        let wheel = Wheel::new(origin);
        wheel.arm(1, origin + Duration::from_secs(3_600), None);
        assert_eq!(connections(wheel.due(origin + Duration::from_secs(60))), [1]);
        wheel.arm(2, origin, None);
        assert!(wheel.due(origin + Duration::from_secs(60)).is_empty());
        assert_eq!(connections(wheel.due(origin + Duration::from_millis(60_100))), [2]);
    }

    proptest! {
        /// However the task that turns it is held up, each is looked at once, and none too early.
        #[test]
        fn each_is_looked_at_once_and_in_time(
            waits in proptest::collection::vec(0_u64..50_000, 1..100),
            steps in proptest::collection::vec(1_u64..5_000, 1..30),
        ) {
            let origin = Instant::now();
            let wheel = Wheel::new(origin);
            let at = |ms| origin + Duration::from_millis(ms);
            for (number, wait) in waits.iter().enumerate() {
                wheel.arm(number as u64, at(*wait), None);
            }
            let mut seen = BTreeMap::new();
            let mut now = 0;
            for step in steps.into_iter().chain([60_000]) {
                now += step;
                for connection in connections(wheel.due(at(now))) {
                    prop_assert!(seen.insert(connection, now).is_none());
                    prop_assert!(waits[usize::try_from(connection).unwrap()] <= now);
                }
            }
            prop_assert_eq!(seen.len(), waits.len());
        }
    }
}
