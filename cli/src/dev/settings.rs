//! `GET` and `POST /settings`: how the workers decide, and how they are to.
//! `GET /connection`: what is known of a connection at the moment.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use shared::service::clock::{Clock as _, SystemClock};
use shared::wire::id::ConnectionId;
use worker::store::{Decision, StoreError};

use super::state::{Page, Refused};
use super::workers::Policies;
use crate::inspect::connection_info::Known;

pub(super) async fn settings(State(page): State<Arc<Page>>) -> Json<Policies> {
    Json(page.workers.policies().await)
}

pub(super) async fn change(
    State(page): State<Arc<Page>>,
    Json(policies): Json<Policies>,
) -> Result<Json<Policies>, Refused> {
    let changed = page.workers.change(policies).await;
    changed.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(Json(page.workers.policies().await))
}

/// The query of a request about one connection.
#[derive(Deserialize)]
pub(super) struct Which {
    id: ConnectionId,
}

pub(super) async fn connection(
    State(page): State<Arc<Page>>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Refused> {
    let unavailable = |error: StoreError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let known = Known::look(&*page.store, which.id, SystemClock.now(), page.leeway).await;
    let mut json = known.map_err(unavailable)?.to_json();
    let decisions = page.store.decisions(which.id).await.map_err(unavailable)?;
    json["decisions"] = decisions.iter().map(Decision::to_json).collect();
    Ok(Json(json))
}
