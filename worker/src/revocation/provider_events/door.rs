//! The port on which providers say so: HTTP/1.1, one request a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request as HttpRequest, Response};

use super::fault::EventFault;
use super::kind::EventKind;
use super::outcome::{self, EventOutcome};
use super::request::Request;
use super::taking::Taking;
use crate::web::server::{BodyFault, Bounds, read_body};

/// A provider says little and goes. A connection may be open for its head, its body, what is done about it, and an answer
/// that is read slowly.
pub(super) const BOUNDS: Bounds = Bounds {
    connections: 128,
    head: Duration::from_secs(5),
    keep_alive: false,
    lifetime: Duration::from_secs(20),
    grace: Duration::from_secs(2),
};

/// How long a body may be on its way.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a body, in bytes. A token is small; one with a chain of certificates in its header is not.
const MAX_BODY: usize = 64 * 1_024;

/// What is answered to a request.
pub(super) async fn answer(
    request: HttpRequest<Incoming>,
    from: SocketAddr,
    taking: Arc<Taking>,
) -> Response<Full<Bytes>> {
    let Some(kind) = EventKind::of_path(request.uri().path()) else {
        return outcome::not_found();
    };
    if request.method() != Method::POST {
        return outcome::not_allowed();
    }
    let (head, body) = request.into_parts();
    let request = match read_body(body, MAX_BODY, BODY_TIMEOUT).await {
        Ok(body) => Request::read(kind, &head.headers, &body),
        Err(BodyFault::Late) => Err(EventFault::Request("the body did not come in time")),
        Err(BodyFault::Broken) => Err(EventFault::Request("the body is broken off")),
        Err(BodyFault::TooLarge) => Err(EventFault::Request("the body is larger than 64 KiB")),
    };
    let outcome: EventOutcome = taking.take(kind, request, from.to_string()).await;
    outcome.answer(kind)
}
