//! Connections that have ended lately, and what they were still to be told.
//!
//! An answer for a connection that is gone goes back to the workers, who hold it for
//! its identity's next. But workers answer at least once: what was written before
//! the connection ended may come again after, and must not be held as if it had
//! never been seen. So the open requests of a connection outlive it for a while.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::wire::envelope::Part;
use shared::wire::id::Sequence;
use tokio::time::Instant;

use crate::session::in_flight::{Acceptance, InFlight};

/// How long: an answer waits a minute at most in the return queue, and so may its repetition.
const REMEMBERED: Duration = Duration::from_secs(150);
/// The most that are remembered. One that had all in flight that it may have by default takes 8 KiB, most a hundred bytes.
const CAPACITY: usize = 4_096;

/// The connections of one terminator that have ended lately.
#[derive(Default)]
pub(crate) struct RecentlyClosed {
    open: HashMap<u64, InFlight>,
    /// In the order in which they ended.
    order: VecDeque<(Instant, u64)>,
}

impl RecentlyClosed {
    /// The connection of that number has ended with these requests open.
    pub(crate) fn remember(&mut self, connection: u64, in_flight: InFlight, now: Instant) {
        while let Some((since, oldest)) = self.order.front().copied()
            && (self.order.len() >= CAPACITY || now.saturating_duration_since(since) >= REMEMBERED)
        {
            self.open.remove(&oldest);
            self.order.pop_front();
        }
        self.open.insert(connection, in_flight);
        self.order.push_back((now, connection));
    }

    /// Whether an answer has come before. Of a connection that no one remembers, none has.
    pub(crate) fn is_duplicate(&mut self, connection: u64, sequence: Sequence, part: Part, second: bool) -> bool {
        self.open
            .get_mut(&connection)
            .is_some_and(|in_flight| in_flight.answer(sequence, part, second) == Acceptance::Duplicate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::in_flight::Kind;

    fn asked() -> (InFlight, Sequence, Sequence) {
        let mut in_flight = InFlight::new(8);
        let answered = in_flight.forward(Kind::Message { proves: false });
        let open = in_flight.forward(Kind::Message { proves: false });
        in_flight.answer(answered, Part::ONLY, false);
        (in_flight, answered, open)
    }

    #[test]
    fn what_was_answered_before_the_end_or_since_is_a_duplicate() {
        let mut departed = RecentlyClosed::default();
        let (in_flight, answered, open) = asked();
        departed.remember(1, in_flight, Instant::now());
        assert!(departed.is_duplicate(1, answered, Part::ONLY, false));
        assert!(!departed.is_duplicate(1, open, Part::ONLY, false));
        assert!(departed.is_duplicate(1, open, Part::ONLY, false));
        assert!(!departed.is_duplicate(2, answered, Part::ONLY, false));
    }

    #[test]
    fn only_so_many_are_remembered_and_only_so_long() {
        let mut departed = RecentlyClosed::default();
        let now = Instant::now();
        for connection in 0..=CAPACITY as u64 {
            departed.remember(connection, asked().0, now);
        }
        assert_eq!((departed.open.len(), departed.order.len()), (CAPACITY, CAPACITY));
        assert!(!departed.open.contains_key(&0));
        departed.remember(9_999, asked().0, now + REMEMBERED);
        assert_eq!(departed.open.len(), 1);
    }
}
