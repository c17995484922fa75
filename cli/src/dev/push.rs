//! `POST /push` and `POST /revoke`: what a backend and an operator would put into the queue.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use shared::bus::topology::keys;
use shared::bus::{Message, Properties, Value};
use shared::wire::envelope::JSON;
use shared::wire::id::ConnectionId;

use super::journey::PUSHES;
use super::state::{Page, Refused, unavailable};
use crate::support::dev_key;
use crate::support::rpc_client::One;

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
    message_id: String,
    /// What the worker said; none if it said nothing in time.
    outcome: Option<Box<RawValue>>,
}

/// Whose tokens are revoked.
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
    /// Of the subject: there may be another provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
    grace: u32,
}

pub(super) async fn push(State(page): State<Arc<Page>>, Json(push): Json<Push>) -> Result<Json<Told>, Refused> {
    let id = format!("page-{:08x}", rand::random::<u32>());
    let message_id = format!("{PUSHES}{id}");
    let bytes = push.payload.get().len();
    page.journeys.add("publish", &message_id, json!({"bytes": bytes}));
    let request = Message {
        body: String::from(Box::<str>::from(push.payload)).into(),
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            message_id: Some(id),
            headers: [("subject", push.subject.as_str()), ("issuer", dev_key::ISSUER)]
                .map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned())))
                .into(),
            ..Properties::default()
        },
    };
    let request = One::new(request).when_taken({
        let (journeys, message_id) = (page.journeys.clone(), message_id.clone());
        move || journeys.add("queue", &message_id, ())
    });
    let outcome = page.backend.ask(keys::PUSH, request).await.map_err(unavailable)?;
    Ok(Json(Told { message_id, outcome }))
}

pub(super) async fn revoke(
    State(page): State<Arc<Page>>,
    Json(revocation): Json<Revocation>,
) -> Result<Json<Told>, Refused> {
    let message_id = format!("revocation-{:08x}", rand::random::<u32>());
    let wire = Wire {
        subject: revocation.subject.as_deref(),
        issuer: revocation.subject.as_ref().map(|_| dev_key::ISSUER),
        connection: revocation.connection,
        grace: revocation.grace_s,
    };
    let request = Message {
        // Text and numbers cannot fail to be written.
        body: serde_json::to_vec(&wire).unwrap_or_default().into(),
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            ..Properties::default()
        },
    };
    let outcome = page
        .backend
        .ask(keys::REVOKE, One::new(request))
        .await
        .map_err(unavailable)?;
    Ok(Json(Told { message_id, outcome }))
}
