//! One request, from its head to its answer. What is refused has had no effect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{HeaderMap, Request, Response, StatusCode};
use metrics::counter;
use shared::bus::{Message, Properties};
use shared::service::clock::Clock;
use shared::service::refusals::Refusals;
use shared::wire::envelope::JSON;
use tokio::time::sleep;
use tracing::info;

use super::caller::{Caller, Gate};
use super::looking;
use super::problem::{Problem, json, respond};
use super::publishing::{Publishing, Told};
use super::pushing::{BatchTold, Judge};
use super::route::{Route, decoded, query};
use crate::revocation::RevocationRules;
use crate::store::Store;
use crate::web::server::{BodyFault, Bounds, read_body};

/// Backends keep their connections, and are idle in between.
pub(super) const BOUNDS: Bounds = Bounds {
    connections: 256,
    head: Duration::from_secs(15),
    keep_alive: true,
    lifetime: Duration::from_secs(10 * 60),
    grace: Duration::from_secs(45),
};

/// How long a body may be on its way.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one waits whose key is wrong: with 256 connections that is 2,560 tries a second, at a tenth of a millisecond each
/// at worst.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(100);

/// The longest `wait`.
const LONGEST_WAIT_S: u64 = 30;

impl Route {
    /// For how many seconds it is waited, where no one says so. Who revokes wants to know that it is in force.
    pub(super) const fn wait_s(self) -> u32 {
        match self {
            Self::Revoke => 5,
            _ => 0,
        }
    }
}

/// What requests are answered with.
pub(super) struct Door {
    pub(super) gate: Gate,
    pub(super) publishing: Publishing,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// What there is to know of those who may be meant.
    pub(super) known: RevocationRules,
    /// How long after its expiry a token still counts.
    pub(super) leeway: Duration,
    pub(super) most_body: usize,
    pub(super) document: Bytes,
    pub(super) refusals: Arc<Refusals>,
}

type Answer = Result<(StatusCode, Bytes), Problem>;

impl Door {
    /// Answers a request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>, from: SocketAddr) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let (route, answer) = match Route::of(&path) {
            Some((route, name)) => (route.as_str(), self.attempt(route, name, request).await),
            None => (
                "unknown",
                Err(Problem::new(StatusCode::NOT_FOUND, "there is no such path")),
            ),
        };
        let status = match &answer {
            Ok((status, _)) => *status,
            Err(problem) => problem.status,
        };
        let label = status.as_str().to_owned();
        counter!("countersign_worker_api_requests_total", "route" => route, "status" => label).increment(1);
        match answer {
            Ok((status, body)) => respond(status, JSON, body),
            Err(problem) => {
                self.tell(&problem, from).await;
                problem.answer()
            }
        }
    }

    /// Tells the operator of those who may not, and has them wait who try keys.
    async fn tell(&self, problem: &Problem, from: SocketAddr) {
        match problem.status {
            StatusCode::UNAUTHORIZED => {
                self.refusals.tell("api_unauthorized", &from, problem.detail());
                sleep(UNKNOWN_PAUSE).await;
            }
            StatusCode::FORBIDDEN => self.refusals.tell("api_forbidden", &from, problem.detail()),
            StatusCode::TOO_MANY_REQUESTS => self.refusals.tell("api_rate", &from, problem.detail()),
            StatusCode::SERVICE_UNAVAILABLE => self.refusals.tell("api_unavailable", &from, problem.detail()),
            _ => {}
        }
    }

    async fn attempt(&self, route: Route, name: &str, request: Request<Incoming>) -> Answer {
        if !route.takes(request.method()) {
            return Err(Problem::not_allowed(route.allow()));
        }
        let (head, body) = request.into_parts();
        let caller = match route.right() {
            Some(right) => self.gate.pass(&head.headers, right)?,
            None => Caller::new(),
        };
        let asked = head.uri.query();
        let now = self.clock.now();
        match route {
            Route::Document => {
                let [] = query(asked, [])?;
                Ok((StatusCode::OK, self.document.clone()))
            }
            Route::Connections => {
                let [issuer] = query(asked, ["issuer"])?;
                let whom = (&*decoded(name)?, issuer.as_deref());
                let found = looking::connections(&*self.store, &self.known.issuers, whom, now).await?;
                Ok((StatusCode::OK, json(&found)))
            }
            Route::Explain => {
                let [] = query(asked, [])?;
                let found = looking::explain(&*self.store, &decoded(name)?, (now, self.leeway)).await?;
                Ok((StatusCode::OK, json(&found)))
            }
            Route::Push | Route::PushBatch | Route::Revoke => {
                let wait = wait(route, asked)?;
                is_json(&head.headers)?;
                let body = read_body(body, self.most_body, BODY_TIMEOUT).await.map_err(unread)?;
                match route {
                    Route::Push => self.push(&body, wait).await,
                    Route::PushBatch => self.push_batch(&body, wait).await,
                    _ => self.revoke(body, wait, &caller).await,
                }
            }
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            issuers: &self.known.issuers,
            now: self.clock.now(),
        }
    }

    async fn push(&self, body: &[u8], wait: Duration) -> Answer {
        let message = self.judge().one(body)?;
        let mut told = self.publish_pushes(vec![message], wait).await?;
        let told = told.pop().ok_or_else(|| Problem::unavailable("the worker ends"))?;
        Ok((status_of(&[&told]), json(&told)))
    }

    async fn push_batch(&self, body: &[u8], wait: Duration) -> Answer {
        let messages = self.judge().batch(body)?;
        let pushes = self.publish_pushes(messages, wait).await?;
        let status = status_of(&pushes.iter().collect::<Vec<_>>());
        Ok((status, json(&BatchTold { pushes })))
    }

    async fn publish_pushes(&self, messages: Vec<Message>, wait: Duration) -> Result<Vec<Told>, Problem> {
        let ids: Vec<_> = messages
            .iter()
            .map(|message| message.properties.message_id.clone())
            .collect();
        let queue = self.publishing.names.pushes().name;
        let mut told = self.publishing.publish(&queue, messages, wait).await?;
        for (told, id) in told.iter_mut().zip(ids) {
            told.message_id = id;
        }
        Ok(told)
    }

    async fn revoke(&self, body: Bytes, wait: Duration, caller: &str) -> Answer {
        let read = self.known.read(&body, self.clock.now());
        let revocation = read.map_err(|fault| Problem::bad(fault.to_string()))?;
        info!(by = caller, revokes = ?revocation.target, "a backend revokes");
        let message = Message {
            body,
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                ..Properties::default()
            },
        };
        let queue = self.publishing.names.revocations().name;
        let mut told = self.publishing.publish(&queue, vec![message], wait).await?;
        let told = told.pop().ok_or_else(|| Problem::unavailable("the worker ends"))?;
        match told.refusal() {
            // A status that says so: who does not look at the body must not take it for revoked.
            Some(why) => Err(Problem::unavailable(why.to_owned())),
            None => Ok((status_of(&[&told]), json(&told))),
        }
    }
}

