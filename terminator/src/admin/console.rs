//! What the console shows of a terminator: its connections, the most remarkable first, and which have ended.
//!
//! A terminator knows no names and no tokens, so neither is shown: an identity is the tag that workers made of it.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::service::admin::ConsoleSource;
use tokio::task::spawn_blocking;

pub use super::closings::Closing;
use crate::connection::handle::ConnectionHandle;
use crate::connection::registry::Registry;
pub use crate::session::{Shown, State};

/// How many connections are shown: more than anyone reads.
const MOST_SHOWN: usize = 60;

/// From where the connections of a terminator can be seen, as long as there is one.
#[derive(Clone)]
pub struct ConsoleView(Weak<Registry>);

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Survey {
    /// How many connections there are, by their state.
    pub states: Vec<(State, usize)>,
    /// The most remarkable of them.
    pub rows: Vec<Shown>,
    /// The last that have ended, the newest last.
    #[serde(skip)]
    pub closings: Vec<Closing>,
}

impl ConsoleView {
    pub(crate) fn new(registry: &Arc<Registry>) -> Self {
        Self(Arc::downgrade(registry))
    }

    /// Looks at every connection. Of a hundred thousand that takes tens of milliseconds, which no task has to wait for.
    pub async fn survey(&self) -> Survey {
        let registry = self.0.clone();
        // It fails if the runtime ends, and then no one looks.
        spawn_blocking(move || registry.upgrade().map(|registry| survey(&registry)))
            .await
            .ok()
            .flatten()
            .unwrap_or_default()
    }
}

impl ConsoleSource for ConsoleView {
    fn look(&self) -> BoxFuture<'_, Map<String, Value>> {
        Box::pin(async {
            let survey = self.survey().await;
            // Words and numbers cannot fail to be written.
            let told = |value: serde_json::Result<Value>| value.unwrap_or_default();
            Map::from_iter([
                ("events".to_owned(), told(serde_json::to_value(&survey.closings))),
                ("connections".to_owned(), told(serde_json::to_value(&survey))),
            ])
        })
    }
}

fn survey(registry: &Registry) -> Survey {
    let now = registry.common().now();
    let mut states = State::ALL.map(|state| (state, 0));
    let mut ranked: Vec<(Rank, Arc<ConnectionHandle>)> = Vec::new();
    for peer in registry.all() {
        let rank = peer.look(|session| {
            let levels = session.levels();
            (session.state(now), waits(levels.held_inbound), waits(levels.in_flight))
        });
        if let Some((_, count)) = states.iter_mut().find(|(state, _)| *state == rank.0) {
            *count += 1;
        }
        let (state, held, in_flight) = rank;
        ranked.push(((state, held, in_flight, u64::MAX - peer.id().number), peer));
    }
    if ranked.len() > MOST_SHOWN {
        ranked.select_nth_unstable_by_key(MOST_SHOWN, |(rank, _)| *rank);
        ranked.truncate(MOST_SHOWN);
    }
    ranked.sort_unstable_by_key(|(rank, _)| *rank);
    Survey {
        states: states.into_iter().filter(|(_, count)| *count > 0).collect(),
        rows: ranked
            .iter()
            .map(|(_, peer)| peer.look(|session| session.shown(now)))
            .collect(),
        closings: registry.common().closings.last(),
    }
}

/// By state; then those of which something waits; then the newest.
type Rank = (State, bool, bool, u64);

/// Comes before what does not wait.
const fn waits(count: usize) -> bool {
    count == 0
}

#[cfg(test)]
mod tests {
    use shared::wire::id::TerminatorId;

    use super::*;
    use crate::session::auth_state::tests::{grant, now};
    use crate::tests::common;

    #[tokio::test]
    async fn the_most_remarkable_are_shown_and_all_are_counted() {
        let registry = Arc::new(Registry::new(TerminatorId::random(), common()));
        let entries: Vec<_> = (0..200).map(|_| registry.admit()).collect();
        let now = now();
        entries[3].peer.change(|session, _| session.bind(grant(1, 3_600), now));
        entries[7].peer.change(|session, _| session.bind(grant(2, 0), now));
        let survey = ConsoleView::new(&registry).survey().await;
        let count = |state| {
            survey
                .states
                .iter()
                .find(|(of, _)| *of == state)
                .map(|(_, count)| *count)
        };
        assert_eq!(
            (count(State::Expired), count(State::Anonymous), count(State::Live)),
            (Some(1), Some(198), Some(1))
        );
        assert_eq!(survey.rows.len(), MOST_SHOWN);
        assert_eq!(survey.rows[0].id, entries[7].peer.id());
        assert_eq!(survey.rows[1].id, entries[199].peer.id(), "then the newest");
        drop(entries);
        assert!(ConsoleView::new(&registry).survey().await.rows.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_seen_of_a_terminator_that_is_gone() {
        let registry = Arc::new(Registry::new(TerminatorId::random(), common()));
        let console_view = ConsoleView::new(&registry);
        drop(registry);
        assert!(console_view.survey().await.states.is_empty());
    }
}
