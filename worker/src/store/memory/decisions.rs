//! Why things were decided as they were.

use std::collections::VecDeque;

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;

use super::expiring::Expiring;
use crate::store::decision::DECISIONS_KEPT;
use crate::store::{DECISIONS_TTL, Decision};

#[derive(Default)]
pub(super) struct Decisions {
    by_connection: Expiring<ConnectionId, VecDeque<Decision>>,
}

impl Decisions {
    pub(super) fn note(&mut self, connection: ConnectionId, decision: &Decision, now: Timestamp) {
        let gone_at = now.saturating_add(DECISIONS_TTL);
        let kept = self.by_connection.enter(connection, now, gone_at, VecDeque::new);
        kept.push_back(decision.clone());
        if kept.len() > DECISIONS_KEPT {
            kept.pop_front();
        }
    }

    pub(super) fn of(&self, connection: ConnectionId, now: Timestamp) -> Vec<Decision> {
        let kept = self.by_connection.get(&connection, now);
        kept.map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
    }
}
