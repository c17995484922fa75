//! From what was found out to the bytes that go back.
//!
//! Each request gets at least one answer, even if it has nothing to say: the
//! terminator's share in flight and its drain rest on that. An empty body is
//! such a settlement.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::service::clock::Timestamp;
use shared::wire::protocol::{AuthBody, ErrorBody, ErrorCode, ServerKind, ServerMessage};
use shared::wire::request_id::RequestId;

use crate::handler::{Answers, Said};
use crate::message::ResumeKey;
use crate::token::Verified;

/// A fresh token should come when this much of the lifetime is over: 80 %, so that
/// of 5 minutes there is one left for a slow issuer.
const REFRESH_PERCENT: u64 = 80;

/// What the connection's authentication has become by a token.
pub(crate) fn auth(verified: &Verified, resume: &ResumeKey, idempotency: Option<Duration>, now: Timestamp) -> AuthBody {
    AuthBody {
        subject: verified.identity.subject.as_str().to_owned(),
        expires_in: expires_in(verified, now),
        refresh_in: refresh_in(verified, now),
        resume: resume.to_string(),
        idempotency: idempotency.map(|window| window.as_secs()),
        recovered: None,
        missed: None,
    }
}

/// Seconds until a fresh token should come.
pub(crate) fn refresh_in(verified: &Verified, now: Timestamp) -> u64 {
    refresh_of(expires_in(verified, now))
}

fn expires_in(verified: &Verified, now: Timestamp) -> u64 {
    verified.expires_at.saturating_since(now).as_secs()
}

const fn refresh_of(expires_in: u64) -> u64 {
    // Divided first, so that an `exp` far away does not overflow; the rest keeps it exact.
    expires_in / 100 * REFRESH_PERCENT + expires_in % 100 * REFRESH_PERCENT / 100
}

/// The bodies of what a handler said, at least one. The first answer tells what the authentication has become.
pub(crate) fn replies(id: Option<&RequestId<'_>>, answers: &Answers, auth: Option<&AuthBody>) -> Vec<Bytes> {
    let mut auth = auth;
    let said = answers.said().iter().map(|said| match said {
        Said::Push(push) => push_of(&push.id, &push.payload),
        Said::Reply(payload) => body(&ServerMessage {
            kind: ServerKind::Reply,
            id: id.map(RequestId::borrowed),
            payload: payload.as_deref(),
            error: None,
            auth: auth.take(),
        }),
    });
    let mut bodies: Vec<Bytes> = said.collect();
    if let Some(auth) = auth {
        bodies.push(auth_ok(id, Some(auth)));
    } else if bodies.is_empty() {
        bodies.push(Bytes::new());
    }
    bodies
}

/// The body of a push.
pub(crate) fn push_of(id: &str, payload: &RawValue) -> Bytes {
    body(&ServerMessage {
        kind: ServerKind::Push,
        id: Some(RequestId::text(id)),
        payload: Some(payload),
        error: None,
        auth: None,
    })
}

/// The body of a refusal.
pub(crate) fn error(id: Option<&RequestId<'_>>, error: &ErrorBody, auth: Option<&AuthBody>) -> Bytes {
    body(&ServerMessage {
        auth,
        ..ServerMessage::error(id.map(RequestId::borrowed), error)
    })
}

/// What is told instead of an answer that the broker does not take.
pub(crate) fn unpublishable(id: Option<&RequestId<'_>>) -> Bytes {
    let sentence = "the answer cannot be delivered: it may be larger than the broker takes";
    error(id, &ErrorBody::new(ErrorCode::Internal, sentence), None)
}

/// The body that says only what the connection's authentication has become; none if it has none any more.
pub(crate) fn auth_ok(id: Option<&RequestId<'_>>, auth: Option<&AuthBody>) -> Bytes {
    body(&ServerMessage {
        kind: ServerKind::AuthOk,
        id: id.map(RequestId::borrowed),
        payload: None,
        error: None,
        auth,
    })
}

fn body(message: &ServerMessage<'_>) -> Bytes {
    message.to_json().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_fresh_token_is_wanted_before_the_old_one_expires(expires_in: u64) {
            let refresh_in = refresh_of(expires_in);
            prop_assert!(refresh_in <= expires_in);
            prop_assert_eq!(u128::from(refresh_in), u128::from(expires_in) * 80 / 100);
        }
    }

    #[test]
    fn there_is_always_an_answer_and_only_a_settlement_is_empty() {
        assert_eq!(
            replies(Some(&RequestId::text("i")), &Answers::none(), None),
            [Bytes::new()]
        );
        assert_eq!(
            replies(Some(&RequestId::text("i")), &Answers::raw(None), None),
            [r#"{"type":"reply","id":"i"}"#]
        );
    }
}