/// Whether all is told.
fn status_of(told: &[&Told]) -> StatusCode {
    match told.iter().any(|told| told.is_accepted()) {
        true => StatusCode::ACCEPTED,
        false => StatusCode::OK,
    }
}

fn wait(route: Route, asked: Option<&str>) -> Result<Duration, Problem> {
    let [wait] = query(asked, ["wait"])?;
    let seconds = match wait {
        None => u64::from(route.wait_s()),
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| *seconds <= LONGEST_WAIT_S && text.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| Problem::bad(format!("`wait` is a number of seconds, 0 to {LONGEST_WAIT_S}")))?,
    };
    Ok(Duration::from_secs(seconds))
}

/// RFC 9110, section 8.3.1: compared without case, whatever its parameters. And as it is: nothing here is unpacked (section 8.4).
fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    if headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| coding != "identity")
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "want a body without a `Content-Encoding`",
        ));
    }
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let told = match (all.next(), all.next()) {
        (Some(told), None) => told.to_str().unwrap_or_default(),
        _ => "",
    };
    let told = told.split(';').next().unwrap_or_default().trim();
    match told.eq_ignore_ascii_case(JSON) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "want a body with `Content-Type: application/json`",
        )),
    }
}

fn unread(fault: BodyFault) -> Problem {
    match fault {
        BodyFault::Late => Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        BodyFault::Broken => Problem::bad("the body is broken off"),
        BodyFault::TooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than `api-max-body-size`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_whole_number_of_seconds() {
        assert_eq!(wait(Route::Push, None), Ok(Duration::ZERO));
        assert_eq!(wait(Route::Revoke, None), Ok(Duration::from_secs(5)));
        assert_eq!(wait(Route::Revoke, Some("wait=0")), Ok(Duration::ZERO));
        assert_eq!(wait(Route::Push, Some("wait=30")), Ok(Duration::from_secs(30)));
        for wrong in [
            "wait=31",
            "wait=",
            "wait=%2B1",
            "wait=1.5",
            "wait=-1",
            "wait=1&wait=1",
            "w=1",
        ] {
            assert!(wait(Route::Push, Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_is_json_by_its_one_type() {
        let of = |types: &[&str]| {
            let mut headers = HeaderMap::new();
            for one in types {
                headers.append(CONTENT_TYPE, one.parse().unwrap());
            }
            is_json(&headers).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(of(&["application/json"]), Ok(()));
        assert_eq!(of(&["Application/JSON; charset=utf-8"]), Ok(()));
        for (coding, expected) in [("identity", Ok(())), ("gzip", Err(415))] {
            let mut headers = HeaderMap::new();
            headers.append(CONTENT_TYPE, JSON.parse().unwrap());
            headers.append(CONTENT_ENCODING, coding.parse().unwrap());
            let told = is_json(&headers).map_err(|problem| problem.status.as_u16());
            assert_eq!(told, expected, "{coding}");
        }
        for wrong in [
            &[][..],
            &["text/plain"],
            &["application/json", "application/json"],
            &["application/jsonp"],
        ] {
            assert_eq!(of(wrong), Err(415), "{wrong:?}");
        }
    }
}
