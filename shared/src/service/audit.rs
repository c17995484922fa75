//! The audit log: who was refused for what they may not do, and what was revoked.
//!
//! Its lines have a target of their own, [`TARGET`], so that a filter may send them elsewhere (`info,countersign::audit=off`, or
//! `off,countersign::audit=info`). None has a token or a payload. Anyone who is refused chooses how often that is, so of each
//! kind only so many are written in a second; the next line tells how many were not (`unwritten`). Source: OWASP ASVS 4.0,
//! V7.1 and V7.2.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The target of its lines.
pub const TARGET: &str = "countersign::audit";

/// How many lines of one kind are written in a second.
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Decides which lines are written.
#[derive(Debug, Default)]
pub struct Audit(Mutex<HashMap<&'static str, Kind>>);

#[derive(Debug)]
struct Kind {
    since: Instant,
    written: u32,
    unwritten: u64,
}

impl Audit {
    /// Whether a line of this kind is to be written at that moment; and then, how many were not since the last.
    pub fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert(Kind {
            since: now,
            written: 0,
            unwritten: 0,
        });
        if now.saturating_duration_since(kind.since) >= PERIOD {
            (kind.since, kind.written) = (now, 0);
        }
        if kind.written >= MOST {
            kind.unwritten += 1;
            return None;
        }
        kind.written += 1;
        Some(std::mem::take(&mut kind.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_so_many_are_written_in_a_second_and_the_rest_is_counted() {
        let (audit, now) = (Audit::default(), Instant::now());
        let admitted = (0..100).filter(|_| audit.admit("a", now).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(audit.admit("b", now), Some(0), "another kind");
        assert_eq!(audit.admit("a", now + Duration::from_millis(999)), None);
        assert_eq!(audit.admit("a", now + PERIOD), Some(91));
        assert_eq!(audit.admit("a", now + PERIOD), Some(0));
    }
}
