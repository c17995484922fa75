//! What is held of each connection.

use std::collections::BTreeMap;

use shared::clock::Timestamp;
use shared::id::{ConnectionId, Sequence};

use super::Expiring;
use crate::store::{HOLD_GRACE, HeldMessage, HoldLimits, Holding};

#[derive(Default)]
pub(super) struct Messages {
    by_connection: Expiring<ConnectionId, BTreeMap<Sequence, HeldMessage>>,
}

impl Messages {
    pub(super) fn hold(
        &mut self,
        connection: ConnectionId,
        message: &HeldMessage,
        limits: &HoldLimits,
        heir: Option<ConnectionId>,
        now: Timestamp,
    ) -> Holding {
        let gone_at = message.since.saturating_add(limits.ttl).saturating_add(HOLD_GRACE);
        let held = self.by_connection.enter(connection, now, gone_at, BTreeMap::new);
        if !held.contains_key(&message.sequence) {
            let bytes: u64 = held.values().map(HeldMessage::bytes).sum();
            if held.len() as u64 >= limits.messages || bytes + message.bytes() > limits.bytes {
                return Holding::Overflow;
            }
            held.insert(message.sequence, message.clone());
        }
        Holding::Held {
            count: held.len() as u64,
            heir,
        }
    }

    pub(super) fn of(&self, connection: ConnectionId, now: Timestamp) -> Vec<HeldMessage> {
        let held = self.by_connection.get(&connection, now);
        held.map(|held| held.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn drop(&mut self, connection: ConnectionId, sequences: &[Sequence], now: Timestamp) -> u64 {
        let Some(held) = self.by_connection.get_mut(&connection, now) else {
            return 0;
        };
        for sequence in sequences {
            held.remove(sequence);
        }
        let left = held.len() as u64;
        if left == 0 {
            self.by_connection.remove(&connection);
        }
        left
    }
}
