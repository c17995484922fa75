//! What an application says of a message: an answer, or why there is none.
//!
//! Pure. An application is trusted to answer in its own name and no further: it
//! cannot speak of anyone's authentication, which is ours to know, and what it says
//! is as strictly read as what clients say, because it goes to clients.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::wire::object::Object;
use shared::wire::protocol::{Details, ErrorCode, OWN_PREFIX};

use crate::handler::own::{self, GIVEN};
use crate::handler::{Along, Answers, HandlerError, Whom};
use crate::message::{self, MAX_BODY_BYTES};

/// The largest answer: as large as the largest message.
pub(in crate::handler) const MAX_ANSWER_BYTES: usize = MAX_BODY_BYTES;

/// The longest sentence of an error that is passed on.
const MAX_SENTENCE_BYTES: usize = 1_024;

/// The longest time after which a client is told to try again: what is longer was meant otherwise.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// It said something that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the application's answer is not JSON, or is too large")]
pub(in crate::handler) struct Unreadable;

/// The media type of a body that holds an answer, and what is pushed before it: `{"pushes"?: [{"to"?, "payload"}], "payload"?}`.
const ENVELOPE: &str = "application/vnd.countersign.answer+json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    pushes: Vec<Object<Pushed<'a>>>,
    #[serde(borrow, default, deserialize_with = "there")]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pushed<'a> {
    #[serde(borrow, default)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// A payload may be `null`.
fn there<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// What a body of that media type says to the message of that `id`.
pub(in crate::handler) fn said(body: &[u8], media_type: Option<&str>, id: Option<&str>) -> Result<Answers, Unreadable> {
    let is_envelope = media_type
        .and_then(|media_type| media_type.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(ENVELOPE));
    if !is_envelope {
        return answer(body, id);
    }
    let text = message::payload(body).map_err(|_| Unreadable)?;
    let Object(envelope): Object<Envelope<'_>> = serde_json::from_str(text.get()).map_err(|_| Unreadable)?;
    let pushes = envelope.pushes.into_iter().map(|Object(push)| {
        let to = match push.to.map(RawValue::get) {
            None | Some("\"connection\"") => Whom::Connection,
            Some("\"identity\"") => Whom::Identity,
            Some(_) => Whom::Others,
        };
        Answers::along(Along::to(to, push.payload.to_owned()))
    });
    let answer = match envelope.payload {
        Some(payload) => Answers::raw(Some(payload.to_owned())),
        None => handled(id),
    };
    Ok(pushes.fold(Answers::none(), Answers::and).and(answer))
}

/// Anyone who gave the message an `id` is told that it was handled, and no one else is told anything.
fn handled(id: Option<&str>) -> Answers {
    id.map_or_else(Answers::none, |_| Answers::raw(None))
}

/// The answer that this text is. With no text, anyone who gave the message an `id` is told that it was handled, and no one
/// else is told anything.
fn answer(body: &[u8], id: Option<&str>) -> Result<Answers, Unreadable> {
    if body.is_empty() {
        return Ok(handled(id));
    }
    let payload = message::payload(body).map_err(|_| Unreadable)?;
    Ok(Answers::raw(Some(payload.to_owned())))
}

/// Why there is no answer, as far as it was said: `{"code", "message", "details"?, "temporary"?, "retry_after_ms"?}`.
/// Whatever is missing, or of another shape, was not said.
#[derive(Clone, Debug, Default)]
pub(in crate::handler) struct Refusal {
    code: Option<ErrorCode>,
    /// A code that is not among ours that it may give.
    own: Option<String>,
    message: Option<String>,
    details: Option<Details>,
    temporary: Option<bool>,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(in crate::handler) fn read(body: &[u8]) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let code = members.get("code").and_then(Value::as_str);
        let sentence = members.get("message").and_then(Value::as_str);
        let retry_after_ms = members.get("retry_after_ms").and_then(Value::as_u64);
        let given = code.and_then(|code| GIVEN.into_iter().find(|known| known.as_str() == code));
        let own = code.filter(|code| given.is_none() && own::bare(code).is_some());
        Self {
            code: given,
            own: own.map(str::to_owned),
            details: raw_details(body),
            message: sentence.filter(|text| !text.is_empty()).map(shortened),
            temporary: members.get("temporary").and_then(Value::as_bool),
            retry_after: retry_after_ms.map(Duration::from_millis),
        }
    }

    /// Whether it was said in words that are meant for clients: one of ours, or one of its own under its prefix.
    pub(in crate::handler) fn is_meant(&self) -> bool {
        self.code.is_some()
            || self
                .own
                .as_deref()
                .is_some_and(|own| own.starts_with(OWN_PREFIX) || own::is_ours(own))
    }

    /// Whether it gave a code of its own.
    pub(in crate::handler) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Without what a broken program says of itself, which is for its log.
    pub(in crate::handler) fn without_words(self) -> Self {
        Self {
            own: None,
            message: None,
            details: None,
            ..self
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
        let mut error =
            HandlerError::new(self.code.unwrap_or(code), message).temporary(self.temporary.unwrap_or(usual));
        (error.own, error.details) = (self.own, self.details);
        match self.retry_after {
            Some(after) if error.temporary => error.retry_after(after.min(MAX_RETRY_AFTER)),
            _ => error,
        }
    }
}

