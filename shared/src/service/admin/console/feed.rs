//! `GET /console/feed`: how it is, four times a second, as server-sent events (HTML §9.2).
//!
//! `hello` comes first and says whose console it is; after it, each event is a
//! look as JSON, with those figures that changed since the last.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::{Stream, StreamExt as _, future, stream};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::figures::Figures;
use super::{Console, PERIOD, Seen};

/// One look, as it is told.
#[derive(Serialize)]
struct Told<'a> {
    at_ms: u64,
    figures: Figures,
    #[serde(flatten)]
    parts: &'a Map<String, Value>,
}

/// Someone who watches.
struct Watcher {
    console: Console,
    interval: Interval,
    last: Option<Arc<Seen>>,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn feed(State(console): State<Console>) -> impl IntoResponse {
    let Ok(permit) = console.0.watchers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many watch already\n").into_response();
    };
    let hello = json!({"process": console.0.process, "version": env!("CARGO_PKG_VERSION")});
    let hello = stream::once(future::ready(Event::default().event("hello").data(hello.to_string())));
    let closing = console.0.closing.clone();
    let events = hello
        .chain(looks(console, permit))
        .map(Ok::<_, Infallible>)
        .take_until(closing.cancelled_owned());
    Sse::new(events).into_response()
}

fn looks(console: Console, permit: OwnedSemaphorePermit) -> impl Stream<Item = Event> {
    let mut interval = interval(PERIOD);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher {
        console,
        interval,
        last: None,
        _permit: permit,
    };
    stream::unfold(watcher, async |mut watcher| {
        let event = watcher.next().await;
        Some((event, watcher))
    })
}

impl Watcher {
    /// The next look that was not told yet.
    async fn next(&mut self) -> Event {
        loop {
            self.interval.tick().await;
            let seen = self.console.seen().await;
            if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &seen)) {
                continue;
            }
            let last = self.last.replace(seen.clone());
            let figures = match last {
                Some(last) => seen.figures.since(&last.figures),
                None => seen.figures.clone(),
            };
            let told = Told {
                at_ms: seen.at_ms,
                figures,
                parts: &seen.parts,
            };
            // Text and finite numbers cannot fail to be written.
            return Event::default().json_data(told).unwrap_or_default();
        }
    }
}
