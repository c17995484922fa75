//! What became of an event, and how its sender is told, as each kind's own specification has it: pure.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::fault::EventFault;
use super::kind::EventKind;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventOutcome {
    /// It is in the store, and in force.
    Revoked,
    /// It is good, and takes nothing back.
    Ignored,
    /// It is not.
    Refused(EventFault),
    /// That cannot be found out or done now.
    Away(&'static str),
}

impl EventOutcome {
    /// A word for it, for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Ignored => "ignored",
            Self::Refused(_) => "refused",
            Self::Away(_) => "unavailable",
        }
    }

    /// The answer to it.
    pub(super) fn answer(self, kind: EventKind) -> Response<Full<Bytes>> {
        match self {
            Self::Revoked | Self::Ignored => empty(match kind {
                // Back-Channel Logout §2.8, RFC 8935 §2.2, and the draft of Global Token Revocation.
                EventKind::Logout => StatusCode::OK,
                EventKind::SecurityEvent => StatusCode::ACCEPTED,
                EventKind::GlobalRevocation => StatusCode::NO_CONTENT,
            }),
            Self::Refused(fault) if kind == EventKind::GlobalRevocation && fault.is_of_sender() => {
                let answer = told(
                    StatusCode::UNAUTHORIZED,
                    body(kind, "invalid_token", &fault.to_string()),
                );
                with(answer, WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)
            }
            Self::Refused(fault) => told(StatusCode::BAD_REQUEST, body(kind, fault.code(), &fault.to_string())),
            Self::Away(why) => {
                let answer = told(
                    StatusCode::SERVICE_UNAVAILABLE,
                    body(kind, "temporarily_unavailable", why),
                );
                with(answer, RETRY_AFTER, "2")
            }
        }
    }
}

/// The answer to a request for something that is not here.
pub(super) fn not_found() -> Response<Full<Bytes>> {
    empty(StatusCode::NOT_FOUND)
}

/// The answer to a request that is no `POST`.
pub(super) fn not_allowed() -> Response<Full<Bytes>> {
    with(empty(StatusCode::METHOD_NOT_ALLOWED), ALLOW, "POST")
}

/// RFC 8935 §2.3, and for the others RFC 6749 §5.2, as Back-Channel Logout §2.8 has it.
fn body(kind: EventKind, code: &str, text: &str) -> Value {
    match kind {
        EventKind::SecurityEvent => json!({"err": code, "description": text}),
        EventKind::Logout | EventKind::GlobalRevocation => json!({"error": code, "error_description": text}),
    }
}

fn told(status: StatusCode, body: Value) -> Response<Full<Bytes>> {
    let answer = respond(status, Bytes::from(body.to_string()));
    with(answer, CONTENT_TYPE, "application/json")
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    respond(status, Bytes::new())
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    with(with(answer, CACHE_CONTROL, "no-store"), CONNECTION, "close")
}

fn with(mut answer: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Reason, Rejection};

    #[test]
    fn each_kind_is_told_by_the_status_of_its_own_specification() {
        let status = |outcome: EventOutcome, kind| outcome.answer(kind).status().as_u16();
        let (forged, nobody) = (
            EventOutcome::Refused(Rejection::Invalid(Reason::Signature).into()),
            EventOutcome::Refused(EventFault::NoSubject),
        );
        for (kind, all) in [
            (EventKind::Logout, [200, 200, 400, 400, 503]),
            (EventKind::SecurityEvent, [202, 202, 400, 400, 503]),
            (EventKind::GlobalRevocation, [204, 204, 401, 400, 503]),
        ] {
            let outcomes = [
                EventOutcome::Revoked,
                EventOutcome::Ignored,
                forged,
                nobody,
                EventOutcome::Away("x"),
            ];
            assert_eq!(outcomes.map(|outcome| status(outcome, kind)), all, "{kind:?}");
        }
    }

    #[test]
    fn an_error_has_a_code_and_a_text() {
        let forged: EventFault = Rejection::Invalid(Reason::Signature).into();
        assert_eq!(forged.code(), "invalid_key");
        assert_eq!(
            EventFault::from(Rejection::Invalid(Reason::Issuer)).code(),
            "invalid_issuer"
        );
        assert_eq!(EventFault::Audience.code(), "invalid_audience");
        assert_eq!(
            body(EventKind::SecurityEvent, "a", "b"),
            json!({"err": "a", "description": "b"})
        );
        assert_eq!(
            body(EventKind::Logout, "a", "b"),
            json!({"error": "a", "error_description": "b"})
        );
    }
}
