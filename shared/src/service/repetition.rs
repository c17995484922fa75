//! What happens again and again is told once a minute, with how often it happened meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From one line to the next of its kind.
const PERIOD: Duration = Duration::from_secs(60);

/// So many kinds are told apart; others are told as if they were new.
const MOST_KINDS: usize = 256;

/// Decides which lines are written, by their kind.
#[derive(Debug, Default)]
pub struct Repetitions(Mutex<HashMap<String, Kind>>);

#[derive(Debug)]
struct Kind {
    written: Instant,
    unwritten: u64,
}

impl Repetitions {
    /// Whether this one is to be told; and then, how many of its kind were not since the last.
    pub fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kinds.get_mut(kind) {
            if now.saturating_duration_since(known.written) < PERIOD {
                known.unwritten += 1;
                return None;
            }
            known.written = now;
            return Some(std::mem::take(&mut known.unwritten));
        }
        if kinds.len() >= MOST_KINDS {
            kinds.clear();
        }
        let (written, unwritten) = (now, 0);
        kinds.insert(kind.to_owned(), Kind { written, unwritten });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_one_is_told_in_a_minute_and_the_rest_is_counted() {
        let (repetitions, now) = (Repetitions::default(), Instant::now());
        assert_eq!(repetitions.admit("a", now), Some(0));
        for _ in 0..5 {
            assert_eq!(repetitions.admit("a", now + PERIOD / 2), None);
        }
        assert_eq!(repetitions.admit("b", now), Some(0), "another kind");
        assert_eq!(repetitions.admit("a", now + PERIOD), Some(5));
        assert_eq!(repetitions.admit("a", now + PERIOD), None);
    }

    #[test]
    fn kinds_without_end_take_no_memory_without_end() {
        let (repetitions, now) = (Repetitions::default(), Instant::now());
        for kind in 0..10 * MOST_KINDS {
            repetitions.admit(&kind.to_string(), now);
        }
        assert!(repetitions.0.lock().unwrap().len() <= MOST_KINDS);
    }
}
