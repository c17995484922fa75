//! When key servers are asked.
//!
//! Once each time-to-live; sooner, but once in a cool-down, when a `kid` is unknown;
//! and while they fail, at waits that grow. So whatever clients send, a server gets
//! at most two requests in a cool-down from each worker, and one that is away gets
//! none because of them.

use std::time::Duration;

use shared::service::backoff::Backoff;
use tokio::time::Instant;

/// From one fetch because of an unknown `kid` to the next.
pub(in crate::token) const COOL_DOWN: Duration = Duration::from_secs(30);
/// Between two tries while a server fails: from 1 s, so that a restart of it goes unnoticed...
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// ... to 30 s, or to a time-to-live that is shorter.
const MOST_WAIT: Duration = Duration::from_secs(30);
/// By how much of the time-to-live a fetch may be early, so that the workers of a fleet do not ask all at once.
const JITTER: f64 = 0.1;

/// Pure: it is told the time.
#[derive(Debug)]
pub(in crate::token) struct Schedule {
    ttl: Duration,
    backoff: Backoff,
    state: State,
    /// Someone wants a key that is unknown.
    wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The last fetch went well.
    Fetched { next: Instant },
    /// As well, and it was asked for: no one is asked because of unknown keys for a while.
    Settled { until: Instant, next: Instant },
    /// The last fetch failed.
    Failing { next: Instant },
}

impl Schedule {
    /// The first fetch is due at once.
    pub(in crate::token) fn new(ttl: Duration, now: Instant) -> Self {
        Self {
            ttl,
            backoff: Backoff::new(LEAST_WAIT, ttl.clamp(LEAST_WAIT, MOST_WAIT)),
            state: State::Fetched { next: now },
            wanted: false,
        }
    }

    /// When something is to be done: see [`is_due`](Self::is_due) and [`tick`](Self::tick).
    pub(in crate::token) fn next(&self) -> Instant {
        match self.state {
            State::Fetched { next } | State::Failing { next } => next,
            State::Settled { until, next } => until.min(next),
        }
    }

    /// Whether it is time to fetch.
    pub(in crate::token) fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Fetched { next } => self.wanted || next <= now,
            State::Settled { next, .. } | State::Failing { next } => next <= now,
        }
    }

    /// When a key that is unknown is asked for; none if at once.
    pub(in crate::token) fn next_for_unknown(&self) -> Option<Instant> {
        match self.state {
            State::Fetched { .. } => None,
            State::Settled { .. } | State::Failing { .. } => Some(self.next()),
        }
    }

    #[cfg(test)]
    const fn is_settled(&self) -> bool {
        matches!(self.state, State::Settled { .. })
    }

    /// A key that is unknown is wanted, now or when the cool-down is over.
    pub(in crate::token) const fn want(&mut self) {
        self.wanted = true;
    }

    /// Time has passed. Says whether unknown keys are asked for again from now on.
    pub(in crate::token) fn tick(&mut self, now: Instant) -> bool {
        let State::Settled { until, next } = self.state else {
            return false;
        };
        let is_over = until <= now;
        if is_over {
            self.state = State::Fetched { next };
        }
        is_over
    }

    /// All servers were asked. `wanted` since the last time counts as asked for; `draw` is drawn from 0.0 to 1.0.
    pub(in crate::token) fn fetched(&mut self, all_well: bool, now: Instant, draw: f64) {
        if !all_well {
            let next = now + self.backoff.next_wait(draw);
            self.state = State::Failing { next };
            return;
        }
        self.backoff.reset();
        let next = now + self.ttl.mul_f64(1.0 - JITTER * draw.clamp(0.0, 1.0));
        let wanted = std::mem::take(&mut self.wanted);
        self.state = match self.state {
            // A regular fetch in between does not make it less settled, nor for longer.
            State::Settled { until, .. } => State::Settled { until, next },
            _ if wanted => State::Settled {
                until: now + COOL_DOWN,
                next,
            },
            _ => State::Fetched { next },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fetched_at(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(TTL, now);
        assert!(schedule.is_due(now));
        schedule.fetched(true, now, 0.0);
        schedule
    }

    #[test]
    fn a_server_is_asked_once_each_time_to_live_or_a_little_sooner() {
        let start = Instant::now();
        let mut schedule = fetched_at(start);
        assert_eq!(schedule.next(), start + TTL);
        assert!(!schedule.is_due(start + TTL - s(1)) && schedule.is_due(start + TTL));
        schedule.fetched(true, start, 1.0);
        assert_eq!(schedule.next(), start + s(270));
    }

    #[test]
    fn an_unknown_key_is_asked_for_once_in_a_cool_down() {
        let start = Instant::now();
        let mut schedule = fetched_at(start);
        assert!(!schedule.is_settled());
        schedule.want();
        assert!(schedule.is_due(start + s(1)));
        schedule.fetched(true, start + s(1), 0.0);
        assert!(schedule.is_settled());
        assert!(!schedule.tick(start + s(30)) && schedule.tick(start + s(31)));
        assert!(!schedule.is_settled() && !schedule.is_due(start + s(31)));
        schedule.want();
        assert!(schedule.is_due(start + s(31)));
    }

    #[test]
    fn what_is_unknown_in_a_cool_down_is_asked_for_at_its_end() {
        let start = Instant::now();
        let mut schedule = fetched_at(start);
        assert_eq!(schedule.next_for_unknown(), None);
        schedule.want();
        schedule.fetched(true, start, 0.0);
        schedule.want();
        assert!(!schedule.is_due(start + s(29)));
        assert_eq!(schedule.next_for_unknown(), Some(start + COOL_DOWN));
        assert!(schedule.tick(start + COOL_DOWN) && schedule.is_due(start + COOL_DOWN));
        schedule.fetched(true, start + COOL_DOWN, 0.0);
        assert_eq!(schedule.next_for_unknown(), Some(start + COOL_DOWN * 2));
    }

    #[test]
    fn a_server_that_fails_is_asked_at_growing_waits_whatever_is_wanted() {
        let start = Instant::now();
        let mut schedule = fetched_at(start);
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            schedule.fetched(false, start, 1.0);
            schedule.want();
            assert!(!schedule.is_due(start + s(wait) - s(1) / 2));
            assert!(schedule.is_due(start + s(wait)) && !schedule.is_settled());
        }
        // What was wanted in the meantime is found out by the fetch that succeeds.
        schedule.fetched(true, start, 1.0);
        assert!(schedule.is_settled());
        schedule.fetched(false, start, 1.0);
        assert!(!schedule.is_settled() && schedule.is_due(start + s(1)));
    }

    #[test]
    fn a_regular_fetch_does_not_prolong_a_cool_down() {
        let start = Instant::now();
        let mut schedule = fetched_at(start);
        schedule.want();
        schedule.fetched(true, start, 0.0);
        schedule.want();
        schedule.fetched(true, start + s(29), 0.0);
        assert!(schedule.tick(start + s(30)) && !schedule.is_settled());
    }
}
