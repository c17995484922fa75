//! What the console shows of `dev`: the terminator's connections, with what the store knows of them, and what was decided.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use shared::service::admin::ConsoleSource;
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use terminator::admin::console::{ConsoleView, Shown};
use worker::admin::recent_decisions::event;
use worker::store::Store;

use super::workers::Workers;
use crate::inspect::connection_info::Known;

/// How many events are shown.
const MOST_EVENTS: usize = 40;

/// Everyone who has something to show.
pub(super) struct Everything {
    pub(super) console_view: ConsoleView,
    pub(super) workers: Arc<Workers>,
    pub(super) store: Arc<dyn Store>,
    /// How long after its expiry a token still counts.
    pub(super) leeway: Duration,
}

impl ConsoleSource for Everything {
    fn look(&self) -> BoxFuture<'_, Map<String, Value>> {
        Box::pin(async {
            let survey = self.console_view.survey().await;
            let now = SystemClock.now();
            let mut rows = Vec::with_capacity(survey.rows.len());
            for shown in &survey.rows {
                rows.push(self.row(shown, now).await);
            }
            let decided = self.workers.noted().into_iter().flat_map(|noted| noted.last());
            let mut events: Vec<Value> = decided
                // The terminator tells of those that no one had authenticated, too.
                .filter(|(_, decision)| decision.what != "closed")
                .map(|(connection, decision)| event(connection, &decision))
                .chain(survey.closings.iter().map(|closing| json!(closing)))
                .collect();
            events.sort_by_key(|event| event["at_ms"].as_u64());
            let events = events.split_off(events.len().saturating_sub(MOST_EVENTS));
            Map::from_iter([
                ("events".to_owned(), events.into()),
                ("connections".to_owned(), json!({"states": survey.states, "rows": rows})),
            ])
        })
    }
}

impl Everything {
    /// With a name, and what the store holds; as the terminator has it if the store is away.
    async fn row(&self, shown: &Shown, now: Timestamp) -> Value {
        let mut row = json!(shown);
        if let Ok(known) = Known::look(&*self.store, shown.id, now, self.leeway).await {
            row["subject"] = json!(known.state.proved().map(|proved| proved.identity.subject.as_str()));
            row["held_in"] = known.held_messages.len().into();
            let (answers, pushes) = (known.held_answers, known.held_pushes.unwrap_or_default());
            row["held_out"] = (answers + pushes).into();
            row["held_answers"] = answers.into();
            row["held_pushes"] = pushes.into();
        }
        row
    }
}
