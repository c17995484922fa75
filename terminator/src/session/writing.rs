//! What is written to a connection, and what goes back to the workers instead.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::wire::envelope::{Bounced, Fetch};
use shared::wire::grant::Policy;
use shared::wire::protocol::{CloseCode, Reason};
use tokio::time::Instant;

use super::guard::{Guard, guard};
use super::notices::refuse::{refusal, unauthenticated};
use super::outbound::{Fetched, WriteDecision};
use super::{BeingWritten, Life, SentBack, Session};
use crate::broker::undelivered::Back;
use crate::connection::close_reason::CloseReason;
use crate::connection::outgoing::{Batch, Entry, Outgoing};
use crate::events::Happening;

/// What is left of a connection that has ended.
pub(crate) struct Dismissed {
    /// What it may still be told.
    pub(crate) texts: Vec<Bytes>,
    /// What goes back to the workers, in this order.
    pub(crate) back: Vec<Back>,
}

impl Session {
    /// What is to be done for the socket now. What is on behalf of an identity passes the guard here, right before it
    /// is written.
    pub(crate) fn take(&mut self, now: Instant) -> Batch {
        let mut batch = Batch::default();
        // What was taken before is written.
        self.writing = None;
        if let Life::CloseReason(ending) = self.life {
            batch.ending = Some(ending);
            return batch;
        }
        let mut queue = self.outgoing.take();
        if !self.outbound.is_free() {
            let fetched = self.outbound.check(self.may_fetch(now), now);
            self.follow(fetched, &mut queue, &mut batch, now);
        }
        while let Some(entry) = queue.pop_front() {
            match entry {
                Entry::Text(outgoing) => self.route(outgoing, &mut batch, now),
                // What an earlier fetch came to, before a log-out or too late, ends none that is under way.
                Entry::Fetched { fetch, .. } if fetch != 0 && !self.outbound.is_fetch(fetch) => {}
                Entry::Fetched { left, .. } => {
                    let fetched = self.outbound.fetched(left, self.may_fetch(now), now);
                    self.follow(fetched, &mut queue, &mut batch, now);
                }
            }
        }
        self.begin_fetch(&mut batch, now);
        if batch.writes.is_empty() && self.outgoing.is_empty() {
            batch.ending = self.settled(now);
        }
        self.writing = batch.load().map(|load| BeingWritten::new(load, now));
        batch
    }

    /// It has ended: what was to be written is given back, for that reason, and nothing is accepted any more.
    pub(crate) fn dismiss(&mut self, ending: CloseReason, now: Instant) -> Dismissed {
        if self
            .auth_state
            .authentication()
            .is_some_and(|authentication| authentication.is_revoked(now))
        {
            self.tells(Happening::Revoked);
        }
        self.tells(Happening::Closed(ending));
        self.life = Life::Gone;
        self.held = crate::session::held::Held::default();
        let mut waiting = VecDeque::from(self.take_unacknowledged());
        let mut rest = VecDeque::new();
        let mut texts = Vec::new();
        let behind = self.outbound.forget();
        for entry in self.outgoing.take() {
            let Entry::Text(outgoing) = entry else { continue };
            match (outgoing.identity, outgoing.delivery) {
                (Some(_), Some(delivery)) if outgoing.ahead => waiting.push_back(delivery),
                (Some(_), Some(delivery)) => rest.push_back(delivery),
                (_, delivery) => {
                    texts.push(outgoing.text);
                    // There is no one else who should see it.
                    if let Some(delivery) = delivery {
                        self.acknowledge_delivery(delivery);
                    }
                }
            }
        }
        waiting.extend(behind.into_iter().filter_map(|outgoing| outgoing.delivery));
        waiting.extend(rest);
        self.again_bytes = 0;
        for SentBack { body, .. } in std::mem::take(&mut self.again).into_values() {
            texts.push(if ending.is_for_authentication() {
                unauthenticated(&body)
            } else {
                refusal(&body, shared::bus::PublishError::Ended)
            });
        }
        let why = ending.bounced();
        Dismissed {
            texts,
            back: waiting
                .into_iter()
                .map(|delivery| Back::Undelivered(delivery, why))
                .collect(),
        }
    }

