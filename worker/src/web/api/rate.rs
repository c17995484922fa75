//! How often each of those who ask may: so many a second, and a second's worth at once.
//!
//! Pure: the time is an argument. Of each it is known when all that it has asked would have been due, had it asked evenly
//! (the generic cell rate algorithm, ITU-T I.371).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many may be known at a time. Those who could ask a second's worth again are forgotten.
const MOST_KNOWN: usize = 10_000;

/// What may be asked at once.
const BURST: Duration = Duration::from_secs(1);

/// Who has asked how much.
pub(super) struct Rate {
    interval: Duration,
    due: Mutex<HashMap<String, Instant>>,
}

impl Rate {
    /// So many a second.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            interval: BURST / per_second.max(1),
            due: Mutex::default(),
        }
    }

    /// Counts one more of theirs.
    ///
    /// # Errors
    /// How long they are to wait, if that is too many.
    pub(super) fn take(&self, whose: &str, now: Instant) -> Result<(), Duration> {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = all.get(whose).map_or(now, |due| now.max(*due));
        let ahead = due.duration_since(now) + self.interval;
        if let Some(wait) = ahead.checked_sub(BURST).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if all.len() >= MOST_KNOWN && !all.contains_key(whose) {
            all.retain(|_, due| *due > now);
            if all.len() >= MOST_KNOWN {
                return Err(BURST);
            }
        }
        all.insert(whose.to_owned(), due + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_comes_at_once_and_the_rest_evenly_for_each_of_them() {
        let (rate, start) = (Rate::new(4), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for _ in 0..4 {
            assert_eq!(rate.take("a", at(0)), Ok(()));
        }
        assert_eq!(rate.take("a", at(0)), Err(Duration::from_millis(250)));
        assert_eq!(rate.take("a", at(100)), Err(Duration::from_millis(150)));
        assert_eq!(rate.take("b", at(100)), Ok(()));
        assert_eq!(rate.take("a", at(250)), Ok(()));
        assert_eq!(rate.take("a", at(250)), Err(Duration::from_millis(250)));
        // What was not asked is not saved up.
        for _ in 0..4 {
            assert_eq!(rate.take("a", at(60_000)), Ok(()));
        }
        assert!(rate.take("a", at(60_000)).is_err());
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for() {
        let (rate, now) = (Rate::new(1), Instant::now());
        for one in 0..MOST_KNOWN {
            assert_eq!(rate.take(&one.to_string(), now), Ok(()));
        }
        assert!(rate.take("another", now).is_err());
        assert_eq!(rate.take("another", now + BURST), Ok(()));
        assert!(rate.due.lock().unwrap().len() < MOST_KNOWN);
    }
}
