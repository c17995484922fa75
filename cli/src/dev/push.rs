//! `POST /push` and `POST /revoke`: what a backend and an operator would put into the queue.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::bus::Value;
use shared::bus::topology::keys;
use shared::wire::id::ConnectionId;
use tracing::debug;

use super::client::Request;
use super::journey::{PUSHES, TARGET};
use super::state::{Page, Refused, unavailable};

/// A push, as the page asks for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Push {
    /// For whom.
    subject: String,
    payload: Box<RawValue>,
}

/// What came of it.
#[derive(Serialize)]
pub(super) struct Told {
    /// The name of its journey.
    stamp: String,
    /// What the worker said; nothing if it said nothing in time.
    outcome: Option<Box<RawValue>>,
}

/// Whose tokens are taken back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    connection: Option<ConnectionId>,
    /// How long its clients may go on, in seconds.
    #[serde(default)]
    grace_s: u32,
}

/// A revocation as it crosses the broker.
#[derive(Serialize)]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
    grace: u32,
}

pub(super) async fn push(State(page): State<Arc<Page>>, Json(push): Json<Push>) -> Result<Json<Told>, Refused> {
    let id = format!("page-{:08x}", rand::random::<u32>());
    let stamp = format!("{PUSHES}{id}");
    debug!(target: TARGET, stage = "publish", stamp, bytes = push.payload.get().len());
    let question = Request {
        key: keys::PUSH,
        name: &id,
        message_id: Some(id.clone()),
        headers: vec![("subject".to_owned(), Value::Text(push.subject))],
        body: String::from(Box::<str>::from(push.payload)).into(),
    };
    let taken = || debug!(target: TARGET, stage = "queue", stamp);
    let outcome = page.backend.ask(question, taken).await.map_err(unavailable)?;
    Ok(Json(Told { stamp, outcome }))
}

pub(super) async fn revoke(
    State(page): State<Arc<Page>>,
    Json(revocation): Json<Revocation>,
) -> Result<Json<Told>, Refused> {
    let stamp = format!("revocation-{:08x}", rand::random::<u32>());
    let wire = Wire {
        subject: revocation.subject.as_deref(),
        connection: revocation.connection,
        grace: revocation.grace_s,
    };
    let question = Request {
        key: keys::REVOKE,
        name: &stamp,
        message_id: None,
        headers: Vec::new(),
        // Text and numbers cannot fail to be written.
        body: serde_json::to_vec(&wire).unwrap_or_default().into(),
    };
    let outcome = page.backend.ask(question, || {}).await.map_err(unavailable)?;
    Ok(Json(Told { stamp, outcome }))
}
