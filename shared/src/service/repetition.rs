//! What happens again and again is told once a minute, with how often it happened meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From one line to the next of its kind.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// So many kinds are told apart; all beyond are one.
const MOST_KINDS: usize = 256;

/// Decides which lines are written, by their kind. Of each kind it keeps what is to be told of the last.
#[derive(Debug)]
pub struct Repetitions<T = ()>(Mutex<HashMap<String, Kind<T>>>);

#[derive(Debug)]
struct Kind<T> {
    written: Instant,
    unwritten: u64,
    last: T,
}

impl<T> Default for Repetitions<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl Repetitions {
    /// Whether this one is to be told; and then, how many of its kind were not since the last.
    pub fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        self.admit_as([kind, ""], (), now)
    }
}

impl<T: Clone> Repetitions<T> {
    /// The same. Where there are too many kinds, it is of the second one.
    pub(crate) fn admit_as(&self, [kind, other]: [&str; 2], last: T, now: Instant) -> Option<u64> {
        let mut kinds = self.lock();
        let is_told_apart = kinds.len() < MOST_KINDS || kinds.contains_key(kind);
        let kind = if is_told_apart { kind } else { other };
        let Some(known) = kinds.get_mut(kind) else {
            let (written, unwritten) = (now, 0);
            kinds.insert(
                kind.to_owned(),
                Kind {
                    written,
                    unwritten,
                    last,
                },
            );
            return Some(0);
        };
        known.last = last;
        if now.saturating_duration_since(known.written) < PERIOD {
            known.unwritten = known.unwritten.saturating_add(1);
            return None;
        }
        known.written = now;
        Some(std::mem::take(&mut known.unwritten))
    }

    /// What was not told for a minute: of each kind the last, and how many. Kinds of which there was nothing are forgotten.
    pub(crate) fn due(&self, now: Instant) -> Vec<(T, u64)> {
        let mut due = Vec::new();
        self.lock().retain(|_, kind| {
            if now.saturating_duration_since(kind.written) < PERIOD {
                return true;
            }
            if kind.unwritten == 0 {
                return false;
            }
            kind.written = now;
            due.push((kind.last.clone(), std::mem::take(&mut kind.unwritten)));
            true
        });
        due
    }

    /// How many kinds are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kind<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn kinds_without_end_take_no_memory_without_end_and_no_lines() {
        let (repetitions, now) = (Repetitions::default(), Instant::now());
        let told = (0..10 * MOST_KINDS).filter(|kind| repetitions.admit(&kind.to_string(), now).is_some());
        assert_eq!(told.count(), MOST_KINDS + 1);
        assert_eq!(repetitions.len(), MOST_KINDS + 1);
    }
}
