//! Messages for an application behind a URL: `http:URL`.
//!
//! One POST for each message, and its response is the answer. It goes to the
//! configured URL and nowhere else, over connections that are kept and used again.
//! What is tried again, and when, is in `retry`; what a response means, in `response`.
//! While all of the worker's places for such messages wait for the application, others wait for a place, as `places` tells.

mod response;
mod retry;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use rustls::RootCertStore;
use shared::wire::envelope::JSON;
use shared::wire::protocol::{Effect, ErrorCode};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::response::Status;
use super::upstream::metrics::{CallOutcome, Calls};
use super::upstream::reply::{self, MAX_ANSWER_BYTES, Unreadable};
use super::upstream::request;
use super::{Answers, Handler, HandlerError, Presence, Request};
use crate::config::UpstreamUrl;
use crate::web::{self, NoClient};

/// By this the application knows a message that comes again: a draft of the IETF's HTTPAPI working group, and usage.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How long the message's sender still waits, in milliseconds, if they have said so.
const TIMEOUT_MS: &str = "timeout-ms";

/// For a connection, TLS included. Its application is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an unused connection is kept: shorter than servers keep them (Node: 5 s), so that none is closed while
/// something is on its way.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Where messages are posted, and by what: all that can be wrong before there is a worker.
pub(crate) struct Target {
    client: Client,
    /// Uses no connection that was used before.
    fresh: Client,
    url: Url,
}

/// Posts messages.
pub(crate) struct Http {
    target: Target,
    calls: Calls,
    /// Whether there was no connection at the last call.
    away: AtomicBool,
}

/// What came of one request.
#[derive(Debug)]
enum Posted {
    /// A response, whole.
    Response(Status, Body),
    /// There is no connection, and nothing was sent; and why.
    Unconnected(String),
    /// The connection ended before there was any response.
    Unanswered,
    /// The connection broke within a response.
    Broken,
    /// The response is too large.
    TooLarge,
}

/// What a response says.
#[derive(Debug)]
struct Body {
    bytes: Bytes,
    media_type: Option<String>,
}

impl Target {
    /// An application that is asked by at most so many at a time.
    ///
    /// # Errors
    /// If there is no TLS.
    pub(crate) fn new(url: &UpstreamUrl, concurrency: usize) -> Result<Self, NoClient> {
        let roots = if url.is_secure() {
            web::authorities("the application")
        } else {
            RootCertStore::empty()
        };
        let client = |most_idle: usize| {
            let client = web::client(roots.clone(), CONNECT_TIMEOUT)?
                .user_agent(concat!("countersign-worker/", env!("CARGO_PKG_VERSION")))
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(most_idle);
            client.build().map_err(NoClient::from)
        };
        Ok(Self {
            client: client(concurrency)?,
            fresh: client(0)?,
            url: url.expose().clone(),
        })
    }

    async fn post(&self, client: &Client, body: Bytes, headers: &[(&'static str, String)]) -> Posted {
        let mut request = client.post(self.url.clone()).body(body);
        request = request.header(CONTENT_TYPE, JSON).header(ACCEPT, JSON);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => match broken(error) {
                Posted::Broken => Posted::Unanswered,
                unconnected => unconnected,
            },
        }
    }
}

impl Http {
    /// `limit` is when a call is cancelled because it took too long.
    pub(crate) fn begin(target: Target, limit: Duration) -> Self {
        Self {
            target,
            calls: Calls::new(limit),
            away: AtomicBool::new(false),
        }
    }

    /// Tells an operator that the application has gone, or has come, once for each.
    fn tell(&self, posted: &Posted) {
        let reason = match posted {
            Posted::Unconnected(reason) => Some(reason),
            Posted::Response(..) | Posted::Unanswered | Posted::Broken | Posted::TooLarge => None,
        };
        match (self.away.swap(reason.is_some(), Ordering::Relaxed), reason) {
            (false, Some(reason)) => warn!(reason, "cannot connect to the application; clients are told `busy`"),
            (true, None) => info!("connected to the application again"),
            _ => {}
        }
    }

    /// Posts until there is something to say.
    async fn ask(&self, request: &Request<'_>) -> Posted {
        let (body, key) = (request::body(request), request.idempotency_key());
        let (since, mut tries) = (Instant::now(), 1);
        let mut client = &self.target.client;
        let mut headers = request.trace_headers();
        headers.extend(key.clone().map(|key| (IDEMPOTENCY_KEY, key)));
        loop {
            let mut headers = headers.clone();
            let left = request.time_left.map(|left| left.saturating_sub(since.elapsed()));
            headers.extend(left.map(|left| (TIMEOUT_MS, left.as_millis().to_string())));
            let posted = self.target.post(client, body.clone(), &headers).await;
            let pause = match &posted {
                Posted::Unconnected(_) => retry::after_no_connection(tries),
                Posted::Response(status, _) => retry::after_response(tries, *status, key.is_some()),
                // It may have ended before the request came, as it does where an application closes what it has just answered on.
                Posted::Unanswered => retry::after_no_answer(tries, key.is_some()),
                Posted::Broken | Posted::TooLarge => None,
            };
            if matches!(posted, Posted::Unanswered) {
                client = &self.target.fresh;
            }
            let Some(pause) = pause else {
                self.tell(&posted);
                return posted;
            };
            self.calls.retried();
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }
}

async fn read(mut response: Response) -> Posted {
    let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
    let retry_after = header(RETRY_AFTER).and_then(|text| response::wait(text, header(DATE), SystemTime::now()));
    let status = Status {
        code: response.status().as_u16(),
        retry_after,
    };
    let media_type = response.headers().get(CONTENT_TYPE);
    let media_type = media_type.and_then(|text| text.to_str().ok()).map(str::to_owned);
    let mut content = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if content.len() + chunk.len() > MAX_ANSWER_BYTES => return Posted::TooLarge,
            Ok(Some(chunk)) => content.extend_from_slice(&chunk),
            Ok(None) => {
                let bytes = content.freeze();
                return Posted::Response(status, Body { bytes, media_type });
            }
            Err(error) => return broken(error),
        }
    }
}

fn broken(error: reqwest::Error) -> Posted {
    let unconnected = error.is_connect();
    // There may be a password in the URL.
    let reason = web::reason(&error.without_url());
    debug!(reason, "the application could not be asked");
    if unconnected {
        Posted::Unconnected(reason)
    } else {
        Posted::Broken
    }
}

impl Handler for Http {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        let call = self.calls.begin(request.time_left);
        let (outcome, said) = match self.ask(&request).await {
            Posted::Response(status, body) if status.is_success() => {
                match reply::said(&body.bytes, body.media_type.as_deref(), request.id) {
                    Ok(answers) => (CallOutcome::Answered, Ok(answers)),
                    Err(Unreadable) => (CallOutcome::InvalidResponse, Err(unreadable())),
                }
            }
            Posted::Response(status, body) => (status.outcome(), Err(status.refusal(&body.bytes))),
            Posted::Unconnected(_) => (CallOutcome::Unreachable, Err(away().having(Effect::None))),
            Posted::Unanswered | Posted::Broken => (CallOutcome::Unreachable, Err(away().having(Effect::Unknown))),
            Posted::TooLarge => (CallOutcome::InvalidResponse, Err(unreadable())),
        };
        call.end(outcome);
        said
    }
}

fn unreadable() -> HandlerError {
    HandlerError::new(ErrorCode::Internal, Unreadable.to_string()).having(Effect::Unknown)
}

fn away() -> HandlerError {
    HandlerError::new(ErrorCode::Busy, "the application cannot be reached at the moment").showing(Presence::Silent)
}
