//! `GET /journey`: every stage of every message as it happens, as server-sent events (HTML §9.2).
//!
//! `ready` comes first, `missed` with a number when the watcher was too slow,
//! and everything else is a stage as JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::journey::Stage;
use super::state::Page;

/// Below the idle timeout of whatever may stand in between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn journey(State(page): State<Arc<Page>>) -> impl IntoResponse {
    let Ok(permit) = page.watchers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many watch already\n").into_response();
    };
    // A browser keeps to itself what comes without data.
    let ready = stream::once(future::ready(Event::default().event("ready").data("now")));
    let events = ready
        .chain(stages(page.journeys.watch(), permit))
        .map(Ok::<_, Infallible>)
        .take_until(page.closing.clone().cancelled_owned());
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

fn stages(watcher: Receiver<Arc<Stage>>, permit: OwnedSemaphorePermit) -> impl Stream<Item = Event> {
    stream::unfold((watcher, permit), async |(mut watcher, permit)| {
        let event = match watcher.recv().await {
            // Text with text keys cannot fail to be written.
            Ok(stage) => Event::default().json_data(&*stage).unwrap_or_default(),
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((event, (watcher, permit)))
    })
}
