//! Which refusals of a queue are believed.
//!
//! A queue that is full refuses, and so does one that has no leader at the moment: RabbitMQ's channels refuse on behalf of a
//! quorum queue that they cannot reach yet. So a refusal on a channel through which the queue has not taken anything yet
//! is believed only when it has gone on for longer than an election takes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::Route;

/// How long a queue may be without a leader when its node is lost.
const ELECTION: Duration = Duration::from_secs(15);
/// How many routes are remembered: beyond it all refusals are believed.
const MOST_ROUTES: usize = 1_024;

#[derive(Default)]
pub(super) struct Refusals {
    /// What has been taken through the present channel.
    taken: HashSet<Route>,
    /// Since when a route refuses all.
    since: HashMap<Route, Instant>,
}

impl Refusals {
    /// There is a new channel.
    pub(super) fn reopened(&mut self) {
        self.taken.clear();
    }

    pub(super) fn took(&mut self, route: &Route) {
        if !self.since.is_empty() {
            self.since.remove(route);
        }
        if self.taken.len() < MOST_ROUTES && !self.taken.contains(route) {
            self.taken.insert(route.clone());
        }
    }

    /// Whether the queue behind the route is full, rather than without a leader.
    pub(super) fn believes(&mut self, route: &Route) -> bool {
        if self.taken.contains(route) || self.taken.len() >= MOST_ROUTES || self.since.len() >= MOST_ROUTES {
            return true;
        }
        let since = *self.since.entry(route.clone()).or_insert_with(Instant::now);
        since.elapsed() >= ELECTION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_has_taken_something_is_believed_at_once_and_any_other_after_an_election() {
        let mut refusals = Refusals::default();
        let (one, other) = (Route::queue("one"), Route::queue("other"));
        refusals.took(&one);
        assert!(refusals.believes(&one) && !refusals.believes(&other));
        refusals.reopened();
        assert!(!refusals.believes(&one), "it may have lost its leader");
        tokio::time::advance(ELECTION).await;
        assert!(refusals.believes(&one) && refusals.believes(&other));
        refusals.took(&one);
        refusals.reopened();
        assert!(!refusals.believes(&one) && refusals.believes(&other));
    }
}
