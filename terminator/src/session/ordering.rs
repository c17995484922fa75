//! The order of a connection's messages, if they have one: pure.
//!
//! A *run* is what has gathered of a connection's messages since the last was sent; it goes to one worker, which handles
//! one after the other. While one is under way nothing else is, but for two things: that what is held be released,
//! which comes first, and what is sent *ahead* of its turn because it may renew the connection, or give up what is before it. That
//! counts at once; what else it is comes back to be handled in its turn, so everything before it gets its place in the order then.

use std::time::Duration;

use shared::service::trace::Span;
use shared::wire::envelope::AuthSnapshot;
use shared::wire::id::Sequence;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{SentBack, Session, length};
use crate::connection::load::Load;
use crate::connection::looks::Looks;
use crate::connection::read_ahead::{ReadAhead, Received};

/// How long what may renew the connection waits for its turn, before it is sent ahead: less than the advance notice of any
/// expire, and longer than almost all handlers take.
const ENOUGH: Duration = Duration::from_millis(250);

impl Session {
    /// Whether its messages have an order.
    fn is_ordered(&self) -> bool {
        self.around.limits.run.is_some()
    }

    /// How many messages wait for those before them, and are under way as far as their client knows.
    pub(super) fn waiting_in_order(&self) -> usize {
        if self.is_ordered() { usize::from(self.ahead) } else { 0 }
    }

    /// How many messages may go together.
    pub(crate) fn most_in_a_run(&self) -> usize {
        self.around.limits.run.unwrap_or(1)
    }

    /// Whether a message may go with those that have just gone. Who has no token is decided by those before it, when it is
    /// known what has become of them.
    pub(crate) fn may_follow(&self, looks: Looks) -> bool {
        !looks.barrier
            && !looks.cancels
            // What may renew the connection is not to wait behind a slow message: it is sent ahead if it has to.
            && !self.may_go_ahead(looks)
            && (looks.proves || !self.in_flight.is_proving())
            && !self.is_behind_barrier()
            && self.has_room()
    }

    /// Whether it is the turn of what was read now.
    pub(super) fn is_its_turn(&self, now: Instant) -> bool {
        !self.is_ordered() || (self.in_flight.is_empty() && !self.held.comes_first(self.stand(now)))
    }

    /// Whether it is the turn of those that were sent back, or wait here.
    pub(super) fn has_come_to_those_that_wait(&self, now: Instant) -> bool {
        let nothing_is_under_way = || self.all_wait() && !self.in_flight.is_releasing();
        !self.is_ordered() || (nothing_is_under_way() && !self.held.comes_first(self.stand(now)))
    }

    /// Whether all open messages wait here.
    fn all_wait(&self) -> bool {
        self.in_flight.open_messages() == self.again.len()
    }

    /// Whether what was answered already is to be heard before what is held is handled.
    pub(super) fn answers_first(&self) -> bool {
        self.is_ordered() && self.outbound.owes_answer()
    }

    /// Whether something is held that is its own, or of a connection that it takes over from.
    pub(crate) fn has_held(&self) -> bool {
        self.held.len() > 0 || self.held.takes_over()
    }

    /// The first open message that may still get into the hold. In order, those that wait here come after what is held.
    pub(super) fn oldest_under_way(&self) -> Option<Sequence> {
        let waits = self.is_ordered() && self.all_wait();
        self.in_flight.oldest_open().filter(|_| !waits)
    }

    /// These messages were read and cannot be forwarded yet. Its socket is read on, or not until some of them are forwarded.
    pub(crate) fn reads_ahead(&mut self, ahead: &ReadAhead, reads: bool, now: Instant) {
        if let Some(unacknowledged) = self.unacknowledged.as_deref_mut() {
            unacknowledged.is_read(reads, now);
        }
        self.ahead = u16::try_from(ahead.len()).unwrap_or(u16::MAX);
        if ahead.is_empty() {
            self.ahead_due = None;
        } else if self.ahead_due.is_none() && ahead.position(|looks| self.may_go_ahead(looks)).is_some() {
            self.ahead_due = Some(now + ENOUGH);
            self.rearm = true;
        }
    }

    /// Whether a message with those looks may have another token than the last that was sent, or gives up one before it.
    pub(crate) fn may_go_ahead(&self, looks: Looks) -> bool {
        let renews = self.was_ever_authenticated() && looks.mark.is_some() && looks.mark != self.last_token;
        self.is_ordered() && (renews || looks.cancels)
    }

    /// Whether what may renew it has waited long enough. It is looked at once.
    pub(crate) fn sends_ahead(&mut self, now: Instant) -> bool {
        self.is_ordered() && self.ahead_due.take_if(|due| *due <= now).is_some() && !self.is_behind_barrier()
    }

    /// It waits here for its turn, which is fixed now.
    pub(crate) fn line_up(&mut self, message: Received, share: Option<OwnedSemaphorePermit>) {
        let sequence = self.open(message.looks, false);
        self.again_bytes = self.again_bytes.saturating_add(length(&message.text));
        self.again.insert(
            sequence,
            SentBack {
                body: message.text,
                first: Some(message.at),
                received: None,
                span: Span::NONE,
                _share: share,
            },
        );
    }

    /// What waits here for its turn.
    pub(crate) fn lined_up(&self) -> Load {
        Load {
            texts: self.again.len(),
            bytes: self.again_bytes as usize,
        }
    }

    /// It is sent ahead of its turn.
    pub(crate) fn send_ahead(&mut self, looks: Looks, now: Instant) -> (Sequence, AuthSnapshot) {
        let sequence = self.open(looks, true);
        self.asks(now);
        let snapshot = AuthSnapshot {
            ahead: true,
            ..self.snapshot()
        };
        (sequence, snapshot)
    }
}
