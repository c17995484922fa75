//! How much a consumer of a queue that others read too is given ahead: pure.
//!
//! What is delivered to one worker is lost to all others until it is handled. So a worker that has slow messages is given few
//! more than it handles at a time, and one that has quick ones as many as it handles in a moment. The broker counts AMQP
//! messages, and each may be a batch; what is meant is what is in them.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked at.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// For how long a worker has work, when nothing more comes.
const AHEAD: Duration = Duration::from_millis(500);
/// Before anything is known it is given this part of what it handles at a time, since each message may be many.
const CAUTION: u16 = 16;
/// A change by less is not worth the trouble.
const WORTH: f64 = 1.5;
/// How much a look counts against all before it.
const WEIGHT: f64 = 0.3;

/// The pace of one consumer.
pub(super) struct Pace {
    /// How many messages are handled at a time.
    least: u16,
    /// How many it may have at the most.
    most: u16,
    /// The prefetch in force, in AMQP messages.
    current: u16,
    /// How many AMQP messages are not settled.
    unsettled: usize,
    /// Whether it was given all that it may have since the last look.
    was_full: bool,
    /// AMQP messages and what was in them, of late.
    carriers: f64,
    carried: f64,
    /// What was settled since the last look.
    settled: f64,
    /// Messages a second, of late.
    rate: f64,
    looked: Instant,
}

impl Pace {
    pub(super) fn new(least: u16, most: u16, now: Instant) -> Self {
        let least = least.min(most);
        Self {
            least,
            most,
            current: (least / CAUTION).max(1),
            unsettled: 0,
            was_full: false,
            carriers: 0.0,
            carried: 0.0,
            settled: 0.0,
            rate: 0.0,
            looked: now,
        }
    }

    /// The prefetch in force.
    pub(super) const fn prefetch(&self) -> u16 {
        self.current
    }

    /// An AMQP message with so many messages came.
    pub(super) fn delivered(&mut self, messages: usize) {
        self.unsettled += 1;
        self.was_full |= self.unsettled >= usize::from(self.current);
        self.carriers += 1.0;
        self.carried += messages as f64;
    }

    /// So many AMQP messages are settled.
    pub(super) fn settled(&mut self, carriers: usize) {
        self.unsettled = self.unsettled.saturating_sub(carriers);
        self.settled += carriers as f64 * self.mean();
    }

    /// The prefetch from now on, if it is another.
    pub(super) fn look(&mut self, now: Instant) -> Option<u16> {
        let seconds = now.saturating_duration_since(self.looked).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        self.looked = now;
        self.rate += WEIGHT * (self.settled / seconds - self.rate);
        self.settled = 0.0;
        let wanted = f64::from(self.least) + self.rate * AHEAD.as_secs_f64();
        let wanted = (wanted.min(f64::from(self.most)) / self.mean()).ceil().max(1.0);
        // What is long ago says little of what comes.
        self.carriers *= 1.0 - WEIGHT;
        self.carried *= 1.0 - WEIGHT;
        let was_full = std::mem::replace(&mut self.was_full, self.unsettled >= usize::from(self.current));
        let current = f64::from(self.current);
        let changes = if wanted > current {
            was_full && wanted >= (current * WORTH).min(current + f64::from(self.least))
        } else {
            wanted * WORTH <= current
        };
        changes.then(|| {
            // It is at most `most`, which is 16 bits wide.
            self.current = wanted as u16;
            self.current
        })
    }

    /// How many messages are in one of AMQP's, of late.
    fn mean(&self) -> f64 {
        if self.carriers < 1e-6 {
            1.0
        } else {
            (self.carried / self.carriers).max(1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that handles `at_a_time` messages, each for `takes`, before a queue that is never empty, whose AMQP messages
    /// are of `messages` each. What it has at the end.
    fn run(least: u16, most: u16, at_a_time: usize, takes: Duration, messages: usize) -> (Pace, f64) {
        let start = Instant::now();
        let mut pace = Pace::new(least, most, start);
        let (mut waiting, mut credit) = (0, 0.0);
        for tick in 1..400_u32 {
            while pace.unsettled < usize::from(pace.prefetch()) {
                pace.delivered(messages);
                waiting += messages;
            }
            let per_tick = at_a_time as f64 * LOOK_PERIOD.as_secs_f64() / takes.as_secs_f64();
            credit += per_tick.min(waiting as f64);
            while credit >= messages as f64 {
                pace.settled(1);
                waiting -= messages;
                credit -= messages as f64;
            }
            pace.look(start + LOOK_PERIOD * tick);
        }
        let has = pace.unsettled as f64 * messages as f64;
        (pace, has)
    }

    #[test]
    fn slow_messages_wait_in_the_queue_where_others_find_them() {
        for messages in [1, 8, 64] {
            let (_, has) = run(8, 512, 8, Duration::from_secs(5), messages);
            // What it handles, and one AMQP message that it cannot yet.
            assert!(has <= 2.0 * 8.0 + messages as f64, "{messages}: {has}");
        }
    }

    #[test]
    fn quick_messages_come_as_many_at_a_time_as_they_may() {
        for messages in [1, 8, 64] {
            let (pace, has) = run(256, 512, 256, Duration::from_millis(1), messages);
            assert!(has >= 512.0 / WORTH, "{messages}: {has}");
            assert!(usize::from(pace.prefetch()) <= 512_usize.div_ceil(messages));
        }
    }

    #[test]
    fn an_idle_consumer_changes_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(256, 512, start);
        for tick in 1..100 {
            assert_eq!(pace.look(start + LOOK_PERIOD * tick), None);
        }
    }
}
