//! What an application says of a message: an answer, or why there is none.
//!
//! Pure. An application is trusted to answer in its own name and no further: it
//! cannot speak of anybody's authentication, which is ours to know, and what it says
//! is as strictly read as what clients say, because it goes to clients.

use std::time::Duration;

use serde_json::{Map, Value};
use shared::protocol::ErrorCode;

use crate::handler::{Answers, HandlerError};
use crate::message::{self, MAX_BODY_BYTES};

/// The largest answer: as large as the largest message.
pub(in crate::handler) const MAX_ANSWER_BYTES: usize = MAX_BODY_BYTES;

/// The longest sentence of an error that is passed on.
const MAX_SENTENCE_BYTES: usize = 1_024;

/// The longest time after which a client is told to try again: what is longer was meant otherwise.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The codes that are an application's to give.
const CODES: [ErrorCode; 6] = [
    ErrorCode::BadRequest,
    ErrorCode::Forbidden,
    ErrorCode::RateLimited,
    ErrorCode::TooLarge,
    ErrorCode::Busy,
    ErrorCode::Internal,
];

/// It said something that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the application's answer is not JSON, or is too large")]
pub(in crate::handler) struct Unreadable;

/// The answer that this text is. With no text, whoever gave the message an `id` is told that it was handled, and nobody
/// else is told anything.
pub(in crate::handler) fn answer(body: &[u8], id: Option<&str>) -> Result<Answers, Unreadable> {
    if body.is_empty() {
        return Ok(id.map_or_else(Answers::none, |_| Answers::raw(None)));
    }
    let payload = message::payload(body).map_err(|_| Unreadable)?;
    Ok(Answers::raw(Some(payload.to_owned())))
}

/// Why there is no answer, as far as it was said: `{"code", "message", "temporary"?, "retry_after_ms"?}`. Whatever is
/// missing, or of another shape, was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::handler) struct Refusal {
    pub(in crate::handler) code: Option<ErrorCode>,
    pub(in crate::handler) message: Option<String>,
    temporary: Option<bool>,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(in crate::handler) fn read(body: &[u8]) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let code = members.get("code").and_then(Value::as_str);
        let sentence = members.get("message").and_then(Value::as_str);
        let retry_after_ms = members.get("retry_after_ms").and_then(Value::as_u64);
        Self {
            code: code.and_then(|code| CODES.into_iter().find(|known| known.as_str() == code)),
            message: sentence.filter(|text| !text.is_empty()).map(shortened),
            temporary: members.get("temporary").and_then(Value::as_bool),
            retry_after: retry_after_ms.map(Duration::from_millis),
        }
    }

    /// Adds when to try again, unless that was said.
    pub(in crate::handler) fn or_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = self.retry_after.or(after);
        self
    }

    /// What the client is told, where these stand in for what was not said.
    pub(in crate::handler) fn or(self, code: ErrorCode, message: &str, temporary: bool) -> HandlerError {
        // A code of its own is as temporary as it says, or as such codes are.
        let usual = self.code.map_or(temporary, ErrorCode::is_temporary);
        let message = self.message.unwrap_or_else(|| message.to_owned());
        let error = HandlerError::new(self.code.unwrap_or(code), message).temporary(self.temporary.unwrap_or(usual));
        match self.retry_after {
            Some(after) if error.temporary => error.retry_after(after.min(MAX_RETRY_AFTER)),
            _ => error,
        }
    }
}

fn shortened(text: &str) -> String {
    let most = text.len().min(MAX_SENTENCE_BYTES);
    let ends = (0..=most).rev();
    let cut = ends.filter_map(|end| text.get(..end)).next();
    cut.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &str) -> HandlerError {
        Refusal::read(body.as_bytes()).or(ErrorCode::Internal, "it failed", false)
    }

    #[test]
    fn an_answer_is_one_json_text_and_an_empty_one_only_for_whoever_asked() {
        let payloads = |body: &[u8], id| {
            let answers = answer(body, id).ok()?;
            Some(
                answers
                    .payloads()
                    .iter()
                    .map(|raw| raw.as_ref().map(|raw| raw.get().to_owned()))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            payloads(br#" {"a":1} "#, None),
            Some(vec![Some(r#"{"a":1}"#.to_owned())])
        );
        assert_eq!(payloads(b"null", Some("i")), Some(vec![Some("null".to_owned())]));
        assert_eq!(payloads(b"", Some("i")), Some(vec![None]));
        assert_eq!(payloads(b"", None), Some(vec![]));
        let deep = [vec![b'['; 200], vec![b']'; 200]].concat();
        for garbage in [
            &b"<html>"[..],
            b"{} {}",
            b"\xff",
            b"\"\\ud800\"",
            &deep,
            &vec![b' '; MAX_ANSWER_BYTES + 1],
        ] {
            assert_eq!(payloads(garbage, Some("i")), None);
        }
    }

    #[test]
    fn what_it_says_of_a_refusal_counts_and_the_rest_is_made_up_for() {
        let error = refused(r#"{"code":"forbidden","message":"not yours"}"#);
        assert_eq!(error, HandlerError::new(ErrorCode::Forbidden, "not yours"));
        let error = refused(r#"{"code":"busy","message":"later","retry_after_ms":1500}"#);
        assert_eq!(
            error,
            HandlerError::new(ErrorCode::Busy, "later").retry_after(Duration::from_millis(1_500))
        );
        let error = refused(r#"{"code":"internal","temporary":true}"#);
        assert_eq!(
            error,
            HandlerError::new(ErrorCode::Internal, "it failed").temporary(true)
        );
        for nothing in [
            "",
            "[]",
            "<html>",
            "{}",
            r#"{"code":500,"message":["x"],"temporary":"yes"}"#,
        ] {
            assert_eq!(
                refused(nothing),
                HandlerError::new(ErrorCode::Internal, "it failed"),
                "{nothing}"
            );
        }
    }

    #[test]
    fn no_application_speaks_of_anybodys_authentication() {
        for code in ErrorCode::ALL {
            let error = refused(&format!(r#"{{"code":"{}","message":"m"}}"#, code.as_str()));
            let expected = if CODES.contains(&code) {
                code
            } else {
                ErrorCode::Internal
            };
            assert_eq!((error.code, &*error.message), (expected, "m"));
        }
    }

    #[test]
    fn a_sentence_is_cut_between_characters() {
        let error = refused(&format!(r#"{{"message":"x{}"}}"#, "é".repeat(2_000)));
        assert_eq!(error.message.len(), 1_023);
    }

    proptest! {
        #[test]
        fn nothing_that_it_says_makes_us_panic(body: Vec<u8>) {
            let _ = answer(&body, None);
            let _ = Refusal::read(&body).or(ErrorCode::Busy, "", true);
        }
    }
}
