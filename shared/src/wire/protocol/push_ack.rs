//! A client's word that it has got pushes: `push.ack`, which goes no further than its terminator.
//!
//! ```json
//! {"type": "push.ack", "id": "1", "ids": ["order-17", "order-18"]}
//! ```
//!
//! With the first one, which may name no push at all, a client says that it acknowledges all pushes from then on.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ErrorBody, ErrorCode};
use crate::wire::object::Object;
use crate::wire::request_id::RequestId;

/// The message's type.
pub const PUSH_ACK: &str = "push.ack";

/// The same as it must be written: a terminator looks for it, and parses nothing else.
pub const PUSH_ACK_TEXT: &str = "\"push.ack\"";

/// How many pushes one message may acknowledge.
pub const MOST_PUSH_IDS: usize = 1_000;

/// Pushes that a client has got.
#[derive(Debug, PartialEq, Eq)]
pub struct PushAck<'t> {
    /// The `id` of the message, if its sender wants an answer.
    pub id: Option<RequestId<'static>>,
    /// The `id` of each push.
    pub ids: Vec<Cow<'t, str>>,
}

/// Why a text is not taken as one.
#[derive(Debug, PartialEq, Eq)]
pub enum NotAPushAck {
    /// It is another message, or none.
    Another,
    /// It says that it is one, and is not well-formed.
    Malformed(Option<RequestId<'static>>, ErrorBody),
}

/// A text that JSON may have written with escapes.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

#[derive(Deserialize)]
struct Members<'t> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'t>>,
    #[serde(borrow)]
    id: Option<&'t RawValue>,
    #[serde(borrow)]
    ids: Option<&'t RawValue>,
}

impl<'t> PushAck<'t> {
    /// Reads a message.
    ///
    /// # Errors
    /// If it is no such message, or one that cannot be taken.
    pub fn read(text: &'t [u8]) -> Result<Self, NotAPushAck> {
        let Object(members): Object<Members<'t>> = serde_json::from_slice(text).map_err(|_| NotAPushAck::Another)?;
        if members.kind.is_none_or(|kind| kind.0 != PUSH_ACK) {
            return Err(NotAPushAck::Another);
        }
        let malformed = |id: &Option<RequestId<'static>>, why: &str| {
            NotAPushAck::Malformed(id.clone(), ErrorBody::new(ErrorCode::BadRequest, why.to_owned()))
        };
        let id = match members
            .id
            .map(|id| serde_json::from_str::<Option<RequestId<'static>>>(id.get()))
        {
            Some(Ok(id)) => id,
            None => None,
            Some(Err(_)) => return Err(malformed(&None, "`id` must be a text or an integer")),
        };
        let ids = match members.ids.map(|ids| serde_json::from_str::<Vec<Text<'t>>>(ids.get())) {
            Some(Ok(ids)) => ids,
            None => Vec::new(),
            Some(Err(_)) => {
                return Err(malformed(
                    &id,
                    "`ids` must be an array of texts, each the `id` of a push",
                ));
            }
        };
        if ids.len() > MOST_PUSH_IDS {
            let why = format!("`ids` has {} entries; at most {MOST_PUSH_IDS} are taken", ids.len());
            return Err(malformed(&id, &why));
        }
        Ok(Self {
            id,
            ids: ids.into_iter().map(|id| id.0).collect(),
        })
    }
}

/// The `id` of a push, as it is written to a client.
pub fn push_id(text: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Named<'t> {
        #[serde(borrow)]
        id: Text<'t>,
    }
    serde_json::from_slice::<Named<'_>>(text).ok().map(|named| named.id.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<PushAck<'_>, NotAPushAck> {
        PushAck::read(text.as_bytes())
    }

    #[test]
    fn a_message_names_the_pushes_that_its_client_has_got() {
        let acked = read(r#"{"type":"push.ack","id":7,"ids":["a","b\u0063"]}"#).unwrap();
        assert_eq!(acked.id, RequestId::integer("7").ok());
        assert_eq!(acked.ids, ["a", "bc"]);
        assert_eq!(read(r#"{"ids":null,"type":"push.ack"}"#).unwrap().ids, [""; 0]);
        assert_eq!(read(r#"{"type":"push\u002eack"}"#).unwrap().id, None);
    }

    #[test]
    fn other_messages_are_left_to_workers() {
        for other in [
            "",
            "[]",
            "\"push.ack\"",
            r#"{"type":"echo","payload":"push.ack"}"#,
            r#"{"ids":["a"]}"#,
            r#"["push.ack",1,["a"]]"#,
        ] {
            assert_eq!(read(other), Err(NotAPushAck::Another), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_taken_is_refused_by_its_member_s_name() {
        let many = format!(
            r#"{{"type":"push.ack","id":"x","ids":{}}}"#,
            serde_json::json!(vec!["a"; 1_001])
        );
        for (text, member, id) in [
            (r#"{"type":"push.ack","id":"x","ids":"a"}"#, "`ids`", Some("x")),
            (r#"{"type":"push.ack","id":"x","ids":[1]}"#, "`ids`", Some("x")),
            (r#"{"type":"push.ack","id":1.5,"ids":[]}"#, "`id`", None),
            (many.as_str(), "`ids`", Some("x")),
        ] {
            let Err(NotAPushAck::Malformed(named, error)) = read(text) else {
                panic!("{text}");
            };
            assert_eq!(named, id.map(RequestId::text), "{text}");
            assert!(error.message.starts_with(member), "{}", error.message);
            assert_eq!(error.code, ErrorCode::BadRequest);
        }
    }

    #[test]
    fn a_push_is_known_by_its_id() {
        assert_eq!(
            push_id(br#"{"type":"push","id":"a\"b","payload":{"id":1}}"#).as_deref(),
            Some("a\"b")
        );
        assert_eq!(push_id(b"{}"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in any::<Vec<u8>>()) {
            let _ = (PushAck::read(&text), push_id(&text));
        }
    }
}
