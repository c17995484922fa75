//! A message as an application reads it: one JSON text, without the token.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::wire::id::ConnectionId;

use crate::handler::Request;

/// The members in their order. What the message does not have is left out.
#[derive(Serialize)]
struct Asking<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// `null` for a public message that is no one's.
    identity: Option<Identity<'a>>,
    claims: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
}

/// Who sent something: as applications and, with what is relayed, clients read it.
#[derive(Serialize)]
pub(in crate::handler) struct Identity<'a> {
    issuer: &'a str,
    subject: &'a str,
}

impl<'a> Identity<'a> {
    pub(in crate::handler) fn of(request: &Request<'a>) -> Self {
        Self {
            issuer: request.identity.issuer.as_str(),
            subject: request.identity.subject.as_str(),
        }
    }
}

/// The JSON text.
pub(in crate::handler) fn body(request: &Request<'_>) -> Bytes {
    let asking = Asking {
        id: request.id,
        kind: request.kind,
        payload: request.payload,
        identity: (!request.identity.is_anonymous()).then(|| Identity::of(request)),
        claims: request.claims,
        connection: request.forwarded_id.map(|forwarded_id| forwarded_id.connection),
    };
    // All of it came as JSON, so it can be written as JSON.
    serde_json::to_vec(&asking).unwrap_or_default().into()
}
