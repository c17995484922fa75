//! Pushes, from the body of a request to what is published: pure.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::bus::{Message, Properties, Value};
use shared::service::chance;
use shared::service::clock::Timestamp;
use shared::wire::envelope::JSON;
use shared::wire::object::Object;
use shared::wire::protocol::ErrorCode;
use utoipa::ToSchema;

use super::problem::Problem;
use super::publishing::Told;
use crate::auth::identity::Issuer;
use crate::outbound::pushes::push::{CONNECTION, EXCEPT, Fault, ISSUER, SUBJECT};
use crate::outbound::pushes::subjects::{SUBJECTS, check};

/// The most pushes of a batch.
const MOST_PUSHES: usize = 1_000;
/// The longest `expiration_ms`: a day, and more than anything is held.
const MOST_EXPIRATION_MS: u64 = 24 * 60 * 60 * 1_000;

/// A push: for one of `subject`, `subjects` and `connection`. A member that is null is absent, but for `payload`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Push {
    /// The subject of an identity, as in the claim `sub`: each of its live connections, or its next one.
    subject: Option<String>,
    /// Several subjects: the same push for each of them.
    #[schema(min_items = 1, max_items = 1_000)]
    subjects: Option<Vec<String>>,
    /// The issuer of the subject, as in the claim `iss`; needed if workers accept several.
    issuer: Option<String>,
    /// One connection, while it is open.
    connection: Option<String>,
    /// A connection that is left out.
    except: Option<String>,
    /// The push's `id`, at most 128 bytes, by which it is known if it comes twice: write one to repeat a request that failed.
    /// Without it, one is drawn.
    message_id: Option<String>,
    /// How long it may wait for a connection, in milliseconds; 0: it is only for those who are connected now.
    #[schema(minimum = 0, maximum = 86_400_000)]
    expiration_ms: Option<u64>,
    /// What clients get: any JSON.
    #[schema(value_type = Payload)]
    payload: Box<RawValue>,
}

/// Any JSON.
#[derive(ToSchema)]
#[schema(value_type = serde_json::Value)]
pub(super) struct Payload(#[expect(dead_code, reason = "it stands in the document alone")] serde_json::Value);

/// Several pushes, which are sent in their order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// The pushes.
    #[schema(min_items = 1, max_items = 1_000, value_type = Vec<Push>)]
    pushes: Vec<Object<Push>>,
}

/// What has become of several pushes.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchTold {
    /// In the order of the request.
    pub(super) pushes: Vec<Told>,
}

/// By what pushes are judged.
pub(super) struct Judge<'a> {
    pub(super) issuers: &'a [Issuer],
    pub(super) now: Timestamp,
}

impl Judge<'_> {
    /// The push in a body.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn one(&self, body: &[u8]) -> Result<Message, Problem> {
        self.message(read(body)?)
    }

    /// The pushes in a body.
    ///
    /// # Errors
    /// What is wrong with the first that is wrong.
    pub(super) fn batch(&self, body: &[u8]) -> Result<Vec<Message>, Problem> {
        let Batch { pushes } = read(body)?;
        if pushes.is_empty() || pushes.len() > MOST_PUSHES {
            return Err(Problem::bad(format!("`pushes` has 1 to {MOST_PUSHES} of them")));
        }
        let messages = pushes.into_iter().enumerate();
        messages
            .map(|(place, Object(push))| self.message(push).map_err(|problem| problem.of(place)))
            .collect()
    }

    fn message(&self, push: Push) -> Result<Message, Problem> {
        let Push {
            subject,
            subjects,
            issuer,
            connection,
            except,
            message_id,
            expiration_ms,
            payload,
        } = push;
        if expiration_ms.is_some_and(|ms| ms > MOST_EXPIRATION_MS) {
            return Err(Problem::bad(format!("`expiration_ms` is at most {MOST_EXPIRATION_MS}")));
        }
        if connection.is_some() && issuer.is_some() {
            return Err(Problem::bad("`issuer` goes with `subject` or `subjects` only"));
        }
        let subjects = subjects.map(|all| serde_json::to_string(&all).unwrap_or_default());
        let headers = [
            (SUBJECT, subject),
            (SUBJECTS, subjects),
            (ISSUER, issuer),
            (CONNECTION, connection),
            (EXCEPT, except),
        ];
        let headers = headers
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Value::Text(text?))));
        let id = message_id.filter(|id| !id.is_empty());
        let message = Message {
            body: Bytes::from(String::from(Box::<str>::from(payload))),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                message_id: Some(id.unwrap_or_else(|| format!("{:032x}", chance::bits()))),
                expiration: expiration_ms.map(Duration::from_millis),
                headers: headers.collect(),
                ..Properties::default()
            },
        };
        check(&message, self.issuers, self.now).map_err(|fault| refused(&fault))?;
        Ok(message)
    }
}

fn refused(fault: &Fault) -> Problem {
    let error = fault.error();
    let status = match error.code {
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, error.message)
}

