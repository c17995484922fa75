//! Which connections terminators have open.

use std::collections::BTreeMap;

use shared::service::clock::Timestamp;
use shared::wire::id::TerminatorId;

use super::MemoryStore;
use crate::store::{Call, OpenChanges, OpenStore};

impl OpenStore for MemoryStore {
    fn enter_open<'a>(&'a self, terminator: TerminatorId, changes: &'a OpenChanges) -> Call<'a, ()> {
        self.step(move |state, now| state.open.enter(terminator, changes, now))
    }

    fn open_connections(&self, terminator: TerminatorId, most: u64) -> Call<'_, Vec<(u64, String)>> {
        self.step(move |state, _| state.open.of(terminator, most))
    }

    fn terminators_due(&self, before: Timestamp) -> Call<'_, Vec<TerminatorId>> {
        self.step(move |state, now| state.open.due(before, now))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    terminators: BTreeMap<TerminatorId, OfTerminator>,
}

#[derive(Clone, Debug)]
struct OfTerminator {
    looked_at: Timestamp,
    connections: BTreeMap<u64, String>,
}

impl Open {
    pub(super) fn enter(&mut self, terminator: TerminatorId, changes: &OpenChanges, now: Timestamp) {
        let entry = self.terminators.entry(terminator).or_insert_with(|| OfTerminator {
            looked_at: now,
            connections: BTreeMap::new(),
        });
        for (number, event) in changes {
            match event {
                Some(event) => entry.connections.insert(*number, event.clone()),
                None => entry.connections.remove(number),
            };
        }
        if entry.connections.is_empty() {
            self.terminators.remove(&terminator);
        }
    }

    pub(super) fn of(&self, terminator: TerminatorId, most: u64) -> Vec<(u64, String)> {
        let connections = self.terminators.get(&terminator).map(|entry| &entry.connections);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let all = connections.into_iter().flatten().take(most);
        all.map(|(number, event)| (*number, event.clone())).collect()
    }

    pub(super) fn due(&mut self, before: Timestamp, now: Timestamp) -> Vec<TerminatorId> {
        let due = self
            .terminators
            .iter_mut()
            .filter(|(_, entry)| entry.looked_at <= before);
        due.map(|(terminator, entry)| {
            entry.looked_at = now;
            *terminator
        })
        .collect()
    }
}