    fn route(&mut self, outgoing: Outgoing, batch: &mut Batch, now: Instant) {
        let Some(identity) = outgoing.identity else {
            return batch.writes.push_back(outgoing);
        };
        self.begin_fetch(batch, now);
        let Some(outgoing) = self.not_written(outgoing, batch) else {
            return;
        };
        let verdict = match guard(self.auth_state.authentication(), identity, now) {
            // What it has asked before is answered; what is pushed waits for its owner.
            _ if !outgoing.is_answer && self.is_logging_out() => Guard::Stranger,
            verdict => verdict,
        };
        if outgoing.late {
            let why = self.outbound.lose(verdict, now);
            if outgoing.is_answer {
                self.outbound.owe_answer();
            }
            self.give_back(outgoing, why, batch);
            return self.heed_guard(verdict, now);
        }
        if outgoing.is_answer && self.outbound.lets_answers_pass(verdict) {
            return batch.writes.push_back(outgoing);
        }
        let (bytes, room) = (outgoing.text.len(), self.around.has_room_behind());
        let way = self.outbound.route(verdict, outgoing.ahead, bytes, room, now);
        if outgoing.is_answer && way != WriteDecision::Write {
            self.outbound.owe_answer();
        }
        match way {
            WriteDecision::Write => batch.writes.push_back(outgoing),
            WriteDecision::Behind => self.outbound.keep(outgoing, bytes),
            WriteDecision::Back(why) => self.give_back(outgoing, why, batch),
        }
        self.heed_guard(verdict, now);
    }

    /// What has come again is written if what came before was given back meanwhile. Else the one who pushed it is told what
    /// becomes of that.
    fn not_written(&mut self, mut outgoing: Outgoing, batch: &mut Batch) -> Option<Outgoing> {
        let Some(key) = outgoing.key.filter(|_| outgoing.again) else {
            return Some(outgoing);
        };
        if !self.recent.contains(key) {
            self.recent.remember(key);
            outgoing.again = false;
            return Some(outgoing);
        }
        if self.outbound.keeps(|kept| kept.key == Some(key)) {
            self.outbound.keep(outgoing, 0);
        } else {
            outgoing.text = Bytes::new();
            batch.writes.push_back(outgoing);
        }
        None
    }

    /// Does what is to be done if the authentication has expired and something was not written for it.
    fn heed_guard(&mut self, verdict: Guard, now: Instant) {
        if verdict != Guard::Expired {
            return;
        }
        match self
            .auth_state
            .authentication()
            .map(|authentication| authentication.on_expired_push)
        {
            Some(Policy::Close) => self.close(CloseReason::close(CloseCode::AuthRequired), now),
            Some(Policy::Reauthenticate) => self.ask(Reason::Expired, now),
            Some(Policy::Ignore) | None => {}
        }
    }

    fn give_back(&mut self, outgoing: Outgoing, why: Bounced, batch: &mut Batch) {
        // It will come again under the same key.
        if let Some(key) = outgoing.key {
            self.recent.forget(key);
            if outgoing.is_answer {
                self.held.gave_back(key);
            }
        }
        batch
            .back
            .extend(outgoing.delivery.map(|delivery| Back::Undelivered(delivery, why)));
    }

    /// Does what follows from the end of a fetch.
    fn follow(&mut self, fetched: Fetched<Outgoing>, queue: &mut VecDeque<Entry>, batch: &mut Batch, now: Instant) {
        let given_back = !fetched.back.is_empty();
        for outgoing in fetched.back {
            self.give_back(outgoing, Bounced::Expired, batch);
        }
        if given_back && let Some(verdict) = self.own(now) {
            self.heed_guard(verdict, now);
        }
        if fetched.again {
            self.publish_fetch(batch);
        }
        for mut outgoing in fetched.write.into_iter().rev() {
            outgoing.ahead = true;
            queue.push_front(Entry::Text(outgoing));
        }
    }

    fn begin_fetch(&mut self, batch: &mut Batch, now: Instant) {
        if !self.outbound.is_free() && self.may_fetch(now) && self.outbound.fetch(now) {
            self.publish_fetch(batch);
        }
    }

    fn publish_fetch(&mut self, batch: &mut Batch) {
        self.rearm = true;
        let (connection, number) = (self.id, self.outbound.name_fetch(self.around.name_of_fetch()));
        let identity = self
            .auth_state
            .authentication()
            .map(|authentication| authentication.identity);
        batch.back.extend(identity.map(|identity| {
            Back::Fetch(Fetch {
                connection,
                identity,
                number,
            })
        }));
    }

    /// Whether what would be fetched could be written.
    fn may_fetch(&self, now: Instant) -> bool {
        self.life == Life::Open
            && self.has_room_for_pushes()
            && !self.is_logging_out()
            && self.own(now) == Some(Guard::Write)
    }

    /// What the guard says of what is on behalf of the connection's own identity, if it has one.
    fn own(&self, now: Instant) -> Option<Guard> {
        let authentication = self.auth_state.authentication();
        authentication.map(|one| guard(authentication, one.identity, now))
    }

    /// How it ends, if all that it waited for to end has come.
    fn settled(&self, now: Instant) -> Option<CloseReason> {
        match self.life {
            Life::Closing { until, ending } if self.in_flight.is_empty() || now >= until => Some(ending),
            Life::CloseReason(ending) => Some(ending),
            Life::Open | Life::Closing { .. } | Life::Gone | Life::Forgotten => None,
        }
    }
}
