//! `POST /inject`: a message by the queue.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::value::RawValue;

use crate::dev::injector::Injected;
use crate::dev::state::{Page, Refused, unavailable};

pub(super) async fn inject(
    State(page): State<Arc<Page>>,
    Json(message): Json<Box<RawValue>>,
) -> Result<Json<Injected>, Refused> {
    let injected = page.injector.inject(&message, &page.journeys).await;
    injected.map(Json).map_err(unavailable)
}
