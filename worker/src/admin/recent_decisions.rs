//! The last decisions that a worker has noted: for people who watch, without asking the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use shared::service::admin::ConsoleSource;
use shared::wire::id::ConnectionId;

use crate::store::Decision;

/// How many are remembered.
const KEPT: usize = 32;

/// The last few, the newest last. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct RecentDecisions(Arc<Mutex<VecDeque<(ConnectionId, Decision)>>>);

impl RecentDecisions {
    /// One more.
    pub(crate) fn note(&self, connection: ConnectionId, decision: &Decision) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((connection, decision.clone()));
    }

    /// The last few, the newest last.
    pub fn last(&self) -> Vec<(ConnectionId, Decision)> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(ConnectionId, Decision)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConsoleSource for RecentDecisions {
    fn look(&self) -> BoxFuture<'_, Map<String, Value>> {
        let events = self
            .last()
            .iter()
            .map(|(connection, decision)| event(*connection, decision))
            .collect();
        Box::pin(std::future::ready(Map::from_iter([("events".to_owned(), events)])))
    }
}

/// A decision as the console shows it.
pub fn event(connection: ConnectionId, decision: &Decision) -> Value {
    let mut json = decision.to_json();
    json["connection"] = json!(connection);
    json
}

#[cfg(test)]
mod tests {
    use shared::service::clock::Timestamp;
    use shared::wire::id::{Sequence, TerminatorId};

    use super::*;

    #[tokio::test]
    async fn the_last_few_are_shown_with_their_connection() {
        let recent_decisions = RecentDecisions::default();
        let terminator = TerminatorId::random();
        for number in 1..=KEPT as u64 + 1 {
            let decision = Decision {
                at: Timestamp::from_secs(number),
                sequence: Some(Sequence::new(number)),
                id: None,
                what: "held".to_owned(),
                why: "expired".to_owned(),
            };
            recent_decisions.note(ConnectionId { terminator, number }, &decision);
        }
        let rooms = recent_decisions.look().await;
        let events = rooms["events"].as_array().unwrap();
        assert_eq!((events.len(), &events[0]["sequence"]), (KEPT, &json!(2)));
        assert_eq!(events[0]["what"], "held");
    }
}
