//! What a client says that it has got of what was pushed to it.

pub(super) mod unacknowledged;

use shared::bus::Delivery;
use shared::wire::envelope::Command;
use shared::wire::protocol::CloseCode;
use shared::wire::protocol::push_ack::{PushAck, push_id};
use tokio::time::Instant;

use self::unacknowledged::{ACK_TIMEOUT, Unacknowledged};
use super::Session;

/// What came of an acknowledgement.
pub(crate) struct Acknowledged {
    /// What is done with.
    pub(crate) done: Vec<Delivery>,
    /// How many pushes were acknowledged.
    pub(crate) known: usize,
    /// How many were none that waited for that.
    pub(crate) unknown: usize,
}

impl Session {
    /// Whether its client acknowledges what is pushed to it.
    pub(crate) fn acknowledges(&self) -> bool {
        self.unacknowledged.is_some()
    }

    /// Its client has got these, and says so of all from now on.
    pub(crate) fn acknowledge(&mut self, ack: &PushAck<'_>) -> Acknowledged {
        let unacknowledged = self.unacknowledged.get_or_insert_default();
        let mut acknowledged = Acknowledged {
            done: Vec::new(),
            known: 0,
            unknown: 0,
        };
        for id in &ack.ids {
            match unacknowledged.acknowledge(self.around.keys.of(id)) {
                Some(items) => {
                    acknowledged.known += 1;
                    acknowledged.done.extend(items);
                }
                None => acknowledged.unknown += 1,
            }
        }
        acknowledged
    }

    /// Something was written of which someone wants to know, or that is to be acknowledged; or it had been written before. Given
    /// back is what need not wait.
    pub(crate) fn wrote(&mut self, delivery: Delivery, again: bool, now: Instant) -> Option<Delivery> {
        let Some(unacknowledged) = self.unacknowledged.as_deref_mut() else {
            return Some(delivery);
        };
        let id = push_id(&delivery.message.body).filter(|_| Command::is_push(&delivery.message.properties));
        let Some(key) = id.map(|id| self.around.keys.of(&id)) else {
            return Some(delivery);
        };
        if again && !unacknowledged.contains(key) {
            return Some(delivery);
        }
        let bytes = delivery.message.body.len();
        unacknowledged.wrote(key, delivery, bytes, now);
        if unacknowledged.due.is_none() {
            unacknowledged.due = Some(now + ACK_TIMEOUT);
            self.rearm = true;
        }
        let most_bytes = self.send_bound();
        if self
            .unacknowledged
            .as_deref()
            .is_some_and(|all| all.is_too_much(most_bytes))
        {
            self.end(CloseCode::SlowReader);
        }
        None
    }

    /// What was written to it and not acknowledged, as it has ended.
    pub(crate) fn take_unacknowledged(&mut self) -> Vec<Delivery> {
        let unacknowledged = self.unacknowledged.as_deref_mut();
        unacknowledged.map(|all| all.take_all().collect()).unwrap_or_default()
    }

    /// Whether what is held may be fetched, for all that is not acknowledged.
    pub(super) fn has_room_for_pushes(&self) -> bool {
        let most_bytes = self.send_bound();
        self.unacknowledged
            .as_deref()
            .is_none_or(|all| !all.is_half_full(most_bytes))
    }

    /// A client that does not acknowledge in time does not read, or is not there any more.
    pub(super) fn check_acknowledgements(&mut self, now: Instant) {
        let Some(unacknowledged) = self.unacknowledged.as_deref_mut() else {
            return;
        };
        if unacknowledged.due.is_none_or(|due| due > now) {
            return;
        }
        unacknowledged.due = unacknowledged.next_due(now);
        if unacknowledged.due.is_some_and(|due| due <= now) {
            self.end(CloseCode::SlowReader);
        }
    }
}

/// Not used by connections whose clients do not acknowledge: one pointer.
pub(super) type Pushes = Option<Box<Unacknowledged<Delivery>>>;
