//! What is answered where something is not done: a problem document of RFC 9457.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of a problem document.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// For how long a sender waits whom this worker cannot serve now.
const UNAVAILABLE_WAIT: Duration = Duration::from_secs(2);

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    detail: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// As it is written.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument<'a> {
    /// Always `about:blank`: the status says what kind of problem it is (RFC 9457, section 4.2.1).
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// What is wrong, for people.
    detail: &'a str,
}

impl Problem {
    /// With a status and what is wrong.
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            header: None,
        }
    }

    /// The request is not understood.
    pub(super) fn bad(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// It is not known who asks (RFC 6750, section 3).
    pub(super) fn unauthorized(detail: impl Into<Cow<'static, str>>, is_invalid: bool) -> Self {
        let challenge = match is_invalid {
            true => r#"Bearer realm="countersign", error="invalid_token""#,
            false => r#"Bearer realm="countersign""#,
        };
        Self::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Who asks may not.
    pub(super) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        let challenge = r#"Bearer realm="countersign", error="insufficient_scope""#;
        Self::new(StatusCode::FORBIDDEN, detail).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Other methods are the right ones.
    pub(super) fn not_allowed(allowed: &'static str) -> Self {
        let detail = "the path is known, and takes another method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// Too much is asked.
    pub(super) fn too_many(wait: Duration) -> Self {
        let detail = "more requests a second than `api-requests-per-second` allows this key";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).after(wait)
    }

    /// It cannot be done now.
    pub(super) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).after(UNAVAILABLE_WAIT)
    }

    /// What is wrong.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The same of one of many.
    pub(super) fn of(self, place: usize) -> Self {
        let detail = format!("pushes[{place}]: {}", self.detail);
        Self {
            detail: detail.into(),
            ..self
        }
    }

    fn after(self, wait: Duration) -> Self {
        // Whole seconds (RFC 9110, section 10.2.3), and never too early.
        let seconds = wait.as_millis().div_ceil(1_000).clamp(1, 3_600);
        match HeaderValue::from_str(&seconds.to_string()) {
            Ok(seconds) => self.with(RETRY_AFTER, seconds),
            Err(_) => self,
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The answer.
    pub(super) fn answer(self) -> Response<Full<Bytes>> {
        let document = ProblemDocument {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let mut response = respond(self.status, PROBLEM_JSON, json(&document));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The text of something in JSON. Nothing in it can fail to be written.
pub(super) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// An answer with a body.
pub(super) fn respond(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // It tells of people.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_early() {
        for (wait_ms, told) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (u64::MAX, "3600")] {
            let answer = Problem::too_many(Duration::from_millis(wait_ms)).answer();
            assert_eq!(answer.status().as_u16(), 429);
            assert_eq!(answer.headers()[RETRY_AFTER], told);
        }
    }
}
