//! What comes out of the return queue for a connection.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{Delivery, PublishError};
use shared::service::trace::Span;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Change, Command, ForwardedMessage, Release, Reply, Verdict as Fate};
use shared::wire::id::{MessageId, Sequence};
use shared::wire::protocol::{CloseCode, Reason};
use shared::wire::request_id::RequestId;
use shared::wire::revocation::Revocations;
use tokio::time::Instant;

use super::auth_state::{Applied, Authentication};
use super::effect::Event;
use super::held::Lost;
use super::in_flight::Acceptance;
use super::notices::refuse::{lost_from_hold, undecided};
use super::recent::Recent;
use super::{Life, SentBack, Session, length};
use crate::connection::close_reason::CloseReason;
use crate::connection::outgoing::{Entry, Outgoing};
use crate::events::{Happening, Holder};
use crate::timers::now::Now;

/// Of so many that were held when their connection was logged out it is known whether each was refused: their keys are
/// among the last ones.
const MOST_RECENT: usize = 512;

/// What became of something that came.
#[derive(Debug)]
pub(crate) enum DeliveryResult {
    /// It was taken.
    Taken,
    /// It had come before.
    Duplicate,
    /// The connection has ended meanwhile, and it had not come before.
    Gone(Delivery),
    /// The connection has ended meanwhile, and others know whether it had come before.
    Unknown(Delivery),
}

impl Session {
    /// An answer came to the request `sequence`. If it is sent back by it, the request `waits` here in that span.
    pub(crate) fn answer(
        &mut self,
        sequence: Sequence,
        mut answer: Reply,
        mut delivery: Delivery,
        waits: Span,
        revoked: &Revocations,
        now: Now,
    ) -> DeliveryResult {
        match self.life {
            Life::Gone => {
                return match self.in_flight.answer(sequence, answer.part, answer.second) {
                    Acceptance::Deliver { .. } => DeliveryResult::Gone(delivery),
                    Acceptance::Duplicate => {
                        self.acknowledge_delivery(delivery);
                        DeliveryResult::Duplicate
                    }
                };
            }
            Life::Forgotten => return DeliveryResult::Unknown(delivery),
            Life::Open | Life::Closing { .. } | Life::CloseReason(_) => {}
        }
        let release = self.held.is_release(sequence);
        if answer.verdict == Fate::Again && !release {
            self.note_progress(now.instant);
            if let Some(change) = answer.change.take()
                && self.in_flight.proved(sequence, answer.second)
                && self.change(sequence, change, now)
            {
                self.heed(revoked, now);
            }
            return self.sent_back(sequence, answer.second, delivery, waits, now.instant);
        }
        let settled = match self.in_flight.answer(sequence, answer.part, answer.second) {
            Acceptance::Deliver { settled } => settled,
            Acceptance::Duplicate => {
                self.acknowledge_delivery(delivery);
                return DeliveryResult::Duplicate;
            }
        };
        if self.oldest_asked == sequence.get() {
            self.progress = now.instant;
        }
        self.note_progress(now.instant);
        if settled {
            self.auth_state.settled(self.in_flight.oldest_open(), now.instant);
        }
        // The change comes before the body, which may be on behalf of who it is now.
        let known = self.auth_state.by() == Some(sequence);
        let authentication = answer
            .change
            .take()
            .filter(|_| !known)
            .is_some_and(|change| self.change(sequence, change, now));
        if release {
            // It is for us alone, and not to be written.
            let body = std::mem::take(&mut delivery.message.body);
            if settled {
                let given_back = self.held.given_back();
                let lost = self
                    .held
                    .settle(answer.left, Release::read(&body).as_ref(), now.instant);
                self.refuse_lost(lost, &given_back);
                self.rearm = true;
            }
        } else if let Fate::Held { reason, hold_ms } = answer.verdict
            && settled
        {
            let id = answer.id.take();
            self.hold(sequence, id, reason, Duration::from_millis(hold_ms), now.instant);
        }
        let silent = delivery.message.body.is_empty();
        self.bring_answer(&answer, delivery);
        if authentication {
            self.heed(revoked, now);
        }
        if let Some(code) = answer.close {
            // The body is the error, if there is one.
            self.close(CloseReason::Close { code, say: silent }, now.instant);
        }
        DeliveryResult::Taken
    }

