//! Why things were decided as they were.

use std::collections::VecDeque;

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::decision::DECISIONS_KEPT;
use crate::store::{Call, DECISIONS_TTL, Decision, DecisionStore};

impl DecisionStore for MemoryStore {
    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> Call<'a, ()> {
        self.step(move |state, now| state.decisions.note(connection, decision, now))
    }

    fn decisions(&self, connection: ConnectionId) -> Call<'_, Vec<Decision>> {
        self.step(move |state, now| state.decisions.of(connection, now))
    }
}

#[derive(Clone, Debug, Default)]
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