/// Byte by byte as it was written; `null` says nothing.
fn raw_details(body: &[u8]) -> Option<Details> {
    #[derive(Deserialize)]
    struct Detailed {
        details: Option<Box<RawValue>>,
    }
    let detailed: Detailed = serde_json::from_slice(body).ok()?;
    detailed.details.map(Details)
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
    use shared::wire::protocol::ErrorBody;

    use super::*;
    use crate::handler::{Improper, Said};

    fn refused(body: &str) -> Result<ErrorBody, Improper> {
        own::to_body(Refusal::read(body.as_bytes()).or(ErrorCode::Internal, "it failed", false))
    }

    #[test]
    fn an_answer_is_one_json_text_and_an_empty_one_only_for_whoever_asked() {
        let payloads = |body: &[u8], id| {
            let answers = answer(body, id).ok()?;
            Some(
                answers
                    .said()
                    .iter()
                    .map(|said| match said {
                        Said::Reply(raw) => raw.as_ref().map(|raw| raw.get().to_owned()),
                        Said::Push(push) => panic!("{push:?}"),
                    })
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
    fn an_envelope_has_pushes_before_the_answer_in_their_order() {
        let read = |body: &str, id| {
            let answers = said(
                body.as_bytes(),
                Some("Application/Vnd.countersign.answer+json; charset=utf-8"),
                id,
            )
            .ok()?;
            let text = |one: &Said| match one {
                Said::Reply(raw) => format!("reply {}", raw.as_ref().map_or("", |raw| raw.get())),
                Said::Push(push) => format!("{:?} {}", push.to, push.payload.get()),
            };
            Some(answers.said().iter().map(text).collect::<Vec<_>>().join(", "))
        };
        let read_text = |body, id| read(body, id).unwrap();
        let full = r#"{"payload": 3, "pushes": [{"payload": {"n":1.0}}, {"to": "identity", "payload": null}, {"to":"connection","payload":2}]}"#;
        assert_eq!(
            read_text(full, None),
            r#"Connection {"n":1.0}, Identity null, Connection 2, reply 3"#
        );
        assert_eq!(read_text("{}", Some("i")), "reply ");
        assert_eq!(read_text("{}", None), "");
        assert_eq!(read_text(r#"{"payload":null}"#, None), "reply null");
        let to_others = r#"{"pushes":[{"to":{"subject":"bob"},"payload":1}]}"#;
        assert_eq!(read_text(to_others, None), "Others 1");
        for wrong in [
            "",
            "[]",
            "1",
            r#"{"pushes":[{}]}"#,
            r#"{"pushes":[[null,1]]}"#,
            "[[],1]",
            r#"{"push":[]}"#,
            r#"{"pushes":null}"#,
            "{",
        ] {
            assert_eq!(read(wrong, Some("i")), None, "{wrong}");
        }
        // Without the media type it is a payload as any other.
        assert!(
            said(full.as_bytes(), Some(shared::wire::envelope::JSON), None)
                .unwrap()
                .pushes()
                .next()
                .is_none()
        );
    }

    #[test]
    fn what_it_says_of_a_refusal_counts_and_the_rest_is_made_up_for() {
        let error = refused(r#"{"code":"forbidden","message":"not yours"}"#);
        assert_eq!(error, Ok(ErrorBody::new(ErrorCode::Forbidden, "not yours")));
        let error = refused(r#"{"code":"busy","message":"later","retry_after_ms":1500}"#);
        assert_eq!(
            error,
            Ok(ErrorBody::new(ErrorCode::Busy, "later").retry_after_ms(1_500))
        );
        let error = refused(r#"{"code":"internal","temporary":true}"#);
        assert_eq!(error, Ok(ErrorBody::new(ErrorCode::Internal, "it failed").for_now()));
        for nothing in [
            "",
            "[]",
            "<html>",
            "{}",
            r#"{"code":500,"message":["x"],"temporary":"yes"}"#,
        ] {
            assert_eq!(
                refused(nothing),
                Ok(ErrorBody::new(ErrorCode::Internal, "it failed")),
                "{nothing}"
            );
        }
    }

    #[test]
    fn no_application_speaks_of_anybodys_authentication() {
        for code in ErrorCode::ALL {
            let error = refused(&format!(r#"{{"code":"{}","message":"m"}}"#, code.as_str()));
            let expected = match GIVEN.contains(&code) {
                true => Ok(ErrorBody::new(code, "m")),
                false => Err(Improper::Reserved),
            };
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_code_of_its_own_and_details_are_passed_on_as_it_wrote_them() {
        let error = refused(r#"{"code":"out_of_stock","message":"sold","details":{"left": 1.0},"temporary":true}"#);
        let error = error.unwrap();
        assert_eq!(error.own.as_deref(), Some("app.out_of_stock"));
        assert_eq!(error.details.unwrap().0.get(), r#"{"left": 1.0}"#);
        assert!(error.temporary);
        let error = refused(r#"{"code":"busy","details":null}"#).unwrap();
        assert_eq!((error.own, error.details), (None, None));
    }

    #[test]
    fn a_sentence_is_cut_between_characters() {
        let error = refused(&format!(r#"{{"message":"x{}"}}"#, "é".repeat(2_000))).unwrap();
        assert_eq!(error.message.len(), 1_023);
    }

    proptest! {
        #[test]
        fn nothing_that_it_says_makes_us_panic(body: Vec<u8>) {
            let _ = answer(&body, None);
            let _ = said(&body, Some(ENVELOPE), None);
            let _ = Refusal::read(&body).or(ErrorCode::Busy, "", true);
        }
    }
}