    /// A worker knows already what the request `sequence` has made of the connection, although it is not answered.
    pub(crate) fn granted(&mut self, sequence: Sequence, answer: Reply, revoked: &Revocations, now: Now) {
        if !self.in_flight.proved(sequence, answer.second) {
            return;
        }
        if answer.change.is_some_and(|change| self.change(sequence, change, now)) {
            self.heed(revoked, now);
        }
    }

    /// A worker has something done for the connection.
    pub(crate) fn command(&mut self, command: Command, delivery: Delivery, now: Instant) -> DeliveryResult {
        if matches!(self.life, Life::Gone | Life::Forgotten) {
            return DeliveryResult::Gone(delivery);
        }
        match command {
            Command::Write(write) => return self.bring_write(&write, delivery),
            Command::Fetched { left, fetch } => self.push(Entry::Fetched { left, fetch }),
            Command::Wake { from: None } => self.outbound.wake(0),
            Command::Wake { from: Some(from) } => self.held.resume(from),
            Command::Replaced => {
                let code = CloseCode::Replaced;
                self.close(CloseReason::Close { code, say: false }, now);
            }
            Command::OverLimit { .. } => self.close(CloseReason::close(CloseCode::ConnectionLimit), now),
            // It is there.
            Command::Check { .. } => {}
            // That is for its terminator.
            Command::Entered => {}
        }
        self.acknowledge_delivery(delivery);
        DeliveryResult::Taken
    }

    fn bring_answer(&mut self, answer: &Reply, delivery: Delivery) {
        if delivery.message.body.is_empty() {
            return self.acknowledge_delivery(delivery);
        }
        // A refusal is remembered too: the store may hold the message although it did not say so.
        let message_id = delivery.message.properties.correlation_id.as_deref();
        let key = message_id.map(|message_id| self.around.keys.of_answer(message_id, answer.part.index));
        self.accept(Outgoing {
            text: delivery.message.body.clone(),
            identity: answer.identity,
            key,
            is_answer: true,
            ahead: false,
            late: false,
            again: false,
            delivery: Some(delivery),
        });
    }

    fn bring_write(&mut self, write: &Write, delivery: Delivery) -> DeliveryResult {
        let key = self.around.keys.of(&write.key);
        let again = self.recent.contains(key);
        if again && write.producer.is_none() {
            self.acknowledge_delivery(delivery);
            return DeliveryResult::Duplicate;
        }
        let text = delivery.message.body.clone();
        // What comes out of a hold can go back there: no one is closed for not reading that all at once.
        let room = self.outgoing.has_room(text.len(), self.send_bound());
        self.accept(Outgoing {
            late: write.released && write.identity.is_some() && !room && !again,
            again,
            text,
            identity: write.identity,
            key: Some(key),
            is_answer: write.asked_by.is_some(),
            ahead: write.fetched,
            delivery: Some(delivery),
        });
        if again {
            DeliveryResult::Duplicate
        } else {
            DeliveryResult::Taken
        }
    }

    fn accept(&mut self, outgoing: Outgoing) {
        if let Some(key) = outgoing.key.filter(|_| !outgoing.again) {
            self.recent.remember(key);
        }
        self.push(Entry::Text(outgoing));
    }

    /// A request was sent back: it waits until all before it is settled.
    fn sent_back(
        &mut self,
        sequence: Sequence,
        second: bool,
        mut delivery: Delivery,
        span: Span,
        now: Instant,
    ) -> DeliveryResult {
        let body = std::mem::take(&mut delivery.message.body);
        let properties = &delivery.message.properties;
        let received = ForwardedMessage::received(properties);
        self.acknowledge_delivery(delivery);
        if second {
            // There is nothing left that it could wait for.
            let open = self.in_flight.refuse(sequence, true);
            if open {
                self.tell(undecided(&body));
            }
            return if open {
                DeliveryResult::Taken
            } else {
                DeliveryResult::Duplicate
            };
        }
        if !self.in_flight.send_back(sequence) {
            return DeliveryResult::Duplicate;
        }
        // What it was to decide is decided when its turn comes.
        self.barrier_decides &= self.barrier != Some(sequence);
        self.happened(Event::Returned(sequence));
        if self.is_closing() {
            self.refused(sequence, true, &body, PublishError::Ended, now);
        } else if self.around.load.is_full() {
            self.refused(sequence, true, &body, PublishError::Refused, now);
        } else {
            self.again_bytes = self.again_bytes.saturating_add(length(&body));
            self.again.insert(
                sequence,
                SentBack {
                    body,
                    first: None,
                    received,
                    span,
                    _share: None,
                },
            );
        }
        DeliveryResult::Taken
    }

