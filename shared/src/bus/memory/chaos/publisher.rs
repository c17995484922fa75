//! What one publisher has sent, on its way to the broker and until its confirm is back.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Wire, due};
use crate::bus::{Publication, PublishError};

/// As many as the real publisher has in flight.
const MOST_IN_FLIGHT: usize = 1_000;

pub(super) struct Relay {
    wire: Wire,
    leaving: VecDeque<Leaving>,
    arrived: Vec<Arrived>,
}

struct Leaving {
    arrives: Instant,
    publication: Publication,
}

/// The broker has it, and its confirm is on its way. Confirms come in no order.
struct Arrived {
    confirmed: Instant,
    outcome: Result<(), PublishError>,
    publication: Publication,
}

impl Relay {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            leaving: VecDeque::new(),
            arrived: Vec::new(),
        }
    }

    /// Runs until the process dies, or the publisher is dropped and all it sent is confirmed.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Publication>) {
        let gone = self.wire.gone.clone();
        let mut open = true;
        while open || self.in_flight() > 0 {
            let due = self.due();
            tokio::select! {
                biased;
                () = gone.cancelled() => return self.die(),
                Some(away) = self.wire.lost.recv() => self.lose(away),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.act(),
                publication = queue.recv(), if open && self.in_flight() < MOST_IN_FLIGHT => match publication {
                    Some(publication) => self.send(publication),
                    None => open = false,
                },
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.leaving.len() + self.arrived.len()
    }

    fn due(&self) -> Option<Instant> {
        let arrives = self.leaving.front().map(|leaving| leaving.arrives);
        let confirmed = self.arrived.iter().map(|arrived| arrived.confirmed).min();
        arrives.into_iter().chain(confirmed).min()
    }

    fn send(&mut self, publication: Publication) {
        let last = self.leaving.back().map(|leaving| leaving.arrives);
        let arrives = self.wire.arrival(last);
        self.leaving.push_back(Leaving { arrives, publication });
    }

    /// Whatever is due by now.
    fn act(&mut self) {
        let now = Instant::now();
        while let Some(leaving) = due(&mut self.leaving, |leaving| leaving.arrives <= now) {
            let outcome = self.publish(&leaving.publication, now);
            let confirmed = self.wire.arrival(None);
            self.arrived.push(Arrived {
                confirmed,
                outcome,
                publication: leaving.publication,
            });
        }
        let (confirmed, waiting) = std::mem::take(&mut self.arrived)
            .into_iter()
            .partition(|arrived| arrived.confirmed <= now);
        self.arrived = waiting;
        let confirmed: Vec<_> = confirmed;
        for Arrived {
            outcome, publication, ..
        } in confirmed
        {
            publication.settle(outcome);
        }
    }

    fn publish(&self, publication: &Publication, now: Instant) -> Result<(), PublishError> {
        let Publication { route, message, .. } = publication;
        self.wire.broker.lock().publish(route, message.clone(), now)
    }

    /// All that is not confirmed goes again through the next connection, in its order.
    fn lose(&mut self, away: Duration) {
        let again = std::mem::take(&mut self.arrived)
            .into_iter()
            .map(|arrived| arrived.publication);
        let leaving = std::mem::take(&mut self.leaving)
            .into_iter()
            .map(|leaving| leaving.publication);
        let mut arrives = Instant::now() + away;
        for publication in again.chain(leaving).collect::<Vec<_>>() {
            arrives = arrives.max(self.wire.arrival(None));
            self.leaving.push_back(Leaving { arrives, publication });
        }
    }

    /// Some of what was on its way arrives nevertheless.
    fn die(mut self) {
        let now = Instant::now();
        let most = self.leaving.len() as u64;
        let arriving = self.wire.dice.between(0, most);
        for leaving in self.leaving.iter().take(usize::try_from(arriving).unwrap_or(0)) {
            let _ = self.publish(&leaving.publication, now);
        }
    }
}