/// A body that is a JSON object, each member known and there once.
fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Problem> {
    let read = serde_json::from_slice::<Object<T>>(body);
    read.map(|Object(read)| read).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::bad(match error.is_data() {
            // The text names members; of what stands in them, a value of the wrong type, which is its sender's own.
            true => format!("the body is not as it should be: {:.200}", error.to_string()),
            false => format!("the body is not JSON: line {line}, column {column}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn with<T>(judge: impl Fn(Judge<'_>) -> T) -> T {
        let issuers = [Issuer::new("i")];
        judge(Judge {
            issuers: &issuers,
            now: Timestamp::from_secs(1),
        })
    }

    fn status(body: &serde_json::Value) -> u16 {
        let text = body.to_string();
        let read = with(|judge| judge.one(text.as_bytes()));
        read.map_or_else(|problem| problem.status.as_u16(), |_| 202)
    }

    #[test]
    fn a_push_is_published_as_any_producer_publishes_it() {
        let body = r#"{"subject":"a","issuer":"i","message_id":"m","expiration_ms":5,"payload": {"x" : 1} }"#;
        let message = with(|judge| judge.one(body.as_bytes())).unwrap();
        assert_eq!(message.body, r#"{"x" : 1}"#);
        let properties = &message.properties;
        assert_eq!(properties.message_id.as_deref(), Some("m"));
        assert_eq!(properties.expiration, Some(Duration::from_millis(5)));
        assert_eq!(properties.header("subject"), Some(&Value::Text("a".to_owned())));
        let drawn = with(|judge| judge.one(br#"{"subjects":["a","b"],"subject":null,"payload":null}"#)).unwrap();
        assert_eq!(drawn.properties.message_id.map(|id| id.len()), Some(32));
        assert_eq!(
            drawn.properties.headers,
            [("subjects".to_owned(), Value::Text(r#"["a","b"]"#.to_owned()))]
        );
    }

    #[test]
    fn what_no_push_is_is_refused_before_anything_is_published() {
        for good in [
            json!({"subject": "a", "payload": 1}),
            json!({"subjects": ["a"], "payload": 1}),
            json!({"connection": "0123456789abcdef.1f", "payload": 1}),
            json!({"subject": "a", "payload": null, "message_id": "", "except": "0123456789abcdef.1f"}),
        ] {
            assert_eq!(status(&good), 202, "{good}");
        }
        for wrong in [
            json!([]),
            // Member by member, as they are declared.
            json!(["a", null, null, null, null, null, null, 1]),
            json!({}),
            json!({"subject": "a"}),
            json!({"payload": 1}),
            json!({"subject": "", "payload": 1}),
            json!({"subject": 1, "payload": 1}),
            json!({"subject": "a", "payload": 1, "paylod": 1}),
            json!({"subject": "a", "connection": "0123456789abcdef.1f", "payload": 1}),
            json!({"subject": "a", "issuer": "j", "payload": 1}),
            json!({"connection": "0123456789abcdef.1f", "issuer": "i", "payload": 1}),
            json!({"connection": "x", "payload": 1}),
            json!({"subject": "a", "except": "x", "payload": 1}),
            json!({"subjects": [], "payload": 1}),
            json!({"subjects": ["a", ""], "payload": 1}),
            json!({"subject": "a", "message_id": "x".repeat(129), "payload": 1}),
            json!({"subject": "a", "expiration_ms": -1, "payload": 1}),
            json!({"subject": "a", "expiration_ms": 86_400_001, "payload": 1}),
        ] {
            assert_eq!(status(&wrong), 400, "{wrong}");
        }
        let twice = with(|judge| judge.one(br#"{"subject":"a","subject":"b","payload":1}"#));
        assert_eq!(twice.unwrap_err().status, 400);
        let large = json!({"subject": "a", "payload": "x".repeat(1_024 * 1_024)});
        assert_eq!(status(&large), 413);
    }

    #[test]
    fn of_a_batch_the_first_that_is_wrong_is_named() {
        let batch = |body: &str| with(|judge| judge.batch(body.as_bytes()));
        let good = r#"{"pushes":[{"subject":"a","payload":1},{"subject":"b","payload":2}]}"#;
        let bodies: Vec<_> = batch(good).unwrap().into_iter().map(|message| message.body).collect();
        assert_eq!(bodies, ["1", "2"]);
        let wrong = batch(&good.replace(r#""b""#, r#""""#)).unwrap_err();
        assert!(wrong.detail().starts_with("pushes[1]: "), "{}", wrong.detail());
        assert!(batch(r#"{"pushes":[]}"#).is_err());
        assert!(batch(r#"{"pushes":[["a",null,null,null,null,null,null,1]]}"#).is_err());
        assert!(batch(r#"[[{"subject":"a","payload":1}]]"#).is_err());
        let many = vec![json!({"subject": "a", "payload": 1}); MOST_PUSHES + 1];
        assert!(batch(&json!({"pushes": many}).to_string()).is_err());
    }

    proptest! {
        #[test]
        fn no_body_is_too_much(body in any::<Vec<u8>>(), text in any::<String>()) {
            with(|judge| {
                let _ = (judge.one(&body), judge.batch(&body));
                let push = json!({"subject": text, "issuer": text, "except": text, "message_id": text, "payload": text});
                let _ = judge.one(push.to_string().as_bytes());
            });
        }
    }
}
