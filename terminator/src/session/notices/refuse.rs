//! Telling a client that its message goes no further: the broker would not take it, or the connection ends first.
//!
//! The one time that the terminator looks into a message: the refusal names it by its `id`.

use bytes::Bytes;
use serde::Deserialize;
use shared::bus::PublishError;
use shared::wire::object::Object;
use shared::wire::protocol::{ErrorBody, ErrorCode, MAX_ID_BYTES, ServerMessage};
use shared::wire::request_id::RequestId;

use crate::connection::close_reason::CloseReason;

/// When to try again: a broker takes some 5 s to restart.
const RETRY_AFTER_MS: u64 = 5_000;

/// The same for what the store has lost, which is there again.
const LOST_RETRY_AFTER_MS: u64 = 1_000;

#[derive(Deserialize)]
struct IdOnly {
    id: Option<RequestId<'static>>,
}

/// The refusal of the message `body`.
pub(crate) fn refusal(body: &[u8], error: PublishError) -> Bytes {
    let sentence = match error {
        PublishError::Unroutable => "there is no queue for messages at the moment",
        PublishError::Refused => "the queue is full",
        PublishError::Away => "the queue cannot be reached; the message may or may not have been processed",
        PublishError::Ended => "the server is shutting down",
        PublishError::Malformed => "the message cannot be put into the queue",
    };
    let body_of_error = match error {
        PublishError::Malformed => ErrorBody::new(ErrorCode::Internal, sentence),
        _ => ErrorBody::new(ErrorCode::Busy, sentence).retry_after_ms(RETRY_AFTER_MS),
    };
    naming(body, &body_of_error)
}

/// The refusal of the message `body`, because its connection is closed for its authentication.
pub(crate) fn unauthenticated(body: &[u8]) -> Bytes {
    let sentence = "the connection was closed for its authentication before the message could be decided";
    naming(body, &ErrorBody::new(ErrorCode::AuthRequired, sentence))
}

/// The refusal of the message `body`, which was not forwarded before its connection ended like that.
pub(crate) fn unforwarded(body: &[u8], ending: CloseReason) -> Bytes {
    if ending.is_for_authentication() {
        return unauthenticated(body);
    }
    let sentence = "the connection was closed before the message was forwarded";
    naming(body, &ErrorBody::new(ErrorCode::Busy, sentence))
}

/// The refusal of the message `body`, which no one could decide.
pub(crate) fn undecided(body: &[u8]) -> Bytes {
    naming(
        body,
        &ErrorBody::new(ErrorCode::Internal, "the message could not be decided"),
    )
}

/// The refusal of a message of which no one knows any more what it said, nor its `id`.
pub(crate) fn cannot_be_read() -> Bytes {
    let error = ErrorBody::new(ErrorCode::Internal, "the message cannot be read");
    ServerMessage::error(None, &error).to_json().into()
}

/// The refusal of a message that was held under that name, and that the hold has lost.
pub(crate) fn lost_from_hold(id: Option<&RequestId<'_>>) -> Bytes {
    let sentence = "the message waited for a fresh token and was lost meanwhile; send it again";
    let error = ErrorBody::new(ErrorCode::Busy, sentence).retry_after_ms(LOST_RETRY_AFTER_MS);
    ServerMessage::error(id.map(RequestId::borrowed), &error)
        .to_json()
        .into()
}

/// An error that names the message `body` by its `id`, if that can be found.
fn naming(body: &[u8], error: &ErrorBody) -> Bytes {
    let found = serde_json::from_slice::<Object<IdOnly>>(body);
    let id = found.ok().and_then(|Object(found)| found.id);
    let id = id.filter(|id| id.as_str().len() <= MAX_ID_BYTES);
    ServerMessage::error(id, error).to_json().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(body: &str, error: PublishError) -> serde_json::Value {
        serde_json::from_slice(&refusal(body.as_bytes(), error)).unwrap()
    }

    #[test]
    fn a_refusal_names_its_message_and_says_that_it_is_temporary() {
        let told = told(r#"{"type":"x","id":"a\u0062"}"#, PublishError::Away);
        assert_eq!(told["id"], "ab");
        assert_eq!(told["error"]["code"], "busy");
        assert_eq!(told["error"]["temporary"], true);
    }

    #[test]
    fn an_integer_comes_back_as_it_came() {
        assert_eq!(told(r#"{"id":7,"type":"x"}"#, PublishError::Away)["id"], 7);
    }

    #[test]
    fn a_message_without_a_usable_id_is_refused_all_the_same() {
        for body in [
            "",
            "[]",
            r#"["a"]"#,
            r#"{"id":1.5}"#,
            r#"{"id":null}"#,
            r#"{"id":"a","id":"b"}"#,
        ] {
            let told = told(body, PublishError::Refused);
            assert_eq!(
                (told.get("id"), &told["error"]["code"]),
                (None, &"busy".into()),
                "{body}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_body_can_be_refused(body: String) {
            told(&body, PublishError::Unroutable);
        }
    }
}