    /// Refuses what was held and is lost, unless it has been answered after all: by someone who could not say so.
    fn refuse_lost(&mut self, lost: Vec<Lost>, given_back: &Recent) {
        for Lost { sequence, id } in lost {
            let message_id = MessageId {
                connection: self.id,
                sequence,
            };
            let key = self.around.keys.of_answer(&message_id.to_string(), 0);
            if self.recent.contains(key) || given_back.contains(key) {
                continue;
            }
            self.happened(Event::HeldLost(message_id));
            self.recent.remember(key);
            self.tell(lost_from_hold(id.as_ref()));
        }
    }

    /// Takes note of what has become of the connection. Tells whether it has a new grant.
    fn change(&mut self, sequence: Sequence, change: Change, now: Now) -> bool {
        let was = self
            .news
            .is_some()
            .then(|| self.auth_state.authentication().map(of_authentication));
        let applied = self
            .auth_state
            .apply(sequence, change, self.in_flight.oldest_open(), now);
        match applied {
            Applied::Stale => return false,
            Applied::Stranger => {
                self.end(CloseCode::IdentityMismatch);
                return false;
            }
            Applied::Live { waiting, resumes } => {
                self.in_flight.give_back_room();
                if waiting > 0 {
                    self.outbound.wake(waiting);
                }
                if let Some(from) = resumes {
                    self.held.resume(from);
                    // Answers to that one may wait, which no one counts.
                    self.outbound.wake(0);
                }
            }
            Applied::Forgotten => {
                // The one who logged it out has refused what was held; what was to be written waits for its owner.
                let given_back = self.held.given_back();
                let held = self.held.clear();
                if held.len() <= MOST_RECENT {
                    self.refuse_lost(held, &given_back);
                }
                let behind = self.outbound.forget();
                self.outgoing.push_front(behind);
            }
        }
        if let Some(was) = was {
            self.tell_change(was);
        }
        self.asked = false;
        self.rearm = true;
        matches!(applied, Applied::Live { .. })
    }

    /// Its authentication was that, and may be another now.
    fn tell_change(&mut self, was: Option<(Arc<str>, Holder)>) {
        let is = self.auth_state.authentication().map(Authentication::facts);
        match (was, is) {
            (None, Some(_)) => self.tells(Happening::Authenticated),
            // Workers may say the same more than once.
            (Some((was, _)), Some(is)) if was == is => {}
            (Some(_), Some(_)) => self.tells(Happening::Renewed),
            (Some((_, holder)), None) => {
                if let Some(news) = &mut self.news {
                    news.note(Happening::LoggedOut, Some(holder));
                }
            }
            (None, None) => {}
        }
    }

    fn hold(
        &mut self,
        sequence: Sequence,
        id: Option<RequestId<'static>>,
        reason: Reason,
        hold: Duration,
        now: Instant,
    ) {
        self.happened(Event::Held(sequence, reason));
        self.held.hold(sequence, id, now + hold.min(crate::timers::now::FAR));
        self.rearm = true;
        // A later message may have brought the fresh token already.
        let renewed = self.auth_state.by().is_some_and(|by| sequence < by) && self.auth_state.is_live(now);
        if !renewed {
            self.ask(reason, now);
        }
    }
}

/// What tells an authentication from another, and whose it is.
fn of_authentication(authentication: &Authentication) -> (Arc<str>, Holder) {
    (authentication.facts(), authentication.holder())
}

#[cfg(test)]
impl Session {
    pub(crate) fn bind(&mut self, grant: shared::wire::grant::Grant, now: Now) {
        let change = Change::Live {
            grant,
            principal: String::new(),
        };
        self.change(Sequence::FIRST, change, now);
    }
}
