//! What one publisher has sent, on its way to the broker and until its confirm is back.

use std::collections::VecDeque;
use std::time::Duration;

use shared::bus::batch::Packer;
use shared::bus::suspicion::{Loss, Suspicion, UnderWay};
use shared::bus::{Publication, PublishError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{DEADLY, Wire, due};

/// As many as the real publisher has in flight.
const MOST_IN_FLIGHT: usize = 1_000;
/// As many AMQP messages, at the most, of one that packs: the fewer, the more gathers meanwhile.
const MOST_PACKED_IN_FLIGHT: u64 = 3;
/// As many are packed at once, at the most.
const MOST_AT_ONCE: u64 = 64;

pub(super) struct Relay {
    wire: Wire,
    next_id: u64,
    leaving: VecDeque<Leaving>,
    arrived: Vec<Arrived>,
    /// What leaves one by one, when what left before it is confirmed.
    waiting: VecDeque<Entry>,
    suspicion: Suspicion,
    packer: Packer,
    most_in_flight: usize,
}

struct Entry {
    id: u64,
    publication: Publication,
    /// How often its connection was lost while nothing else was under way.
    blamed: u32,
}

struct Leaving {
    arrives: Instant,
    entry: Entry,
}

/// The broker has it, and its confirm is on its way. Confirms come in no order.
struct Arrived {
    confirmed: Instant,
    outcome: Result<(), PublishError>,
    entry: Entry,
}

impl Relay {
    pub(super) fn new(mut wire: Wire, packer: Packer) -> Self {
        let packed = packer.is_on().then(|| wire.rng.between(1, MOST_PACKED_IN_FLIGHT));
        Self {
            most_in_flight: packed.map_or(MOST_IN_FLIGHT, |most| usize::try_from(most).unwrap_or(1)),
            packer,
            wire,
            next_id: 0,
            leaving: VecDeque::new(),
            arrived: Vec::new(),
            waiting: VecDeque::new(),
            suspicion: Suspicion::default(),
        }
    }

    /// Runs until the process dies, or the publisher is dropped and all it sent is confirmed.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Publication>) {
        let gone = self.wire.gone.clone();
        let mut open = true;
        let mut burst = Vec::new();
        while open || self.in_flight() > 0 {
            let due = self.due();
            let places = match self.packer.is_on() {
                true => usize::try_from(self.wire.rng.between(1, MOST_AT_ONCE)).unwrap_or(1),
                false => 1,
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => return self.die(),
                // The weather is no one's fault, however often it comes.
                Some(away) = self.wire.lost.recv() => self.lose(away, Loss::Silence),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.act(),
                count = queue.recv_many(&mut burst, places), if open && self.takes_more() => {
                    open = count > 0;
                    let mut leaving = Vec::new();
                    self.packer.pack(&mut burst, |publication| leaving.push(publication));
                    leaving.into_iter().for_each(|publication| self.send(publication));
                }
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.leaving.len() + self.arrived.len() + self.waiting.len()
    }

    fn takes_more(&self) -> bool {
        self.in_flight() < self.most_in_flight && !self.suspicion.one_by_one()
    }

    fn due(&self) -> Option<Instant> {
        let arrives = self.leaving.front().map(|leaving| leaving.arrives);
        let confirmed = self.arrived.iter().map(|arrived| arrived.confirmed).min();
        arrives.into_iter().chain(confirmed).min()
    }

    fn send(&mut self, publication: Publication) {
        let entry = Entry {
            id: self.next_id,
            publication,
            blamed: 0,
        };
        self.next_id += 1;
        self.leave(entry, Instant::now());
    }

    /// It arrives some time after `from`, and after what left before it.
    fn leave(&mut self, entry: Entry, from: Instant) {
        let last = self.leaving.back().map(|leaving| leaving.arrives);
        let arrives = self.wire.arrival(last).max(from);
        self.leaving.push_back(Leaving { arrives, entry });
    }

    /// Whatever is due by now.
    fn act(&mut self) {
        let now = Instant::now();
        while let Some(leaving) = due(&mut self.leaving, |leaving| leaving.arrives <= now) {
            if is_deadly(&leaving.entry.publication) {
                self.leaving.push_front(leaving);
                return self.lose(Duration::ZERO, Loss::Protocol);
            }
            let outcome = self.publish(&leaving.entry.publication, now);
            let confirmed = self.wire.arrival(None);
            self.arrived.push(Arrived {
                confirmed,
                outcome,
                entry: leaving.entry,
            });
        }
        let (confirmed, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.arrived)
            .into_iter()
            .partition(|arrived| arrived.confirmed <= now);
        self.arrived = waiting;
        for Arrived { outcome, entry, .. } in confirmed {
            self.suspicion.confirmed();
            entry.publication.settle(outcome);
            self.leave_next(now);
        }
    }

    /// The next of those that leave one by one.
    fn leave_next(&mut self, from: Instant) {
        match self.waiting.pop_front() {
            Some(entry) => self.leave(entry, from),
            None => self.suspicion.is_over(),
        }
    }

    fn publish(&self, publication: &Publication, now: Instant) -> Result<(), PublishError> {
        let Publication { route, message, .. } = publication;
        self.wire.bus.broker().publish(route, message.clone(), now)
    }

    /// All that is not confirmed goes again through the next connection, in its order; one by one, if it may be that which
    /// costs the connection.
    fn lose(&mut self, away: Duration, loss: Loss) {
        let arrived = std::mem::take(&mut self.arrived)
            .into_iter()
            .map(|arrived| arrived.entry);
        let leaving = std::mem::take(&mut self.leaving)
            .into_iter()
            .map(|leaving| leaving.entry);
        let mut again: VecDeque<_> = arrived.chain(leaving).collect();
        // Confirms come in no order, and what is published again does.
        again.make_contiguous().sort_by_key(|entry| entry.id);
        let under_way = match again.len() {
            0 => UnderWay::Nothing,
            1 => UnderWay::One(again[0].id),
            _ => UnderWay::Several,
        };
        let blame = self.suspicion.lost(under_way, loss);
        if let Some(blame) = blame
            && let Some(entry) = again.front_mut()
        {
            entry.blamed += 1;
            if entry.blamed >= blame.most
                && let Some(entry) = again.pop_front()
            {
                entry.publication.settle(Err(PublishError::Malformed));
            }
        }
        let from = Instant::now() + away;
        again.append(&mut self.waiting);
        if self.suspicion.one_by_one() {
            again = again.into_iter().flat_map(|entry| self.take_apart(entry)).collect();
            for entry in &mut again {
                entry.id = self.next_id;
                self.next_id += 1;
            }
        }
        if self.suspicion.one_by_one() {
            self.waiting = again;
            self.leave_next(from);
        } else {
            for entry in again {
                self.leave(entry, from);
            }
        }
    }

    /// What was packed, each by itself.
    fn take_apart(&self, entry: Entry) -> Vec<Entry> {
        if !entry.publication.message.is_batch() {
            return vec![entry];
        }
        let alone = |publication| Entry {
            id: 0,
            publication,
            blamed: 0,
        };
        let apart = self.packer.take_apart(entry.publication);
        apart.into_iter().map(alone).collect()
    }

    /// Some of what was on its way arrives nevertheless.
    fn die(mut self) {
        let now = Instant::now();
        let most = self.leaving.len() as u64;
        let arriving = self.wire.rng.between(0, most);
        for leaving in self.leaving.iter().take(usize::try_from(arriving).unwrap_or(0)) {
            if is_deadly(&leaving.entry.publication) {
                return;
            }
            let _ = self.publish(&leaving.entry.publication, now);
        }
    }
}

/// Whether the broker closes the connection that brings it that.
fn is_deadly(publication: &Publication) -> bool {
    let (body, deadly) = (&publication.message.body, DEADLY.as_bytes());
    body.windows(deadly.len()).any(|part| part == deadly)
}
